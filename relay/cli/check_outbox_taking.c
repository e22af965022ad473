// SPDX-License-Identifier: Apache-2.0
//
// What else happens in the database when the relay takes a row out of the table: deletes it, or marks it, or moves it
// to the dead letters.
#include "relay/cli/check_outbox.h"

#include <stdio.h>
#include <string.h>

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
    PGresult *result = outbox_ask(at, foreign_triggers, values, 2);
    for (int i = 0; result && i < PQntuples(result); i++) {
        const char *function = pg_cell(result, i, 0);
        char mend[500];
        snprintf(mend, sizeof(mend), "ALTER FUNCTION %.300s SET search_path = the schemas whose tables it names",
            function);
        outbox_find(at, CHECK_WARN, mend,
            "trigger %s calls %s, which has no search_path of its own: in the relay's sessions it finds no table "
            "that it names without a schema, and the error stops the outbox",
            pg_cell(result, i, 1), function);
    }
    PQclear(result);
}

void check_outbox_taking(struct outbox_check *at)
{
    check_foreign_triggers(at);
}
