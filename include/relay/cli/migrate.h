// SPDX-License-Identifier: Apache-2.0
//
// The two engines of the migrate command, one for each server, and the reading of what they recorded, which `check`
// uses too. They print what they do to stdout, the server's own words of a failure to stderr, and return an error that
// names the file. One thread; waits end with the context's stop.
#ifndef RELAY_CLI_MIGRATE_H
#define RELAY_CLI_MIGRATE_H

#include "relay/cli/migration_plan.h"
#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/postgres/pg_connection.h"

// How long a table's writers may have to queue behind us, how often it is tried, and the SQLSTATE of a try that failed.
#define MIGRATE_LOCK_TIMEOUT "1s"
#define MIGRATE_LOCK_TRIES   60
#define MIGRATE_LOCK_PAUSE   DURATION_MS(500)
#define MIGRATE_LOCK_REFUSED "55P03"
// The deadline of a statement: a schema file takes as long as it takes, and a stop ends the wait.
#define MIGRATE_FOREVER ((struct mono_time){INT64_MAX})

enum migrate_action { MIGRATE_UP, MIGRATE_DOWN, MIGRATE_STATUS };

struct migrate_options {
    enum migrate_action action;
    int to; // MIGRATION_ALL, or a number
    bool dry_run;
    bool baseline; // PostgreSQL, up: record what is there already instead of running it
};

// Errors: POSTGRES_*, CONFIG (a file), STOPPED, NO_MEMORY.
bool migrate_postgres(const struct relay_context *context, const struct migrate_options *options,
    const struct migration_files *files, struct relay_error *error);
// Errors: CLICKHOUSE_*, CONFIG, STOPPED, NO_MEMORY.
bool migrate_clickhouse(const struct relay_context *context, const struct migrate_options *options,
    const struct migration_files *files, struct relay_error *error);

// What was applied, in the order of names. *recorded false: nothing was ever recorded there (no table of records).
bool migrate_postgres_records(struct pg_connection *connection, struct mono_time deadline,
    struct migration_records *records, bool *recorded, struct relay_error *error);
// Whether the schema is there, though no file is on record.
bool migrate_postgres_unrecorded(struct pg_connection *connection, struct mono_time deadline, bool *unrecorded,
    struct relay_error *error);
// The table of records, if there is none; a record, written or (up false) taken away. In the caller's transaction.
bool migrate_postgres_make_records(struct pg_connection *connection, struct relay_error *error);
bool migrate_postgres_record(struct pg_connection *connection, const struct migration_file *file, bool up,
    struct relay_error *error);
// Records the files of the plan without running them, once every object that files up to options->to make was found as
// they make it. Errors: POSTGRES_*, NO_MEMORY; stderr names each object that is missing or differs.
bool migrate_baseline(struct pg_connection *connection, const struct migration_files *files,
    const struct migration_plan *plan, const struct migrate_options *options, struct relay_error *error);

// endpoint: as in clickhouse_request. A missing database has no records.
bool migrate_clickhouse_records(struct clickhouse_client *client, int endpoint, struct migration_records *records,
    bool *recorded, struct relay_error *error);

// Before anything of the schema outbox_relay is used, and before public.outbox_events, where an outbox of the
// configuration is this table, is written to. at_first: only while there is no such schema yet. Errors:
// POSTGRES_OPERATOR names what belongs to a role that the migrator does not trust.
bool migrate_owners_of_schema(const struct relay_context *context, struct pg_connection *connection,
    struct relay_error *error);
bool migrate_owner_of_table(const struct relay_context *context, struct pg_connection *connection, bool at_first,
    struct relay_error *error);

// Before the files that adopt public.outbox_events. *leave: it is none of theirs. It is there, nobody has begun, and no
// outbox of the configuration is this table in the form that they know: another application's, or one to be attached.
bool migrate_outboxes_leave(const struct relay_context *context, struct pg_connection *connection, bool *leave,
    struct relay_error *error);

// Creates or attaches every configured outbox table that the database does not know yet. Prints each; dry_run: says
// what it would do. false: a table cannot be used as it is; stderr says why and what to do.
bool migrate_outboxes(const struct relay_context *context, struct pg_connection *connection, bool dry_run,
    struct relay_error *error);

#endif
