// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_unowned.h"

#include "relay/postgres/pg_array.h"
#include "relay/postgres/pg_stranger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNTED "1000" // exactly up to here

// What has not the relay's trigger may be no outbox, and have no column to ask for: check_registrations.c.
static const char find_sql[] =
    "WITH unnamed AS MATERIALIZED (SELECT o.outbox, pg_catalog.quote_ident(n.nspname) || '.' || "
    "pg_catalog.quote_ident(c.relname) AS name FROM outbox_relay.outboxes o JOIN pg_catalog.pg_class c ON c.oid = "
    "o.outbox::oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE EXISTS (SELECT 1 FROM "
    "pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgfoid = "
    "'outbox_relay.notify_wakeup()'::pg_catalog.regprocedure::oid) AND NOT EXISTS (SELECT 1 FROM "
    "pg_catalog.unnest($1::text[]) t (name) WHERE pg_catalog.to_regclass(t.name)::oid = o.outbox::oid) AND NOT EXISTS "
    "(SELECT 1 FROM pg_catalog.pg_locks l WHERE " PG_OUTBOX_LOCK("o.outbox::oid",
        "1") ")) "
             "SELECT u.name, h.unpublished_count FROM unnamed u CROSS JOIN LATERAL "
             "outbox_relay.check_outbox_health(u.outbox, " COUNTED ", " COUNTED
             ", NULL, NULL) h WHERE h.unpublished_count > 0 ORDER BY h.unpublished_count DESC, u.name LIMIT $2::int";

static char *named_tables(const struct config *config)
{
    char **names = calloc(config->outbox_count + 1, sizeof(*names)); // borrowed
    if (names == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < config->outbox_count; i++) {
        names[i] = config->outboxes[i].table;
    }
    char *tables = pg_array_of_texts(names, config->outbox_count);
    free(names);
    return tables;
}

bool pg_unowned_find(struct pg_connection *connection, const struct config *config, struct pg_unowned *unowned,
    struct mono_time deadline, struct relay_error *error)
{
    unowned->count = 0;
    char *tables = named_tables(config);
    if (tables == NULL) {
        return error_no_memory(error, "looking for other outboxes");
    }
    char limit[12];
    snprintf(limit, sizeof(limit), "%d", PG_UNOWNED_MAX);
    const struct pg_value values[] = {{.text = tables}, {.text = limit}};
    PGresult *result = pg_query(connection, find_sql, values, 2, false, deadline, error);
    free(tables);
    if (result == NULL) {
        return false;
    }
    for (int i = 0; i < PQntuples(result) && i < PG_UNOWNED_MAX; i++) {
        snprintf(unowned->outboxes[i].table, sizeof(unowned->outboxes[i].table), "%s", PQgetvalue(result, i, 0));
        unowned->outboxes[i].waiting = pg_cell_int64(result, i, 1);
        unowned->count++;
    }
    PQclear(result);
    return true;
}

void pg_unowned_tell(const struct pg_unowned *unowned, size_t which, char *text, size_t room)
{
    int64_t waiting = unowned->outboxes[which].waiting;
    snprintf(text, room,
        "%s%" PRId64 " events wait there, this configuration does not name the table, and no relay owns it: nobody "
        "publishes them",
        waiting > atoll(COUNTED) ? "about " : "", waiting);
}
