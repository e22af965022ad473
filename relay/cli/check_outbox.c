// SPDX-License-Identifier: Apache-2.0
//
// One outbox table: there, registered, of the right form, with its index and trigger, on the server it was registered
// on, and within the reach of the relay's role. What is wrong is said with the statement that mends it; one ok line
// says that nothing is.
#include "relay/cli/check.h"
#include "relay/publish/outbox_table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct outbox_check {
    struct check *check;
    const struct config_outbox *outbox;
    char what[128];
    bool clean; // nothing was found yet
};

static void find(struct outbox_check *at, enum check_level level, const char *mend, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void find(struct outbox_check *at, enum check_level level, const char *mend, const char *format, ...)
{
    char text[900];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    at->clean = false;
    check_add(at->check->report, level, at->what, mend, "%s", text);
}

// The rows of a question about this table ($1 is its name); NULL: it was said why not.
static PGresult *ask(struct outbox_check *at, const char *sql, const struct pg_value *values, int count)
{
    struct relay_error error;
    PGresult *result = pg_query(at->check->connection, sql, values, count, false, check_deadline(at->check), &error);
    if (!result) {
        find(at, CHECK_FAIL, "", "%s", error.text);
    }
    return result;
}

static bool is_true(const PGresult *result, int column)
{
    const char *cell = pg_cell(result, 0, column);
    return cell && strcmp(cell, "t") == 0;
}

static bool check_registered(struct outbox_check *at)
{
    const char *table = at->outbox->table;
    PGresult *result = ask(at,
        "SELECT pg_catalog.to_regclass($1) IS NOT NULL, pg_catalog.to_regclass('outbox_relay.outboxes') IS NOT NULL",
        &PG_TEXT(table), 1);
    if (!result) {
        return false;
    }
    bool there = is_true(result, 0), migrated = is_true(result, 1);
    PQclear(result);
    if (!there || !migrated) {
        find(at, CHECK_FAIL, CHECK_MIGRATE_POSTGRES, "%s%s", there ? "" : "the table does not exist",
            migrated    ? ""
                : there ? "the relay's own tables do not exist"
                        : ", nor do the relay's own");
        return false;
    }
    result = ask(at,
        "SELECT o.identity, o.seq_column, o.system_identifier = (SELECT c.system_identifier FROM "
        "pg_catalog.pg_control_system() c) "
        "FROM outbox_relay.outboxes o WHERE o.outbox::oid = pg_catalog.to_regclass($1)::oid",
        &PG_TEXT(table), 1);
    if (!result) {
        return false;
    }
    if (PQntuples(result) == 0) {
        find(at, CHECK_FAIL, CHECK_MIGRATE_POSTGRES "; it creates or attaches the tables of the configuration",
            "the table has no identity yet");
    } else if (!is_true(result, 2)) {
        char mend[500];
        snprintf(mend, sizeof(mend),
            "as the login that runs `migrate`: SELECT outbox_relay.accept_system('%.150s') if the database moved for "
            "good, "
            "outbox_relay.renew_identity('%.150s') if it is a copy beside the original",
            table, table);
        find(at, CHECK_FAIL, mend,
            "the table was registered on another server: this one was restored, copied or upgraded");
    } else if (strcmp(pg_cell(result, 0, 1), at->outbox->columns[CONFIG_COLUMN_SEQ]) != 0) {
        find(at, CHECK_FAIL, "make [outbox] column.seq and attach_outbox() agree",
            "the table is registered with seq column %s, the configuration names %s", pg_cell(result, 0, 1),
            at->outbox->columns[CONFIG_COLUMN_SEQ]);
    }
    bool known = PQntuples(result) > 0;
    PQclear(result);
    return known;
}

static bool has_column(struct outbox_check *at, const char *column)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(column)};
    PGresult *result = ask(at,
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND "
        "a.attname = $2 "
        "AND a.attnum > 0 AND NOT a.attisdropped)",
        values, 2);
    bool has = result == NULL || is_true(result, 0);
    PQclear(result);
    return has;
}

// Events without a time: a route that takes header.created_at, as the built-in one does, finds none.
static void check_time_of_default_route(struct outbox_check *at)
{
    const struct config *config = at->check->context->config;
    if (!config->insert.enabled || at->outbox->columns[CONFIG_COLUMN_CREATED_AT][0] != '\0') {
        return;
    }
    for (size_t i = 0; i < config->route_count; i++) {
        if (config->routes[i].enabled && config->routes[i].column_count == 0) {
            find(at, CHECK_WARN,
                "name a column of the time with column.created_at, or give the route columns of its own, with "
                "created_at = kafka.timestamp",
                "no column.created_at: [route %s] takes header.created_at, and without it each event becomes a dead "
                "letter (missing_header)",
                config->routes[i].name);
        }
    }
}

static void check_columns(struct outbox_check *at)
{
    static const char *const roles[CONFIG_COLUMN_ROLES] = {"id", "seq", "key", "type", "aggregate_type", "payload",
        "metadata", "created_at"};
    for (int role = 0; role < CONFIG_COLUMN_ROLES; role++) {
        const char *column = at->outbox->columns[role];
        if (column[0] != '\0' && !has_column(at, column)) {
            char mend[200];
            snprintf(mend, sizeof(mend), "name the right one with column.%s, or add it to the table", roles[role]);
            find(at, CHECK_FAIL, mend, "no column %s", column);
        }
    }
    for (size_t i = 0; i < at->outbox->publish.additional_count; i++) {
        const char *column = at->outbox->publish.additional[i].column;
        if (!has_column(at, column)) {
            find(at, CHECK_FAIL, "mend [publish] additional, or add the column",
                "no column %s, which `additional` names", column);
        }
    }
    if (at->outbox->disposition == CONFIG_DISPOSITION_MARK && !has_column(at, "published_at")) {
        find(at, CHECK_FAIL, "ALTER TABLE ... ADD COLUMN published_at timestamptz, or disposition = delete",
            "disposition = mark needs a column published_at");
    }
}

// A column without a time zone that is filled with now() has the local time of the server or of the writer's session.
static void check_time(struct outbox_check *at)
{
    const char *column = at->outbox->columns[CONFIG_COLUMN_CREATED_AT];
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(column)};
    PGresult *result = ask(at,
        "SELECT " OUTBOX_TABLE_BASE_TYPE ", pg_catalog.format_type(a.atttypid, a.atttypmod), " OUTBOX_TABLE_BASE_TYPE
        " = 'timestamp'::regtype, pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a "
        "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
        values, 2);
    if (result && PQntuples(result) > 0) {
        if (!outbox_table_takes_time((Oid)pg_cell_int64(result, 0, 0))) {
            find(at, CHECK_FAIL, "ALTER TABLE ... ALTER COLUMN ... TYPE timestamptz, or column.created_at = none",
                "column %s is of type %s: a time is timestamptz, timestamp, date or bigint (milliseconds since 1970)",
                column, pg_cell(result, 0, 1));
        } else if (is_true(result, 2)) {
            char mend[500];
            snprintf(mend, sizeof(mend),
                "ALTER TABLE ... ALTER COLUMN %.140s TYPE timestamptz USING %.140s AT TIME ZONE 'zone of the writers', "
                "or column.created_at = none",
                pg_cell(result, 0, 3), pg_cell(result, 0, 3));
            find(at, CHECK_WARN, mend,
                "column %s has no time zone and is read as UTC: local times give events a wrong time, and a broker "
                "refuses those that are too far in the future",
                column);
        }
    }
    PQclear(result);
}

// Every statement asks for rows that are not published: an index of these alone serves it best, one of all rows at the
// cost of walking over those that are kept, and one of any other rows not at all.
static const char indexes_of_seq[] =
    "SELECT pg_catalog.bool_or(i.indisunique AND i.indnkeyatts = 1 AND (i.indpred IS NULL OR p.of_open)), "
    "pg_catalog.bool_or(p.of_open), pg_catalog.bool_or(i.indpred IS NOT NULL AND NOT p.of_open) "
    "FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
    "CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid) = '(published_at IS NULL)', "
    "false)) p(of_open) WHERE i.indrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 AND i.indisvalid";

static void check_index(struct outbox_check *at, const char *quoted_seq)
{
    const char *seq = at->outbox->columns[CONFIG_COLUMN_SEQ];
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(seq)};
    PGresult *result = ask(at, indexes_of_seq, values, 2);
    if (!result) {
        return;
    }
    bool keeps = has_column(at, "published_at");
    char mend[500];
    snprintf(mend, sizeof(mend), "CREATE UNIQUE INDEX CONCURRENTLY ON %.200s (%.140s)%s", at->outbox->table, quoted_seq,
        keeps ? " WHERE published_at IS NULL" : "");
    if (!is_true(result, 0)) {
        find(at, CHECK_FAIL, mend, "no valid unique index on %s%s: every batch would scan the table", seq,
            is_true(result, 2) ? " that the relay can use (one has another predicate)" : "");
    } else if (keeps && !is_true(result, 1)) {
        bool mark = at->outbox->disposition == CONFIG_DISPOSITION_MARK;
        find(at, mark ? CHECK_FAIL : CHECK_WARN, mend, "the index on %s also has published rows: %s", seq,
            mark ? "each start and each sweep reads all that are kept, in the end for longer than a statement may take"
                 : "if any are kept, each start and each sweep reads them all");
    }
    PQclear(result);
}

static void check_sequence(struct outbox_check *at)
{
    const char *seq = at->outbox->columns[CONFIG_COLUMN_SEQ];
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(seq)};
    PGresult *result = ask(at,
        "SELECT a.attidentity <> '' AND a.atttypid = 'bigint'::regtype, s.seqcache = 1, s.seqincrement = 1 AND NOT "
        "s.seqcycle, "
        "pg_catalog.quote_ident(a.attname) "
        "FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid "
        "= a.attnum "
        "     AND d.refclassid = 'pg_class'::regclass::oid AND d.classid = 'pg_class'::regclass::oid AND d.deptype = "
        "'i' "
        "LEFT JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid "
        "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 AND NOT a.attisdropped "
        "ORDER BY s.seqrelid IS NULL LIMIT 1",
        values, 2);
    if (!result || PQntuples(result) == 0) {
        PQclear(result);
        return;
    }
    if (!is_true(result, 0)) {
        find(at, CHECK_FAIL,
            "GENERATED ALWAYS AS IDENTITY (CACHE 1); outbox_relay.adopt_outbox() does it without a long lock",
            "column %s is no bigint identity column", seq);
    } else if (!is_true(result, 1)) {
        find(at, CHECK_FAIL, "ALTER TABLE ... ALTER COLUMN ... SET CACHE 1",
            "the sequence of %s is cached: later numbers can go to earlier transactions, and events lose their order",
            seq);
    } else if (!is_true(result, 2)) {
        find(at, CHECK_FAIL, "ALTER TABLE ... ALTER COLUMN ... SET INCREMENT 1 SET NO CYCLE",
            "the sequence of %s does not rise by one for ever", seq);
    }
    check_index(at, pg_cell(result, 0, 3));
    PQclear(result);
}

static void check_trigger(struct outbox_check *at)
{
    PGresult *result = ask(at,
        "SELECT t.tgenabled FROM pg_catalog.pg_trigger t WHERE t.tgrelid = pg_catalog.to_regclass($1)::oid AND "
        "t.tgname = "
        "'outbox_relay_wakeup'",
        &PG_TEXT(at->outbox->table), 1);
    if (!result) {
        return;
    }
    const char *state = PQntuples(result) > 0 ? pg_cell(result, 0, 0) : "";
    if (strcmp(state, "O") != 0 && strcmp(state, "A") != 0) {
        find(at, CHECK_WARN,
            state[0] == '\0' ? "as the table's owner: SELECT outbox_relay.create_wakeup_trigger('schema.table')"
                             : "ALTER TABLE ... ENABLE TRIGGER outbox_relay_wakeup",
            "the wake-up trigger is %s: new events wait for fallback_poll", state[0] == '\0' ? "missing" : "disabled");
    }
    PQclear(result);
}

// Triggers of others that fire as the relay takes a row or moves it to the dead letters: in a session whose search_path
// is pg_catalog alone. Functions in C are left out: most look for no table. Bits of tgtype: 8 DELETE, 16 UPDATE.
static const char foreign_triggers[] =
    "SELECT DISTINCT ON (p.oid) p.oid::regprocedure, pg_catalog.quote_ident(t.tgname) FROM pg_catalog.pg_trigger t "
    "JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang "
    "WHERE (t.tgrelid = pg_catalog.to_regclass($1)::oid OR t.tgrelid IN (SELECT r.relid::oid FROM "
    "pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) r)) "
    "AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND l.lanname NOT IN ('internal', 'c') "
    "AND (t.tgtype & 8 <> 0 OR ($2 = 'mark' AND t.tgtype & 16 <> 0 AND (t.tgattr::text = '' OR EXISTS (SELECT 1 FROM "
    "pg_catalog.pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attname = 'published_at' "
    "AND a.attnum = ANY (t.tgattr))))) "
    "AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) c(setting) WHERE c.setting LIKE 'search\\_path=%') "
    "ORDER BY p.oid, t.tgname LIMIT 10";

static void check_foreign_triggers(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table),
        PG_TEXT(at->outbox->disposition == CONFIG_DISPOSITION_MARK ? "mark" : "delete")};
    PGresult *result = ask(at, foreign_triggers, values, 2);
    for (int i = 0; result && i < PQntuples(result); i++) {
        const char *function = pg_cell(result, i, 0);
        char mend[500];
        snprintf(mend, sizeof(mend), "ALTER FUNCTION %.300s SET search_path = the schemas whose tables it names",
            function);
        find(at, CHECK_WARN, mend,
            "trigger %s calls %s, which has no search_path of its own: in the relay's sessions it finds no table "
            "that it names without a schema, and the error stops the outbox",
            pg_cell(result, i, 1), function);
    }
    PQclear(result);
}

// The apply worker inserts under numbers of another server, late and without our locks.
static void check_subscription(struct outbox_check *at)
{
    PGresult *result = ask(at,
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_subscription_rel r WHERE r.srrelid = pg_catalog.to_regclass($1))",
        &PG_TEXT(at->outbox->table), 1);
    if (result && is_true(result, 0)) {
        find(at, CHECK_FAIL, "run the relay on the database where the rows are written",
            "a subscription fills the table by logical replication: its numbers come out of order, and events lose "
            "theirs");
    }
    PQclear(result);
}

static void check_row_security(struct outbox_check *at)
{
    PGresult *result = ask(at, "SELECT pg_catalog.row_security_active(pg_catalog.to_regclass($1)), current_user",
        &PG_TEXT(at->outbox->table), 1);
    if (result && is_true(result, 0)) {
        find(at, CHECK_FAIL, "ALTER ROLE ... BYPASSRLS, or a connection as the table's owner",
            "row security applies to role %s, so the relay's reads fail rather than miss rows", pg_cell(result, 0, 1));
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
    PGresult *result = ask(at, missing_rights, values, 4);
    if (result && pg_cell(result, 0, 0)) {
        find(at, CHECK_FAIL,
            "run schemas/postgres/roles.sql (again after each new table) and GRANT outbox_relay TO the relay's role",
            "the relay's role lacks %s", pg_cell(result, 0, 0));
    }
    PQclear(result);
    result = ask(at, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", &PG_TEXT(at->outbox->dead_letter_table), 1);
    if (result && !is_true(result, 0)) {
        find(at, CHECK_FAIL,
            CHECK_MIGRATE_POSTGRES "; it makes public.outbox_dead_letters, another name is yours to create alike",
            "no dead-letter table %s", at->outbox->dead_letter_table);
    }
    PQclear(result);
}

void check_outbox(struct check *check, const struct config_outbox *outbox)
{
    struct outbox_check at = {.check = check, .outbox = outbox, .clean = true};
    snprintf(at.what, sizeof(at.what), "outbox %s (%s)", outbox->name, outbox->table);
    if (!check_registered(&at) && at.clean) {
        return;
    }
    if (at.clean) {
        check_columns(&at);
        check_time_of_default_route(&at);
        check_time(&at);
        check_sequence(&at);
        check_trigger(&at);
        check_foreign_triggers(&at);
        check_subscription(&at);
        check_row_security(&at);
        check_rights(&at);
    }
    if (at.clean) {
        check_add(check->report, CHECK_OK, at.what, "",
            "columns, sequence, index, trigger, identity and rights are as they must be");
    }
}
