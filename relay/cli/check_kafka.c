// SPDX-License-Identifier: Apache-2.0
//
// Kafka: the cluster answers; the receipt topic keeps receipts; the topics of the events that wait in the outboxes
// right now exist and take what we send, in all partitions (check_partitions.c); the group's offsets may be read; what
// the routes read (check_route_topics.c); what the brokers keep for us (check_own_topics.c).
// What a broker does not let us describe is said as such: it is no failure of the relay.
#include "relay/cli/check_kafka.h"

#include "relay/config/config_kafka.h"
#include "relay/insert/insert_stage.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/publish/event_router.h"
#include "relay/publish/outbox_table.h"
#include "relay/publish/publish_stage.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define OLD_LIBRDKAFKA 0x020c00ff // what the build asks for; a shared library may be an older one
#define TOPICS_MAX     200
#define SEGMENT_MOST   ((int64_t)128 << 20)
#define WAITING_MAX    20000 // rows of an outbox whose topics are asked for

struct kafka_check {
    struct check *check;
    struct kafka_probe *probe;
    char *topics[TOPICS_MAX]; // those to look at more closely
    size_t topic_count;
    bool more; // there were more of them
};

static void note_topic(struct kafka_check *at, const char *topic)
{
    for (size_t i = 0; i < at->topic_count; i++) {
        if (strcmp(at->topics[i], topic) == 0) {
            return;
        }
    }
    char *copy = at->topic_count < TOPICS_MAX ? strdup(topic) : NULL;
    if (copy) {
        at->topics[at->topic_count++] = copy;
    } else {
        at->more = true;
    }
}

static void check_library(struct check *check)
{
    if (rd_kafka_version() < OLD_LIBRDKAFKA) {
        check_add(check->report, CHECK_WARN, "kafka", "build with the pinned librdkafka (-Dlibrdkafka=pinned)",
            "librdkafka %s is older than 2.12: it may wait without end for a broker that has died, and stalls in "
            "transactions",
            rd_kafka_version_str());
    } else {
        check_add(check->report, CHECK_OK, "kafka", "", "librdkafka %s", rd_kafka_version_str());
    }
}

static long long number_given(const struct config *config, const char *name, long long otherwise)
{
    const struct config_pair *given = config_kafka_given(config, name);
    return given ? strtoll(given->value, NULL, 10) : otherwise;
}

static long long message_max(const struct config *config)
{
    return number_given(config, "message.max.bytes", 1000000);
}

// librdkafka never takes a record that is larger than its queue. Left out, the queue is as large as it must be.
static void check_queue(struct check *check)
{
    const struct config *config = check->context->config;
    long long largest = message_max(config), room = number_given(config, "queue.buffering.max.kbytes", LLONG_MAX);
    if (room < largest / 1024 + 1) {
        check_add(check->report, CHECK_WARN, "kafka",
            "raise [kafka] queue.buffering.max.kbytes, or leave it out, or lower message.max.bytes",
            "queue.buffering.max.kbytes has room for %lld bytes, message.max.bytes is %lld: an event in between stops "
            "its outbox",
            room * 1024, largest);
    }
}

// The value that librdkafka makes of what is set, in its one spelling.
static void check_creation(struct check *check)
{
    char value[16] = "";
    size_t room = sizeof(value);
    rd_kafka_conf_t *conf = kafka_conf_new(check->context, KAFKA_CLIENT_PRODUCER, "check", NULL);
    bool known = conf && rd_kafka_conf_get(conf, "allow.auto.create.topics", value, &room) == RD_KAFKA_CONF_OK;
    if (conf) {
        rd_kafka_conf_destroy(conf);
    }
    if (known && strcmp(value, "true") == 0) {
        check_add(check->report, CHECK_WARN, "kafka", "leave it out, and create topics yourself",
            "allow.auto.create.topics is true: brokers may make a missing topic as their defaults are, the receipt "
            "topic with cleanup.policy=delete");
    }
}

// As the daemon tries them at its start. Certificates are looked at by asking the cluster.
static void check_clients(struct check *check)
{
    bool (*const stages[])(const struct relay_context *, struct relay_error *) = {publish_stage_try, insert_stage_try};
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        struct relay_error error;
        if (!stages[i](check->context, &error)) {
            check_add(check->report, CHECK_FAIL, "kafka", "fix the property, or leave it out: run would end with 78",
                "%s", error.text);
        }
    }
}

static bool check_cluster(struct kafka_check *at)
{
    struct relay_error error;
    at->probe = kafka_probe_open(at->check->context, "check", CHECK_TIMEOUT, &error);
    if (!at->probe) {
        check_add(at->check->report, CHECK_FAIL, "kafka",
            "fix [kafka] bootstrap.servers, security.protocol, sasl.* and ssl.*, or start the brokers", "%s",
            error.text);
        return false;
    }
    const rd_kafka_metadata_t *metadata = kafka_probe_metadata(at->probe);
    check_add(at->check->report, CHECK_OK, "kafka", "", "%d broker%s, %d topics visible", metadata->broker_cnt,
        metadata->broker_cnt == 1 ? "" : "s", metadata->topic_cnt);
    return true;
}

// The columns of waiting_events().
enum { WAITS_TYPE, WAITS_AGGREGATE_TYPE, WAITS_KEY, WAITS_ID, WAITS_PLACE, WAITS_ROWS };

// One event of each topic and type is turned into a record, as publishing would do it. Returns how many topics were
// found.
static size_t route_events(struct kafka_check *at, const char *what, struct event_router *router,
    struct event_arena *arena, const PGresult *rows)
{
    size_t found = 0;
    for (int i = 0; i < PQntuples(rows) && i < TOPICS_MAX; i++) {
        struct outbox_row row = {.seq = 1, .created_at_kind = CREATED_AT_FINITE};
        struct text_view *const cells[] = {&row.type, &row.aggregate_type, &row.key, &row.id};
        for (int column = WAITS_TYPE; column <= WAITS_ID; column++) {
            const char *cell = pg_cell(rows, i, column);
            *cells[column] = (struct text_view){.at = cell, .length = cell ? strlen(cell) : 0};
        }
        row.payload = (struct text_view){.at = "{}", .length = 2};
        struct routed_event event;
        enum publish_reason reason;
        struct relay_error error;
        event_arena_reset(arena);
        if (event_router_route(router, &row, arena, &event, &reason, &error) != ROUTE_OK) {
            check_add(at->check->report, CHECK_WARN, what, "fix [publish] topic, or the events", "event type %s: %s",
                row.type.at ? row.type.at : "NULL", error.text);
        } else if (!kafka_probe_topic(at->probe, event.topic)) {
            check_add(at->check->report, CHECK_FAIL, what,
                "create it (the relay creates no event topics), or allow the relay to describe and write it",
                "event type %s waits for topic %s, which does not exist or is not visible to us",
                row.type.at ? row.type.at : "NULL", event.topic);
        } else {
            note_topic(at, event.topic);
            found += pg_cell_int64(rows, i, WAITS_PLACE) == 1;
        }
    }
    return found;
}

// An event of each topic and type among the first that wait, one of each topic before a second of any: topics as
// publishing makes them, by the same expression as those that are parked. Where it makes none, the router says why.
static PGresult *waiting_events(struct kafka_check *at, const struct config_outbox *outbox, struct relay_error *error)
{
    struct pg_connection *connection = at->check->connection;
    struct outbox_table *table = outbox_table_load(connection, outbox, check_deadline(at->check), error);
    if (!table) {
        return NULL;
    }
    static const enum config_column_role roles[] = {CONFIG_COLUMN_TYPE, CONFIG_COLUMN_AGGREGATE_TYPE, CONFIG_COLUMN_KEY,
        CONFIG_COLUMN_ID};
    char *texts[4] = {NULL}, *sql = NULL;
    PGresult *result = NULL;
    bool made = true;
    for (size_t i = 0; i < 4; i++) {
        texts[i] = outbox_table_text(table, outbox, roles[i]);
        made = made && texts[i];
    }
    if (made &&
        asprintf(&sql,
            "WITH w AS MATERIALIZED (SELECT %s AS topic, %s AS type, %s AS aggregate_type, %s AS key, %s AS id "
            "FROM %s t %s ORDER BY t.%s LIMIT %d), "
            "e AS (SELECT DISTINCT ON (w.topic, w.type) w.* FROM w ORDER BY w.topic, w.type), "
            "p AS (SELECT e.*, row_number() OVER (PARTITION BY e.topic ORDER BY e.type) AS place FROM e) "
            "SELECT p.type, p.aggregate_type, p.key, p.id, p.place, (SELECT count(*) FROM w) FROM p "
            "ORDER BY p.place, p.topic LIMIT %d",
            table->topic, texts[0], texts[1], texts[2], texts[3], table->name,
            table->published_at ? "WHERE t.published_at IS NULL" : "", table->seq, WAITING_MAX + 1,
            TOPICS_MAX + 1) >= 0) {
        result = pg_query(connection, sql, NULL, 0, false, check_deadline(at->check), error);
        free(sql);
    } else {
        error_no_memory(error, "asking for the topics");
    }
    for (size_t i = 0; i < 4; i++) {
        free(texts[i]);
    }
    outbox_table_free(table);
    return result;
}

static void check_event_topics(struct kafka_check *at, const struct config_outbox *outbox)
{
    struct relay_error error = {0};
    if (!at->check->connection || pg_broken(at->check->connection)) {
        return; // said already
    }
    char what[160];
    snprintf(what, sizeof(what), "topics of outbox %s", outbox->name);
    struct event_router *router = event_router_new(at->check->context->config, outbox, &error);
    struct event_arena *arena = event_arena_new(65536);
    PGresult *rows = router && arena ? waiting_events(at, outbox, &error) : NULL;
    if (!rows) {
        check_add(at->check->report, CHECK_WARN, "kafka", "", "%s cannot be told: %s", what, error.text);
    } else if (PQntuples(rows) > 0) {
        size_t found = route_events(at, what, router, arena, rows);
        check_add(at->check->report, CHECK_OK, "kafka", "", "outbox %s: events wait, %zu topics for them found",
            outbox->name, found);
        if (PQntuples(rows) > TOPICS_MAX || pg_cell_int64(rows, 0, WAITS_ROWS) > WAITING_MAX) {
            check_add(at->check->report, CHECK_OK, what, "",
                "a part was looked at: of the first %d waiting events, the first %d pairs of topic and event type",
                WAITING_MAX, TOPICS_MAX);
        }
    }
    PQclear(rows);
    event_arena_free(arena);
    event_router_free(router);
}

static void judge_safety(struct kafka_check *at, const char *what, const struct kafka_topic_settings *settings)
{
    const rd_kafka_metadata_topic_t *topic = kafka_probe_topic(at->probe, settings->topic);
    int brokers = kafka_probe_metadata(at->probe)->broker_cnt;
    int replicas = topic && topic->partition_cnt > 0 ? topic->partitions[0].replica_cnt : 0;
    if (replicas < 2 && brokers > 1) {
        check_add(at->check->report, CHECK_WARN, what, "replication factor 3",
            "%s has %d replica: a lost disk is lost events", settings->topic, replicas);
    }
    if (replicas >= 3 && settings->min_insync_replicas < 2) {
        check_add(at->check->report, CHECK_WARN, what, "min.insync.replicas=2",
            "%s acknowledges what a single replica has (min.insync.replicas=%lld)", settings->topic,
            (long long)settings->min_insync_replicas);
    }
    if (settings->unclean_leader_election) {
        check_add(at->check->report, CHECK_WARN, what, "unclean.leader.election.enable=false",
            "%s may elect a leader that has not got everything: acknowledged events can vanish", settings->topic);
    }
}

static void judge_receipts(struct kafka_check *at, const struct kafka_topic_settings *settings)
{
    if (strstr(settings->cleanup_policy, "compact") == NULL) {
        check_add(at->check->report, CHECK_FAIL, "receipt topic", "cleanup.policy=compact",
            "%s has cleanup.policy=%s: receipts of a quiet outbox would be deleted, and with them the proof of what "
            "was published",
            settings->topic, settings->cleanup_policy);
    } else if (strstr(settings->cleanup_policy, "delete") != NULL) {
        check_add(at->check->report, CHECK_FAIL, "receipt topic", "cleanup.policy=compact alone",
            "%s also deletes by age: receipts of a quiet outbox would vanish", settings->topic);
    } else {
        check_add(at->check->report, CHECK_OK, "receipt topic", "", "%s is compacted", settings->topic);
    }
    if (settings->segment_bytes > SEGMENT_MOST) {
        check_add(at->check->report, CHECK_WARN, "receipt topic",
            "kafka-configs.sh --alter --entity-type topics --entity-name TOPIC --add-config segment.bytes=67108864, "
            "unless the service refuses that",
            "%s has segment.bytes=%lld: a segment is not compacted before it is full, so an outbox that starts reads "
            "up "
            "to as much of others' receipts",
            settings->topic, (long long)settings->segment_bytes);
    }
}

static void judge_size(struct kafka_check *at, const struct kafka_topic_settings *settings)
{
    long long ours = message_max(at->check->context->config);
    if (settings->max_message_bytes > 0 && settings->max_message_bytes < ours) {
        check_add(at->check->report, CHECK_WARN, "topics",
            "raise the topic's max.message.bytes, or lower [kafka] message.max.bytes",
            "%s takes %lld bytes, [kafka] message.max.bytes is %lld: events in between become dead letters only after "
            "the broker refused them",
            settings->topic, (long long)settings->max_message_bytes, ours);
    }
}

static bool is_receipt_topic(const struct config *config, const char *topic)
{
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (strcmp(config->outboxes[i].publish.receipt_topic, topic) == 0) {
            return true;
        }
    }
    return false;
}

static const char *topic_kind(const struct kafka_check *at, const char *topic)
{
    return is_receipt_topic(at->check->context->config, topic) ? "receipt topic" : "topics";
}

static void check_settings(struct kafka_check *at)
{
    struct kafka_topic_settings settings[TOPICS_MAX];
    struct relay_error error;
    if (!kafka_probe_settings(at->probe, (const char *const *)at->topics, at->topic_count, settings, CHECK_TIMEOUT,
            &error)) {
        check_add(at->check->report, CHECK_WARN, "topics", "grant DESCRIBE_CONFIGS on the topics, or look yourself",
            "%s", error.text);
        for (size_t i = 0; i < at->topic_count; i++) {
            check_partitions(at->check, at->probe, topic_kind(at, at->topics[i]), at->topics[i], 0);
        }
        return;
    }
    for (size_t i = 0; i < at->topic_count; i++) {
        bool receipts = is_receipt_topic(at->check->context->config, settings[i].topic);
        const char *what = topic_kind(at, settings[i].topic);
        check_partitions(at->check, at->probe, what, settings[i].topic,
            settings[i].refused == RD_KAFKA_RESP_ERR_NO_ERROR ? settings[i].min_insync_replicas : 0);
        if (settings[i].refused != RD_KAFKA_RESP_ERR_NO_ERROR) {
            check_add(at->check->report, CHECK_WARN, what, "grant DESCRIBE_CONFIGS on it, or look yourself",
                "settings of %s: %s", settings[i].topic, rd_kafka_err2str(settings[i].refused));
            continue;
        }
        if (receipts) {
            judge_receipts(at, &settings[i]);
        } else {
            judge_size(at, &settings[i]);
        }
        judge_safety(at, what, &settings[i]);
    }
    if (at->more) {
        check_add(at->check->report, CHECK_OK, "topics", "", "the settings of %d topics were looked at: there are more",
            TOPICS_MAX);
    }
}

static void check_receipt_topic(struct kafka_check *at, const char *topic)
{
    if (kafka_probe_topic(at->probe, topic)) {
        note_topic(at, topic);
        return;
    }
    check_add(at->check->report, CHECK_WARN, "receipt topic",
        "create it with replication factor 3, cleanup.policy=compact, segment.bytes=67108864 and "
        "min.insync.replicas=2; the relay, if it may, makes it with the brokers' default.replication.factor, often 1",
        "%s does not exist yet, or is not visible to us", topic);
}

static bool writes_receipts(const struct config_publish *publish)
{
    return publish->enabled && publish->guarantee == CONFIG_EXACTLY_ONCE;
}

// Receipts' topics first: those of the events may be more than are looked at closely.
static void check_publishing(struct kafka_check *at)
{
    const struct config *config = at->check->context->config;
    for (size_t i = 0; i < config->outbox_count; i++) {
        const struct config_publish *publish = &config->outboxes[i].publish;
        bool told = !writes_receipts(publish);
        for (size_t j = 0; j < i && !told; j++) { // outboxes may share it
            const struct config_publish *before = &config->outboxes[j].publish;
            told = writes_receipts(before) && strcmp(before->receipt_topic, publish->receipt_topic) == 0;
        }
        if (!told) {
            check_receipt_topic(at, publish->receipt_topic);
        }
    }
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (config->outboxes[i].publish.enabled) {
            check_event_topics(at, &config->outboxes[i]);
        }
    }
}

static void check_inserting(struct kafka_check *at)
{
    const char *group = at->check->context->config->insert.group_id;
    struct relay_error error;
    rd_kafka_topic_partition_list_t *committed = kafka_probe_committed(at->probe, group, CHECK_TIMEOUT, &error);
    if (committed) {
        check_add(at->check->report, CHECK_OK, "group", "", "%s has committed offsets of %d partitions", group,
            committed->cnt);
    } else {
        bool passing = error.class == RELAY_CLASS_RETRIABLE;
        check_add(at->check->report, passing ? CHECK_WARN : CHECK_FAIL, "group",
            passing ? "try again" : "grant READ on the group and its topics", "%s", error.text);
    }
    check_route_topics(at->check, at->probe, committed);
    if (committed) {
        rd_kafka_topic_partition_list_destroy(committed);
    }
}

void check_kafka(struct check *check)
{
    const struct config *config = check->context->config;
    struct kafka_check at = {.check = check};
    check_library(check);
    check_queue(check);
    check_creation(check);
    check_clients(check);
    if (check_cluster(&at)) {
        check_publishing(&at);
        check_settings(&at);
        check_own_topics(check, at.probe);
        if (config->insert.enabled) {
            check_inserting(&at);
        }
    }
    for (size_t i = 0; i < at.topic_count; i++) {
        free(at.topics[i]);
    }
    kafka_probe_close(at.probe);
}
