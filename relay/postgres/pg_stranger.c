// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_stranger.h"

#include <stdio.h>
#include <stdlib.h>

#define IS_HELD  PG_OUTBOX_LOCK("$1::regclass::oid", "ANY ($2::oid[])")
#define IS_RELAY PG_RELAY_SESSION("$1::regclass::oid")

// A session that ends while this is asked is no stranger. A prepared transaction has no session.
static const char find_sql[] = "SELECT l.objid, l.classid, l.pid, a.usename, nullif(a.application_name, '')"
                               " FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
                               " WHERE " IS_HELD " AND (l.pid IS NULL OR (a.pid IS NOT NULL AND NOT " IS_RELAY
                               ")) ORDER BY l.objid, l.pid LIMIT 1";

static void describe(const PGresult *result, struct pg_stranger *stranger)
{
    const char *pid = pg_cell(result, 0, 2), *role = pg_cell(result, 0, 3), *name = pg_cell(result, 0, 4);
    int number = (int)stranger->lock;
    const char *table = pg_cell(result, 0, 1);
    if (pid == NULL) {
        snprintf(stranger->text, sizeof(stranger->text),
            "a prepared transaction holds the outbox's advisory lock (%s, %d), and no relay does: end it, see "
            "pg_prepared_xacts",
            table, number);
        return;
    }
    snprintf(stranger->text, sizeof(stranger->text),
        "session %s of role %.63s%s%.63s%s holds the outbox's advisory lock (%s, %d) and is not a relay: end it with "
        "SELECT pg_terminate_backend(%s)",
        pid, role == NULL ? "?" : role, name == NULL ? "" : ", application_name ", name == NULL ? "" : name,
        name == NULL ? "" : ",", table, number, pid);
}

bool pg_stranger_find(struct pg_connection *connection, const char *outbox, const char *locks,
    struct pg_stranger *stranger, struct mono_time deadline, struct relay_error *error)
{
    *stranger = (struct pg_stranger){.lock = PG_LOCK_NONE};
    PGresult *result = pg_query(connection, find_sql, (struct pg_value[]){PG_TEXT(outbox), PG_TEXT(locks)}, 2, false,
        deadline, error);
    if (result == NULL) {
        return error_prefix(error, "who holds the outbox's locks");
    }
    if (PQntuples(result) > 0) {
        stranger->lock = (enum pg_outbox_lock)pg_cell_int64(result, 0, 0);
        describe(result, stranger);
    }
    PQclear(result);
    return true;
}
