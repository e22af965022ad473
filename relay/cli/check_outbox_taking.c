// SPDX-License-Identifier: Apache-2.0
//
// What else happens in the database when the relay takes a row out of the table: deletes it, or marks it, or moves it
// to the dead letters. What refuses the statement stops the outbox; what follows it changes tables of others. And what
// takes rows out before the relay has them: foreign keys from the table.
#include "relay/cli/check_outbox.h"

#include <stdio.h>
#include <string.h>

static bool marks(const struct outbox_check *at)
{
    return at->outbox->disposition == CONFIG_DISPOSITION_MARK;
}

// dead_letter() deletes the row, whatever the disposition.
static bool makes_dead_letters(const struct outbox_check *at)
{
    return at->outbox->publish.on_poison != CONFIG_POISON_STOP;
}

// Triggers of others, which fire in a session whose search_path is pg_catalog alone, and with the rights of its login:
// a publisher that owns the table has more. Functions in C are left out: most look for no table. Bits of tgtype: 8
// DELETE, 16 UPDATE.
static const char foreign_triggers[] =
    "SELECT DISTINCT ON (p.oid) p.oid::regprocedure, pg_catalog.quote_ident(t.tgname), f.finds_no_table, "
    "f.has_rights_of_login FROM pg_catalog.pg_trigger t "
    "JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid "
    "JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang "
    "CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s(setting) "
    "  WHERE s.setting LIKE 'search\\_path=%') AS finds_no_table, "
    "  NOT p.prosecdef AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') AS has_rights_of_login) f "
    "WHERE " OF_THE_OUTBOX("t.tgrelid") //
    "AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND l.lanname NOT IN ('internal', 'c') "
    "AND (t.tgtype & 8 <> 0 OR ($2 = 'mark' AND t.tgtype & 16 <> 0 AND (t.tgattr::text = '' OR EXISTS (SELECT 1 FROM "
    "pg_catalog.pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attname = 'published_at' "
    "AND a.attnum = ANY (t.tgattr))))) "
    "AND (f.finds_no_table OR f.has_rights_of_login) ORDER BY p.oid, t.tgname LIMIT " OUTBOX_NAMED_MAX;

static void judge_foreign_trigger(struct outbox_check *at, const char *trigger, const char *function,
    bool finds_no_table, bool has_rights_of_login)
{
    char hint[800];
    if (finds_no_table) {
        snprintf(hint, sizeof(hint), "ALTER FUNCTION %.300s SET search_path = the schemas whose tables it names",
            function);
        outbox_find(at, CHECK_WARN, hint,
            "trigger %s calls %s, which has no search_path of its own: in the relay's sessions it finds no table "
            "that it names without a schema, and the error stops the outbox",
            trigger, function);
    }
    if (has_rights_of_login) {
        snprintf(hint, sizeof(hint),
            "GRANT it to the relay's login, or ALTER FUNCTION %.300s SECURITY DEFINER SET search_path = the schemas "
            "whose tables it names, then pg_temp",
            function);
        outbox_find(at, CHECK_WARN, hint,
            "trigger %s calls %s with the rights of the relay's login, which does not own the table: if it lacks a "
            "right that the function needs, the error stops the outbox",
            trigger, function);
    }
}

static void check_foreign_triggers(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(marks(at) ? "mark" : "delete")};
    PGresult *result = outbox_ask(at, foreign_triggers, values, 2);
    for (int i = 0; result && i < PQntuples(result); i++) {
        judge_foreign_trigger(at, pg_cell(result, i, 1), pg_cell(result, i, 0), pg_cell(result, i, 2)[0] == 't',
            pg_cell(result, i, 3)[0] == 't');
    }
    PQclear(result);
}

// Of the table that refers and the one that is referred to. The keys that act on a DELETE: their triggers are there and
// not disabled (a constraint that is not enforced has none).
#define FOREIGN_KEYS                                                                                                   \
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(r.relname), "                           \
    "pg_catalog.quote_ident(c.conname), c.confdeltype, "                                                               \
    "pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(tr.relname) "                                 \
    "FROM pg_catalog.pg_constraint c "                                                                                 \
    "JOIN pg_catalog.pg_class r ON r.oid = c.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace "       \
    "JOIN pg_catalog.pg_class tr ON tr.oid = c.confrelid "                                                             \
    "JOIN pg_catalog.pg_namespace tn ON tn.oid = tr.relnamespace "                                                     \
    "WHERE c.contype = 'f' AND c.conparentid = 0 "                                                                     \
    "AND EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgconstraint = c.oid AND t.tgrelid = c.confrelid "      \
    "AND t.tgtype & 8 <> 0 AND t.tgenabled IN ('O', 'A')) "
#define IN_ORDER "ORDER BY 1, 2 LIMIT " OUTBOX_NAMED_MAX

static const char foreign_keys[] = FOREIGN_KEYS "AND " OF_THE_OUTBOX("c.confrelid") IN_ORDER;
// One from the table to itself is among those above.
static const char own_foreign_keys[] = FOREIGN_KEYS
    "AND " OF_THE_OUTBOX("c.conrelid") "AND NOT " OF_THE_OUTBOX("c.confrelid") IN_ORDER;

static void judge_foreign_key(struct outbox_check *at, const char *table, const char *name, char action)
{
    const char *when = marks(at) ? "an event becomes a dead letter" : "an event is published";
    char hint[700];
    snprintf(hint, sizeof(hint), "ALTER TABLE %.280s DROP CONSTRAINT %.140s%s", table, name,
        marks(at) ? "" : ", or disposition = mark, which keeps the rows");
    if (action == 'a' || action == 'r') {
        outbox_find(at, marks(at) ? CHECK_WARN : CHECK_FAIL, hint,
            "foreign key %s of %s refers to the table: %s only if no row there refers to it, else PostgreSQL refuses "
            "to "
            "delete it and the outbox stops",
            name, table, when);
    } else {
        outbox_find(at, CHECK_WARN, hint, "foreign key %s of %s refers to the table: when %s, PostgreSQL also %s %s",
            name, table, when, action == 'c' ? "deletes their rows in" : "changes their rows in", table);
    }
}

static void check_foreign_keys(struct outbox_check *at)
{
    if (marks(at) && !makes_dead_letters(at)) {
        return; // nothing is deleted
    }
    PGresult *result = outbox_ask(at, foreign_keys, &PG_TEXT(at->outbox->table), 1);
    for (int i = 0; result && i < PQntuples(result); i++) {
        judge_foreign_key(at, pg_cell(result, i, 0), pg_cell(result, i, 1), pg_cell(result, i, 2)[0]);
    }
    PQclear(result);
}

// An event tells of a row that may be gone by now, and of its deletion, too.
static void judge_own_foreign_key(struct outbox_check *at, PGresult *keys, int row)
{
    const char *table = pg_cell(keys, row, 0), *name = pg_cell(keys, row, 1), *referred = pg_cell(keys, row, 3);
    char hint[700];
    snprintf(hint, sizeof(hint),
        "ALTER TABLE %.280s DROP CONSTRAINT %.140s: an event has to outlive the row that it tells of", table, name);
    switch (pg_cell(keys, row, 2)[0]) {
    case 'c':
        outbox_find(at, CHECK_WARN, hint,
            "foreign key %s refers to %s with ON DELETE CASCADE: who deletes a row there also deletes its events that "
            "are not published yet, and they are lost",
            name, referred);
        break;
    case 'n':
    case 'd':
        outbox_find(at, CHECK_WARN, hint,
            "foreign key %s refers to %s with ON DELETE SET %s: who deletes a row there also changes its events that "
            "are not published yet; one that loses its key loses its order",
            name, referred, pg_cell(keys, row, 2)[0] == 'n' ? "NULL" : "DEFAULT");
        break;
    default:
        outbox_find(at, CHECK_WARN, hint, "foreign key %s refers to %s: PostgreSQL refuses to delete a row there %s",
            name, referred,
            marks(at) ? "for as long as an event of it is kept, published or not"
                      : "while an event of it waits, which in an outage of Kafka is all the time");
    }
}

static void check_own_foreign_keys(struct outbox_check *at)
{
    PGresult *keys = outbox_ask(at, own_foreign_keys, &PG_TEXT(at->outbox->table), 1);
    for (int i = 0; keys && i < PQntuples(keys); i++) {
        judge_own_foreign_key(at, keys, i);
    }
    PQclear(keys);
}

// What PostgreSQL asks at each DELETE and UPDATE of a table, or of each of its partitions, whether or not anybody
// follows the publication. A partition is also in the publications of what it is a part of.
static const char without_identity[] =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), p.names, "
    "pg_catalog.quote_ident($4) FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL ("
    "  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p.pubname), ', ' ORDER BY p.pubname) AS names "
    "  FROM pg_catalog.pg_publication p "
    "  WHERE (($2 = 'delete' OR $3 = 'moves') AND p.pubdelete OR $2 = 'mark' AND p.pubupdate) "
    "  AND EXISTS (SELECT 1 FROM pg_catalog.pg_publication_tables t WHERE t.pubname = p.pubname "
    "    AND ((t.schemaname, t.tablename) = (n.nspname, c.relname) OR (t.schemaname, t.tablename) IN ("
    "      SELECT s.nspname, r.relname FROM pg_catalog.pg_partition_ancestors(c.oid::regclass) a "
    "      JOIN pg_catalog.pg_class r ON r.oid = a.relid::oid "
    "      JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace)))) p "
    "WHERE c.relkind = 'r' AND " OF_THE_OUTBOX("c.oid") //
    "AND c.relreplident <> 'f' AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid "
    "  AND i.indisvalid AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate "
    "    OR c.relreplident = 'i' AND i.indisreplident)) "
    "ORDER BY p.names IS NULL, c.oid LIMIT 1";

static void check_replica_identity(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(marks(at) ? "mark" : "delete"),
        PG_TEXT(makes_dead_letters(at) ? "moves" : "stays"), PG_TEXT(at->outbox->columns[CONFIG_COLUMN_ID])};
    PGresult *result = outbox_ask(at, without_identity, values, 4);
    if (!result || PQntuples(result) == 0) {
        PQclear(result);
        return;
    }
    const char *table = pg_cell(result, 0, 0), *publications = pg_cell(result, 0, 1), *id = pg_cell(result, 0, 2);
    char hint[800];
    snprintf(hint, sizeof(hint),
        "ALTER TABLE %.280s ADD PRIMARY KEY (%.70s), or ALTER TABLE %.280s REPLICA IDENTITY FULL%s", table,
        id ? id : "id", table, publications ? "; or drop the publication, or take the table out of it" : "");
    if (publications) {
        outbox_find(at, CHECK_FAIL, hint,
            "%s has no replica identity, and publication %s sends its changes: PostgreSQL refuses to %s its rows, and "
            "the outbox stops",
            table, publications, marks(at) ? "mark or delete" : "delete");
    } else {
        outbox_find(at, CHECK_WARN, hint,
            "%s has no replica identity: with the next publication of all tables PostgreSQL refuses to %s its rows, "
            "and "
            "the outbox stops",
            table, marks(at) ? "mark or delete" : "delete");
    }
    PQclear(result);
}

// Asked once PostgreSQL has refused, which it does since it has these columns (15).
static const char selecting_publications[] =
    "SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(p.pubname), ', ') FROM pg_catalog.pg_publication p "
    "JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid "
    "WHERE (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL) AND (" OF_THE_OUTBOX("r.prrelid") //
    "OR r.prrelid IN (SELECT a.relid::oid FROM pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass($1)) a))";

static void tell_refused(struct outbox_check *at, const char *why)
{
    PGresult *result = outbox_ask(at, selecting_publications, &PG_TEXT(at->outbox->table), 1);
    const char *names = result == NULL ? NULL : pg_cell(result, 0, 0);
    char hint[500];
    snprintf(hint, sizeof(hint),
        "ALTER PUBLICATION %.200s SET (publish = 'insert'), which suits a feed of events; or take its WHERE and its "
        "column list away",
        names != NULL ? names : "...");
    outbox_find(at, CHECK_FAIL, hint,
        "a publication with a row filter or a column list (%.200s) makes PostgreSQL refuse to take rows out, and the "
        "outbox stops: %.300s",
        names != NULL ? names : "unnamed", why);
    PQclear(result);
}

// What a publication selects by, rows or columns, must be in the replica identity. PostgreSQL checks that where a
// statement begins, of EXPLAIN as well, which changes nothing. Other errors are for the other parts.
static bool is_refused(struct outbox_check *at, const char *format)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(format)};
    PGresult *statement = outbox_ask(at, "SELECT pg_catalog.format($2, pg_catalog.to_regclass($1))", values, 2);
    if (statement == NULL) {
        return false;
    }
    struct relay_error error;
    struct pg_connection *connection = at->check->connection;
    PGresult *plan = pg_query(connection, pg_cell(statement, 0, 0), NULL, 0, false, check_deadline(at->check), &error);
    bool refused = plan == NULL && strcmp(pg_last_sqlstate(connection), "42P10") == 0;
    if (refused) {
        tell_refused(at, error.text);
    }
    PQclear(plan);
    PQclear(statement);
    return refused;
}

static void check_selections(struct outbox_check *at)
{
    bool refused = marks(at) && is_refused(at, "EXPLAIN UPDATE %s SET published_at = NULL");
    if (!refused && (!marks(at) || makes_dead_letters(at))) {
        is_refused(at, "EXPLAIN DELETE FROM %s");
    }
}

void check_outbox_taking(struct outbox_check *at)
{
    check_foreign_triggers(at);
    check_foreign_keys(at);
    check_own_foreign_keys(at);
    check_replica_identity(at);
    check_selections(at);
}
