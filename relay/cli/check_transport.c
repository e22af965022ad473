// SPDX-License-Identifier: Apache-2.0
//
// Whether passwords and events are encrypted on their way, and whether the server at its end has to prove its name.
// Judged by the configuration, of PostgreSQL by the session that the part before has opened; what stays within this
// machine is well as it is. Warnings only: a network may be trusted.
#include "relay/cli/check.h"

#include "relay/kafka/kafka_conf.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENTED "(docs/configuration.md, \"TLS to each server\")"

struct transport_check {
    struct check *check;
    bool clean; // nothing was found yet
};

static void find(struct transport_check *at, const char *what, const char *hint, const char *text, const char *whom)
{
    at->clean = false;
    check_add(at->check->report, CHECK_WARN, what, hint, "%s%s", whom, text);
}

// A name or an address, without brackets.
static bool within_machine(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1) {
        return ntohl(four.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, host, &six) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&six);
    }
    return strcasecmp(host, "localhost") == 0;
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *at = options; at && at->keyword; at++) {
        if (strcmp(at->keyword, keyword) == 0 && at->val) {
            return at->val;
        }
    }
    return "";
}

static void judge_sslmode(struct transport_check *at, const PQconninfoOption *options, const char *server)
{
    static const char hint[] = "sslmode=verify-full sslrootcert=FILE in [postgres] dsn " DOCUMENTED;
    const char *mode = option(options, "sslmode");
    if (strcmp(mode, "verify-full") == 0 || strcmp(option(options, "channel_binding"), "require") == 0 ||
        strcmp(option(options, "gssencmode"), "require") == 0) {
        return; // the server has to prove who it is
    }
    // libpq takes the one for the other where authorities are named.
    bool required = strcmp(mode, "require") == 0;
    if (strcmp(mode, "verify-ca") == 0 || (required && option(options, "sslrootcert")[0] != '\0')) {
        find(at, "postgres", hint,
            ": the server's name is not verified: whoever has any certificate of that authority can answer for it",
            server);
    } else if (required) {
        find(at, "postgres", hint,
            ": the connection is encrypted, but the server is not verified: whoever answers in its name gets the "
            "password and the events",
            server);
    } else {
        find(at, "postgres", hint,
            ": sslmode does not insist on encryption, nor on a verified server: whoever is on the way can read the "
            "events and be sent the password in clear",
            server);
    }
}

static void check_postgresql(struct transport_check *at)
{
    if (!at->check->connection || pg_broken(at->check->connection)) {
        return; // said already
    }
    PGconn *libpq = pg_libpq(at->check->connection);
    const char *address = PQhostaddr(libpq); // "" of a socket in the file system
    if (!address || address[0] == '\0' || within_machine(address)) {
        return;
    }
    PQconninfoOption *options = PQconninfo(libpq);
    if (options) { // else there is no memory
        judge_sslmode(at, options, pg_server_address(at->check->connection));
    }
    PQconninfoFree(options);
}

// http:// to another machine.
static bool in_clear(const char *url)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL;
    bool clear = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && strcmp(scheme, "http") == 0 &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    if (clear) {
        size_t length = strlen(host);
        if (host[0] == '[' && length > 1) {
            host[length - 1] = '\0';
        }
        clear = !within_machine(host[0] == '[' ? host + 1 : host);
    }
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parts);
    return clear;
}

static void check_urls(struct transport_check *at)
{
    const struct config *config = at->check->context->config;
    for (size_t i = 0; config->insert.enabled && i < config->clickhouse.urls.count; i++) {
        if (in_clear(config->clickhouse.urls.items[i])) {
            find(at, "clickhouse",
                "https:// in [clickhouse] url, with ca_file for an authority of your own " DOCUMENTED,
                config->clickhouse.password[0] != '\0'
                    ? ": password and events go in clear, and whoever is on the way can answer in the server's name"
                    : ": events go in clear, and whoever is on the way can answer in the server's name",
                config->clickhouse.urls.items[i]);
        }
    }
    // Their paths are often secrets, and are not shown.
    const struct {
        const char *what, *url;
    } receivers[] = {{"alert webhook", config->alert.webhook_url}, {"alert slack", config->alert.slack_url}};
    for (size_t i = 0; i < sizeof(receivers) / sizeof(receivers[0]); i++) {
        if (receivers[i].url[0] != '\0' && in_clear(receivers[i].url)) {
            find(at, receivers[i].what, "https://", "alerts, and the URL itself, go in clear", "");
        }
    }
}

// One of "protocol://host:port, [address]:port"; it is cut up.
static bool broker_within_machine(char *broker)
{
    char *host = broker + strspn(broker, " \t"), *scheme = strstr(host, "://");
    host = scheme ? scheme + 3 : host;
    if (host[0] == '[') {
        host++;
        host[strcspn(host, "]")] = '\0';
    } else {
        host[strcspn(host, ": \t")] = '\0';
    }
    return within_machine(host);
}

static bool brokers_within_machine(char *brokers)
{
    char *rest = NULL;
    for (char *broker = strtok_r(brokers, ",", &rest); broker; broker = strtok_r(NULL, ",", &rest)) {
        if (!broker_within_machine(broker)) {
            return false;
        }
    }
    return true;
}

// What librdkafka makes of what is set, in its one spelling. false: it cannot be told.
static bool effective(const rd_kafka_conf_t *conf, const char *name, char *value, size_t room)
{
    value[0] = '\0';
    return rd_kafka_conf_get(conf, name, value, &room) == RD_KAFKA_CONF_OK;
}

static void judge_kafka(struct transport_check *at, const rd_kafka_conf_t *conf)
{
    static const char what[] = "kafka", hint[] = "security.protocol = ssl or sasl_ssl in [kafka] " DOCUMENTED;
    char protocol[32], mechanism[64], verification[16], names[16];
    bool known = effective(conf, "security.protocol", protocol, sizeof(protocol)) &&
        effective(conf, "sasl.mechanisms", mechanism, sizeof(mechanism)) &&
        effective(conf, "enable.ssl.certificate.verification", verification, sizeof(verification)) &&
        effective(conf, "ssl.endpoint.identification.algorithm", names, sizeof(names));
    if (!known) {
        return;
    }
    if (strcmp(protocol, "plaintext") == 0) {
        find(at, what, hint, "events go in clear, and whoever is on the way can answer in the brokers' name", "");
    } else if (strcmp(protocol, "sasl_plaintext") == 0) {
        bool shown = strcmp(mechanism, "PLAIN") == 0 || strcmp(mechanism, "OAUTHBEARER") == 0;
        find(at, what, hint,
            shown ? "the password or token and the events go in clear" : "events go in clear, after a login by SASL",
            "");
    } else if (strcmp(verification, "false") == 0) {
        find(at, what, "leave [kafka] enable.ssl.certificate.verification out, name authorities by ssl.ca.location",
            "brokers are not verified: whoever answers in their name gets the password and the events", "");
    } else if (strcmp(names, "none") == 0) {
        find(at, what, "leave [kafka] ssl.endpoint.identification.algorithm out",
            "the brokers' names are not verified: whoever has any certificate of the authorities can answer for them",
            "");
    }
}

// The client's secret goes there, wherever the brokers are.
static void judge_token_endpoint(struct transport_check *at, const rd_kafka_conf_t *conf)
{
    char url[2048];
    if (effective(conf, "sasl.oauthbearer.token.endpoint.url", url, sizeof(url)) && in_clear(url)) {
        find(at, "kafka", "https:// in [kafka] sasl.oauthbearer.token.endpoint.url",
            "the client's secret goes to the token endpoint in clear, and so does the token", "");
    }
}

static void check_brokers(struct transport_check *at)
{
    char brokers[8192];
    rd_kafka_conf_t *conf = kafka_conf_new(at->check->context, KAFKA_CLIENT_PRODUCER, "check", NULL);
    if (!conf) {
        return; // check_kafka.c says why
    }
    if (!effective(conf, "bootstrap.servers", brokers, sizeof(brokers)) || !brokers_within_machine(brokers)) {
        judge_kafka(at, conf);
    }
    judge_token_endpoint(at, conf);
    rd_kafka_conf_destroy(conf);
}

void check_transport(struct check *check)
{
    struct transport_check at = {.check = check, .clean = true};
    check_postgresql(&at);
    check_urls(&at);
    check_brokers(&at);
    if (at.clean) {
        check_add(check->report, CHECK_OK, "transport", "",
            "what was looked at is encrypted to servers that are verified, or stays within this machine");
    }
}
