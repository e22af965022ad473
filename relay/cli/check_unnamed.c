// SPDX-License-Identifier: Apache-2.0
//
// Outboxes of the database that this configuration does not name: of a tenant's schema whose section was forgotten, of
// a table that another one has replaced, public.outbox_events that `migrate` makes in any case. Writers get no error
// there. That another relay publishes one is seen by its lock, so only those with waiting events that nobody owns are
// told. Health judges them, with the rights of its functions' owner: the relay's role may not read such a table. What
// has not the relay's trigger may be no outbox: check_registrations.c.
#include "relay/cli/check.h"
#include "relay/postgres/pg_array.h"
#include "relay/postgres/pg_stranger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTED "1000" // exactly up to here

static const char unnamed[] =
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
             ", NULL, NULL) h WHERE h.unpublished_count > 0 ORDER BY h.unpublished_count DESC LIMIT 10";

static void tell(struct check *check, const char *table, long long waiting)
{
    char what[200], hint[300];
    snprintf(what, sizeof(what), "outbox %.180s", table);
    snprintf(hint, sizeof(hint),
        "name the table in an [outbox NAME] of the relay that is to publish it; if its writers mean another one, have "
        "them name that with its schema (docs/events.md, \"Writing a row\")");
    check_add(check->report, CHECK_WARN, what, hint,
        "%s%lld events wait there, this configuration does not name the table, and no relay owns it: nobody publishes "
        "them",
        waiting > atoll(COUNTED) ? "about " : "", waiting);
}

void check_unnamed(struct check *check)
{
    struct relay_error error;
    const struct config *config = check->context->config;
    char **names = calloc(config->outbox_count + 1, sizeof(*names)); // borrowed
    for (size_t i = 0; names && i < config->outbox_count; i++) {
        names[i] = config->outboxes[i].table;
    }
    char *tables = names ? pg_array_of_texts(names, config->outbox_count) : NULL;
    PGresult *result = NULL;
    if (tables) {
        result = pg_query(check->connection, unnamed, &PG_TEXT(tables), 1, false, check_deadline(check), &error);
    } else {
        error_no_memory(&error, "looking for other outboxes");
    }
    // A schema that is not there, or lacks the functions, is told elsewhere.
    const char *state = tables ? pg_last_sqlstate(check->connection) : "";
    if (!result && strcmp(state, "42P01") != 0 && strcmp(state, "42883") != 0 && strcmp(state, "3F000") != 0) {
        check_add(check->report, CHECK_WARN, "postgres", "",
            "outboxes that this configuration does not name are not looked at: %s", error.text);
    }
    for (int i = 0; result && i < PQntuples(result); i++) {
        tell(check, pg_cell(result, i, 0), (long long)pg_cell_int64(result, i, 1));
    }
    PQclear(result);
    free(tables);
    free(names);
}
