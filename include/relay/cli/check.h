// SPDX-License-Identifier: Apache-2.0
//
// The parts of `check`, one for each kind of server. None of them changes anything anywhere; each has deadlines of its
// own and says in the report what it could not find out, so that one server that is down hides nothing about the
// others.
#ifndef RELAY_CLI_CHECK_H
#define RELAY_CLI_CHECK_H

#include "relay/cli/check_report.h"
#include "relay/cli/migration_plan.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/config/context.h"
#include "relay/insert/table_schema.h"
#include "relay/postgres/pg_connection.h"

#define CHECK_TIMEOUT DURATION_S(10) // of one question to one server

// What to do, with the login that may: `check` runs with the daemon's.
#define CHECK_MIGRATE_POSTGRES "outbox-relay migrate postgres up, with the owner's login in OUTBOX_RELAY_POSTGRES_DSN"
#define CHECK_MIGRATE_CLICKHOUSE                                                                                       \
    "outbox-relay migrate clickhouse up, with a login that may create tables in OUTBOX_RELAY_CLICKHOUSE_USER"
#define CHECK_GRANT_CLICKHOUSE "grant it to [clickhouse] user (docs/schema.md, ClickHouse grants)"

struct check {
    const struct relay_context *context;
    struct check_report *report;
    const char *schemas;              // --schemas, NULL: the usual places
    struct pg_connection *connection; // NULL: PostgreSQL was not reached
};

// Server, durability, pooler, migrations; then each outbox table. Leaves check->connection open for the next part.
void check_postgres(struct check *check);
void check_outbox(struct check *check, const struct config_outbox *outbox);
void check_unnamed(struct check *check);        // outboxes of the database that this configuration does not name
void check_registrations(struct check *check);  // what is registered as an outbox, and may be none
void check_hosts(struct check *check);          // the others that the dsn names; where it names one, nothing
void check_connections(struct check *check);    // how many the server has for the relay
void check_letter_readers(struct check *check); // logins that may read what outboxes set aside, beside the relay's
// The cluster, the topics that are known by name, the group.
void check_kafka(struct check *check);
void check_clickhouse(struct check *check);
// Whether query ids and settings arrive at that endpoint's server as they were sent; reports it if not.
void check_clickhouse_request(struct check *check, struct clickhouse_client *client, int endpoint,
    const struct clickhouse_server *server);
// Whether routes without columns of their own can take what the outboxes publish: asks PostgreSQL, then ClickHouse.
void check_default_route(struct check *check);
// Whether the server would take the daemon's INSERT; reports it if not. statement: of a row encoder, or of dead
// letters, with INSERT_DEADLINE_GUARD; its deadline is set here.
bool check_insert(struct check *check, struct clickhouse_client *client, int endpoint, const char *what,
    char *statement);
// Whether the daemon could ask the table there what it has, as before it fills a partition, with the daemon's limits of
// time; reports it if not. *lags: set where nothing was refused, so that it may be time only.
bool check_read_back(struct check *check, struct clickhouse_client *client, int endpoint, const char *what,
    const struct table_schema *schema, bool *lags);
// Whether what this version brings for a server's schema is applied there.
struct check_schema {
    const char *server; // "postgres" or "clickhouse", as `migrate` has it
    const char *up;     // what to do where files are not applied
};
// The files of this version; reports it where there are none (false). Free them with migration_files_finish().
bool check_schema_files(struct check *check, const struct check_schema *schema, struct migration_files *files);
void check_schema_applied(struct check *check, const struct check_schema *schema, const struct migration_files *files,
    const struct migration_records *records);
void check_alerts(struct check *check);
// Whether the connections to all of them are encrypted, and to servers that are verified. After check_postgres().
void check_transport(struct check *check);

// Deadline for one question, from now.
static inline struct mono_time check_deadline(const struct check *check)
{
    return mono_add(clock_mono(check->context->clock), CHECK_TIMEOUT);
}

#endif
