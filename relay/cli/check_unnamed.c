// SPDX-License-Identifier: Apache-2.0
//
// Outboxes of the database that this configuration does not name and nobody publishes. The health watch tells them, too
// (health_unowned.c).
#include "relay/cli/check.h"
#include "relay/postgres/pg_unowned.h"

#include <stdio.h>

void check_unnamed(struct check *check)
{
    struct relay_error error;
    struct pg_unowned unowned;
    if (!pg_unowned_find(check->connection, check->context, &unowned, &error)) {
        if (!pg_lacks_schema(check->connection)) { // which is told elsewhere
            check_add(check->report, CHECK_WARN, "postgres", "",
                "outboxes that this configuration does not name are not looked at: %s", error.text);
        }
        return;
    }
    for (size_t i = 0; i < unowned.count; i++) {
        char what[200], text[600];
        snprintf(what, sizeof(what), "outbox %s", unowned.outboxes[i].table);
        pg_unowned_tell(&unowned, i, text, sizeof(text));
        check_add(check->report, CHECK_WARN, what,
            "name the table in an [outbox NAME] of the relay that is to publish it; if its writers mean another one, "
            "have them name that with its schema (docs/events.md, \"Writing a row\")",
            "%s", text);
    }
}
