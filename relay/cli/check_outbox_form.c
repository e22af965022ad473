// SPDX-License-Identifier: Apache-2.0
//
// The form of an outbox table: that it is logged and as it was attached, its columns, the time, the number with its
// sequence and index and how far it is, the wake-up trigger.
#include "relay/cli/check_outbox.h"

#include "relay/config/config_outboxes.h"
#include "relay/postgres/pg_health.h"
#include "relay/publish/outbox_table.h"

#include <stdio.h>
#include <string.h>

// Partitions have a persistence each; that of the table they are parts of means nothing.
static const char unlogged[] =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind = 'r' AND c.relpersistence <> 'p' AND " OF_THE_OUTBOX("c.oid") //
    "ORDER BY c.oid LIMIT " OUTBOX_NAMED_MAX;

static void check_logged(struct outbox_check *at)
{
    PGresult *result = outbox_ask(at, unlogged, &PG_TEXT(at->outbox->table), 1);
    for (int i = 0; result && i < PQntuples(result); i++) {
        const char *table = pg_cell(result, i, 0);
        char hint[400];
        snprintf(hint, sizeof(hint), "ALTER TABLE %.280s SET LOGGED, which writes it anew under an exclusive lock",
            table);
        outbox_find(at, CHECK_FAIL, hint,
            "%s is unlogged: a crash of PostgreSQL or a failover to a standby empties it, and committed events are "
            "lost",
            table);
    }
    PQclear(result);
}

// Names and published_at, of which the schema's functions, and a daemon that starts, know what was attached.
static void check_attached(struct outbox_check *at)
{
    const char *created_at = at->outbox->columns[CONFIG_COLUMN_CREATED_AT];
    PGresult *result = outbox_ask(at,
        "SELECT o.created_at_column, " OUTBOX_TABLE_MARKED ", pg_catalog.to_jsonb(o) ? 'marks', " OUTBOX_TABLE_LOST " "
        "FROM outbox_relay.outboxes o WHERE o.outbox::oid = pg_catalog.to_regclass($1)::oid",
        &PG_TEXT(at->outbox->table), 1);
    if (!result || PQntuples(result) == 0) {
        PQclear(result);
        return;
    }
    bool marked = pg_cell_true(result, 0, 1), marks = outbox_has_column(at, "published_at");
    char hint[600];
    at->lost_marks = pg_cell_true(result, 0, 3);
    if (at->lost_marks) {
        snprintf(hint, sizeof(hint),
            "rename it back (an empty new one marks no row); only if the table keeps no published row, or marks them "
            "all: SELECT outbox_relay.accept_unmarked('%.200s')",
            at->outbox->table);
        outbox_find(at, CHECK_FAIL, hint,
            "the table had a column published_at when it was attached, and has %s: what was published would be "
            "published again",
            OUTBOX_TABLE_HAS_NOW(marks));
    } else if (marks && !marked && pg_cell_true(result, 0, 2)) {
        outbox_find(at, CHECK_WARN, CHECK_MIGRATE_POSTGRES "; it attaches the table again",
            "the table has a column published_at and had none when it was attached: the relay would not notice its "
            "loss");
    }
    const char *registered = pg_cell(result, 0, 0);
    if (created_at[0] != '\0' && strcmp(registered, created_at) != 0) {
        snprintf(hint, sizeof(hint),
            CHECK_MIGRATE_POSTGRES "; it attaches the table again, as does SELECT "
                                   "outbox_relay.attach_outbox('%.200s', '%.100s', '%.100s')",
            at->outbox->table, at->outbox->columns[CONFIG_COLUMN_SEQ], created_at);
        outbox_find(at, CHECK_WARN, hint,
            "the table is registered with time column %s, the configuration names %s: health and outbox_status %s",
            registered, created_at,
            outbox_has_column(at, registered) ? "take the ages of rows from the former" : "know no ages");
    }
    PQclear(result);
}

// What outbox_relay.adopt_outbox() asks for, by the names of columns.
static bool can_be_adopted(struct outbox_check *at)
{
    return strcmp(at->outbox->columns[CONFIG_COLUMN_SEQ], "seq") == 0 && outbox_has_column(at, "id") &&
        outbox_has_column(at, "created_at") && outbox_has_column(at, "published_at");
}

static void check_columns(struct outbox_check *at)
{
    for (int role = 0; role < CONFIG_COLUMN_ROLES; role++) {
        const char *column = at->outbox->columns[role];
        if (column[0] != '\0' && !outbox_has_column(at, column)) {
            char hint[600];
            if (role == CONFIG_COLUMN_SEQ && can_be_adopted(at)) {
                snprintf(hint, sizeof(hint),
                    "if it was dropped: CALL outbox_relay.adopt_outbox('%.200s') numbers the rows anew; then the index "
                    "and finish_adoption(), as in docs/schema.md, \"With a tool that compares the schema\"",
                    at->outbox->table);
            } else {
                snprintf(hint, sizeof(hint), "name the right one with %s, or add it to the table",
                    config_column_key((enum config_column_role)role));
            }
            outbox_find(at, CHECK_FAIL, hint, "no column %s", column);
        }
    }
    for (size_t i = 0; i < at->outbox->publish.additional_count; i++) {
        const char *column = at->outbox->publish.additional[i].column;
        if (!outbox_has_column(at, column)) {
            outbox_find(at, CHECK_FAIL, "fix [publish] additional, or add the column",
                "no column %s, which `additional` names", column);
        }
    }
    if (at->outbox->disposition == CONFIG_DISPOSITION_MARK && !at->lost_marks &&
        !outbox_has_column(at, "published_at")) {
        outbox_find(at, CHECK_FAIL, "ALTER TABLE ... ADD COLUMN published_at timestamptz, or disposition = delete",
            "disposition = mark needs a column published_at");
    }
}

// Publishing reads any type as text, and of a large object that is its number.
static void check_large_objects(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(at->outbox->columns[CONFIG_COLUMN_PAYLOAD]),
        PG_TEXT(at->outbox->columns[CONFIG_COLUMN_METADATA])};
    PGresult *result = outbox_ask(at,
        "SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a "
        "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname IN ($2, $3) AND a.attnum > 0 "
        "AND NOT a.attisdropped AND " OUTBOX_TABLE_BASE_TYPE " = 'oid'::regtype ORDER BY a.attnum",
        values, 3);
    for (int i = 0; result && i < PQntuples(result); i++) {
        const char *column = pg_cell(result, i, 0);
        char hint[700];
        snprintf(hint, sizeof(hint),
            "map it without @Lob, and ALTER TABLE %.200s ALTER COLUMN %.140s TYPE text USING "
            "convert_from(lo_get(%.140s), 'UTF8')",
            at->outbox->table, column, column);
        outbox_find(at, CHECK_FAIL, hint,
            "column %s has the numbers of large objects (type oid, which Hibernate makes of @Lob): the number is "
            "published, and the text that it stands for is not",
            column);
    }
    PQclear(result);
}

// A column without a time zone that is filled with now() has the local time of the server or of the writer's session.
static void check_time(struct outbox_check *at)
{
    const char *column = at->outbox->columns[CONFIG_COLUMN_CREATED_AT];
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(column)};
    PGresult *result = outbox_ask(at,
        "SELECT " OUTBOX_TABLE_BASE_TYPE ", pg_catalog.format_type(a.atttypid, a.atttypmod), " OUTBOX_TABLE_BASE_TYPE
        " = 'timestamp'::regtype, pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a "
        "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
        values, 2);
    if (result && PQntuples(result) > 0) {
        if (!outbox_table_takes_time((Oid)pg_cell_int64(result, 0, 0))) {
            outbox_find(at, CHECK_FAIL,
                "ALTER TABLE ... ALTER COLUMN ... TYPE timestamptz, or column.created_at = none",
                "column %s is of type %s: a time is timestamptz, timestamp, date or bigint (milliseconds since 1970)",
                column, pg_cell(result, 0, 1));
        } else if (pg_cell_true(result, 0, 2)) {
            char hint[500];
            snprintf(hint, sizeof(hint),
                "ALTER TABLE ... ALTER COLUMN %.140s TYPE timestamptz USING %.140s AT TIME ZONE 'zone of the writers', "
                "or column.created_at = none",
                pg_cell(result, 0, 3), pg_cell(result, 0, 3));
            outbox_find(at, CHECK_WARN, hint,
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
    PGresult *result = outbox_ask(at, indexes_of_seq, values, 2);
    if (!result) {
        return;
    }
    bool keeps = outbox_has_column(at, "published_at");
    char hint[500];
    snprintf(hint, sizeof(hint), "CREATE UNIQUE INDEX CONCURRENTLY ON %.200s (%.140s)%s", at->outbox->table, quoted_seq,
        keeps ? " WHERE published_at IS NULL" : "");
    if (!pg_cell_true(result, 0, 0)) {
        outbox_find(at, CHECK_FAIL, hint, "no valid unique index on %s%s: every batch would scan the table", seq,
            pg_cell_true(result, 0, 2) ? " that the relay can use (one has another predicate)" : "");
    } else if (keeps && !pg_cell_true(result, 0, 1)) {
        bool mark = at->outbox->disposition == CONFIG_DISPOSITION_MARK;
        outbox_find(at, mark ? CHECK_FAIL : CHECK_WARN, hint, "the index on %s also has published rows: %s", seq,
            mark ? "each start and each sweep reads all that are kept, in the end for longer than a statement may take"
                 : "if any are kept, each start and each sweep reads them all");
    }
    PQclear(result);
}

static void check_sequence(struct outbox_check *at)
{
    const char *seq = at->outbox->columns[CONFIG_COLUMN_SEQ];
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(seq)};
    PGresult *result = outbox_ask(at,
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
    if (!pg_cell_true(result, 0, 0)) {
        outbox_find(at, CHECK_FAIL,
            "GENERATED ALWAYS AS IDENTITY (CACHE 1); outbox_relay.adopt_outbox() does it without a long lock",
            "column %s is no bigint identity column", seq);
    } else if (!pg_cell_true(result, 0, 1)) {
        outbox_find(at, CHECK_FAIL, "ALTER TABLE ... ALTER COLUMN ... SET CACHE 1",
            "the sequence of %s is cached: later numbers can go to earlier transactions, and events lose their order",
            seq);
    } else if (!pg_cell_true(result, 0, 2)) {
        outbox_find(at, CHECK_FAIL, "ALTER TABLE ... ALTER COLUMN ... SET INCREMENT 1 SET NO CYCLE",
            "the sequence of %s does not rise by one for ever", seq);
    }
    if (!at->lost_marks) { // it went with the column, and one without the predicate would have the rows taken quickly
        check_index(at, pg_cell(result, 0, 3));
    }
    PQclear(result);
}

// Of file 020; that it is not applied is said elsewhere, and so is that there is no such column.
static void check_numbers(struct outbox_check *at)
{
    static const char question[] = "SELECT b.settled_seq, b.last_seq, b.numbers, " PG_NUMBERS_GRANT(
        "pg_catalog.to_regclass($1)::oid") " FROM outbox_relay.numbers_gone_back(pg_catalog.to_regclass($1)) b";
    if (!outbox_has_column(at, at->outbox->columns[CONFIG_COLUMN_SEQ])) {
        return;
    }
    PGresult *there = outbox_ask(at,
        "SELECT pg_catalog.to_regprocedure('outbox_relay.numbers_gone_back(regclass)') IS NOT NULL", NULL, 0);
    PGresult *result = there && pg_cell_true(there, 0, 0) ? outbox_ask(at, question, &PG_TEXT(at->outbox->table), 1)
                                                          : NULL;
    PQclear(there);
    if (result && pg_cell(result, 0, 2)) {
        char hint[300];
        int64_t above;
        if (__builtin_add_overflow(pg_cell_int64(result, 0, 0), 1000, &above)) {
            snprintf(hint, sizeof(hint), "no number is left above it: new events need a table of their own");
        } else {
            snprintf(hint, sizeof(hint), "as the table's owner: SELECT setval('%.200s', %lld)", pg_cell(result, 0, 2),
                (long long)above);
        }
        outbox_find(at, CHECK_FAIL, hint,
            "numbers have gone back to %s, though those up to %s are published: whoever takes them for versions, as "
            "routes with header.seq do, drops new events",
            pg_cell(result, 0, 1), pg_cell(result, 0, 0));
    }
    if (result && pg_cell(result, 0, 3)) {
        outbox_find(at, CHECK_WARN, pg_cell(result, 0, 3),
            PG_NUMBERS_UNKNOWN "the owner of outbox_relay.numbers_gone_back() may not read the sequence");
    }
    PQclear(result);
}

static void check_trigger(struct outbox_check *at)
{
    PGresult *result = outbox_ask(at,
        "SELECT t.tgenabled FROM pg_catalog.pg_trigger t WHERE t.tgrelid = pg_catalog.to_regclass($1)::oid AND "
        "t.tgname = "
        "'outbox_relay_wakeup'",
        &PG_TEXT(at->outbox->table), 1);
    if (!result) {
        return;
    }
    const char *state = PQntuples(result) > 0 ? pg_cell(result, 0, 0) : "";
    if (strcmp(state, "O") != 0 && strcmp(state, "A") != 0) {
        outbox_find(at, CHECK_WARN,
            state[0] == '\0' ? "as the table's owner: SELECT outbox_relay.create_wakeup_trigger('schema.table')"
                             : "ALTER TABLE ... ENABLE TRIGGER outbox_relay_wakeup",
            "the wake-up trigger is %s: new events wait for fallback_poll", state[0] == '\0' ? "missing" : "disabled");
    }
    PQclear(result);
}

void check_outbox_form(struct outbox_check *at)
{
    check_logged(at);
    check_attached(at);
    check_columns(at);
    check_large_objects(at);
    check_time(at);
    check_sequence(at);
    check_numbers(at);
    check_trigger(at);
}
