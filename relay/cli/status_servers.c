// SPDX-License-Identifier: Apache-2.0
//
// The state of affairs without a daemon: PostgreSQL tells backlog, owners and dead letters of each outbox; Kafka how
// far the group is behind; ClickHouse what the tables hold. The servers are asked one after the other, each with a
// deadline; one that is down is "down" in the document, and the others are asked all the same.
#include "relay/cli/status.h"

#include "relay/base/version.h"
#include "relay/cli/kafka_probe.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/insert_routes.h"
#include "relay/ops/health_judge.h"
#include "relay/postgres/pg_connection.h"
#include "relay/postgres/pg_health.h"
#include "relay/postgres/pg_stranger.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE DURATION_S(5)

struct gathering {
    const struct relay_context *context;
    json_t *checks, *lag, *tables, *dead_letters;
    int level; // the worst so far: 0 ok, 1 degraded, 2 down
};

static const char *const levels[] = {"ok", "degraded", "down"};

static json_t *state(int level, const char *reason, json_t *figures)
{
    return json_pack("{s:s, s:s, s:o}", "status", levels[level], "reason", reason, "figures", figures);
}

static void raise_level(struct gathering *at, int level)
{
    at->level = level > at->level ? level : at->level;
}

static void add_check(struct gathering *at, const char *check, int level, const char *reason, json_t *figures)
{
    raise_level(at, level);
    json_object_set_new(at->checks, check, state(level, reason, figures));
}

// A check of several instances, with the reason of the worst one, as the daemon has it.
static void add_instances(struct gathering *at, const char *check, int level, json_t *instances)
{
    const char *name, *worst = NULL;
    json_t *one;
    json_object_foreach(instances, name, one)
    {
        if (status_level_of_state(one) > (worst ? status_level_of_state(json_object_get(instances, worst)) : 0)) {
            worst = name;
        }
    }
    raise_level(at, level);
    const char *why = json_string_value(json_object_get(json_object_get(instances, worst ? worst : ""), "reason"));
    json_object_set_new(at->checks, check,
        json_pack("{s:s, s:s++, s:o}", "status", levels[level], "reason", worst ? worst : "", worst ? ": " : "",
            why ? why : "", "instances", instances));
}

static struct mono_time soon(const struct gathering *at)
{
    return mono_add(clock_mono(at->context->clock), PATIENCE);
}

// PostgreSQL

static PGresult *ask_health(struct gathering *at, struct pg_connection *connection, const struct config_outbox *outbox,
    struct relay_error *error)
{
    return pg_health_ask(connection, outbox->table, &at->context->config->health,
        ", (SELECT a.application_name || coalesce(' at ' || pg_catalog.host(a.client_addr), '')"
        " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)"
        " WHERE " PG_OUTBOX_LOCK("$1::regclass::oid", "1") " LIMIT 1)", // the owner's session has it
        soon(at), error);
}

// Whether somebody holds a lock of the outbox and is no relay; the owner's locks go before the watch's.
static const char *ask_stranger(struct gathering *at, struct pg_connection *connection,
    const struct config_outbox *outbox, struct pg_stranger *stranger)
{
    struct relay_error error;
    return pg_stranger_find(connection, outbox->table, "{1,2,3}", stranger, soon(at), &error) ? stranger->text : "";
}

// Returns its level.
static int add_outbox(struct gathering *at, struct pg_connection *connection, const struct config_outbox *outbox,
    json_t *instances)
{
    struct relay_error error;
    PGresult *result = ask_health(at, connection, outbox, &error);
    if (!result) {
        json_object_set_new(instances, outbox->name, state(2, error.text, json_object()));
        return 2;
    }
    struct pg_stranger stranger;
    const char *taken = ask_stranger(at, connection, outbox, &stranger);
    bool usurped = stranger.lock == PG_LOCK_OWNER || stranger.lock == PG_LOCK_OWNER_TOO;
    const char *health = pg_cell(result, 0, 0), *owner = usurped ? NULL : pg_cell(result, 0, 5);
    const char *fault = stranger.lock != PG_LOCK_NONE ? taken : pg_cell(result, 0, 4);
    bool worries = strcmp(health, "OK") != 0 || !owner || fault;
    int level = usurped || strcmp(health, "CRITICAL") == 0 ? 2 : worries ? 1 : 0;
    json_t *figures = json_pack("{s:s, s:s, s:I, s:I, s:s}", "health", health, "message", pg_cell(result, 0, 1),
        "unpublished_rows", (json_int_t)pg_cell_int64(result, 0, 2), "oldest_age_seconds",
        (json_int_t)pg_cell_int64(result, 0, 3), "owner", owner ? owner : "nobody");
    json_object_set_new(instances, outbox->name,
        state(level,
            usurped                         ? taken
                : strcmp(health, "OK") != 0 ? pg_cell(result, 0, 1)
                : !owner                    ? "no relay owns it"
                : fault                     ? fault
                                            : "",
            figures));
    PQclear(result);
    return level;
}

static void add_letters(struct gathering *at, struct pg_connection *connection, const char *table)
{
    struct relay_error error;
    PGresult *name = pg_query(connection, "SELECT pg_catalog.to_regclass($1)::text", &PG_TEXT(table), 1, false,
        soon(at), &error);
    char *sql = NULL;
    if (name && pg_cell(name, 0, 0) &&
        asprintf(&sql,
            "SELECT reason_code, count(*) FROM (SELECT reason_code FROM %s LIMIT 100000) d GROUP BY 1 ORDER BY 2 DESC",
            pg_cell(name, 0, 0)) >= 0) {
        PGresult *result = pg_query(connection, sql, NULL, 0, false, soon(at), &error);
        for (int i = 0; result && i < PQntuples(result); i++) {
            json_array_append_new(at->dead_letters,
                json_pack("{s:s, s:s, s:I}", "stage", "publish", "reason", pg_cell(result, i, 0), "events",
                    (json_int_t)pg_cell_int64(result, i, 1)));
        }
        PQclear(result);
        free(sql);
    }
    PQclear(name);
}

static void gather_postgres(struct gathering *at)
{
    const struct config *config = at->context->config;
    struct relay_error error;
    // Only there are the owners' locks.
    struct pg_options options = {.role = "status", .statement_timeout = PATIENCE, .brief = true, .primary_first = true};
    struct pg_connection *connection = pg_connect(at->context, &options, &error);
    if (!connection) {
        add_check(at, "postgres", 2, error.text, json_object());
        return;
    }
    add_check(at, "postgres", 0, "",
        json_pack("{s:s, s:s}", "address", pg_server_address(connection), "version",
            PQparameterStatus(pg_libpq(connection), "server_version")));
    json_t *instances = json_object();
    int worst = 0;
    for (size_t i = 0; i < config->outbox_count && !pg_broken(connection); i++) {
        if (!config->outboxes[i].publish.enabled) {
            continue;
        }
        int level = add_outbox(at, connection, &config->outboxes[i], instances);
        worst = level > worst ? level : worst;
        bool told = false;
        for (size_t j = 0; j < i && !told; j++) {
            told = config->outboxes[j].publish.enabled &&
                strcmp(config->outboxes[j].dead_letter_table, config->outboxes[i].dead_letter_table) == 0;
        }
        if (!told) {
            add_letters(at, connection, config->outboxes[i].dead_letter_table);
        }
    }
    add_instances(at, "outbox", worst, instances);
    pg_close(connection);
}

// Kafka

static bool is_read(const struct insert_routes *routes, const char *topic)
{
    bool read = false;
    for (size_t i = 0; i < insert_routes_count(routes) && !read; i++) {
        read = insert_routes_match(routes, i, topic);
    }
    return read;
}

static int64_t committed_of(const rd_kafka_topic_partition_list_t *committed, const char *topic, int32_t partition)
{
    const rd_kafka_topic_partition_t *found = rd_kafka_topic_partition_list_find(
        (rd_kafka_topic_partition_list_t *)(uintptr_t)committed, topic, partition);
    return found ? found->offset : -1;
}

// The lag of every partition that a route reads. Returns the sum, -1 if some partition did not answer in time.
static int64_t add_lag(struct gathering *at, struct kafka_probe *probe, const struct insert_routes *routes,
    const rd_kafka_topic_partition_list_t *committed)
{
    const rd_kafka_metadata_t *metadata = kafka_probe_metadata(probe);
    struct mono_time deadline = mono_add(clock_mono(at->context->clock), DURATION_S(10));
    int64_t sum = 0;
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];
        int partitions = is_read(routes, topic->topic) ? topic->partition_cnt : 0;
        for (int j = 0; j < partitions; j++) {
            int64_t low, high;
            struct duration left = mono_left(clock_mono(at->context->clock), deadline);
            if (left.ns < 1000000 ||
                !kafka_probe_watermarks(probe, topic->topic, topic->partitions[j].id, &low, &high, left, NULL)) {
                return -1;
            }
            int64_t from = committed_of(committed, topic->topic, topic->partitions[j].id);
            int64_t lag = high - (from < low ? low : from);
            sum += lag;
            json_array_append_new(at->lag,
                json_pack("{s:s, s:i, s:I}", "topic", topic->topic, "partition", (int)topic->partitions[j].id,
                    "messages", (json_int_t)lag));
        }
    }
    return sum;
}

static void add_group(struct gathering *at, struct kafka_probe *probe)
{
    const struct config *config = at->context->config;
    struct relay_error error = {0};
    struct insert_routes *routes = insert_routes_new(config, &error);
    rd_kafka_topic_partition_list_t *committed = routes
        ? kafka_probe_committed(probe, config->insert.group_id, PATIENCE, &error)
        : NULL;
    int64_t lag = committed ? add_lag(at, probe, routes, committed) : -1;
    int level = lag < 0 ? 1 : (int)health_lag_level(&config->health, lag);
    char reason[sizeof(error.text) + 48] = "";
    if (level > 0) {
        snprintf(reason, sizeof(reason), lag < 0 ? "the lag is not known%s%s" : "%s%s",
            lag < 0 && !committed ? ": " : "", lag < 0 ? (committed ? "" : error.text) : "the group is far behind");
    }
    add_check(at, "insert", level, reason, json_pack("{s:I}", "lag", (json_int_t)lag));
    if (committed) {
        rd_kafka_topic_partition_list_destroy(committed);
    }
    insert_routes_free(routes);
}

static void gather_kafka(struct gathering *at)
{
    struct relay_error error;
    struct kafka_probe *probe = kafka_probe_open(at->context, "status", PATIENCE, &error);
    if (!probe) {
        add_check(at, "kafka", 2, error.text, json_object());
        return;
    }
    add_check(at, "kafka", 0, "", json_pack("{s:i}", "brokers", kafka_probe_metadata(probe)->broker_cnt));
    if (at->context->config->insert.enabled) {
        add_group(at, probe);
    }
    kafka_probe_close(probe);
}

// ClickHouse

static bool add_table(struct gathering *at, struct clickhouse_client *client, const char *table,
    struct relay_error *error)
{
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .timeout = PATIENCE};
    struct clickhouse_text statement = {0};
    struct clickhouse_result *result = NULL;
    bool done = false;
    if (!clickhouse_text_add(&statement, "SELECT count() FROM ") || !clickhouse_text_table(&statement, table)) {
        error_no_memory(error, "asking ClickHouse");
    } else if (clickhouse_query(client, &request, statement.at, &result, NULL, error)) {
        json_array_append_new(at->tables,
            json_pack("{s:s, s:I}", "table", table, "rows", (json_int_t)clickhouse_result_int(result, 0, 0)));
        done = true;
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&statement);
    return done;
}

// Several routes may fill one table.
static bool is_filled_before(const struct insert_routes *routes, size_t index)
{
    bool filled = false;
    for (size_t i = 0; i < index && !filled; i++) {
        filled = insert_routes_fills(routes, i, insert_routes_at(routes, index)->table);
    }
    return filled;
}

// false: one is not told, and none after it: each of them might take as long.
static bool add_tables(struct gathering *at, struct clickhouse_client *client, json_t *instances)
{
    struct relay_error error;
    struct insert_routes *routes = insert_routes_new(at->context->config, &error);
    const char *failed = routes ? NULL : "routes";
    for (size_t i = 0; routes && !failed && i < insert_routes_count(routes); i++) {
        const char *table = insert_routes_at(routes, i)->table;
        failed = is_filled_before(routes, i) || add_table(at, client, table, &error) ? NULL : table;
    }
    if (failed) {
        json_object_set_new(instances, failed, state(1, error.text, json_object()));
    }
    insert_routes_free(routes);
    return !failed;
}

static void add_clickhouse_letters(struct gathering *at, struct clickhouse_client *client, const char *table)
{
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .timeout = PATIENCE};
    struct clickhouse_result *result = NULL;
    struct clickhouse_text statement = {0};
    if (clickhouse_text_add(&statement, "SELECT reason, count() FROM ") && clickhouse_text_table(&statement, table) &&
        clickhouse_text_add(&statement, " GROUP BY reason ORDER BY count() DESC") &&
        clickhouse_query(client, &request, statement.at, &result, NULL, NULL)) {
        for (size_t i = 0; i < clickhouse_result_rows(result); i++) {
            json_array_append_new(at->dead_letters,
                json_pack("{s:s, s:s, s:I}", "stage", "insert", "reason", clickhouse_result_text(result, i, 0, NULL),
                    "events", (json_int_t)clickhouse_result_int(result, i, 1)));
        }
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&statement);
}

static void gather_clickhouse(struct gathering *at)
{
    const struct config *config = at->context->config;
    struct relay_error error;
    struct clickhouse_client *client = clickhouse_client_new(at->context, &error);
    if (!client) {
        add_check(at, "clickhouse", 2, error.text, json_object());
        return;
    }
    json_t *instances = json_object();
    size_t endpoints = clickhouse_client_endpoints(client), answering = 0;
    for (size_t i = 0; i < endpoints; i++) {
        bool answers = clickhouse_ping(client, (int)i, PATIENCE, &error);
        answering += answers;
        json_object_set_new(instances, clickhouse_client_url(client, (int)i),
            state(answers ? 0 : 2, answers ? "" : error.text, json_object()));
    }
    int level = answering == 0 ? 2 : answering < endpoints ? 1 : 0;
    if (answering > 0) {
        level = add_tables(at, client, instances) ? level : 1;
        add_clickhouse_letters(at, client, config->insert.dead_letter_table);
    }
    add_instances(at, "clickhouse", level, instances);
    clickhouse_client_free(client);
}

json_t *status_from_servers(const struct relay_context *context)
{
    struct gathering at = {.context = context,
        .checks = json_object(),
        .lag = json_array(),
        .tables = json_array(),
        .dead_letters = json_array()};
    if (context->config->publish.enabled) {
        gather_postgres(&at);
    }
    gather_kafka(&at);
    if (context->config->insert.enabled) {
        gather_clickhouse(&at);
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:[]}", "source", "servers", "status", levels[at.level],
        "version", relay_version(), "checks", at.checks, "lag", at.lag, "tables", at.tables, "dead_letters",
        at.dead_letters, "alerts");
}
