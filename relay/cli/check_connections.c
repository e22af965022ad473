// SPDX-License-Identifier: Apache-2.0
//
// Whether PostgreSQL has as many connections as the replicas of this configuration open (docs/operations.md, Sizing).
// Where it has not, whoever comes last is refused, be it an owner or the application.
#include "relay/cli/check.h"

static const char what[] = "postgres connections";

// Ours are those that replicas of this configuration have, with their own login in this database; a relay of another
// configuration is as much somebody else as the application. Of a role or database without a limit -1. Who else is
// connected is told to every login, by name.
static const char question[] =
    "SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8"
    " - coalesce(current_setting('reserved_connections', true), '0')::int8, others.everywhere,"
    " (SELECT r.rolconnlimit FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),"
    " (SELECT d.datconnlimit FROM pg_catalog.pg_database d WHERE d.datname = current_database()), others.here"
    " FROM (SELECT count(*) AS everywhere, count(*) FILTER (WHERE a.datname = current_database()) AS here"
    " FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL"
    " AND NOT (a.application_name LIKE 'outbox-relay-%' AND a.usename = current_user"
    " AND a.datname = current_database())) others";

static int64_t outboxes_enabled(const struct config *config)
{
    int64_t count = 0;
    for (size_t i = 0; i < config->outbox_count; i++) {
        count += config->outboxes[i].publish.enabled;
    }
    return count;
}

// -1: no limit.
static int64_t within(int64_t most, int64_t limit)
{
    return limit >= 0 && limit < most ? limit : most;
}

static int64_t above_zero(int64_t count)
{
    return count > 0 ? count : 0;
}

void check_connections(struct check *check)
{
    int64_t outboxes = outboxes_enabled(check->context->config);
    struct relay_error error;
    if (outboxes == 0) {
        return;
    }
    PGresult *result = pg_query(check->connection, question, NULL, 0, false, check_deadline(check), &error);
    if (result == NULL) {
        check_add(check->report, CHECK_WARN, what, "", "cannot be counted: %s", error.text);
        return;
    }
    int64_t others = pg_cell_int64(result, 0, 1);
    int64_t most = within(pg_cell_int64(result, 0, 0) - others, pg_cell_int64(result, 0, 2));
    int64_t of_database = pg_cell_int64(result, 0, 3);
    most = within(most, of_database < 0 ? -1 : above_zero(of_database - pg_cell_int64(result, 0, 4)));
    PQclear(result);
    int64_t replicas = (most - 2 * outboxes) / (outboxes + 1);
    if (most < 3 * outboxes + 1) {
        check_add(check->report, CHECK_WARN, what,
            "raise max_connections, or the CONNECTION LIMIT of the role or database; or spread the outboxes over "
            "several servers",
            "%lld are left for the relay, beside %lld of others now: %lld outboxes need %lld, and %lld more for each "
            "further replica",
            (long long)most, (long long)others, (long long)outboxes, (long long)(3 * outboxes + 1),
            (long long)(outboxes + 1));
        return;
    }
    check_add(check->report, CHECK_OK, what, "",
        "%lld are left for the relay, beside %lld of others now: enough for %lld outboxes and %lld replica%s",
        (long long)most, (long long)others, (long long)outboxes, (long long)replicas, replicas == 1 ? "" : "s");
}
