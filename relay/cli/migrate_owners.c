// SPDX-License-Identifier: Apache-2.0
//
// Triggers, functions and views run with the rights of whoever uses them. So nothing is written into, read from or
// called in objects of the relay's names before it is known whose they are: the migrator's own, those of a role whose
// rights it has, or a superuser's. A superuser has every role's rights, so of it only the name counts.
#include "relay/cli/migrate.h"

#include <string.h>

#define FOREIGN(owner)                                                                                                 \
    "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles o WHERE o.oid = " owner                                             \
    " AND (o.rolsuper OR o.rolname = current_user OR (pg_catalog.pg_has_role(o.oid, 'USAGE') AND NOT (SELECT "         \
    "m.rolsuper FROM pg_catalog.pg_roles m WHERE m.rolname = current_user))))"

// result: what is somebody else's, in its first row, if it has one. Takes it.
static bool judge(PGresult *result, struct relay_error *error)
{
    bool done = result &&
        (PQntuples(result) == 0 ||
            error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "%s belongs to %s, whose code would run with the rights of %s. Run this as its owner, or ALTER ... "
                "OWNER TO, once you know what it is",
                pg_cell(result, 0, 0), pg_cell(result, 0, 1), pg_cell(result, 0, 2)));
    PQclear(result);
    return done;
}

bool migrate_owners_of_schema(const struct relay_context *context, struct pg_connection *connection,
    struct relay_error *error)
{
    return judge(pg_query(connection,
                     "SELECT x.object, pg_catalog.pg_get_userbyid(x.owner), current_user FROM ("
                     "SELECT 1, 'schema outbox_relay', n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = "
                     "'outbox_relay' "
                     "UNION ALL SELECT 2, c.oid::regclass::text, c.relowner FROM pg_catalog.pg_class c WHERE "
                     "c.relnamespace = pg_catalog.to_regnamespace('outbox_relay')::oid AND c.relkind IN ('r', 'v', "
                     "'m', 'p', 'f', 'S') "
                     "UNION ALL SELECT 3, p.oid::regprocedure::text, p.proowner FROM pg_catalog.pg_proc p WHERE "
                     "p.pronamespace = pg_catalog.to_regnamespace('outbox_relay')::oid) x (place, object, owner) "
                     "WHERE " FOREIGN("x.owner") " ORDER BY x.place, x.object LIMIT 1",
                     NULL, 0, false, pg_deadline(context), error),
        error);
}

bool migrate_owner_of_table(const struct relay_context *context, struct pg_connection *connection, bool at_first,
    struct relay_error *error)
{
    const struct config *config = context->config;
    for (size_t i = 0; i < config->outbox_count; i++) {
        const struct pg_value values[] = {PG_TEXT(config->outboxes[i].table), PG_TEXT(at_first ? "true" : "false")};
        if (!judge(pg_query(connection,
                       "SELECT 'table ' || c.oid::regclass::text, pg_catalog.pg_get_userbyid(c.relowner), current_user "
                       "FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass('public.outbox_events')::oid "
                       "AND c.oid = pg_catalog.to_regclass($1)::oid AND (NOT $2::boolean OR "
                       "pg_catalog.to_regnamespace('outbox_relay') IS NULL) AND " FOREIGN("c.relowner"),
                       values, 2, false, pg_deadline(context), error),
                error)) {
            return false;
        }
    }
    return true;
}
