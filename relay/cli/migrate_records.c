// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/migrate.h"
#include "relay/base/version.h"

#include <string.h>

bool migrate_postgres_make_records(struct pg_connection *connection, struct relay_error *error)
{
    // CREATE SCHEMA IF NOT EXISTS asks for the right to create even when there is nothing to do.
    return pg_execute(connection,
        "DO $$ BEGIN "
        "IF pg_catalog.to_regnamespace('outbox_relay') IS NULL THEN CREATE SCHEMA outbox_relay; END IF; "
        "IF pg_catalog.to_regclass('outbox_relay.schema_migrations') IS NULL THEN "
        "CREATE TABLE outbox_relay.schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), applied_by text NOT NULL DEFAULT "
        "session_user, "
        "relay_version text NOT NULL); "
        "COMMENT ON TABLE outbox_relay.schema_migrations IS "
        "'the files that outbox-relay migrate has applied, with the SHA-256 of each'; "
        "END IF; END $$",
        MIGRATE_FOREVER, error);
}

bool migrate_postgres_records(struct pg_connection *connection, struct mono_time deadline,
    struct migration_records *records, bool *recorded, struct relay_error *error)
{
    PGresult *result = pg_query(connection,
        "SELECT pg_catalog.to_regclass('outbox_relay.schema_migrations') IS NOT NULL", NULL, 0, false, deadline, error);
    *recorded = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    if (!result || !*recorded) {
        return result != NULL;
    }
    result = pg_query(connection,
        "SELECT name, checksum, pg_catalog.date_trunc('second', applied_at)::text, applied_by FROM "
        "outbox_relay.schema_migrations "
        "ORDER BY name",
        NULL, 0, false, deadline, error);
    if (!result) {
        return false;
    }
    bool done = true;
    for (int i = 0; done && i < PQntuples(result); i++) {
        done = migration_records_add(records, pg_cell(result, i, 0), pg_cell(result, i, 1), pg_cell(result, i, 2),
            pg_cell(result, i, 3));
    }
    PQclear(result);
    return done || error_no_memory(error, "reading what was migrated");
}

bool migrate_postgres_unrecorded(struct pg_connection *connection, struct mono_time deadline, bool *unrecorded,
    struct relay_error *error)
{
    struct migration_records records = {0};
    bool recorded;
    *unrecorded = false;
    bool done = migrate_postgres_records(connection, deadline, &records, &recorded, error);
    size_t count = records.count;
    migration_records_finish(&records);
    if (!done || count > 0) {
        return done;
    }
    PGresult *result = pg_query(connection, "SELECT pg_catalog.to_regclass('outbox_relay.outboxes') IS NOT NULL", NULL,
        0, false, deadline, error);
    *unrecorded = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

bool migrate_postgres_record(struct pg_connection *connection, const struct migration_file *file, bool up,
    struct relay_error *error)
{
    const struct pg_value values[] = {PG_TEXT(file->name), PG_TEXT(file->checksum), PG_TEXT(relay_version())};
    PGresult *result = up
        ? pg_query(connection,
              "INSERT INTO outbox_relay.schema_migrations (name, checksum, relay_version) VALUES ($1, $2, $3)", values,
              3, false, MIGRATE_FOREVER, error)
        : pg_query(connection, "DELETE FROM outbox_relay.schema_migrations WHERE name = $1", values, 1, false,
              MIGRATE_FOREVER, error);
    PQclear(result);
    return result != NULL;
}
