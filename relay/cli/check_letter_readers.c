// SPDX-License-Identifier: Apache-2.0
//
// Who may read the events that are set aside. They stand in one table for all outboxes unless the configuration names
// others, and for as long as nobody retries or drops them: an outbox in a closed schema does not close that table, and
// default privileges of its schema may have opened it when it was made.
#include "relay/cli/check.h"
#include "relay/postgres/pg_array.h"

#include <stdio.h>
#include <stdlib.h>

static const char what[] = "dead letters postgres";

// $1: the tables. Of grants, not of memberships: who is a member of one of the relay's roles is meant to read them.
// Where row security is enabled, a policy that somebody wrote decides.
static const char question[] =
    "SELECT c.oid::regclass::text, pg_catalog.string_agg(DISTINCT a.reader, ', ' ORDER BY a.reader) "
    "FROM pg_catalog.pg_class c CROSS JOIN LATERAL ("
    "SELECT CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END AS reader "
    "FROM (SELECT e.* FROM pg_catalog.aclexplode(c.relacl) e UNION ALL SELECT e.* FROM pg_catalog.pg_attribute t, "
    "pg_catalog.aclexplode(t.attacl) e WHERE t.attrelid = c.oid AND t.attname = 'event') g "
    "LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee "
    "WHERE g.privilege_type = 'SELECT' AND g.grantee <> c.relowner AND pg_catalog.has_schema_privilege("
    "CASE WHEN g.grantee = 0 THEN 'public' ELSE r.rolname END, c.relnamespace, 'USAGE') "
    "AND coalesce(r.rolname, '') NOT IN ('outbox_relay', 'outbox_operator', current_user) "
    "AND NOT coalesce(r.rolsuper, false) AND (NOT c.relrowsecurity OR coalesce(r.rolbypassrls, false))) a "
    "WHERE c.oid IN (SELECT pg_catalog.to_regclass(n.name)::oid FROM pg_catalog.unnest($1::text[]) n(name)) "
    "GROUP BY c.oid ORDER BY 1";

// An array, malloc'd; NULL: no memory.
static char *tables_in_use(const struct config *config)
{
    char **tables = calloc(config->outbox_count + 1, sizeof(*tables)); // borrowed
    size_t count = 0;
    for (size_t i = 0; tables && i < config->outbox_count; i++) {
        const struct config_outbox *outbox = &config->outboxes[i];
        if (outbox->publish.enabled && outbox->publish.on_poison != CONFIG_POISON_STOP) {
            tables[count++] = outbox->dead_letter_table;
        }
    }
    char *array = tables ? pg_array_of_texts(tables, count) : NULL;
    free(tables);
    return array;
}

static void report_readers(struct check *check, const char *table, const char *readers)
{
    char hint[700];
    snprintf(hint, sizeof(hint),
        "where that is not meant, REVOKE SELECT ON %.130s from them, and look at ALTER DEFAULT PRIVILEGES; for an "
        "outbox "
        "of a closed schema [outbox] dead_letter_table there (docs/schema.md, Privileges)",
        table);
    check_add(check->report, CHECK_WARN, what, hint,
        "%s may be read by %.500s: events that cannot be published are there, whole, until somebody retries or drops "
        "them",
        table, readers);
}

void check_letter_readers(struct check *check)
{
    struct relay_error error;
    char *tables = tables_in_use(check->context->config);
    if (!tables) {
        error_no_memory(&error, "names of tables");
        check_add(check->report, CHECK_WARN, what, "", "%s", error.text);
        return;
    }
    PGresult *result = pg_query(check->connection, question, &PG_TEXT(tables), 1, false, check_deadline(check), &error);
    free(tables);
    if (!result) {
        check_add(check->report, CHECK_WARN, what, "", "who may read them cannot be asked: %s", error.text);
        return;
    }
    for (int i = 0; i < PQntuples(result); i++) {
        report_readers(check, pg_cell(result, i, 0), pg_cell(result, i, 1));
    }
    PQclear(result);
}
