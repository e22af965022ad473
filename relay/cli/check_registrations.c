// SPDX-License-Identifier: Apache-2.0
//
// What is registered as an outbox, and may be none. A registration is no dependency: DROP TABLE leaves it. A dump has
// the number of such a table alone, which on the server where it is restored may be that of any table. The trigger is
// made by the relay only, and every dump keeps it: a table that has it is an outbox. That of a table which the
// configuration names is check_outbox_form.c's.
#include "relay/cli/check.h"
#include "relay/postgres/pg_registered.h"

#include <stdio.h>
#include <stdlib.h>

static const char unsure[] =
    "SELECT o.outbox::text, c.oid IS NOT NULL FROM outbox_relay.outboxes o LEFT JOIN pg_catalog.pg_class c ON c.oid = "
    "o.outbox::oid WHERE NOT " PG_HAS_WAKEUP("o.outbox::oid") " AND " PG_NOT_NAMED(
        "o.outbox::oid") " ORDER BY o.created_at LIMIT 10";

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
    char *tables = pg_named_tables(check->context->config);
    PGresult *result = NULL;
    if (tables) {
        result = pg_query(check->connection, unsure, &PG_TEXT(tables), 1, false, check_deadline(check), &error);
    } else {
        error_no_memory(&error, "looking for tables that are no outboxes");
    }
    if (!result && !(tables && pg_lacks_schema(check->connection))) { // which is told elsewhere
        check_add(check->report, CHECK_WARN, "postgres", "",
            "whether all that is registered are outboxes cannot be told: %s", error.text);
    }
    for (int i = 0; result && i < PQntuples(result); i++) {
        tell(check, pg_cell(result, i, 0), pg_cell_true(result, i, 1));
    }
    PQclear(result);
    free(tables);
}
