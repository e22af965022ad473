// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_table.h"

#include "relay/config/config.h"
#include "relay/config/config_checks.h"

#include <string.h>

#define MS  INT64_C(1000000)
#define S   (1000 * MS)
#define M   (60 * S)
#define H   (60 * M)
#define D   (24 * H)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const char *const guarantees[] = {"exactly_once", "at_least_once", NULL};
static const char *const dispositions[] = {"delete", "mark", NULL};
static const char *const layouts[] = {"native", "debezium", NULL};
static const char *const values[] = {"payload", "envelope", NULL};
static const char *const poisons[] = {"dead_letter", "hold_aggregate", "stop", NULL};
static const char *const lost_messages[] = {"stop", "continue", NULL};
static const char *const tombstones[] = {"dead_letter", "skip", "row", NULL};
static const char *const compressions[] = {"auto", "lz4", "none", NULL};
static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
static const char *const formats[] = {"auto", "text", "json", "journald", NULL};

const struct config_section config_sections[CONFIG_SECTIONS] = {
    [CONFIG_SECTION_POSTGRES] = {"postgres", false, offsetof(struct config, postgres),
        "The database that holds the outboxes."},
    [CONFIG_SECTION_OUTBOX] = {"outbox", true, 0,
        "An outbox table. [outbox] is the outbox named \"default\", from which [outbox NAME] sections inherit; each "
        "may override any key of [publish] as well."},
    [CONFIG_SECTION_KAFKA] = {"kafka", false, 0,
        "Any property of librdkafka, passed through to producer and consumer."},
    [CONFIG_SECTION_PUBLISH] = {"publish", false, offsetof(struct config, publish), "From the outboxes to Kafka."},
    [CONFIG_SECTION_INSERT] = {"insert", false, offsetof(struct config, insert), "From Kafka to ClickHouse."},
    [CONFIG_SECTION_CLICKHOUSE] = {"clickhouse", false, offsetof(struct config, clickhouse),
        "Where the events are inserted."},
    [CONFIG_SECTION_ROUTE] = {"route", true, 0,
        "Which topics go into which table; every other key is `column = source`."},
    [CONFIG_SECTION_BREAKER] = {"breaker", false, offsetof(struct config, breakers),
        "When a failing dependency is no longer called, and when it is tried again."},
    [CONFIG_SECTION_HEALTH] = {"health", false, offsetof(struct config, health),
        "How often the pipeline is checked, and against which thresholds."},
    [CONFIG_SECTION_ALERT] = {"alert", false, offsetof(struct config, alert),
        "Where alerts are sent when the health changes."},
    [CONFIG_SECTION_HTTP] = {"http", false, offsetof(struct config, http),
        "The address of /health, /live, /ready, /metrics and the status page."},
    [CONFIG_SECTION_LOG] = {"log", false, offsetof(struct config, log), "What is logged, and in which format."},
    [CONFIG_SECTION_RUN] = {"run", false, 0, "The process itself."},
};

#define POSTGRES(member)   .section = CONFIG_SECTION_POSTGRES, .offset = offsetof(struct config_postgres, member)
#define OUTBOX(member)     .section = CONFIG_SECTION_OUTBOX, .offset = offsetof(struct config_outbox, member)
#define PUBLISH(member)    .section = CONFIG_SECTION_PUBLISH, .offset = offsetof(struct config_publish, member)
#define INSERT(member)     .section = CONFIG_SECTION_INSERT, .offset = offsetof(struct config_insert, member)
#define CLICKHOUSE(member) .section = CONFIG_SECTION_CLICKHOUSE, .offset = offsetof(struct config_clickhouse, member)
#define ROUTE(member)      .section = CONFIG_SECTION_ROUTE, .offset = offsetof(struct config_route, member)
#define HEALTH(member)                                                                                                 \
    .section = CONFIG_SECTION_HEALTH, .offset = offsetof(struct config_health, member), .flags = CONFIG_LIVE
#define ALERT(member) .section = CONFIG_SECTION_ALERT, .offset = offsetof(struct config_alert, member)
#define RUN(member)   .section = CONFIG_SECTION_RUN, .offset = offsetof(struct config, member)
#define BREAKER(dependency, member)                                                                                    \
    .section = CONFIG_SECTION_BREAKER,                                                                                 \
    .offset = (dependency) * sizeof(struct config_breaker) + offsetof(struct config_breaker, member)
#define ALL_BREAKERS 0 // stored into the first; the others take it where they have nothing of their own

#define TEXT           .kind = CONFIG_KIND_TEXT
#define BOOLEAN        .kind = CONFIG_KIND_BOOLEAN
#define WORD(w)        .kind = CONFIG_KIND_WORD, .words = (w)
#define INTEGER(a, b)  .kind = CONFIG_KIND_INTEGER, .min = (a), .max = (b)
#define SIZE(a, b)     .kind = CONFIG_KIND_SIZE, .min = (a), .max = (b)
#define DURATION(a, b) .kind = CONFIG_KIND_DURATION, .min = (a), .max = (b)

#define COLUMN(role, word, native, what)                                                                               \
    {                                                                                                                  \
        OUTBOX(columns[role]), TEXT, .name = "column." word, .example = native, .flags = CONFIG_INHERITS,              \
                                     .check = config_check_column, .sentence = what                                    \
    }
#define BREAKER_KEYS(dependency, word, who)                                                                            \
    {BREAKER(dependency, failures), INTEGER(1, 1000), .name = word ".failures", .example = "5",                        \
        .flags = CONFIG_LIVE | CONFIG_INHERITS, .sentence = "`failures` for " who "; not set: as `failures`."},        \
        {BREAKER(dependency, open), DURATION(100 * MS, H), .name = word ".open", .example = "30s",                     \
            .flags = CONFIG_LIVE | CONFIG_INHERITS, .sentence = "`open` for " who "; not set: as `open`."},            \
    {                                                                                                                  \
        BREAKER(dependency, successes), INTEGER(1, 1000),                                                              \
            .name = word ".successes", .example = "2", .flags = CONFIG_LIVE | CONFIG_INHERITS,                         \
            .sentence = "`successes` for " who "; not set: as `successes`."                                            \
    }

const struct config_key config_keys[] = {
    {POSTGRES(dsn), TEXT, .name = "dsn", .fallback = "", .example = "host=localhost dbname=app user=outbox_relay_login",
        .flags = CONFIG_SECRET, .check = config_check_dsn,
        .sentence = "libpq connection string or URI. Several hosts with "
                    "target_session_attrs=read-write follow a failover. Through pgbouncer only in session mode."},
    {POSTGRES(password), TEXT, .name = "password", .fallback = "", .example = "...", .flags = CONFIG_SECRET,
        .sentence = "The password, if it is not in the dsn, in PGPASSFILE or not needed. It is read once; "
                    "passfile= of the dsn is read for each connection, for passwords that expire; a colon in "
                    "a password there needs a backslash before it."},
    {POSTGRES(connect_timeout), DURATION(100 * MS, 5 * M), .name = "connect_timeout", .fallback = "5s",
        .sentence = "How long one host may take to accept a connection."},
    {POSTGRES(statement_timeout), DURATION(100 * MS, H), .name = "statement_timeout", .fallback = "30s",
        .sentence = "How long one statement may take."},
    {POSTGRES(idle_timeout), DURATION(S, D), .name = "idle_timeout", .fallback = "600s",
        .sentence =
            "How long a session of a command (status, check, dead-letters, replay) may be silent before the server "
            "ends it (PostgreSQL 14 and later). The daemon's sessions hold locks and are kept; see `[run] lease`."},
    {POSTGRES(acquire_timeout), DURATION(10 * MS, 5 * M), .name = "acquire_timeout", .fallback = "5s",
        .sentence =
            "How long the health watch, `status` and `dead-letters` wait for a connection, all hosts together."},

    {OUTBOX(table), TEXT, .name = "table", .fallback = "public.outbox_events", .check = config_check_table,
        .sentence = "The table, as schema.table; quote names as in SQL: \"My Schema\".\"t\"."},
    {OUTBOX(batch_rows), INTEGER(1, 100000), .name = "batch_rows", .fallback = "5000",
        .sentence =
            "Maximum rows that one statement takes; with exactly_once never more than 27772, which is what fits into a"
            " receipt. With at_least_once each batch is a transaction; with exactly_once an outbox with a backlog"
            " puts all it takes within 100 ms into one transaction of PostgreSQL and of Kafka."},
    {OUTBOX(batch_bytes), SIZE(KIB, GIB), .name = "batch_bytes", .fallback = "8MiB",
        .sentence = "Maximum bytes of one batch; a single larger row is sent by itself. A row above both this and eight"
                    " times [kafka] message.max.bytes is not read: it is too_large."},
    {OUTBOX(disposition), WORD(dispositions), .name = "disposition", .fallback = "delete",
        .sentence =
            "What happens to a published row: deleted, or kept with published_at set (mark), which `replay` needs. "
            "The relay never deletes kept rows."},
    {OUTBOX(fallback_poll), DURATION(10 * MS, H), .name = "fallback_poll", .fallback = "1s",
        .sentence = "How often an idle relay polls, to find rows that fired no trigger."},
    {OUTBOX(dead_letter_table), TEXT, .name = "dead_letter_table", .fallback = "public.outbox_dead_letters",
        .check = config_check_table, .sentence = "Table for rows that can never be published."},
    {OUTBOX(layout), WORD(layouts), .name = "layout", .fallback = "native",
        .sentence =
            "The names of the columns: native (id, seq, aggregate_type, aggregate_id, event_type, payload, metadata, "
            "created_at) or debezium (id, aggregatetype, aggregateid, type, payload, and seq, which must be added)."},
    COLUMN(CONFIG_COLUMN_ID, "id", "id", "Column of the event's id; by `layout`: id."),
    COLUMN(CONFIG_COLUMN_SEQ, "seq", "seq", "Column of the row's number, a bigint identity; by `layout`: seq."),
    COLUMN(CONFIG_COLUMN_KEY, "key", "aggregate_id",
        "Column of the aggregate's id; by `layout`: aggregate_id, or aggregateid."),
    COLUMN(CONFIG_COLUMN_TYPE, "type", "event_type", "Column of the event's type; by `layout`: event_type, or type."),
    COLUMN(CONFIG_COLUMN_AGGREGATE_TYPE, "aggregate_type", "aggregate_type",
        "Column of the aggregate's type, or none; by `layout`: aggregate_type, or aggregatetype."),
    COLUMN(CONFIG_COLUMN_PAYLOAD, "payload", "payload", "Column of the payload; by `layout`: payload."),
    COLUMN(CONFIG_COLUMN_METADATA, "metadata", "metadata",
        "Column of the metadata, or none; by `layout`: metadata, or none."),
    COLUMN(CONFIG_COLUMN_CREATED_AT, "created_at", "created_at",
        "Column of the event's time, or none; by `layout`: created_at, or none."),

    {PUBLISH(enabled), BOOLEAN, .name = "enabled", .fallback = "true", .sentence = "Whether this process publishes."},
    {PUBLISH(guarantee), WORD(guarantees), .name = "guarantee", .fallback = "exactly_once",
        .sentence = "exactly_once: by Kafka transactions and receipts. at_least_once: a crash may duplicate events."},
    {PUBLISH(topic), TEXT, .name = "topic", .fallback = "{prefix}.{event_type:1}.events",
        .check = config_check_topic_template,
        .sentence =
            "Template of the topic: text with {prefix}, {event_type}, {event_type:N} (its N-th part between dots), "
            "{aggregate_type}, {aggregate_id}."},
    {PUBLISH(prefix), TEXT, .name = "prefix", .fallback = "nova", .check = config_check_topic_part,
        .sentence =
            "What {prefix} stands for. Choose it before the first event: another one later renames every topic."},
    {PUBLISH(key), TEXT, .name = "key", .fallback = "{aggregate_id}", .check = config_check_template,
        .sentence = "Template of the record's key; events with the same key keep their order."},
    {PUBLISH(value), WORD(values), .name = "value", .fallback = "payload",
        .sentence = "The record's value: the payload as PostgreSQL gives it, or an envelope around it for columns of "
                    "`additional`."},
    {PUBLISH(metadata_headers), .kind = CONFIG_KIND_LIST, .name = "metadata_headers",
        .fallback = "correlation_id, traceparent, tracestate",
        .sentence = "Members of the metadata that become headers, a list."},
    {PUBLISH(additional), .kind = CONFIG_KIND_ADDITIONAL, .name = "additional", .fallback = "",
        .example = "tenant:header, region:header:x-region",
        .sentence = "Additional columns and where they go: column:header|envelope|partition[:alias], a list."},
    {PUBLISH(tombstone_on_empty), BOOLEAN, .name = "tombstone_on_empty", .fallback = "false",
        .sentence = "Whether a payload that is NULL or JSON null becomes a tombstone; of a bytea column only NULL."},
    {PUBLISH(on_poison), WORD(poisons), .name = "on_poison", .fallback = "dead_letter",
        .sentence = "What happens to a row that can never be published. dead_letter: it is set aside and later events "
                    "of its aggregate are published, so a retry comes out of order. hold_aggregate: it and all later "
                    "events of its aggregate wait; one of bad_encoding, or of an aggregate whose type and id have "
                    "more than 2600 bytes together, is set aside all the same. stop: the whole outbox stops."},
    {PUBLISH(transactional_id), TEXT, .name = "transactional_id", .fallback = "outbox-relay",
        .check = config_check_identifier,
        .sentence = "Prefix of the Kafka transactional.id; the outbox's identity is appended."},
    {PUBLISH(receipt_topic), TEXT, .name = "receipt_topic", .fallback = "outbox-relay.receipts",
        .check = config_check_topic,
        .sentence = "The compacted topic of the receipts that make publishing exactly once."},

    {INSERT(enabled), BOOLEAN, .name = "enabled", .fallback = "true", .sentence = "Whether this process inserts."},
    {INSERT(group_id), TEXT, .name = "group_id", .fallback = "outbox-relay", .check = config_check_group,
        .sentence = "The consumer group; replicas share one. A relay that fills another ClickHouse needs another, and "
                    "two groups must never fill one table at the same time."},
    {INSERT(guarantee), WORD(guarantees), .name = "guarantee", .fallback = "exactly_once",
        .sentence =
            "exactly_once where the table has kafka_topic, kafka_partition and kafka_offset; else at_least_once."},
    {INSERT(batch_rows), INTEGER(1, 1000000), .name = "batch_rows", .fallback = "50000",
        .sentence = "Maximum rows of one INSERT."},
    {INSERT(batch_bytes), SIZE(KIB, 256 * MIB), .name = "batch_bytes", .fallback = "32MiB",
        .sentence = "Maximum bytes of one INSERT."},
    {INSERT(linger), DURATION(0, 5 * M), .name = "linger", .fallback = "1s",
        .sentence = "How long an event may wait for its batch to fill; ClickHouse prefers few, large inserts."},
    {INSERT(memory_limit), SIZE(16 * MIB, 64 * GIB), .name = "memory_limit", .fallback = "256MiB",
        .sentence = "Maximum memory of all batches and of what the consumer has prefetched."},
    {INSERT(dead_letter_table), TEXT, .name = "dead_letter_table", .fallback = "outbox_relay_dead_letters",
        .check = config_check_clickhouse_table, .sentence = "Table for messages that cannot become rows."},
    {INSERT(dead_letter_topic), TEXT, .name = "dead_letter_topic", .fallback = "",
        .example = "outbox-relay.dead-letters", .check = config_check_topic,
        .sentence = "Topic that receives a copy of each dead letter; empty: none."},
    {INSERT(max_bad_ratio), .kind = CONFIG_KIND_RATIO, .name = "max_bad_ratio", .fallback = "0",
        .sentence = "A route stops when more than this ratio of its messages are dead letters (0.05 or 5%); 0: never."},
    {INSERT(on_lost_messages), WORD(lost_messages), .name = "on_lost_messages", .fallback = "stop",
        .sentence = "What to do when Kafka has deleted messages (retention) before they were inserted. stop: tables "
                    "that lack them take nothing more from that partition until an operator decides. continue: skip "
                    "them, count them in messages_lost_total, and go on."},

    {CLICKHOUSE(urls), .kind = CONFIG_KIND_LIST, .name = "url", .fallback = "", .example = "http://clickhouse:8123",
        .flags = CONFIG_DISCREET, .check = config_check_url,
        .sentence =
            "HTTP interface of one server, http:// or https://, never of a load balancer; several, separated by "
            "commas, are replicas of one shard."},
    {CLICKHOUSE(database), TEXT, .name = "database", .fallback = "default", .check = config_check_name,
        .sentence = "Database of tables that are named without one."},
    {CLICKHOUSE(user), TEXT, .name = "user", .fallback = "default", .check = config_check_name,
        .sentence = "The user."},
    {CLICKHOUSE(password), TEXT, .name = "password", .fallback = "", .example = "...", .flags = CONFIG_SECRET,
        .sentence = "The user's password; sent in a header, never in a URL."},
    {CLICKHOUSE(ca_file), TEXT, .name = "ca_file", .fallback = "", .example = "/etc/outbox-relay/clickhouse-ca.pem",
        .check = config_check_certificates, .sentence = "CA bundle (PEM), used instead of the system's."},
    {CLICKHOUSE(cert_file), TEXT, .name = "cert_file", .fallback = "", .example = "/etc/outbox-relay/clickhouse.pem",
        .check = config_check_certificates,
        .sentence =
            "Client certificate (PEM), with those between it and its CA. Without a password it is the login, too."},
    {CLICKHOUSE(key_file), TEXT, .name = "key_file", .fallback = "", .example = "/etc/outbox-relay/clickhouse-key.pem",
        .check = config_check_key, .sentence = "Its private key (PEM), without a passphrase."},
    {CLICKHOUSE(connect_timeout), DURATION(100 * MS, 5 * M), .name = "connect_timeout", .fallback = "5s",
        .sentence = "How long one endpoint may take to accept a connection."},
    {CLICKHOUSE(request_timeout), DURATION(S, H), .name = "request_timeout", .fallback = "65s",
        .sentence =
            "How long one request may take, and so an INSERT. After one that takes longer the next ones are smaller, "
            "but for tables with views (`insert.too_slow`): raise it there, for all relays of the group alike."},
    {CLICKHOUSE(compression), WORD(compressions), .name = "compression", .fallback = "auto",
        .sentence = "Compression of requests. auto: none if every url names this machine (localhost, 127.x.x.x, "
                    "[::1]), else lz4."},

    {ROUTE(topics), .kind = CONFIG_KIND_TOPICS, .name = "topics", .example = "nova.order.events",
        .flags = CONFIG_INHERITS,
        .sentence = "A list of topic names, or one regular expression that starts with ^. Required; in [route "
                    "default] it follows from the topic templates."},
    {ROUTE(table), TEXT, .name = "table", .example = "analytics.orders", .flags = CONFIG_INHERITS,
        .check = config_check_clickhouse_table,
        .sentence = "Table, or database.table. Required; in [route default] it is outbox_events."},
    {.section = CONFIG_SECTION_ROUTE,
        .kind = CONFIG_KIND_COLUMNS,
        .name = "columns",
        .fallback = "",
        .example = "order_id = $.id, amount = $.amount",
        .sentence = "All `column = source` entries as one list, instead of one line each."},
    {ROUTE(tombstones), WORD(tombstones), .name = "tombstones", .fallback = "dead_letter",
        .sentence = "What happens to a message without value. dead_letter: nothing special, so a column that reads the "
                    "value without ? makes it a dead letter. skip: no row, only counted. row: columns that read the "
                    "value get NULL or their default."},
    {ROUTE(enabled), BOOLEAN, .name = "enabled", .fallback = "true", .sentence = "Whether the route is used."},

    {BREAKER(ALL_BREAKERS, failures), INTEGER(1, 1000), .name = "failures", .fallback = "5", .flags = CONFIG_LIVE,
        .sentence = "Consecutive failures after which the circuit breaker opens and the dependency is not called."},
    {BREAKER(ALL_BREAKERS, open), DURATION(100 * MS, H), .name = "open", .fallback = "30s", .flags = CONFIG_LIVE,
        .sentence = "The longest time for which it stays open before one trial call is allowed. The first time is a "
                    "sixteenth of it; each trial that fails doubles it."},
    {BREAKER(ALL_BREAKERS, successes), INTEGER(1, 1000), .name = "successes", .fallback = "2", .flags = CONFIG_LIVE,
        .sentence = "Consecutive successes after which it closes again."},
    BREAKER_KEYS(CONFIG_DEPENDENCY_POSTGRES, "postgres", "PostgreSQL"),
    BREAKER_KEYS(CONFIG_DEPENDENCY_KAFKA, "kafka", "Kafka"),
    BREAKER_KEYS(CONFIG_DEPENDENCY_CLICKHOUSE, "clickhouse", "each ClickHouse endpoint"),
    BREAKER_KEYS(CONFIG_DEPENDENCY_ALERT, "alert", "each alert target"),

    {HEALTH(interval), DURATION(S, D), .name = "interval", .fallback = "60s",
        .sentence = "How often check_outbox_health() is called."},
    {HEALTH(warning_rows), INTEGER(0, INT64_C(1000000000000)), .name = "warning_rows", .fallback = "100",
        .sentence = "More unpublished rows than this: WARNING."},
    {HEALTH(critical_rows), INTEGER(0, INT64_C(1000000000000)), .name = "critical_rows", .fallback = "1000",
        .sentence = "More unpublished rows than this: CRITICAL."},
    {HEALTH(warning_age), DURATION(0, 365 * D), .name = "warning_age", .fallback = "5m",
        .sentence = "An unpublished row older than this: WARNING; 0s: off."},
    {HEALTH(critical_age), DURATION(0, 365 * D), .name = "critical_age", .fallback = "15m",
        .sentence = "An unpublished row older than this: CRITICAL; 0s: off."},
    {HEALTH(warning_lag), INTEGER(0, INT64_C(1000000000000)), .name = "warning_lag", .fallback = "0",
        .sentence = "A consumer lag of more messages than this: WARNING; 0: off."},
    {HEALTH(critical_lag), INTEGER(0, INT64_C(1000000000000)), .name = "critical_lag", .fallback = "0",
        .sentence = "A consumer lag of more messages than this: CRITICAL; 0: off."},

    {ALERT(webhook_url), TEXT, .name = "webhook_url", .fallback = "", .example = "https://example.com/hook",
        .flags = CONFIG_LIVE | CONFIG_SECRET, .check = config_check_web_url,
        .sentence = "Receives each alert as JSON, by POST."},
    {ALERT(slack_url), TEXT, .name = "slack_url", .fallback = "", .example = "https://hooks.slack.com/services/...",
        .flags = CONFIG_LIVE | CONFIG_SECRET, .check = config_check_web_url,
        .sentence = "A Slack-style incoming webhook."},
    {ALERT(alertmanager_url), TEXT, .name = "alertmanager_url", .fallback = "", .example = "http://alertmanager:9093",
        .flags = CONFIG_LIVE | CONFIG_SECRET, .check = config_check_web_url,
        .sentence = "Base URL of an Alertmanager (API v2); of a cluster, that of one member, not a balanced one."},
    {ALERT(ca_file), TEXT, .name = "ca_file", .fallback = "", .example = "/etc/outbox-relay/alerts-ca.pem",
        .flags = CONFIG_LIVE, .check = config_check_certificates,
        .sentence = "CA bundle (PEM) for all receivers, used instead of the system's."},
    {ALERT(cert_file), TEXT, .name = "cert_file", .fallback = "", .example = "/etc/outbox-relay/alerts.pem",
        .flags = CONFIG_LIVE, .check = config_check_certificates,
        .sentence = "Client certificate (PEM) for all receivers, with those between it and its CA."},
    {ALERT(key_file), TEXT, .name = "key_file", .fallback = "", .example = "/etc/outbox-relay/alerts-key.pem",
        .flags = CONFIG_LIVE, .check = config_check_key, .sentence = "Its private key (PEM), without a passphrase."},
    {ALERT(deployment), TEXT, .name = "deployment", .fallback = "", .example = "shop", .flags = CONFIG_LIVE,
        .check = config_check_identifier,
        .sentence =
            "Name of this deployment, added to its alerts; the same for all its processes. Needed where several "
            "deployments share a receiver."},
    {ALERT(repeat), DURATION(S, 365 * D), .name = "repeat", .fallback = "4h", .flags = CONFIG_LIVE,
        .sentence = "How often an alert that is still firing is repeated."},
    {ALERT(hold), DURATION(0, D), .name = "hold", .fallback = "0s", .flags = CONFIG_LIVE,
        .sentence = "How long a state must last before an alert is sent."},

    {.section = CONFIG_SECTION_HTTP,
        .offset = offsetof(struct config_http, listen),
        TEXT,
        .name = "listen",
        .fallback = "127.0.0.1:8000",
        .check = config_check_listen,
        .sentence = "host:port, [v6]:port or :port (all addresses); port 0: any free port; empty or none: no HTTP."},

    {.section = CONFIG_SECTION_LOG,
        .offset = offsetof(struct config_log, level),
        WORD(levels),
        .name = "level",
        .fallback = "info",
        .flags = CONFIG_LIVE,
        .sentence = "Minimum level. Payloads are logged at debug only."},
    {.section = CONFIG_SECTION_LOG,
        .offset = offsetof(struct config_log, format),
        WORD(formats),
        .name = "format",
        .fallback = "auto",
        .sentence = "auto: text on a terminal, journald under systemd, else json."},

    {RUN(drain_timeout), DURATION(S, H), .name = "drain_timeout", .fallback = "25s",
        .sentence =
            "Maximum time from SIGTERM to the end of the process; keep it below what systemd or Kubernetes allows."},
    {RUN(lease), DURATION(S, 5 * M), .name = "lease", .fallback = "5s",
        .sentence = "Publish stage only: a relay that is frozen or cut off loses its outboxes after this. For the "
                    "insert stage see `[kafka] session.timeout.ms`."},
};
const size_t config_key_count = sizeof(config_keys) / sizeof(config_keys[0]);

const struct config_key *config_key_find(enum config_section_id section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++) {
        if (config_keys[i].section == section && strcmp(config_keys[i].name, name) == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}

enum config_section_id config_section_find(const char *name, size_t length)
{
    for (size_t i = 0; i < CONFIG_SECTIONS; i++) {
        if (strlen(config_sections[i].name) == length && memcmp(config_sections[i].name, name, length) == 0) {
            return (enum config_section_id)i;
        }
    }
    return CONFIG_SECTIONS;
}
