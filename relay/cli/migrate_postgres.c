// SPDX-License-Identifier: Apache-2.0
//
// Happy path: see that no pooler is in between, take the migrations' advisory lock, see that what bears the relay's
// names is nobody else's, make the table of records if there is none, read it, run each file of the plan and record it:
// in one transaction with its record, or, marked `-- relay:no-transaction`, statement by statement with the record at
// the end.
//
// - Another migrate runs: the lock is tried again and again, never waited for inside a statement, since a waiting
//   statement holds a snapshot that would keep the other one's CREATE INDEX CONCURRENTLY from ending.
// - A table's lock is not to be had within MIGRATE_LOCK_TIMEOUT: the writers that queue behind us go on; the file is
//   tried again.
// - A statement fails: its transaction is rolled back; file, line, the server's message, detail and hint are shown;
//   what was applied before stays recorded, so the next run goes on with this file.
// - A file outside a transaction fails or we die inside it: it is run again from its start, which its statements allow;
//   an index that a broken build left invalid is dropped before.
// - Ctrl-C, or we give up waiting: the session is ended in the server, where it would otherwise go on alone.
#include "relay/cli/migrate.h"

#include "relay/cli/publications.h"
#include "relay/cli/sql_split.h"
#include "relay/postgres/pg_pooler.h"

#include <stdlib.h>
#include <string.h>

#define OTHER_MIGRATE_PATIENCE DURATION_S(600)
#define POOLER_PATIENCE        DURATION_S(10)

// "outbox" as a number: the one key of all migrations of a database, in the one-integer form that the relay uses for
// nothing else.
#define MIGRATE_LOCK "122550254464888"

#define CREATING_FILE "004_outbox_events"
#define ADOPTING_FILE "006_adopt_outbox_events"
#define INDEX_FILE    "007_outbox_events_seq_index"
#define ADOPTED_FILE  "008_finish_adoption"
#define LOCKING_FILE  "019_lock_beside_autovacuum"

// Our session as the server knows it: a number alone would mean somebody else's after a restart, or on another host of
// the dsn.
struct server_session {
    char process[16]; // "": it did not come so far
    char started[40];
};

struct runner {
    const struct relay_context *context;
    struct pg_connection *connection;
    const struct migration_files *files;
    const struct migrate_options *options;
    bool lock_refused; // the last statement that failed did not get a table's lock in time
    struct server_session session;
};

static void show_notice(void *context, const PGresult *notice)
{
    (void)context;
    const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
    if (sqlstate && (strcmp(sqlstate, "42P06") == 0 || strcmp(sqlstate, "42P07") == 0)) {
        return; // IF NOT EXISTS found it, as it should
    }
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY);
    const char *text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
    printf("    %s: %s\n", severity ? severity : "NOTICE", text ? text : "");
}

static bool execute(struct runner *runner, const char *sql, struct relay_error *error)
{
    return pg_execute(runner->connection, sql, MIGRATE_FOREVER, error);
}

#define STARTED_TEXT "pg_catalog.to_char(pg_catalog.timezone('UTC', a.backend_start), 'YYYY-MM-DD HH24:MI:SS.US')"

static bool note_session(struct runner *runner, struct relay_error *error)
{
    PGresult *result = pg_query(runner->connection,
        "SELECT a.pid, " STARTED_TEXT " FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid()",
        NULL, 0, false, pg_deadline(runner->context), error);
    if (result && PQntuples(result) > 0 && pg_cell(result, 0, 1)) {
        struct server_session *session = &runner->session;
        snprintf(session->process, sizeof(session->process), "%s", pg_cell(result, 0, 0));
        snprintf(session->started, sizeof(session->started), "%s", pg_cell(result, 0, 1));
    }
    PQclear(result);
    return result != NULL;
}

// Behind a pooler in transaction mode our settings, and a lock that nobody owns, would be left in the sessions that the
// application gets next.
static bool refuse_pooler(struct runner *runner, const struct pg_options *how, struct relay_error *error)
{
    enum pg_pooler found;
    return pg_pooler_find(runner->connection, runner->context, how, POOLER_PATIENCE, &found, error) &&
        (found != PG_POOLER_TRANSACTION ||
            error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "%s is a pooler in transaction mode, whose sessions are other clients' next; nothing was done: name "
                "PostgreSQL itself in [postgres] dsn (OUTBOX_RELAY_POSTGRES_DSN)",
                pg_server_address(runner->connection)));
}

// Settings of ours over whatever the role's own defaults are. Nobody's operators are run with the migrator's rights,
// what a policy hides is an error, never taken for an empty table, and no statement is ended for its length.
static bool prepare_session(struct runner *runner, struct relay_error *error)
{
    int version = pg_server_version(runner->connection);
    return execute(runner,
               "SET client_min_messages = notice; SET default_transaction_isolation = 'read committed'; SET "
               "lock_timeout = 0; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET "
               "default_transaction_deferrable = off; SET search_path = pg_catalog, pg_temp; SET row_security = off",
               error) &&
        (version < 140000 || execute(runner, "SET idle_session_timeout = 0", error)) &&
        (version < 170000 || execute(runner, "SET transaction_timeout = 0", error)) && note_session(runner, error);
}

// Who holds the lock, in words; "" if that cannot be read.
static void name_holder(struct runner *runner, char *text, size_t room)
{
    text[0] = '\0';
    PGresult *result = pg_query(runner->connection,
        "SELECT pg_catalog.format('process %s of %s since %s', a.pid, a.usename, pg_catalog.date_trunc('second', "
        "a.backend_start)) "
        "FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
        "AND l.classid::bigint << 32 | l.objid::bigint = " MIGRATE_LOCK " "
        "AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())",
        NULL, 0, false, pg_deadline(runner->context), NULL);
    if (result && PQntuples(result) > 0) {
        snprintf(text, room, "%s", PQgetvalue(result, 0, 0));
    }
    PQclear(result);
}

static bool try_lock(struct runner *runner, bool *taken, struct relay_error *error)
{
    PGresult *result = pg_query(runner->connection, "SELECT pg_catalog.pg_try_advisory_lock(" MIGRATE_LOCK ")", NULL, 0,
        false, pg_deadline(runner->context), error);
    *taken = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

static bool take_lock(struct runner *runner, struct relay_error *error)
{
    const struct clock *clock = runner->context->clock;
    struct mono_time until = mono_add(clock_mono(clock), OTHER_MIGRATE_PATIENCE);
    char holder[256];
    bool taken, told = false;
    for (;;) {
        if (!try_lock(runner, &taken, error)) {
            return false;
        }
        if (taken) {
            return true;
        }
        if (!told) {
            name_holder(runner, holder, sizeof(holder));
            printf("another migrate is running (%s); waiting for it\n", holder);
            told = true;
        }
        if (mono_reached(clock_mono(clock), until)) {
            name_holder(runner, holder, sizeof(holder));
            return error_set(error, RELAY_ERROR_TIMEOUT, "another migrate is still running (%s)", holder);
        }
        if (stop_wait(runner->context->stop, clock, mono_add(clock_mono(clock), MIGRATE_LOCK_PAUSE))) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped while another migrate was running");
        }
    }
}

static bool run_statement(struct runner *runner, const struct sql_statement *statement, const char *file_name,
    struct relay_error *error)
{
    char *text = strndup(statement->at, statement->length);
    if (!text) {
        return error_no_memory(error, "running a schema file");
    }
    bool done = pg_execute(runner->connection, text, MIGRATE_FOREVER, error);
    free(text);
    runner->lock_refused = !done && strcmp(pg_last_sqlstate(runner->connection), MIGRATE_LOCK_REFUSED) == 0;
    if (!done && !stop_raised(runner->context->stop)) {
        fprintf(stderr, "%s", PQerrorMessage(pg_libpq(runner->connection)));
    }
    return done || error_prefix(error, "%s, statement at line %d", file_name, statement->line);
}

static bool run_statements(struct runner *runner, const char *text, const char *file_name, struct relay_error *error)
{
    struct sql_splitter splitter;
    struct sql_statement statement;
    sql_split_start(&splitter, SQL_POSTGRES, text);
    while (sql_split_next(&splitter, &statement, error)) {
        if (stop_raised(runner->context->stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped before line %d of %s", statement.line, file_name);
        }
        if (!run_statement(runner, &statement, file_name, error)) {
            return false;
        }
    }
    return error->code == RELAY_ERROR_NONE || error_prefix(error, "%s", file_name);
}

// To 004's `down` every table that was not adopted is the relay's own, and goes. One that the application has made, and
// that was attached, does not have the comment that create_outbox() writes: it is given back before.
static bool keep_foreign_table(struct runner *runner, const char *file_name, struct relay_error *error)
{
    static const char text[] =
        "DO $$ BEGIN IF EXISTS (SELECT 1 FROM outbox_relay.outboxes o WHERE o.outbox::oid = "
        "pg_catalog.to_regclass('public.outbox_events')::oid AND NOT o.adopted AND "
        "pg_catalog.obj_description(o.outbox::oid, 'pg_class') IS DISTINCT FROM "
        "'transactional outbox: insert an event in your own transaction, outbox-relay publishes it') THEN "
        "PERFORM outbox_relay.detach_outbox('public.outbox_events'); "
        "RAISE NOTICE 'outbox-relay has not made public.outbox_events: it stays, detached'; END IF; END $$";
    return run_statement(runner, &(struct sql_statement){.at = text, .length = sizeof(text) - 1}, file_name, error);
}

static bool run_whole(struct runner *runner, const struct migration_file *file, bool up, const char *file_name,
    struct relay_error *error)
{
    if (!execute(runner, "BEGIN; SET LOCAL lock_timeout = '" MIGRATE_LOCK_TIMEOUT "'", error)) {
        return false;
    }
    bool keep = !up && strcmp(file->name, CREATING_FILE) == 0;
    if ((!keep || keep_foreign_table(runner, file_name, error)) &&
        run_statements(runner, up ? file->up : file->down, file_name, error) &&
        migrate_postgres_record(runner->connection, file, up, error)) {
        return pg_commit(runner->connection, MIGRATE_FOREVER, error) || error_prefix(error, "%s", file_name);
    }
    if (!pg_broken(runner->connection)) {
        execute(runner, "ROLLBACK", NULL);
    }
    return false;
}

static bool drop_invalid_indexes(struct runner *runner, struct relay_error *error)
{
    PGresult *result = pg_query(runner->connection,
        "SELECT pg_catalog.to_regprocedure('outbox_relay.drop_invalid_indexes()') IS NOT NULL", NULL, 0, false,
        pg_deadline(runner->context), error);
    bool known = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    if (!result || !known) {
        return result != NULL;
    }
    result = pg_query(runner->connection, "SELECT outbox_relay.drop_invalid_indexes()", NULL, 0, false, MIGRATE_FOREVER,
        error);
    if (result && pg_cell_int64(result, 0, 0) > 0) {
        printf("    dropped an index that an earlier build had left invalid\n");
    }
    PQclear(result);
    return result != NULL || error_prefix(error, "dropping an invalid index");
}

static bool run_piecemeal(struct runner *runner, const struct migration_file *file, bool up, const char *file_name,
    struct relay_error *error)
{
    return drop_invalid_indexes(runner, error) &&
        run_statements(runner, up ? file->up : file->down, file_name, error) &&
        migrate_postgres_record(runner->connection, file, up, error);
}

// As 012 asks for every other table. 006 runs before it, and would give rows without an id of their own no number, or
// one number to two of them, which only the files behind it find, with the table half changed.
static bool check_adoptable(struct runner *runner, struct relay_error *error)
{
    PGresult *result = pg_query(runner->connection,
        "SELECT t.id IS NULL OR EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.id "
        "AND a.attname = 'seq' AND NOT a.attisdropped) OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a "
        "WHERE a.attrelid = t.id AND a.attname = 'id' AND a.atttypid = 'uuid'::pg_catalog.regtype AND NOT "
        "a.attisdropped) OR EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_index i "
        "ON i.indrelid = a.attrelid AND i.indkey[0] = a.attnum WHERE a.attrelid = t.id AND a.attname = 'id' "
        "AND a.attnotnull AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1 "
        "AND i.indpred IS NULL) FROM (SELECT pg_catalog.to_regclass('public.outbox_events')::oid) t (id)",
        NULL, 0, false, pg_deadline(runner->context), error);
    bool fits = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    if (result && !fits) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "cannot adopt public.outbox_events: its column id is not unique and NOT NULL. Give every row an id of its "
            "own, and the table a primary key on it");
    }
    return fits;
}

// What was not adopted has nothing to give back; 008's `down` asks for its seq all the same.
static bool was_not_adopted(struct runner *runner, bool *leave, struct relay_error *error)
{
    PGresult *result = pg_query(runner->connection,
        "SELECT NOT EXISTS (SELECT 1 FROM outbox_relay.outboxes o WHERE o.outbox::oid = t.id AND o.adopted) AND "
        "NOT EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox::oid = t.id) "
        "FROM (SELECT pg_catalog.to_regclass('public.outbox_events')::oid) t (id)",
        NULL, 0, false, pg_deadline(runner->context), error);
    *leave = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

// Of the three files that adopt public.outbox_events, which would fail at a table of another form, or change one that
// is none of ours: *left, only recorded.
static bool leave_file(struct runner *runner, const struct migration_file *file, bool up, bool *left,
    struct relay_error *error)
{
    *left = false;
    if (strcmp(file->name, ADOPTING_FILE) != 0 && strcmp(file->name, INDEX_FILE) != 0 &&
        strcmp(file->name, ADOPTED_FILE) != 0) {
        return true;
    }
    if (up ? !migrate_outboxes_leave(runner->context, runner->connection, left, error)
           : !was_not_adopted(runner, left, error)) {
        return false;
    }
    if (*left) {
        printf(up ? "     not run: no [outbox] is public.outbox_events in the form that is adopted\n"
                  : "     not run: public.outbox_events was not adopted\n");
        return migrate_postgres_record(runner->connection, file, up, error);
    }
    return !up ||
        (migrate_owner_of_table(runner->context, runner->connection, false, error) &&
            (strcmp(file->name, ADOPTING_FILE) != 0 || check_adoptable(runner, error)));
}

// The files 006 and 008 ask for the table's lock by a procedure of 005, which does not get it while autovacuum works on
// the table; the one that does stands in a later file. It is not recorded here: 012 puts the other back before its turn
// comes.
static bool prepare_adoption(struct runner *runner, const struct migration_file *file, struct relay_error *error)
{
    const struct migration_file *locking = migration_files_find(runner->files, LOCKING_FILE);
    if (!locking || (strcmp(file->name, ADOPTING_FILE) != 0 && strcmp(file->name, ADOPTED_FILE) != 0)) {
        return true;
    }
    return execute(runner, locking->up, error) || error_prefix(error, "%s.up.sql, before its turn", locking->name);
}

static bool run_file(struct runner *runner, const struct migration_file *file, bool up, struct relay_error *error)
{
    const struct clock *clock = runner->context->clock;
    bool whole = up ? file->up_in_transaction : file->down_in_transaction;
    char file_name[256];
    snprintf(file_name, sizeof(file_name), "%s.%s.sql", file->name, up ? "up" : "down");
    printf("%-4s %s%s\n", up ? "up" : "down", file->name, whole ? "" : " (outside a transaction)");
    bool left = false;
    if (!leave_file(runner, file, up, &left, error) || left) {
        return left;
    }
    if (up && !prepare_adoption(runner, file, error)) {
        return false;
    }
    struct mono_time start = clock_mono(clock);
    for (int tries = 1;; tries++) {
        if (whole ? run_whole(runner, file, up, file_name, error) : run_piecemeal(runner, file, up, file_name, error)) {
            break;
        }
        // What runs outside a transaction has waited by itself for as long as it makes sense.
        if (!whole || !runner->lock_refused || pg_broken(runner->connection) || tries == MIGRATE_LOCK_TRIES) {
            return false;
        }
        if (stop_wait(runner->context->stop, clock, mono_add(clock_mono(clock), MIGRATE_LOCK_PAUSE))) {
            return error_set(error, RELAY_ERROR_STOPPED, "%s: stopped while a table was locked", file_name);
        }
    }
    printf("     done in %.2f s\n", duration_seconds(mono_since(clock_mono(clock), start)));
    return true;
}

// After the last file was taken back nothing of ours stays, the records included.
static bool drop_records(struct runner *runner, struct relay_error *error)
{
    return execute(runner,
        "DO $$ BEGIN "
        "IF EXISTS (SELECT 1 FROM outbox_relay.schema_migrations) THEN RETURN; END IF; "
        "DROP TABLE outbox_relay.schema_migrations; "
        "IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace = "
        "'outbox_relay'::pg_catalog.regnamespace) "
        "AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_proc p WHERE p.pronamespace = "
        "'outbox_relay'::pg_catalog.regnamespace) THEN "
        "DROP SCHEMA outbox_relay; END IF; END $$",
        error);
}

static bool run_plan(struct runner *runner, const struct migration_plan *plan, struct relay_error *error)
{
    for (size_t i = 0; i < plan->count; i++) {
        if (!run_file(runner, plan->files[i], plan->up, error)) {
            return false;
        }
    }
    if (plan->count == 0) {
        migration_print_nothing(stdout, plan);
    }
    return plan->up || plan->count == 0 || drop_records(runner, error);
}

// What is about to be made is sent to every subscriber of these. It is said and no more: they may have it already.
static bool warn_of_publications(struct runner *runner, struct relay_error *error)
{
    const struct relay_context *context = runner->context;
    char *names = publications_of_relay(runner->connection, context->config, pg_deadline(context), error);
    if (names && names[0] != '\0') {
        printf("WARNING: " PUBLICATIONS_DANGER "; " PUBLICATIONS_MEND "\n", names);
    }
    free(names);
    return names != NULL;
}

// As where it came by pg_dump --schema-only, or another tool has run the files: the first of them would fail at its
// first table.
static bool refuse_unrecorded(struct runner *runner, struct relay_error *error)
{
    bool unrecorded;
    return migrate_postgres_unrecorded(runner->connection, pg_deadline(runner->context), &unrecorded, error) &&
        (!unrecorded ||
            error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "the relay's schema is there, and no file is on record; nothing was done: run `outbox-relay migrate "
                "postgres up --baseline`, which records the files that it finds (--to N: those up to N), then this "
                "again"));
}

// The schema's owner is looked at again once it is surely there: somebody may have made it just before.
static bool look_at_owners(struct runner *runner, bool writes, struct relay_error *error)
{
    const struct relay_context *context = runner->context;
    const struct migrate_options *options = runner->options;
    bool adopts = options->action == MIGRATE_UP && !options->baseline;
    return migrate_owners_of_schema(context, runner->connection, error) &&
        (!adopts || migrate_owner_of_table(context, runner->connection, true, error)) &&
        (!adopts || refuse_unrecorded(runner, error)) &&
        (!writes || options->baseline ||
            (migrate_postgres_make_records(runner->connection, error) &&
                migrate_owners_of_schema(context, runner->connection, error)));
}

static bool migrate_with(struct runner *runner, struct relay_error *error)
{
    const struct migrate_options *options = runner->options;
    struct migration_records records = {0};
    struct migration_plan plan = {0};
    bool recorded, done = false, writes = options->action != MIGRATE_STATUS && !options->dry_run;
    if (!prepare_session(runner, error) || (writes && !take_lock(runner, error)) ||
        !look_at_owners(runner, writes, error) ||
        !migrate_postgres_records(runner->connection, pg_deadline(runner->context), &records, &recorded, error)) {
        goto records_held;
    }
    if (options->action == MIGRATE_STATUS) {
        migration_print_status(stdout, runner->files, &records);
        migration_print_drift(stderr, runner->files, &records);
        done = true;
        goto records_held;
    }
    migration_print_drift(stderr, runner->files, &records);
    if (!migration_plan_make(&plan, runner->files, &records, options->action == MIGRATE_UP, options->to, error)) {
        goto records_held;
    }
    if (options->action == MIGRATE_UP && !warn_of_publications(runner, error)) {
        goto plan_held;
    }
    done = options->baseline ? migrate_baseline(runner->connection, runner->files, &plan, options, error)
        : options->dry_run   ? migration_print_plan(stdout, &plan, false, error)
                             : run_plan(runner, &plan, error);
    if (done && !options->baseline && options->action == MIGRATE_UP && options->to == MIGRATION_ALL) {
        done = migrate_outboxes(runner->context, runner->connection, options->dry_run, error);
    }
plan_held:
    migration_plan_finish(&plan);
records_held:
    migration_records_finish(&records);
    return done;
}

// The server does not notice a closed socket while it works, or waits for a lock with the table's writers behind it:
// the session that we left is ended from beside.
static void end_in_server(const struct relay_context *context, const struct server_session *session)
{
    struct relay_context beside = *context;
    beside.stop = NULL;
    struct pg_options options = {.role = "cancel", .brief = true};
    struct pg_connection *connection = session->process[0] != '\0' ? pg_connect(&beside, &options, NULL) : NULL;
    if (!connection) {
        return;
    }
    const struct pg_value values[] = {PG_TEXT(session->process), PG_TEXT(session->started)};
    PQclear(pg_query(connection,
        "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
        "WHERE a.pid = $1::integer AND " STARTED_TEXT " = $2",
        values, 2, false, mono_add(clock_mono(beside.clock), DURATION_S(3)), NULL));
    pg_close(connection);
}

bool migrate_postgres(const struct relay_context *context, const struct migrate_options *options,
    const struct migration_files *files, struct relay_error *error)
{
    struct pg_options how = {.role = "migrate",
        .read_write = options->action != MIGRATE_STATUS && (!options->dry_run || options->baseline),
        .statement_timeout = {-1},
        .raw = true};
    struct runner runner = {.context = context, .files = files, .options = options};
    runner.connection = pg_connect(context, &how, error);
    if (!runner.connection) {
        return false;
    }
    PQsetNoticeReceiver(pg_libpq(runner.connection), show_notice, NULL);
    printf("PostgreSQL %s at %s, database %s; files of %s\n",
        PQparameterStatus(pg_libpq(runner.connection), "server_version"), pg_server_address(runner.connection),
        PQdb(pg_libpq(runner.connection)), files->folder);
    bool done = refuse_pooler(&runner, &how, error) && migrate_with(&runner, error);
    bool left_behind = pg_broken(runner.connection);
    pg_close(runner.connection);
    if (left_behind) {
        end_in_server(context, &runner.session);
    }
    return done;
}
