// SPDX-License-Identifier: Apache-2.0
//
// Outboxes of the database that this configuration does not name and nobody publishes. The health watch tells them, too
// (health_unowned.c).
#include "relay/cli/check.h"
#include "relay/postgres/pg_unowned.h"

#include <stdio.h>
#include <string.h>

void check_unnamed(struct check *check)
{
    struct relay_error error;
    struct pg_unowned unowned;
    if (!pg_unowned_find(check->connection, check->context, &unowned, &error)) {
        // A schema that is not there, or lacks the functions, is told elsewhere.
        const char *state = pg_last_sqlstate(check->connection);
        if (strcmp(state, "42P01") != 0 && strcmp(state, "42883") != 0 && strcmp(state, "3F000") != 0) {
            check_add(check->report, CHECK_WARN, "postgres", "",
                "outboxes that this configuration does not name are not looked at: %s", error.text);
        }
        return;
    }
    for (size_t i = 0; i < unowned.count; i++) {
        char what[200], text[600];
        snprintf(what, sizeof(what), "outbox %s", unowned.outboxes[i].table);
        pg_unowned_tell(&unowned, i, text, sizeof(text));
        check_add(check->report, CHECK_WARN, what, PG_UNOWNED_ACTION, "%s", text);
    }
}
