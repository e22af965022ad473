// SPDX-License-Identifier: Apache-2.0
//
// A publication of all tables, or of all in a schema, sends each new table at once, and a subscriber looks for it
// before it asks whether it has subscribed to it. A table that is published by name is another matter only if it is
// about to be adopted, since its new column is sent as well.
#include "relay/cli/publications.h"

#include "relay/postgres/pg_array.h"

#include <stdlib.h>
#include <string.h>

// $1, $2: tables of the outboxes and their number columns. Columns of their own, and schemas, are published since 15.
#define OUTBOXES "ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) o(name, seq)"
#define BY_NAME                                                                                                        \
    "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p.pubname), ', ' ORDER BY p.pubname) "                        \
    "FROM pg_catalog.pg_publication p WHERE p.puballtables OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r "  \
    "JOIN " OUTBOXES " ON r.prrelid = pg_catalog.to_regclass(o.name)::oid WHERE r.prpubid = p.oid "                    \
    "AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attname = o.seq "      \
    "AND NOT a.attisdropped)"
static const char until_14[] = BY_NAME ")";
static const char since_15[] = BY_NAME
    " AND r.prattrs IS NULL) OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace n "
    "JOIN pg_catalog.pg_namespace s ON s.oid = n.pnnspid WHERE n.pnpubid = p.oid AND (s.nspname IN ('outbox_relay', "
    "'public') OR s.nspname IN (SELECT (pg_catalog.parse_ident(o.name))[1] FROM " OUTBOXES ")))";

static char *ask(struct pg_connection *connection, const char *tables, const char *numbers, struct mono_time deadline,
    struct relay_error *error)
{
    const struct pg_value values[] = {PG_TEXT(tables), PG_TEXT(numbers)};
    PGresult *result = pg_query(connection, pg_server_version(connection) < 150000 ? until_14 : since_15, values, 2,
        false, deadline, error);
    if (!result) {
        error_prefix(error, "looking for publications");
        return NULL;
    }
    const char *found = pg_cell(result, 0, 0);
    char *names = strdup(found ? found : "");
    PQclear(result);
    if (!names) {
        error_no_memory(error, "names of publications");
    }
    return names;
}

char *publications_of_relay(struct pg_connection *connection, const struct config *config, struct mono_time deadline,
    struct relay_error *error)
{
    size_t count = config->outbox_count;
    char **texts = calloc(2 * count + 1, sizeof(*texts)); // borrowed
    char *tables = NULL, *numbers = NULL, *names = NULL;
    for (size_t i = 0; texts && i < count; i++) {
        texts[i] = config->outboxes[i].table;
        texts[count + i] = config->outboxes[i].columns[CONFIG_COLUMN_SEQ];
    }
    if (texts) {
        tables = pg_array_of_texts(texts, count);
        numbers = pg_array_of_texts(texts + count, count);
    }
    if (tables && numbers) {
        names = ask(connection, tables, numbers, deadline, error);
    } else {
        error_no_memory(error, "looking for publications");
    }
    free(tables);
    free(numbers);
    free(texts);
    return names;
}
