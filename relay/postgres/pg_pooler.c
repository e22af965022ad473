// SPDX-License-Identifier: Apache-2.0
//
// The number that the greeting names is the server process's own, unless somebody in between has made one up. Then a
// second connection tells the pooler's mode: while the first one is open, and while one of the two is in a transaction,
// a pooler in session mode gives each of them its own process throughout; one in transaction mode has few reasons to.
#include "relay/postgres/pg_pooler.h"

#include <stdlib.h>

// In each a quiet pool gives a process that it should not, whether it takes the one used last or the one used first;
// the further ones are for a pool that others use meanwhile.
#define ROUNDS 4

static bool ask_process(struct pg_connection *connection, struct mono_time deadline, int64_t *process,
    struct relay_error *error)
{
    PGresult *result = pg_query(connection, "SELECT pg_catalog.pg_backend_pid()", NULL, 0, false, deadline, error);
    if (result != NULL) {
        *process = pg_cell_int64(result, 0, 0);
    }
    PQclear(result);
    return result != NULL;
}

// own: the process of the first connection so far.
static bool play_round(struct pg_connection *first, struct pg_connection *second, int64_t own,
    struct mono_time deadline, bool *shared, struct relay_error *error)
{
    int64_t held, during, after, again;
    if (!pg_execute(second, "BEGIN", deadline, error) || !ask_process(second, deadline, &held, error)) {
        return error_prefix(error, "%s is a pooler that gives no second session", pg_server_address(first));
    }
    if (held == own) {
        *shared = true;
        return true;
    }
    if (!ask_process(first, deadline, &during, error) || !pg_execute(second, "ROLLBACK", deadline, error) ||
        !ask_process(first, deadline, &after, error) || !ask_process(first, deadline, &again, error)) {
        return false;
    }
    *shared = during != own || after != own || again != own;
    return true;
}

bool pg_pooler_find(struct pg_connection *connection, const struct relay_context *context,
    const struct pg_options *options, struct duration patience, enum pg_pooler *found, struct relay_error *error)
{
    int64_t own;
    *found = PG_POOLER_NONE;
    if (!ask_process(connection, mono_add(clock_mono(context->clock), patience), &own, error)) {
        return false;
    }
    if (own == PQbackendPID(pg_libpq(connection))) {
        return true;
    }
    struct pg_options how = *options;
    how.raw = true;
    struct pg_connection *second = pg_connect(context, &how, error);
    if (second == NULL) {
        return error_prefix(error, "%s is a pooler that gives no second session", pg_server_address(connection));
    }
    bool done = true, shared = false;
    for (int round = 0; done && !shared && round < ROUNDS; round++) {
        done = play_round(connection, second, own, mono_add(clock_mono(context->clock), patience), &shared, error);
    }
    pg_close(second);
    *found = shared ? PG_POOLER_TRANSACTION : PG_POOLER_SESSION;
    return done;
}
