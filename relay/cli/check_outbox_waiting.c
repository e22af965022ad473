// SPDX-License-Identifier: Apache-2.0
//
// Rows that wait to be published, though a publisher before the relay has tried them in vain: the relay knows of no
// count but publishes them all, those of old first, behind whose successors nobody expects them. Which of them have
// successors that were published is not asked: published rows are in no index that would tell. So the first rows by
// their number are looked at, by the index that publishing uses.
#include "relay/cli/check_outbox.h"
#include "relay/publish/outbox_table.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOK_MAX "10000"

// Quoted: the column that counts tries, the number, the table; and whether rows are marked.
static const char names[] =
    "SELECT pg_catalog.quote_ident(a.attname), pg_catalog.quote_ident($2), pg_catalog.quote_ident(n.nspname) || '.' || "
    "pg_catalog.quote_ident(c.relname), EXISTS (SELECT 1 FROM pg_catalog.pg_attribute p WHERE p.attrelid = c.oid "
    "AND p.attname = 'published_at' AND NOT p.attisdropped) "
    "FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.oid = pg_catalog.to_regclass($1)::oid AND a.attnum > 0 AND NOT a.attisdropped "
    "AND a.attname IN ('retry_count', 'retries', 'attempt_count', 'attempts', 'try_count', 'tries', 'failure_count', "
    "'error_count', 'delivery_attempts', 'publish_attempts') "
    "AND " OUTBOX_TABLE_BASE_TYPE " IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) ORDER BY a.attnum LIMIT 1";

static void look_at_rows(struct outbox_check *at, const char *count, const char *seq, const char *table, bool marked)
{
    const char *open = marked ? "WHERE t.published_at IS NULL " : "";
    char *sql = NULL, hint[700];
    if (asprintf(&sql,
            "SELECT pg_catalog.count(*) FROM (SELECT t.%s AS tries FROM %s t %sORDER BY t.%s LIMIT " LOOK_MAX
            ") w WHERE w.tries > 0",
            count, table, open, seq) < 0) {
        outbox_find(at, CHECK_WARN, "", "waiting rows were not looked at: out of memory");
        return;
    }
    PGresult *result = outbox_ask(at, sql, NULL, 0);
    free(sql);
    if (result && pg_cell_int64(result, 0, 0) > 0) {
        snprintf(hint, sizeof(hint),
            marked ? "UPDATE %.280s SET published_at = now() WHERE published_at IS NULL AND %.140s > 0, of those that "
                     "must not come any more (docs/schema.md, \"Adopting an existing table\")"
                   : "DELETE FROM %.280s WHERE %.140s > 0, of those that must not come any more",
            table, count);
        outbox_find(at, CHECK_WARN, hint,
            "%lld of the first " LOOK_MAX
            " waiting rows have %s > 0: another publisher has tried them in vain, perhaps "
            "given them up; the relay publishes them, however old they are, before all that came after them",
            (long long)pg_cell_int64(result, 0, 0), count);
    }
    PQclear(result);
}

void check_outbox_waiting(struct outbox_check *at)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(at->outbox->columns[CONFIG_COLUMN_SEQ])};
    PGresult *result = outbox_ask(at, names, values, 2);
    if (result && PQntuples(result) > 0) {
        look_at_rows(at, pg_cell(result, 0, 0), pg_cell(result, 0, 1), pg_cell(result, 0, 2),
            pg_cell_true(result, 0, 3));
    }
    PQclear(result);
}
