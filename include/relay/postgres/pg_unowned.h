// SPDX-License-Identifier: Apache-2.0
//
// Outboxes of the database in which events wait, that this configuration does not name, and that no relay owns: of a
// tenant's schema whose section was forgotten, of a table that another one has replaced, of a deployment that is gone.
// Writers get no error there. That another relay publishes one, or watches it while it may not publish, is seen by its
// locks. Health's functions judge them, with the rights of their owner: the relay's role may not read such a table.
// Each is judged by itself, since one that was given away, or lost a column, is what nobody looks after. One whose
// table is locked is left out, and so are the last ones where counting takes seconds. Nothing is kept here; any thread.
#ifndef RELAY_POSTGRES_PG_UNOWNED_H
#define RELAY_POSTGRES_PG_UNOWNED_H

#include "relay/postgres/pg_connection.h"

#define PG_UNOWNED_MAX 100 // so many are looked at, by name

struct pg_unowned {
    size_t count;
    struct {
        char table[136]; // schema.table, quoted as in SQL
        int64_t waiting; // exact up to a thousand; -1: they cannot be counted
    } outboxes[PG_UNOWNED_MAX];
    char refused[300]; // why not, of the first that cannot
};

// Errors: as pg_query(); a schema that is not migrated, or too old, is one (pg_lacks_schema()).
bool pg_unowned_find(struct pg_connection *connection, const struct relay_context *context, struct pg_unowned *unowned,
    struct relay_error *error);

// "12 events wait there, this configuration does not name the table, and no relay owns it: nobody publishes them", or
// that it cannot be told whether events wait.
void pg_unowned_tell(const struct pg_unowned *unowned, size_t which, char *text, size_t room);

#endif
