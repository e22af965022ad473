// SPDX-License-Identifier: Apache-2.0
//
// What is registered as an outbox, and may be none. A registration is no dependency: DROP TABLE leaves it. A dump has
// the number of such a table alone, which on the server where it is restored may be that of any table. The trigger is
// made by the relay only, and every dump keeps it: a table that has it is an outbox. That of a table which the
// configuration names is check_outbox_form.c's.
#include "relay/cli/check.h"
#include "relay/postgres/pg_array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char unsure[] =
    "SELECT o.outbox::text, c.oid IS NOT NULL FROM outbox_relay.outboxes o LEFT JOIN pg_catalog.pg_class c ON c.oid = "
    "o.outbox::oid WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = o.outbox::oid AND "
    "g.tgfoid = 'outbox_relay.notify_wakeup()'::pg_catalog.regprocedure::oid) AND NOT EXISTS (SELECT 1 FROM "
    "pg_catalog.unnest($1::text[]) t (name) WHERE pg_catalog.to_regclass(t.name)::oid = o.outbox::oid) "
    "ORDER BY o.created_at LIMIT 10";

static void tell(struct check *check, const char *table, bool there)
{
    char what[200], hint[800];
    int used = 0;
    snprintf(what, sizeof(what), "outbox %.180s", table);
    if (there) {
        used = snprintf(hint, sizeof(hint),
            "if it is an outbox: SELECT outbox_relay.create_wakeup_trigger('%.270s'); else ", table);
    }
    snprintf(hint + used, sizeof(hint) - (size_t)used,
        "as the login that runs `migrate`: SELECT outbox_relay.detach_outbox('%.270s')", table);
    check_add(check->report, CHECK_WARN, what, hint, "registered as an outbox, and %s; roles.sql grants nothing on it",
        there
            ? "it has no trigger that wakes the relay: a table that was dropped may have left its number to this "
              "one, by a dump and its restore"
            : "there is no such table: it was dropped without detach_outbox(), and a dump that is restored on another "
              "server may give its number to any table");
}

void check_registrations(struct check *check)
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
        result = pg_query(check->connection, unsure, &PG_TEXT(tables), 1, false, check_deadline(check), &error);
    } else {
        error_no_memory(&error, "looking for tables that are no outboxes");
    }
    // A schema that is not there, or lacks the function, is told elsewhere.
    const char *state = tables ? pg_last_sqlstate(check->connection) : "";
    if (!result && strcmp(state, "42P01") != 0 && strcmp(state, "42883") != 0 && strcmp(state, "3F000") != 0) {
        check_add(check->report, CHECK_WARN, "postgres", "",
            "whether all that is registered are outboxes cannot be told: %s", error.text);
    }
    for (int i = 0; result && i < PQntuples(result); i++) {
        tell(check, pg_cell(result, i, 0), pg_cell_true(result, i, 1));
    }
    PQclear(result);
    free(tables);
    free(names);
}
