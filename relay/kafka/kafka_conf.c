// SPDX-License-Identifier: Apache-2.0
//
// See kafka_conf.h. librdkafka warns when a consumer gets a producer's property; its own table says which kind of
// client each belongs to, so that one [kafka] section serves both clients without noise and without a list of our own.
#include "relay/kafka/kafka_conf.h"

#include "relay/base/log.h"
#include "relay/config/config_kafka.h"
#include "relay/config/kafka_properties.h"
#include "relay/kafka/kafka_error.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>

// The relay's defaults, which [kafka] may override. kind: 'P', 'C' or '*', as in librdkafka's table.
static const struct {
    char kind;
    const char *name;
    const char *value;
} defaults[] = {
    {'*', "socket.keepalive.enable", "true"},
    {'*', "reconnect.backoff.ms", "50"},
    {'*', "reconnect.backoff.max.ms", "2000"},
    // After a commit the broker still writes its markers and answers CONCURRENT_TRANSACTIONS; the default of 100 ms
    // would be waited out at the start of every transaction.
    {'P', "retry.backoff.ms", "1"},
    {'P', "retry.backoff.max.ms", "250"},
    // The same partition as Java producers choose, so that moving from or to them keeps each key where it is.
    {'P', "partitioner", "murmur2_random"},
    // Else a broker makes each topic that is looked up, as its own defaults are: events of a type that should wait go
    // there, and the receipts into a topic that deletes by age.
    {'*', "allow.auto.create.topics", "false"},
    {'P', "compression.codec", "lz4"},
    {'P', "linger.ms", "2"},
    {'C', "fetch.wait.max.ms", "100"},
    {'C', "session.timeout.ms", "30000"},
};

// For a connection that is idle: after how many seconds it is probed, how often, and how many probes may go unanswered.
#define KEEPALIVE_IDLE     15
#define KEEPALIVE_INTERVAL 5
#define KEEPALIVE_COUNT    3

// socket.keepalive.enable alone has the kernel probe after two hours, and a firewall or a balancer forgets a connection
// that was silent for some minutes: the next request would get no answer, and no reset.
static int open_socket(int domain, int type, int protocol, void *unused)
{
    static const struct {
        int option, value;
    } options[] = {{TCP_KEEPIDLE, KEEPALIVE_IDLE}, {TCP_KEEPINTVL, KEEPALIVE_INTERVAL}, {TCP_KEEPCNT, KEEPALIVE_COUNT}};
    (void)unused;
    int descriptor = socket(domain, type | SOCK_CLOEXEC, protocol);
    for (size_t i = 0; descriptor >= 0 && i < sizeof(options) / sizeof(options[0]); i++) {
        setsockopt(descriptor, IPPROTO_TCP, options[i].option, &options[i].value, sizeof(options[i].value));
    }
    return descriptor;
}

void kafka_conf_log(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    // Meant so, see kafka_producer.c; the publish stage tells of a record that ended its client.
    if ((strcmp(facility, "CONFWARN") == 0 &&
            (strstr(text, "isolation.level") != NULL || strstr(text, "enable.gapless.guarantee") != NULL)) ||
        (strcmp(facility, "FATAL") == 0 && strstr(text, "gap-less") != NULL)) {
        return;
    }
    enum log_level ours = level <= LOG_ERR ? LOG_LEVEL_ERROR
        : level <= LOG_WARNING             ? LOG_LEVEL_WARNING
        : level <= LOG_INFO                ? LOG_LEVEL_INFO
                                           : LOG_LEVEL_DEBUG;
    // A broker that is away is told by librdkafka as an error for each address and attempt; what it means for a pipe is
    // told by the pipe, once.
    if (ours == LOG_LEVEL_ERROR && (strcmp(facility, "FAIL") == 0 || strcmp(facility, "ERROR") == 0)) {
        ours = LOG_LEVEL_WARNING;
    }
    // Of trouble that comes again the log can tell that it is the same only by the same words.
    char steady[512];
    if (ours >= LOG_LEVEL_WARNING) {
        kafka_error_steady(steady, sizeof(steady), text);
        text = steady;
    }
    log_event(ours, "kafka.client", text, LOG_TEXT("client", client == NULL ? "" : rd_kafka_name(client)),
        LOG_TEXT("facility", facility));
}

bool kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, struct relay_error *error)
{
    char why[256] = "";
    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK) {
        return true;
    }
    // librdkafka's text quotes the value.
    return error_set(error, RELAY_ERROR_CONFIG, "[kafka] %s: %s", name,
        kafka_property_is_secret(name) ? "librdkafka refuses the value" : why);
}

bool kafka_conf_set_number(rd_kafka_conf_t *conf, const char *name, int64_t value, struct relay_error *error)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    return kafka_conf_set(conf, name, text, error);
}

bool kafka_conf_set_default(rd_kafka_conf_t *conf, const struct config *config, const char *name, int64_t value,
    struct relay_error *error)
{
    return config_kafka_given(config, name) != NULL || kafka_conf_set_number(conf, name, value, error);
}

int64_t kafka_conf_number(const rd_kafka_conf_t *conf, const char *name, int64_t otherwise)
{
    char text[64];
    size_t size = sizeof(text);
    return rd_kafka_conf_get(conf, name, text, &size) == RD_KAFKA_CONF_OK ? strtoll(text, NULL, 10) : otherwise;
}

int64_t kafka_conf_message_max(const rd_kafka_conf_t *conf)
{
    return kafka_conf_number(conf, "message.max.bytes", 1000000);
}

// property: as kafka_properties_kind() says. What librdkafka does not know it refuses with its own words.
static bool fits(char property, enum kafka_client_kind kind)
{
    return property == '*' || property == '\0' || property == (kind == KAFKA_CLIENT_PRODUCER ? 'P' : 'C');
}

static bool apply_settings(rd_kafka_conf_t *conf, const struct config *config, enum kafka_client_kind kind,
    const struct kafka_properties *properties, struct relay_error *error)
{
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        // retry.backoff.max.ms is newer than the oldest librdkafka that we take; a default may fail, a setting not.
        if (fits(defaults[i].kind, kind)) {
            char why[128];
            rd_kafka_conf_set(conf, defaults[i].name, defaults[i].value, why, sizeof(why));
        }
    }
    for (size_t i = 0; i < config->kafka_count; i++) {
        const struct config_pair *pair = &config->kafka[i];
        if (fits(kafka_properties_kind(properties, pair->name), kind) &&
            !kafka_conf_set(conf, pair->name, pair->value, error)) {
            return false;
        }
    }
    return true;
}

rd_kafka_conf_t *kafka_conf_new(const struct relay_context *context, enum kafka_client_kind kind, const char *role,
    struct relay_error *error)
{
    struct kafka_properties *properties = kafka_properties_new(error);
    if (properties == NULL) {
        return NULL;
    }
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char client_id[96];
    snprintf(client_id, sizeof(client_id), "outbox-relay-%s-%.12s", role, context->instance);
    bool done = kafka_conf_set(conf, "client.id", client_id, error) &&
        apply_settings(conf, context->config, kind, properties, error);
    kafka_properties_free(properties);
    if (!done) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_log_cb(conf, kafka_conf_log);
    rd_kafka_conf_set_socket_cb(conf, open_socket);
    return conf;
}

rd_kafka_t *kafka_client_new(enum kafka_client_kind kind, rd_kafka_conf_t *conf, struct relay_error *error)
{
    char why[512] = "";
    rd_kafka_t *client = rd_kafka_new(kind == KAFKA_CLIENT_PRODUCER ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, why,
        sizeof(why));
    if (client != NULL) {
        return client;
    }
    rd_kafka_conf_destroy(conf);
    if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE) { // no thread: no setting can fix that
        error_set(error, RELAY_ERROR_SYSTEM, "a Kafka client cannot be made: %s", why);
    } else {
        error_set(error, RELAY_ERROR_CONFIG, "[kafka]: %s", why);
    }
    return NULL;
}

// Without security: with it, what files hold would be judged as well, and these may come later than the daemon, while
// what the configuration itself says of it was judged as it was read; SASL would start threads and programs (kinit).
// The log is for clients that work.
bool kafka_conf_try(enum kafka_client_kind kind, rd_kafka_conf_t *conf, struct relay_error *error)
{
    if (conf == NULL) {
        return false;
    }
    if (!kafka_conf_set(conf, "bootstrap.servers", "", error) ||
        !kafka_conf_set(conf, "security.protocol", "plaintext", error)) {
        rd_kafka_conf_destroy(conf);
        return false;
    }
    rd_kafka_conf_set_log_cb(conf, NULL);
    rd_kafka_t *client = kafka_client_new(kind, conf, error);
    if (client == NULL) {
        return false;
    }
    rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return true;
}
