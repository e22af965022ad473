// SPDX-License-Identifier: Apache-2.0
//
// What the relay's role may do with an outbox table, the dead letters and the relay's own tables, and whether it sees
// every row.
#include "relay/cli/check_outbox.h"

#include <stdio.h>

// Of all that the relay touches, of which dead letters are first touched by a row that is poison, long after the start.
// row_security is off in its sessions, under which PostgreSQL refuses a statement that policies would apply to.
static void check_row_security(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table),
        PG_TEXT(at->outbox->publish.on_poison == CONFIG_POISON_STOP ? NULL : at->outbox->dead_letter_table)};
    PGresult *result = outbox_ask(at,
        "SELECT pg_catalog.string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text), "
        "pg_catalog.quote_ident(current_user) FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p') AND "
        "(c.oid IN (pg_catalog.to_regclass($1)::oid, pg_catalog.to_regclass($2)::oid) OR c.relnamespace = "
        "(SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'outbox_relay')) "
        "AND pg_catalog.row_security_active(c.oid)",
        values, 2);
    if (result && pg_cell(result, 0, 0)) {
        const char *role = pg_cell(result, 0, 1);
        char hint[500];
        snprintf(hint, sizeof(hint),
            "ALTER ROLE %.100s BYPASSRLS; where the service does not permit that, REVOKE what roles.sql has not "
            "granted on these tables, then ALTER TABLE ... DISABLE ROW LEVEL SECURITY (docs/schema.md, Privileges)",
            role);
        outbox_find(at, CHECK_FAIL, hint,
            "row security of %s applies to role %s, so PostgreSQL refuses the relay's statements there",
            pg_cell(result, 0, 0), role);
    }
    PQclear(result);
}

// What roles.sql grants, and of that what the configuration needs. Columns of `mark` are asked for one by one;
// dead_letter() deletes also there.
static const char missing_rights[] =
    "SELECT pg_catalog.string_agg(r.privilege || ' ON ' || r.object, ', ') FROM ("
    "SELECT p.privilege, n.object FROM (VALUES "
    "('outbox_relay.outboxes', 'SELECT'), ('outbox_relay.batch_numbers', 'SELECT,INSERT,DELETE'), "
    "('outbox_relay.progress', 'SELECT,INSERT,UPDATE'), ('outbox_relay.held_aggregates', "
    "'SELECT,INSERT,UPDATE,DELETE'), "
    "('outbox_relay.parked_topics', 'SELECT,INSERT,UPDATE,DELETE'), "
    "('outbox_relay.parked_event_types', 'SELECT,DELETE'), ($2, 'SELECT,INSERT'), "
    "($1, CASE WHEN $3 = 'mark' AND $4 = 'stays' THEN 'SELECT' ELSE 'SELECT,DELETE' END)) n(object, privileges), "
    "pg_catalog.unnest(pg_catalog.string_to_array(n.privileges, ',')) p(privilege) "
    "WHERE pg_catalog.to_regclass(n.object) IS NOT NULL "
    "AND NOT pg_catalog.has_table_privilege(pg_catalog.to_regclass(n.object), p.privilege) "
    "UNION ALL SELECT 'UPDATE (' || a.attname::text || ')', $1 FROM pg_catalog.pg_attribute a "
    "WHERE $3 = 'mark' AND a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = 'published_at' "
    "AND NOT pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE') "
    "UNION ALL SELECT 'USAGE', 'SCHEMA ' || n.nspname::text FROM pg_catalog.pg_namespace n "
    "WHERE (n.nspname = 'outbox_relay' OR n.oid = (SELECT c.relnamespace FROM pg_catalog.pg_class c WHERE c.oid = "
    "pg_catalog.to_regclass($1)::oid)) "
    "AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') "
    "UNION ALL SELECT 'EXECUTE', 'FUNCTION ' || p.oid::regprocedure::text FROM pg_catalog.pg_proc p "
    "JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'outbox_relay' "
    "AND p.proname IN ('write_batch_number', 'last_batch_number', 'note_progress', 'try_sleep', 'dead_letter', "
    "'check_outbox_health', 'count_unpublished', 'count_dead_letters') "
    "AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) r";

static void check_rights(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(at->outbox->dead_letter_table),
        PG_TEXT(at->outbox->disposition == CONFIG_DISPOSITION_MARK ? "mark" : "delete"),
        PG_TEXT(at->outbox->publish.on_poison == CONFIG_POISON_STOP ? "stays" : "moves")};
    PGresult *result = outbox_ask(at, missing_rights, values, 4);
    if (result && pg_cell(result, 0, 0)) {
        outbox_find(at, CHECK_FAIL,
            "run schemas/postgres/roles.sql (again after each new table) and GRANT outbox_relay TO the relay's role",
            "the relay's role lacks %s", pg_cell(result, 0, 0));
    }
    PQclear(result);
    result = outbox_ask(at, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", &PG_TEXT(at->outbox->dead_letter_table),
        1);
    if (result && !pg_cell_true(result, 0, 0)) {
        outbox_find(at, CHECK_FAIL,
            CHECK_MIGRATE_POSTGRES "; it makes public.outbox_dead_letters, another name is yours to create alike",
            "no dead-letter table %s", at->outbox->dead_letter_table);
    }
    PQclear(result);
}

void check_outbox_access(struct outbox_check *at)
{
    check_row_security(at);
    check_rights(at);
}
