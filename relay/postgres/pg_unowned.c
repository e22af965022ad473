// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_unowned.h"

#include "relay/postgres/pg_health.h"
#include "relay/postgres/pg_registered.h"
#include "relay/postgres/pg_stranger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTED     1000 // exactly up to here
#define LOOK_FOR    DURATION_S(2)
#define ANSWER_TIME DURATION_S(10) // of one statement; the server gives it up before

static const char list_sql[] =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name "
    "FROM outbox_relay.outboxes o JOIN pg_catalog.pg_class c ON c.oid = o.outbox::oid "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE " PG_HAS_WAKEUP("c.oid") " AND " PG_NOT_NAMED(
        "o.outbox::oid") " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE " PG_OUTBOX_LOCK("o.outbox::oid",
        "ANY ('{1,3}'::oid[])") ") ORDER BY 1 LIMIT $2::int";

static struct mono_time soon(const struct relay_context *context)
{
    return mono_add(clock_mono(context->clock), ANSWER_TIME);
}

static PGresult *list_tables(struct pg_connection *connection, const struct config *config, struct mono_time deadline,
    struct relay_error *error)
{
    char *tables = pg_named_tables(config);
    if (tables == NULL) {
        error_no_memory(error, "looking for other outboxes");
        return NULL;
    }
    char limit[12];
    snprintf(limit, sizeof(limit), "%d", PG_UNOWNED_MAX);
    const struct pg_value values[] = {{.text = tables}, {.text = limit}};
    PGresult *result = pg_query(connection, list_sql, values, 2, false, deadline, error);
    free(tables);
    return result;
}

static void add(struct pg_unowned *unowned, const char *table, int64_t waiting)
{
    snprintf(unowned->outboxes[unowned->count].table, sizeof(unowned->outboxes[0].table), "%s", table);
    unowned->outboxes[unowned->count++].waiting = waiting;
}

// false: the connection is gone.
static bool judge(struct pg_connection *connection, const char *table, struct pg_unowned *unowned,
    struct mono_time deadline, struct relay_error *error)
{
    static const struct config_health limits = {.warning_rows = COUNTED, .critical_rows = COUNTED};
    PGresult *result = pg_health_ask(connection, table, &limits, "", deadline, error);
    if (result != NULL) {
        int64_t waiting = pg_cell_int64(result, 0, 2);
        PQclear(result);
        if (waiting > 0) {
            add(unowned, table, waiting);
        }
        return true;
    }
    const char *state = pg_last_sqlstate(connection);
    bool passes = strcmp(state, "55P03") == 0 || strcmp(state, "42P01") == 0; // locked, or dropped just now
    if (!pg_broken(connection) && !passes) {
        if (unowned->refused[0] == '\0') {
            snprintf(unowned->refused, sizeof(unowned->refused), "%.299s", error->text);
        }
        add(unowned, table, -1);
    }
    return !pg_broken(connection);
}

// Reads them by name, for as long as there is time: counting may be slow where nobody has looked for months.
static bool judge_all(struct pg_connection *connection, const struct relay_context *context, const PGresult *tables,
    struct pg_unowned *unowned, struct relay_error *error)
{
    struct mono_time until = mono_add(clock_mono(context->clock), LOOK_FOR);
    for (int i = 0; i < PQntuples(tables) && i < PG_UNOWNED_MAX; i++) {
        if (mono_reached(clock_mono(context->clock), until)) {
            break;
        }
        if (!judge(connection, PQgetvalue(tables, i, 0), unowned, soon(context), error)) {
            return false;
        }
    }
    return true;
}

bool pg_unowned_find(struct pg_connection *connection, const struct relay_context *context, struct pg_unowned *unowned,
    struct relay_error *error)
{
    unowned->count = 0;
    unowned->refused[0] = '\0';
    PGresult *tables = list_tables(connection, context->config, soon(context), error);
    if (tables == NULL) {
        return false;
    }
    // All of them may be locked, and who asks has other things to do.
    bool done = PQntuples(tables) == 0 ||
        (pg_execute(connection, "SET lock_timeout = '50ms'", soon(context), error) &&
            judge_all(connection, context, tables, unowned, error) &&
            pg_execute(connection, "SET lock_timeout = 0", soon(context), error));
    PQclear(tables);
    return done;
}

void pg_unowned_tell(const struct pg_unowned *unowned, size_t which, char *text, size_t room)
{
    int64_t waiting = unowned->outboxes[which].waiting;
    if (waiting < 0) {
        snprintf(text, room,
            "this configuration does not name the table, no relay owns it, and whether events wait there cannot be "
            "told: %s",
            unowned->refused);
        return;
    }
    snprintf(text, room,
        "%s%" PRId64 " events wait there, this configuration does not name the table, and no relay owns it: nobody "
        "publishes them",
        waiting > COUNTED ? "about " : "", waiting);
}
