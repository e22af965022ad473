// SPDX-License-Identifier: Apache-2.0
//
// PostgreSQL as a whole: reachable, new enough, writable, durable, not behind a transaction pooler, migrated. The
// tables are check_outbox.c's, the other hosts check_hosts.c's. When no server is reached, that one line is all there
// is to say.
#include "relay/cli/check.h"
#include "relay/cli/migrate.h"
#include "relay/cli/publications.h"
#include "relay/postgres/pg_newest.h"
#include "relay/postgres/pg_pooler.h"
#include "relay/postgres/pg_timeline.h"

#include <stdlib.h>
#include <string.h>

static const char what[] = "postgres";

static PGresult *ask(struct check *check, const char *sql, struct relay_error *error)
{
    return pg_query(check->connection, sql, NULL, 0, false, check_deadline(check), error);
}

static void told_why(struct check *check, const struct relay_error *error)
{
    // pgbouncer and its kind refuse the settings that a session begins with.
    bool pooler = strstr(error->text, "unsupported startup parameter") != NULL;
    check_add(check->report, CHECK_FAIL, what,
        pooler ? "connect to PostgreSQL itself: a pooler keeps neither session locks nor LISTEN"
            : error->code == RELAY_ERROR_POSTGRES_OPERATOR
            ? "fix [postgres] dsn, the password, or the server's pg_hba.conf"
            : "start the server, or fix [postgres] dsn",
        "%s", error->text);
}

// Before a session of ours gets its settings, which a pooler in transaction mode would hand on to other clients. false:
// there is nothing more to look at here.
static bool look_for_pooler(struct check *check, struct pg_options options, enum pg_pooler *pooler)
{
    struct relay_error error;
    options.raw = true;
    struct pg_connection *connection = pg_connect(check->context, &options, &error);
    if (!connection) {
        told_why(check, &error);
        return false;
    }
    if (!pg_pooler_find(connection, check->context, &options, CHECK_TIMEOUT, pooler, &error)) {
        check_add(check->report, CHECK_FAIL, what, "point [postgres] dsn at PostgreSQL itself", "%s", error.text);
        pg_close(connection);
        return false;
    }
    pg_close(connection);
    if (*pooler == PG_POOLER_TRANSACTION) {
        check_add(check->report, CHECK_FAIL, what,
            "point [postgres] dsn at PostgreSQL itself, or at a pool with pool_mode = session",
            "behind a pooler in transaction mode: session locks, and so the ownership of an outbox, do not hold");
        return false;
    }
    return true;
}

static bool connect_server(struct check *check, enum pg_pooler *pooler)
{
    struct relay_error error;
    // The server's own timeout comes first: it ends one statement, ours the connection.
    struct pg_options options = {
        .role = "check",
        .statement_timeout = DURATION_NS(CHECK_TIMEOUT.ns - DURATION_S(1).ns),
        .primary_first = true,
    };
    if (!look_for_pooler(check, options, pooler)) {
        return false;
    }
    check->connection = pg_connect(check->context, &options, &error);
    if (!check->connection) {
        told_why(check, &error);
    }
    return check->connection != NULL;
}

// Returns whether it is a primary.
static bool check_server(struct check *check)
{
    struct relay_error error;
    const char *version = PQparameterStatus(pg_libpq(check->connection), "server_version");
    int number = pg_server_version(check->connection);
    PGresult *result = ask(check,
        "SELECT pg_catalog.pg_is_in_recovery(), current_setting('default_transaction_read_only'), "
        "current_user, current_database()",
        &error);
    if (!result) {
        check_add(check->report, CHECK_FAIL, what, "", "%s", error.text);
        return false;
    }
    bool primary = strcmp(pg_cell(result, 0, 0), "f") == 0;
    if (number < 130000) {
        check_add(check->report, CHECK_FAIL, what, "upgrade to PostgreSQL 13 or newer", "version %s is too old",
            version);
    } else if (!primary) {
        check_add(check->report, CHECK_FAIL, what,
            "name all hosts in [postgres] dsn, with target_session_attrs=read-write",
            "%s is a standby: nothing can be deleted there", pg_server_address(check->connection));
    } else if (strcmp(pg_cell(result, 0, 1), "on") == 0) {
        check_add(check->report, CHECK_FAIL, what,
            "ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only", "sessions of %s are read-only",
            pg_cell(result, 0, 2));
    } else {
        check_add(check->report, CHECK_OK, what, "", "PostgreSQL %s at %s, database %s, role %s, read-write", version,
            pg_server_address(check->connection), pg_cell(result, 0, 3), pg_cell(result, 0, 2));
    }
    PQclear(result);
    return primary;
}

// In UTF8 and LATIN1 all that the server takes can be converted.
static void check_encoding(struct check *check)
{
    const char *encoding = PQparameterStatus(pg_libpq(check->connection), "server_encoding");
    if (encoding != NULL && strcmp(encoding, "UTF8") != 0 && strcmp(encoding, "LATIN1") != 0) {
        check_add(check->report, CHECK_WARN, what, "move to a database with ENCODING 'UTF8' (docs/events.md, Poison)",
            "the database's encoding is %s: a row with bytes that cannot be converted to UTF-8 is never published "
            "(bad_encoding)",
            encoding);
    }
}

// Without it no relay can own an outbox. Returns whether it is Aurora, which has none.
static bool check_timeline(struct check *check)
{
    struct relay_error error;
    uint32_t timeline;
    if (!pg_timeline_find(check->connection, &timeline, check_deadline(check), &error)) {
        check_add(check->report, CHECK_FAIL, what,
            "EXECUTE on pg_walfile_name(pg_lsn) and pg_current_wal_insert_lsn() for the relay's role", "%s",
            error.text);
        return false;
    }
    if (timeline == 0) {
        check_add(check->report, CHECK_WARN, what, "see Limits in README.md",
            "Amazon Aurora, on which the relay is untested: it has no timelines, by which an old primary that comes "
            "back would be recognised");
    }
    return timeline == 0;
}

// remote: the service has a commit's log elsewhere before it answers, and sets the first two itself.
static void judge_durability(struct check *check, const PGresult *settings, bool remote)
{
    bool fsync = strcmp(pg_cell(settings, 0, 0), "on") == 0, pages = strcmp(pg_cell(settings, 0, 1), "on") == 0;
    const char *commit = pg_cell(settings, 0, 2);
    if (!remote && (!fsync || !pages)) {
        check_add(check->report, CHECK_WARN, what, "switch it on before events matter",
            "%s is off: a crash of the machine can lose or corrupt committed events",
            fsync ? "full_page_writes" : "fsync");
    }
    if (strcmp(commit, "off") == 0) {
        check_add(check->report, CHECK_WARN, what, "synchronous_commit = on for the roles that write events",
            "synchronous_commit is off by default: a crash can lose a commit that the application was told of, its "
            "event included");
    } else if (remote) {
        check_add(check->report, CHECK_OK, what, "",
            "synchronous_commit %s; the service keeps the log elsewhere, so its fsync and full_page_writes tell "
            "nothing",
            commit);
    } else if (fsync && pages) {
        check_add(check->report, CHECK_OK, what, "", "durable: fsync and full_page_writes on, synchronous_commit %s",
            commit);
    }
}

static void check_settings(struct check *check, bool aurora)
{
    struct relay_error error;
    // reset_val: what other sessions get; the relay sets its own.
    PGresult *result = ask(check,
        "SELECT max(s.reset_val) FILTER (WHERE s.name = 'fsync'), max(s.reset_val) FILTER (WHERE s.name = "
        "'full_page_writes'), "
        "max(s.reset_val) FILTER (WHERE s.name = 'synchronous_commit'), "
        "max(s.reset_val) FILTER (WHERE s.name = 'max_prepared_transactions'), "
        "(SELECT pg_catalog.string_agg(r.rolname, ', ' ORDER BY r.rolname) FROM pg_catalog.pg_roles r WHERE EXISTS "
        "(SELECT 1 "
        "FROM pg_catalog.pg_db_role_setting w, pg_catalog.unnest(w.setconfig) c WHERE w.setrole = r.oid AND "
        "w.setdatabase "
        "IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) AND "
        "pg_catalog.lower(c) IN ('outbox_relay.notify=off', 'outbox_relay.notify=false', 'outbox_relay.notify=no', "
        "'outbox_relay.notify=0'))), coalesce(pg_catalog.current_setting('neon.tenant_id', true), '') <> '' "
        "FROM pg_catalog.pg_settings s",
        &error);
    if (!result) {
        check_add(check->report, CHECK_WARN, what, "", "settings cannot be read: %s", error.text);
        return;
    }
    judge_durability(check, result, aurora || pg_cell_true(result, 0, 5));
    if (pg_cell_int64(result, 0, 3) > 0) {
        check_add(check->report, CHECK_WARN, what,
            "SET outbox_relay.notify = 'off' in the sessions of writers that use PREPARE TRANSACTION, behind a "
            "pooler in transaction mode SET LOCAL in each transaction (docs/schema.md, \"The wake-up trigger\")",
            "max_prepared_transactions is above 0: two-phase commit forbids NOTIFY, so a writer that uses it fails "
            "while the relay sleeps (as a setting of the role, logins that have it off: %s)",
            pg_cell(result, 0, 4) ? pg_cell(result, 0, 4) : "none");
    }
    PQclear(result);
}

static void tell_pooler(struct check *check, enum pg_pooler pooler)
{
    if (pooler == PG_POOLER_NONE) {
        check_add(check->report, CHECK_OK, what, "", "connected directly: session locks and LISTEN hold");
    } else {
        check_add(check->report, CHECK_WARN, what,
            "point [postgres] dsn at PostgreSQL itself, or at an entry of the pooler's that is for the relay alone",
            "behind a pooler in session mode: it works, but the end of a dead relay's session, which frees its outbox, "
            "is in the pooler's hands, and a PAUSE of the relay's entry waits for as long as the relay runs");
    }
}

static void check_migrations(struct check *check)
{
    static const struct check_schema schema = {"postgres", CHECK_MIGRATE_POSTGRES};
    struct relay_error error;
    struct migration_files files;
    struct migration_records records = {0};
    bool recorded, unrecorded;
    if (!check_schema_files(check, &schema, &files)) {
        return;
    }
    if (!migrate_postgres_records(check->connection, check_deadline(check), &records, &recorded, &error) ||
        !migrate_postgres_unrecorded(check->connection, check_deadline(check), &unrecorded, &error)) {
        check_add(check->report, CHECK_WARN, "schema postgres",
            "GRANT SELECT ON outbox_relay.schema_migrations (roles.sql)", "what was migrated cannot be read: %s",
            error.text);
    } else if (unrecorded) {
        check_add(check->report, CHECK_WARN, "schema postgres",
            "outbox-relay migrate postgres up --baseline records what is there, with the owner's login in "
            "OUTBOX_RELAY_POSTGRES_DSN",
            "the schema is there, and no file is on record: applied by another tool than migrate, or brought by a dump "
            "without rows; its version is not known");
    } else if (recorded) {
        check_schema_applied(check, &schema, &files, &records);
    } else {
        check_add(check->report, CHECK_FAIL, "schema postgres", CHECK_MIGRATE_POSTGRES, "the database is not migrated");
    }
    migration_records_finish(&records);
    migration_files_finish(&files);
}

// As the health watch connects, and `status`: within a time that all hosts share. With a memory of timelines, as the
// daemon has one: for it, pg_connect() asks the server what it is, which takes more round trips.
static void check_acquiring(struct check *check)
{
    struct relay_error error;
    struct relay_context context = *check->context;
    struct pg_options options = {.role = "check", .read_write = true, .brief = true};
    context.postgres_newest = pg_newest_new(&error);
    if (!context.postgres_newest) {
        check_add(check->report, CHECK_WARN, what, "", "%s", error.text);
        return;
    }
    struct pg_connection *connection = pg_connect(&context, &options, &error);
    if (!connection) {
        check_add(check->report, CHECK_WARN, what, "raise [postgres] acquire_timeout if PostgreSQL is far away or slow",
            "the health watch and `status` would get no connection: %s", error.text);
    }
    pg_close(connection);
    pg_newest_free(context.postgres_newest);
}

static void check_publications(struct check *check)
{
    struct relay_error error;
    char *names = publications_of_relay(check->connection, check->context->config, check_deadline(check), &error);
    if (!names) {
        check_add(check->report, CHECK_WARN, what, "", "%s", error.text);
    } else if (names[0] != '\0') {
        check_add(check->report, CHECK_WARN, what, PUBLICATIONS_MEND, PUBLICATIONS_DANGER, names);
    }
    free(names);
}

void check_postgres(struct check *check)
{
    enum pg_pooler pooler;
    if (!connect_server(check, &pooler)) {
        return;
    }
    bool primary = check_server(check);
    bool aurora = primary && check_timeline(check);
    check_encoding(check);
    check_settings(check, aurora);
    tell_pooler(check, pooler);
    check_hosts(check);
    check_connections(check);
    if (primary) {
        check_acquiring(check);
    }
    check_publications(check);
    check_migrations(check);
    const struct config *config = check->context->config;
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (config->outboxes[i].publish.enabled && !pg_broken(check->connection)) {
            check_outbox(check, &config->outboxes[i]);
        }
    }
    if (!pg_broken(check->connection)) {
        check_letter_readers(check);
    }
    if (!pg_broken(check->connection)) {
        check_unnamed(check);
    }
    if (!pg_broken(check->connection)) {
        check_registrations(check);
    }
    if (pg_broken(check->connection)) {
        check_add(check->report, CHECK_FAIL, what, "try again", "the connection was lost while checking");
    }
}
