// SPDX-License-Identifier: Apache-2.0
//
// Happy path: create the database if it is not there, then the table of records, and run each file of the plan
// statement by statement, the record behind it. ClickHouse has no transactions: a file that failed is run again from
// its start, which its statements (IF NOT EXISTS, IF EXISTS) allow. Two migrates at the same time do the same work
// twice, to no harm.
//
// - Several URLs: they are replicas of one shard, and the files of this project make tables that are not replicated;
//   such a file is refused, since each replica would have rows of its own. Files of the operator's own, with
//   ReplicatedMergeTree, are run on each replica (a table's replicas are created one by one).
// - An ALTER of a replicated table is refused because this replica has not applied the last one yet, which came to it
//   through another URL: repeated for a minute.
// - A table is gone that a file on record has made and the configuration needs: its files count as taken back, also on
//   record, before the first of them runs, so that a run which ends between them leaves the others pending.
// - A statement fails or its outcome is unknown: file, line and the server's words are shown; the next run goes on with
//   this file.
#include "relay/cli/migrate.h"

#include "relay/base/version.h"
#include "relay/cli/migrate_lost_tables.h"
#include "relay/cli/sql_split.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_TIMEOUT DURATION_S(600)
#define ALTER_PATIENCE    DURATION_S(60) // of a replica that is behind
#define ALTER_PAUSE       DURATION_MS(500)

struct runner {
    const struct relay_context *context;
    struct clickhouse_client *client;
    const struct migration_files *files;
    const struct migrate_options *options;
    int endpoint;
    struct name_set lost; // tables of this endpoint
};

static bool run(struct runner *runner, const char *statement, struct clickhouse_result **result,
    struct relay_error *error)
{
    // ALTER ... UPDATE and DELETE of a file are finished when it is recorded.
    const struct clickhouse_setting settings[] = {{"mutations_sync", "1"}, {"async_insert", "0"}};
    struct clickhouse_request request = {.endpoint = runner->endpoint,
        .timeout = STATEMENT_TIMEOUT,
        .settings = settings,
        .setting_count = 2};
    const struct clock *clock = runner->context->clock;
    struct mono_time until = mono_add(clock_mono(clock), ALTER_PATIENCE);
    struct clickhouse_outcome outcome;
    while (!clickhouse_query(runner->client, &request, statement, result, &outcome, error)) {
        if (outcome.exception_code != CLICKHOUSE_CODE_CANNOT_ASSIGN_ALTER || mono_reached(clock_mono(clock), until)) {
            return false;
        }
        if (stop_wait(runner->context->stop, clock, mono_add(clock_mono(clock), ALTER_PAUSE))) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped while a replica was behind");
        }
    }
    return true;
}

static bool make_records(struct runner *runner, struct relay_error *error)
{
    return run(runner,
        "CREATE TABLE IF NOT EXISTS outbox_relay_migrations (name String, checksum String, applied UInt8, "
        "at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'), by String DEFAULT currentUser(), relay_version String) "
        "ENGINE = MergeTree ORDER BY (name, at) "
        "COMMENT 'the files that outbox-relay migrate has applied, or taken back (applied = 0), with the SHA-256 of "
        "each'",
        NULL, error);
}

bool migrate_clickhouse_records(struct clickhouse_client *client, int endpoint, struct migration_records *records,
    bool *recorded, struct relay_error *error)
{
    struct clickhouse_request request = {.endpoint = endpoint};
    struct clickhouse_outcome outcome;
    struct clickhouse_result *result = NULL;
    *recorded = false;
    if (!clickhouse_query(client, &request,
            "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'outbox_relay_migrations'",
            &result, &outcome, error)) {
        return outcome.exception_code == CLICKHOUSE_CODE_UNKNOWN_DATABASE;
    }
    *recorded = clickhouse_result_int(result, 0, 0) > 0;
    clickhouse_result_free(result);
    if (!*recorded) {
        return true;
    }
    if (!clickhouse_query(client, &request,
            "SELECT name, argMax(checksum, at), formatDateTime(max(at), '%Y-%m-%d %H:%i:%S UTC', 'UTC'), argMax(by, "
            "at) "
            "FROM outbox_relay_migrations GROUP BY name HAVING argMax(applied, at) = 1 ORDER BY name",
            &result, NULL, error)) {
        return false;
    }
    bool done = true;
    for (size_t i = 0; done && i < clickhouse_result_rows(result); i++) {
        done = migration_records_add(records, clickhouse_result_text(result, i, 0, NULL),
            clickhouse_result_text(result, i, 1, NULL), clickhouse_result_text(result, i, 2, NULL),
            clickhouse_result_text(result, i, 3, NULL));
    }
    clickhouse_result_free(result);
    return done || error_no_memory(error, "reading what was migrated");
}

static bool record(struct runner *runner, const struct migration_file *file, bool up, struct relay_error *error)
{
    struct clickhouse_text statement = {0};
    bool done = clickhouse_text_add(&statement,
                    "INSERT INTO outbox_relay_migrations (name, checksum, applied, relay_version) VALUES (") &&
        clickhouse_text_literal(&statement, file->name, strlen(file->name)) &&
        clickhouse_text_add(&statement, ", '%s', %d, '%s')", file->checksum, up ? 1 : 0, relay_version());
    done = done ? run(runner, statement.at, NULL, error) : error_no_memory(error, "recording a migration");
    clickhouse_text_finish(&statement);
    return done;
}

// Whether it names an engine of the MergeTree family that is not replicated, however that is spelt: engine=MergeTree().
static bool makes_plain_table(const struct sql_statement *statement)
{
    static const char keyword[] = "ENGINE";
    const char *end = statement->at + statement->length;
    for (const char *at = statement->at; end - at > (ptrdiff_t)sizeof(keyword); at++) {
        if (strncasecmp(at, keyword, sizeof(keyword) - 1) != 0) {
            continue;
        }
        bool assigned = false; // else it is a word of a comment, or a grant's
        const char *name = at + sizeof(keyword) - 1;
        for (; name < end && (isspace((unsigned char)*name) || *name == '='); name++) {
            assigned = assigned || *name == '=';
        }
        size_t length = 0;
        while (name + length < end && isalnum((unsigned char)name[length])) {
            length++;
        }
        bool family = length >= 9 && memcmp(name + length - 9, "MergeTree", 9) == 0;
        bool replicated = length >= 10 && (memcmp(name, "Replicated", 10) == 0 || memcmp(name, "Shared", 6) == 0);
        if (assigned && family && !replicated) {
            return true;
        }
    }
    return false;
}

// The operator's files may make replicated tables; ours do not.
static bool fits_replicas(struct runner *runner, const struct sql_statement *statement, struct relay_error *error)
{
    if (clickhouse_client_endpoints(runner->client) == 1 || !makes_plain_table(statement)) {
        return true;
    }
    return error_set(error, RELAY_ERROR_CONFIG,
        "[clickhouse] url names %zu servers, which must be replicas of one shard, but this makes a table that is not "
        "replicated: "
        "copy the files, write ENGINE = ReplicatedMergeTree into them (docs/schema.md) and name their folder with "
        "--schemas",
        clickhouse_client_endpoints(runner->client));
}

static bool run_file(struct runner *runner, const struct migration_file *file, bool up, struct relay_error *error)
{
    struct sql_splitter splitter;
    struct sql_statement statement;
    printf("%-4s %s\n", up ? "up" : "down", file->name);
    sql_split_start(&splitter, SQL_CLICKHOUSE, up ? file->up : file->down);
    while (sql_split_next(&splitter, &statement, error)) {
        char *text = strndup(statement.at, statement.length);
        bool done = text ? fits_replicas(runner, &statement, error) && run(runner, text, NULL, error)
                         : error_no_memory(error, "running a schema file");
        free(text);
        if (!done) {
            return error_prefix(error, "%s.%s.sql, statement at line %d", file->name, up ? "up" : "down",
                statement.line);
        }
    }
    return error->code == RELAY_ERROR_NONE ? record(runner, file, up, error)
                                           : error_prefix(error, "%s.%s.sql", file->name, up ? "up" : "down");
}

// After the last file was taken back nothing of ours stays, the records included.
static bool drop_records(struct runner *runner, struct relay_error *error)
{
    struct migration_records left = {0};
    bool recorded, done = migrate_clickhouse_records(runner->client, runner->endpoint, &left, &recorded, error);
    if (done && recorded && left.count == 0) {
        done = run(runner, "DROP TABLE outbox_relay_migrations", NULL, error);
    }
    migration_records_finish(&left);
    return done;
}

static bool take_back_lost(struct runner *runner, const struct migration_records *records, struct relay_error *error)
{
    const char *database = runner->context->config->clickhouse.database;
    if (!migrate_lost_tables_repeatable(runner->files, records, &runner->lost, database, error)) {
        return false;
    }
    for (size_t i = 0; i < records->count; i++) {
        const struct migration_file *file = migration_files_find(runner->files, records->items[i].name);
        if (file && records->items[i].lost && !record(runner, file, false, error)) {
            return false;
        }
    }
    return true;
}

static bool run_plan(struct runner *runner, const struct migration_plan *plan, const struct migration_records *records,
    struct relay_error *error)
{
    if (plan->count == 0) {
        migration_print_nothing(stdout, plan);
        return true;
    }
    if (!make_records(runner, error) || !take_back_lost(runner, records, error)) {
        return false;
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (!run_file(runner, plan->files[i], plan->up, error)) {
            return false;
        }
    }
    return plan->up || drop_records(runner, error);
}

static bool migrate_endpoint(struct runner *runner, struct relay_error *error)
{
    const struct migrate_options *options = runner->options;
    struct migration_records records = {0};
    struct migration_plan plan = {0};
    struct clickhouse_server server = {.version = "(version unknown)"};
    bool recorded, done = false;
    const char *database = runner->context->config->clickhouse.database;
    // A database that is still to come has no records; it is only looked for by status and --dry-run.
    if (!clickhouse_server_info(runner->client, runner->endpoint, (struct duration){0}, &server, error) &&
        error->detail != CLICKHOUSE_CODE_UNKNOWN_DATABASE) {
        return false;
    }
    printf("ClickHouse %s at %s, database %s; files of %s\n", server.version,
        clickhouse_client_url(runner->client, runner->endpoint), database[0] != '\0' ? database : "default",
        runner->files->folder);
    if (!migrate_clickhouse_records(runner->client, runner->endpoint, &records, &recorded, error)) {
        goto records_held;
    }
    migration_print_drift(stderr, runner->files, &records);
    if (options->action != MIGRATE_DOWN &&
        !migrate_lost_tables_mark(runner->context, runner->client, runner->endpoint, runner->files, &records,
            &runner->lost, error)) {
        goto records_held;
    }
    if (options->action == MIGRATE_STATUS) {
        migration_print_status(stdout, runner->files, &records);
        done = true;
        goto records_held;
    }
    if (!migration_plan_make(&plan, runner->files, &records, options->action == MIGRATE_UP, options->to, error)) {
        goto records_held;
    }
    done = options->dry_run ? migration_print_plan(stdout, &plan, true, error)
                            : run_plan(runner, &plan, &records, error);
    migration_plan_finish(&plan);
records_held:
    name_set_finish(&runner->lost);
    migration_records_finish(&records);
    return done;
}

// Through a client that names no database, since every request that names a missing one fails.
static bool make_database(const struct relay_context *context, struct relay_error *error)
{
    static char none[] = "";
    struct config config = *context->config;
    struct relay_context without = *context;
    struct clickhouse_text statement = {0};
    const char *name = context->config->clickhouse.database;
    bool done = false;
    if (name[0] == '\0') {
        return true;
    }
    config.clickhouse.database = none;
    without.config = &config;
    struct runner runner = {.context = &without, .client = clickhouse_client_new(&without, error)};
    if (!runner.client) {
        return false;
    }
    for (size_t i = 0; i < clickhouse_client_endpoints(runner.client); i++) {
        struct clickhouse_result *result = NULL;
        runner.endpoint = (int)i;
        clickhouse_text_reset(&statement);
        if (!clickhouse_text_add(&statement, "SELECT count() FROM system.databases WHERE name = ") ||
            !clickhouse_text_literal(&statement, name, strlen(name))) {
            error_no_memory(error, "creating the database");
            goto client_held;
        }
        if (!run(&runner, statement.at, &result, error)) {
            goto client_held;
        }
        bool exists = clickhouse_result_int(result, 0, 0) > 0;
        clickhouse_result_free(result);
        if (exists) {
            continue;
        }
        clickhouse_text_reset(&statement);
        if (!clickhouse_text_add(&statement, "CREATE DATABASE IF NOT EXISTS ") ||
            !clickhouse_text_name(&statement, name)) {
            error_no_memory(error, "creating the database");
            goto client_held;
        }
        if (!run(&runner, statement.at, NULL, error)) {
            error_prefix(error, "[clickhouse] database %s does not exist and cannot be created by this user", name);
            goto client_held;
        }
        printf("created database %s at %s\n", name, clickhouse_client_url(runner.client, runner.endpoint));
    }
    done = true;
client_held:
    clickhouse_text_finish(&statement);
    clickhouse_client_free(runner.client);
    return done;
}

bool migrate_clickhouse(const struct relay_context *context, const struct migrate_options *options,
    const struct migration_files *files, struct relay_error *error)
{
    if (options->action == MIGRATE_UP && !options->dry_run && !make_database(context, error)) {
        return false;
    }
    struct runner runner = {.context = context, .files = files, .options = options};
    runner.client = clickhouse_client_new(context, error);
    bool done = runner.client != NULL;
    for (size_t i = 0; done && i < clickhouse_client_endpoints(runner.client); i++) {
        runner.endpoint = (int)i;
        done = migrate_endpoint(&runner, error);
    }
    clickhouse_client_free(runner.client);
    return done;
}
