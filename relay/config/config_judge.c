// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_judge.h"

#include "relay/config/config_checks.h"
#include "relay/config/config_kafka.h"
#include "relay/config/config_value.h"
#include "relay/publish/event_router.h"

#include <librdkafka/rdkafka.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *kafka_value(const struct config *config, const char *name)
{
    const struct config_pair *given = config_kafka_given(config, name);
    return given == NULL ? NULL : given->value;
}

static bool written(const struct config_source *source, enum config_section_id section, const char *key)
{
    return config_source_find(source, section, "", key) != NULL;
}

// An empty one would connect to wherever libpq's defaults and its own variables lead. (Of one in a file
// config_source.c has said it.)
static void judge_dsn(const struct config_source *source, const struct config *config)
{
    const struct config_setting *dsn = config_source_find(source, CONFIG_SECTION_POSTGRES, "", "dsn");
    if (!config->publish.enabled) {
        return;
    }
    if (dsn == NULL) {
        config_report_whole(source->report, "postgres", "dsn",
            "is missing; expected host=... dbname=... user=..., or [publish] enabled = false");
    } else if (!dsn->in_file && dsn->value[strspn(dsn->value, " \t\r\n")] == '\0') {
        config_source_mistake(source, dsn,
            "is empty; expected host=... dbname=... user=..., or [publish] enabled = false");
    }
}

// Of two passwords of different origin the environment's has replaced the file's already where it is the dsn's
// (config_source.c).
static void judge_password(const struct config_source *source, const struct config *config)
{
    const struct config_setting *password = config_source_find(source, CONFIG_SECTION_POSTGRES, "", "password");
    const struct config_setting *dsn = config_source_find(source, CONFIG_SECTION_POSTGRES, "", "dsn");
    if (dsn == NULL || password == NULL || config->postgres.password[0] == '\0' || config->postgres.dsn[0] == '\0' ||
        !config_dsn_has_password(config->postgres.dsn)) {
        return;
    }
    if (dsn->variable != NULL) {
        config_source_mistake(source, password, "%s holds a password too; expected one of them", dsn->variable);
    } else {
        config_source_mistake(source, password, "the dsn of line %d holds a password too; expected one of them",
            dsn->line);
    }
}

static void judge_presence(const struct config_source *source, const struct config *config)
{
    struct config_report *report = source->report;
    if (!config->publish.enabled && !config->insert.enabled) {
        config_report_whole(report, "publish", "enabled",
            "both stages are switched off; expected [publish] or [insert] enabled = true");
        return;
    }
    judge_dsn(source, config);
    judge_password(source, config);
    if (kafka_value(config, "metadata.broker.list") == NULL && // what the other is an alias for
        !written(source, CONFIG_SECTION_KAFKA, "bootstrap.servers")) {
        config_report_whole(report, "kafka", "bootstrap.servers",
            "is missing; expected host:port, several with commas");
    }
    if (config->insert.enabled && config->clickhouse.urls.count == 0 &&
        !written(source, CONFIG_SECTION_CLICKHOUSE, "url")) {
        config_report_whole(report, "clickhouse", "url",
            "is missing; expected http://host:8123, or [insert] enabled = false");
    }
}

static bool given(const struct config_source *source, enum config_section_id section, const char *key)
{
    const struct config_setting *setting = config_source_find(source, section, "", key);
    return setting != NULL && setting->value[0] != '\0';
}

static void judge_client_certificate(const struct config_source *source, enum config_section_id section)
{
    bool certificate = given(source, section, "cert_file");
    if (certificate != given(source, section, "key_file")) {
        config_report_whole(source->report, config_section_label(source->memory, section, ""),
            certificate ? "key_file" : "cert_file",
            "is missing; a client certificate has two files, cert_file and key_file");
    }
}

static void judge_thresholds(const struct config_source *source, const struct config *config)
{
    const struct config_health *health = &config->health;
    if (health->warning_rows > health->critical_rows) {
        config_report_whole(source->report, "health", "warning_rows",
            "%lld is above critical_rows (%lld); expected the warning to come first", (long long)health->warning_rows,
            (long long)health->critical_rows);
    }
    if (health->critical_age.ns > 0 && health->warning_age.ns > health->critical_age.ns) {
        config_report_whole(source->report, "health", "warning_age",
            "%s is above critical_age (%s); expected the warning to come first",
            config_format_duration(source->memory, health->warning_age.ns),
            config_format_duration(source->memory, health->critical_age.ns));
    }
    if (health->critical_lag > 0 && health->warning_lag > health->critical_lag) {
        config_report_whole(source->report, "health", "warning_lag",
            "%lld is above critical_lag (%lld); expected the warning to come first", (long long)health->warning_lag,
            (long long)health->critical_lag);
    }
}

static void judge_memory(const struct config_source *source, const struct config *config)
{
    static const char *const fetches[] = {"fetch.max.bytes", "fetch.message.max.bytes"};
    const struct config_insert *insert = &config->insert;
    const char *limit = config_format_size(source->memory, insert->memory_limit);
    if (insert->batch_bytes > insert->memory_limit / 2) {
        config_report_whole(source->report, "insert", "batch_bytes",
            "%s is more than half of memory_limit (%s), which must hold the next batch as well; "
            "expected less, or a larger memory_limit",
            config_format_size(source->memory, insert->batch_bytes), limit);
    }
    for (size_t i = 0; i < sizeof(fetches) / sizeof(fetches[0]); i++) {
        const struct config_pair *given = config_kafka_given(config, fetches[i]);
        if (given != NULL && strtoll(given->value, NULL, 10) > insert->memory_limit) {
            config_report_whole(source->report, "kafka", given->name,
                "%s is more than [insert] memory_limit (%s) may hold", given->value, limit);
        }
    }
}

static int64_t kafka_number(const struct config *config, const char *name, int64_t otherwise)
{
    const char *value = kafka_value(config, name);
    return value == NULL ? otherwise : strtoll(value, NULL, 10);
}

// librdkafka takes each of these by itself, and makes no consumer of them together.
static void judge_message_sizes(const struct config_source *source, const struct config *config)
{
    int64_t largest = kafka_number(config, "message.max.bytes", 1000000);
    int64_t fetch = kafka_number(config, "fetch.max.bytes", largest);
    int64_t receive = kafka_number(config, "receive.message.max.bytes", INT64_MAX);
    if (fetch < largest) {
        config_report_whole(source->report, "kafka", "fetch.max.bytes",
            "%lld is less than message.max.bytes (%lld); expected at least that much, or none", (long long)fetch,
            (long long)largest);
    } else if (receive < fetch + 512) {
        config_report_whole(source->report, "kafka", "receive.message.max.bytes",
            "%lld is less than what a fetch may bring (%lld and 512 more); expected at least that much, or none",
            (long long)receive, (long long)fetch);
    }
}

static bool librdkafka_has(const char *feature)
{
    char features[512] = "";
    size_t size = sizeof(features);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool told = rd_kafka_conf_get(conf, "builtin.features", features, &size) == RD_KAFKA_CONF_OK;
    rd_kafka_conf_destroy(conf);
    return !told || strstr(features, feature) != NULL;
}

// Whether the property is given, and that is what librdkafka makes of it.
static bool kafka_is(const struct config *config, const char *name, const char *wanted)
{
    const char *value = kafka_value(config, name);
    char meant[64] = "";
    size_t size = sizeof(meant);
    rd_kafka_conf_t *conf = value == NULL ? NULL : rd_kafka_conf_new();
    bool is = conf != NULL && rd_kafka_conf_set(conf, name, value, NULL, 0) == RD_KAFKA_CONF_OK &&
        rd_kafka_conf_get(conf, name, meant, &size) == RD_KAFKA_CONF_OK && strcmp(meant, wanted) == 0;
    if (conf != NULL) {
        rd_kafka_conf_destroy(conf);
    }
    return is;
}

// Else librdkafka waits for a token from a callback of ours, connects to no broker, and says nothing.
static void judge_token(const struct config_source *source, const struct config *config)
{
    if (!kafka_is(config, "sasl.oauthbearer.method", "oidc") &&
        !kafka_is(config, "enable.sasl.oauthbearer.unsecure.jwt", "true")) {
        config_report_whole(source->report, "kafka", "sasl.oauthbearer.method",
            "expected oidc, and sasl.oauthbearer.token.endpoint.url, client.id and client.secret with it: "
            "sasl.mechanism OAUTHBEARER needs somebody who gives tokens (Amazon MSK's IAM cannot be used; take SCRAM)");
    }
}

// With these librdkafka makes no client at all, which it says only when one is made.
static void judge_sasl(const struct config_source *source, const struct config *config)
{
    const char *protocol = kafka_value(config, "security.protocol");
    const char *mechanism = kafka_value(config, "sasl.mechanisms");
    if (protocol == NULL || strncasecmp(protocol, "sasl", 4) != 0) {
        return;
    }
    if (mechanism == NULL) {
        config_report_whole(source->report, "kafka", "sasl.mechanism",
            "is missing, and security.protocol is %s; expected the mechanism that the brokers take, such as "
            "SCRAM-SHA-512",
            protocol);
    } else if (strcmp(mechanism, "GSSAPI") == 0 && !librdkafka_has("sasl_gssapi")) {
        config_report_whole(source->report, "kafka", "sasl.mechanism", "this librdkafka was built without GSSAPI");
    } else if (strcmp(mechanism, "OAUTHBEARER") == 0) {
        judge_token(source, config);
    }
    bool by_password = mechanism != NULL && (strcmp(mechanism, "PLAIN") == 0 || strncmp(mechanism, "SCRAM-", 6) == 0);
    static const char *const needed[] = {"sasl.username", "sasl.password"};
    for (size_t i = 0; by_password && i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (kafka_value(config, needed[i]) == NULL && !written(source, CONFIG_SECTION_KAFKA, needed[i])) {
            config_report_whole(source->report, "kafka", needed[i], "is missing; sasl.mechanism %s needs it",
                mechanism);
        }
    }
}

static bool takes(const struct config_route *route, const char *topic)
{
    if (route->topics.count == 1 && route->topics.items[0][0] == '^') {
        regex_t expression;
        if (regcomp(&expression, route->topics.items[0], REG_EXTENDED | REG_NOSUB) != 0) {
            return false;
        }
        bool found = regexec(&expression, topic, 0, NULL, 0) == 0;
        regfree(&expression);
        return found;
    }
    for (size_t i = 0; i < route->topics.count; i++) {
        if (strcmp(route->topics.items[i], topic) == 0) {
            return true;
        }
    }
    return false;
}

// A route that reads our own topics would fill its table with receipts, or dead letters for ever with themselves.
static void judge_own_topics(const struct config_source *source, const struct config *config)
{
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        const char *label = config_section_label(source->memory, CONFIG_SECTION_ROUTE, route->name);
        const char *hint = strcmp(route->name, "default") == 0
            ? "; set topics of [route default], or its enabled = false"
            : "";
        if (!route->enabled) {
            continue;
        }
        for (size_t j = 0; j < config->outbox_count; j++) {
            if (takes(route, config->outboxes[j].publish.receipt_topic)) {
                config_report_whole(source->report, label, "topics",
                    "the route would also take the receipts of topic %.120s%s",
                    config->outboxes[j].publish.receipt_topic, hint);
                break;
            }
        }
        if (config->insert.dead_letter_topic[0] != '\0' && takes(route, config->insert.dead_letter_topic)) {
            config_report_whole(source->report, label, "topics",
                "the route would also take the dead letters of topic %.120s%s", config->insert.dead_letter_topic, hint);
        }
    }
}

static void judge_routes(const struct config_source *source, const struct config *config)
{
    bool any = false;
    for (size_t i = 0; i < config->route_count; i++) {
        any |= config->routes[i].enabled;
        if (config->routes[i].enabled && strcmp(config->routes[i].table, config->insert.dead_letter_table) == 0) {
            config_report_whole(source->report,
                config_section_label(source->memory, CONFIG_SECTION_ROUTE, config->routes[i].name), "table",
                "is also [insert] dead_letter_table; expected a table of its own");
        }
    }
    if (!any) {
        config_report_whole(source->report, "insert", "enabled",
            "every route is switched off, so there is nothing to insert; expected a route, or "
            "[insert] enabled = false");
    }
    judge_own_topics(source, config);
}

// What the record takes from the row, each by an expression of its own.
static bool may_share(enum config_column_role role)
{
    return role == CONFIG_COLUMN_ID || role == CONFIG_COLUMN_KEY || role == CONFIG_COLUMN_TYPE ||
        role == CONFIG_COLUMN_AGGREGATE_TYPE;
}

static void judge_columns(const struct config_source *source, const struct config_outbox *outbox, const char *label)
{
    for (enum config_column_role i = 0; i < CONFIG_COLUMN_ROLES; i++) {
        for (enum config_column_role j = 0; j < i; j++) {
            bool same = outbox->columns[i][0] != '\0' && strcmp(outbox->columns[i], outbox->columns[j]) == 0;
            if (same && !(may_share(i) && may_share(j))) {
                config_report_whole(source->report, label, "layout",
                    "column %.63s has two roles; expected a column of its own for each but id, key, type and "
                    "aggregate_type",
                    outbox->columns[i]);
            }
        }
    }
}

static void judge_outbox(const struct config_source *source, const struct config *config,
    const struct config_outbox *outbox)
{
    const char *label = config_section_label(source->memory, CONFIG_SECTION_OUTBOX,
        strcmp(outbox->name, "default") == 0 ? "" : outbox->name);
    if (strcmp(outbox->table, outbox->dead_letter_table) == 0) {
        config_report_whole(source->report, label, "dead_letter_table",
            "is the outbox's own table; expected another one");
    }
    judge_columns(source, outbox, label);
    // The router knows which headers, members of the envelope and placements go together.
    struct relay_error error = {0};
    struct event_router *router = event_router_new(config, outbox, &error);
    if (router == NULL && error.code == RELAY_ERROR_NO_MEMORY) {
        config_memory_exhaust(source->memory);
    } else if (router == NULL) {
        config_report_whole(source->report, label, NULL, "%s", error.text);
    } else if (event_router_owns(router, outbox->publish.topic)) { // every event's, as it has no column
        config_report_whole(source->report, label, "topic",
            "'%.120s' is the relay's own (receipt_topic or [insert] dead_letter_topic), and no event may go there; "
            "expected another one",
            outbox->publish.topic);
    }
    event_router_free(router);
}

void config_judge(const struct config_source *source, const struct config *config)
{
    judge_presence(source, config);
    judge_thresholds(source, config);
    judge_sasl(source, config);
    judge_client_certificate(source, CONFIG_SECTION_CLICKHOUSE);
    judge_client_certificate(source, CONFIG_SECTION_ALERT);
    if (config->publish.enabled) {
        for (size_t i = 0; i < config->outbox_count; i++) {
            judge_outbox(source, config, &config->outboxes[i]);
        }
    }
    if (config->insert.enabled) {
        judge_memory(source, config);
        judge_message_sizes(source, config);
        judge_routes(source, config);
    }
}
