// SPDX-License-Identifier: Apache-2.0
//
// Every endpoint (reachable, version, clock, database), then every table that is filled: the routes' as the row encoder
// and table_findings see them, and the dead letters'. A table is read at the first endpoint that answers; the others
// are asked whether they have a replica of it, and each gets a trial INSERT and a read-back, as from the daemon. Each
// endpoint is asked by itself, so that one that is down hides none.
#include "relay/cli/check.h"

#include "relay/cli/migrate.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/dead_letter_block.h"
#include "relay/insert/insert_deadline.h"
#include "relay/insert/insert_routes.h"
#include "relay/insert/row_encoder.h"
#include "relay/insert/table_replicas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_LIMIT DURATION_S(2)
#define LOOKS       8 // for other servers under one url
#define FIXABLE     "start the server, or fix [clickhouse] url, user and password"

struct clickhouse_check {
    struct check *check;
    struct clickhouse_client *client;
    int endpoint;   // the first that answers; -1: none does
    bool *answers;  // for each endpoint
    bool *lags;     // the same: a read-back came to no end there
    bool has_input; // the first knows input()
};

// A load balancer sends connections to different servers, be it by chance.
static void check_one_server(struct clickhouse_check *at, int endpoint, const struct clickhouse_server *server)
{
    const struct clickhouse_request request = {.endpoint = endpoint,
        .timeout = CHECK_TIMEOUT,
        .fresh_connection = true};
    const char *question = server->server_uuid[0] != '\0' ? "SELECT hostName(), serverUUID()" : "SELECT hostName(), ''";
    char first[200] = "", other[200] = "";
    for (int i = 0; i < LOOKS && strcmp(first, other) == 0; i++) {
        struct clickhouse_result *result = NULL;
        if (!clickhouse_query(at->client, &request, question, &result, NULL, NULL)) {
            return; // it has just answered; whatever else needs it says so
        }
        const char *name = clickhouse_result_text(result, 0, 0, NULL), *id = clickhouse_result_text(result, 0, 1, NULL);
        snprintf(i == 0 ? first : other, sizeof(other), "%s %s", name ? name : "", id ? id : "");
        clickhouse_result_free(result);
        if (i == 0) {
            memcpy(other, first, sizeof(other));
        }
    }
    if (strcmp(first, other) != 0) {
        check_add(at->check->report, CHECK_WARN, "clickhouse",
            "give each replica a url of its own (docs/guarantees-insert.md)",
            "%s: several servers answer there, %s and %s: after an INSERT in doubt another one may be asked what the "
            "table has, and rows be doubled",
            clickhouse_client_url(at->client, endpoint), first, other);
    }
}

static bool check_endpoint(struct clickhouse_check *at, int endpoint, struct clickhouse_server *server)
{
    struct check_report *report = at->check->report;
    struct relay_error error;
    struct clickhouse_clock clock;
    const char *url = clickhouse_client_url(at->client, endpoint);
    if (!clickhouse_server_info(at->client, endpoint, CHECK_TIMEOUT, server, &error)) {
        bool database = error.detail == CLICKHOUSE_CODE_UNKNOWN_DATABASE;
        check_add(report, CHECK_FAIL, "clickhouse", database ? CHECK_MIGRATE_CLICKHOUSE : FIXABLE, "%s", error.text);
        return false;
    }
    if (!clickhouse_server_clock(at->client, endpoint, CHECK_TIMEOUT, &clock, &error)) {
        check_add(report, CHECK_FAIL, "clickhouse", FIXABLE, "%s", error.text);
        return false;
    }
    check_add(report, CHECK_OK, "clickhouse", "", "%s: ClickHouse %s on %s", url, server->version, server->host_name);
    if (llabs(clock.ahead.ns) > CLOCK_LIMIT.ns + clock.doubt.ns) {
        check_add(report, CHECK_WARN, "clickhouse", "keep both clocks by NTP",
            "%s: its clock is %.1f s %s ours (+- %.1f s); deadlines in server time allow for it, alerts and lags will "
            "be off by as much",
            url, duration_seconds((struct duration){llabs(clock.ahead.ns)}), clock.ahead.ns > 0 ? "ahead of" : "behind",
            duration_seconds(clock.doubt));
    }
    if (!server->has_input_function) {
        check_add(report, CHECK_WARN, "clickhouse", "upgrade to 23.8 or newer",
            "%s: ClickHouse %s has no input(): routes are filled at least once", url, server->version);
    }
    check_one_server(at, endpoint, server);
    check_clickhouse_request(at->check, at->client, endpoint, server);
    return true;
}

static bool check_database(struct clickhouse_check *at)
{
    const char *database = at->check->context->config->clickhouse.database;
    struct clickhouse_request request = {.endpoint = at->endpoint, .timeout = CHECK_TIMEOUT};
    struct clickhouse_result *result = NULL;
    struct relay_error error;
    // With a missing database every request fails; this one does as well, and says so.
    if (clickhouse_query(at->client, &request, "SELECT currentDatabase()", &result, NULL, &error)) {
        clickhouse_result_free(result);
        return true;
    }
    check_add(at->check->report, CHECK_FAIL, "clickhouse", CHECK_MIGRATE_CLICKHOUSE "; it creates it",
        "database %s: %s", database[0] != '\0' ? database : "default", error.text);
    return false;
}

static void check_migrations(struct clickhouse_check *at)
{
    static const struct check_schema schema = {"clickhouse", CHECK_MIGRATE_CLICKHOUSE};
    struct migration_files files;
    struct migration_records records = {0};
    struct relay_error error;
    bool recorded;
    if (!check_schema_files(at->check, &schema, &files)) {
        return;
    }
    if (!migrate_clickhouse_records(at->client, at->endpoint, &records, &recorded, &error)) {
        check_add(at->check->report, CHECK_WARN, "schema clickhouse", "", "what was migrated cannot be read: %s",
            error.text);
    } else if (recorded) {
        check_schema_applied(at->check, &schema, &files, &records);
    }
    migration_records_finish(&records);
    migration_files_finish(&files);
}

static void report_findings(struct clickhouse_check *at, const char *what, const struct table_findings *findings)
{
    bool strict = at->check->context->config->insert.guarantee == CONFIG_EXACTLY_ONCE;
    for (size_t i = 0; i < findings->count; i++) {
        const struct table_finding *finding = &findings->items[i];
        check_add(at->check->report, finding->fatal ? CHECK_FAIL : CHECK_WARN, what, finding->hint, "%s%s",
            finding->what,
            finding->prevents_exactly_once && strict ? " (so this table is filled at least once, not exactly once)"
                                                     : "");
    }
}

// Plain tables behind several URLs would each get a part of the rows.
static void check_replication(struct clickhouse_check *at, const char *what, const struct table_schema *schema)
{
    if (clickhouse_client_endpoints(at->client) > 1 && schema->is_mergetree && !schema->is_replicated) {
        check_add(at->check->report, CHECK_FAIL, what, "give one URL, or make the table ReplicatedMergeTree",
            "%s.%s is not replicated, but [clickhouse] url names %zu servers: each would get a part of the rows",
            schema->database, schema->table, clickhouse_client_endpoints(at->client));
    }
}

// Whether each endpoint that answers would take it. Frees the statement; NULL: the error is why there is none. A server
// without input() takes the INSERT without a deadline: with no rows it stores nothing there, either.
static bool try_insert(struct clickhouse_check *at, const char *what, char *statement, const struct relay_error *error)
{
    bool taken = statement != NULL;
    for (size_t i = 0; statement && i < clickhouse_client_endpoints(at->client); i++) {
        taken = (!at->answers[i] || check_insert(at->check, at->client, (int)i, what, statement)) && taken;
    }
    if (!statement) {
        check_add(at->check->report, CHECK_FAIL, what, "", "%s", error->text);
    }
    free(statement);
    return taken;
}

// At each endpoint that answers, but for those that had no time for another table: they may take half a minute each
// time.
static bool try_read_back(struct clickhouse_check *at, const char *what, const struct table_schema *schema)
{
    bool readable = true;
    for (size_t i = 0; i < clickhouse_client_endpoints(at->client); i++) {
        bool read = !at->answers[i] ||
            (!at->lags[i] && check_read_back(at->check, at->client, (int)i, what, schema, &at->lags[i]));
        readable = readable && read;
    }
    return readable;
}

static bool try_rows(struct clickhouse_check *at, const char *what, const struct row_encoder *encoder)
{
    struct relay_error error;
    char *statement = row_encoder_statement(encoder, at->has_input, INSERT_DEADLINE_GUARD, &error);
    return try_insert(at, what, statement, &error);
}

static bool try_dead_letters(struct clickhouse_check *at, const char *what, const char *table, bool has_timestamp)
{
    struct relay_error error;
    struct dead_letter_block *block = dead_letter_block_new(has_timestamp, &error);
    char *statement = block ? dead_letter_statement(block, table, at->has_input, INSERT_DEADLINE_GUARD, &error) : NULL;
    dead_letter_block_free(block);
    return try_insert(at, what, statement, &error);
}

static void judge_route(struct clickhouse_check *at, const struct config_route *route, const char *what,
    const struct table_schema *schema)
{
    struct table_findings findings = {0};
    struct relay_error error;
    struct row_encoder *encoder = row_encoder_new(route, schema, &findings, &error);
    bool possible = false;
    if (encoder) {
        size_t count;
        const char *const *columns = row_encoder_columns(encoder, &count);
        table_replicas_judge(at->client, schema, &findings, &error);
        table_schema_exactly_once(schema, clickhouse_client_endpoints(at->client), columns, count, &possible, &findings,
            &error);
    } else if (findings.count == 0) {
        check_add(at->check->report, CHECK_FAIL, what, "", "%s", error.text);
    }
    report_findings(at, what, &findings);
    check_replication(at, what, schema);
    bool taken = encoder && try_rows(at, what, encoder);
    bool asks = at->has_input && at->check->context->config->insert.guarantee == CONFIG_EXACTLY_ONCE; // the daemon
    if (taken && possible && (!asks || try_read_back(at, what, schema))) {
        check_add(at->check->report, CHECK_OK, what, "", "%s.%s (%s, %zu views) can be filled exactly once",
            schema->database, schema->table, schema->engine, schema->view_count);
    }
    row_encoder_free(encoder);
    table_findings_finish(&findings);
}

static struct table_schema *read_table(struct clickhouse_check *at, const char *what, const char *table,
    const char *hint)
{
    struct clickhouse_request request = {.endpoint = at->endpoint, .timeout = CHECK_TIMEOUT};
    struct relay_error error;
    struct table_schema *schema = table_schema_read(at->client, &request, NULL, table, &error);
    if (!schema) {
        check_add(at->check->report, CHECK_FAIL, what,
            error.detail == CLICKHOUSE_CODE_ACCESS_DENIED ? CHECK_GRANT_CLICKHOUSE : hint, "%s", error.text);
    }
    return schema;
}

static void check_route(struct clickhouse_check *at, const struct config_route *route)
{
    char what[160];
    snprintf(what, sizeof(what), "route %s", route->name);
    struct table_schema *schema = read_table(at, what, route->table, ""); // the text says it
    if (schema) {
        judge_route(at, route, what, schema);
    }
    table_schema_free(schema);
}

static void check_dead_letters(struct clickhouse_check *at)
{
    static const char *const columns[] = {"target", "kafka_topic", "kafka_partition", "kafka_offset", "key", "value",
        "headers", "reason", "code", "text"};
    static const char what[] = "dead letters clickhouse";
    struct table_schema *schema = read_table(at, what, at->check->context->config->insert.dead_letter_table,
        CHECK_MIGRATE_CLICKHOUSE "; it makes outbox_relay_dead_letters, another name is yours to create alike");
    if (!schema) {
        return;
    }
    bool possible = false, complete = true;
    struct table_findings findings = {0};
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        if (!table_schema_column(schema, columns[i])) {
            complete = false;
            check_add(at->check->report, CHECK_FAIL, what,
                "create the table as schemas/clickhouse/002_dead_letters.up.sql does", "%s.%s has no column %s",
                schema->database, schema->table, columns[i]);
        }
    }
    table_replicas_judge(at->client, schema, &findings, NULL);
    table_schema_exactly_once(schema, clickhouse_client_endpoints(at->client), columns,
        sizeof(columns) / sizeof(columns[0]), &possible, &findings, NULL);
    report_findings(at, what, &findings);
    check_replication(at, what, schema);
    const char *table = at->check->context->config->insert.dead_letter_table;
    bool has_timestamp = table_schema_column(schema, DEAD_LETTER_TIMESTAMP) != NULL;
    if (complete && !has_timestamp) {
        check_add(at->check->report, CHECK_WARN, what,
            CHECK_MIGRATE_CLICKHOUSE "; to a table of another name add the column of 003_dead_letter_timestamp.up.sql",
            "%s.%s has no column " DEAD_LETTER_TIMESTAMP
            ": retry cannot fill columns that take kafka.timestamp, unless the message has a created_at header",
            schema->database, schema->table);
    }
    bool taken = complete && try_dead_letters(at, what, table, has_timestamp);
    if (taken && possible) {
        check_add(at->check->report, CHECK_OK, what, "", "%s.%s", schema->database, schema->table);
    }
    table_findings_finish(&findings);
    table_schema_free(schema);
}

static void report_overlap(void *context, const struct insert_overlap *overlap)
{
    char what[160];
    snprintf(what, sizeof(what), "route %s", overlap->route->name);
    check_add(context, CHECK_WARN, what, "put this route first, or give it a table of its own",
        "it never gets the messages of %s: [route %s] stands before it and takes them into the same table",
        overlap->topic, overlap->first->name);
}

static void check_overlaps(struct check *check)
{
    struct relay_error error;
    struct insert_routes *routes = insert_routes_new(check->context->config, &error);
    if (!routes) {
        check_add(check->report, CHECK_FAIL, "routes", "", "%s", error.text);
        return;
    }
    insert_routes_overlaps(routes, report_overlap, check->report);
    insert_routes_free(routes);
}

void check_clickhouse(struct check *check)
{
    const struct config *config = check->context->config;
    check_overlaps(check);
    struct clickhouse_check at = {.check = check, .endpoint = -1};
    struct relay_error error;
    at.client = clickhouse_client_new(check->context, &error);
    if (!at.client) {
        check_add(check->report, CHECK_FAIL, "clickhouse", "", "%s", error.text);
        return;
    }
    at.answers = calloc(clickhouse_client_endpoints(at.client), sizeof(*at.answers));
    at.lags = calloc(clickhouse_client_endpoints(at.client), sizeof(*at.lags));
    if (!at.answers || !at.lags) {
        free(at.answers);
        free(at.lags);
        error_no_memory(&error, "checking ClickHouse");
        check_add(check->report, CHECK_FAIL, "clickhouse", "", "%s", error.text);
        clickhouse_client_free(at.client);
        return;
    }
    for (size_t i = 0; i < clickhouse_client_endpoints(at.client); i++) {
        struct clickhouse_server server;
        at.answers[i] = check_endpoint(&at, (int)i, &server);
        if (at.answers[i] && at.endpoint < 0) {
            at.endpoint = (int)i;
            at.has_input = server.has_input_function;
        }
    }
    if (at.endpoint >= 0 && check_database(&at)) {
        check_migrations(&at);
        for (size_t i = 0; i < config->route_count; i++) {
            if (config->routes[i].enabled) {
                check_route(&at, &config->routes[i]);
            }
        }
        check_dead_letters(&at);
    }
    free(at.answers);
    free(at.lags);
    clickhouse_client_free(at.client);
}
