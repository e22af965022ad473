// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/outbox_sleep.h"

#include <stdio.h>

#define SLICE_MS "400"

bool outbox_sleep_start(struct outbox_sleep *sleep, const struct relay_context *context,
    const struct outbox_table *table, void (*tick)(void *context), void *tick_context, struct relay_error *error)
{
    *sleep = (struct outbox_sleep){.context = context};
    snprintf(sleep->table, sizeof(sleep->table), "%u", table->oid);
    struct pg_options options = {.role = "wake", .read_write = true, .lease = context->config->lease};
    options.tick = tick;
    options.tick_context = tick_context;
    sleep->connection = pg_connect(context, &options, error);
    char listen[64];
    snprintf(listen, sizeof(listen), "LISTEN outbox_relay_%u", table->oid);
    return sleep->connection != NULL && pg_execute(sleep->connection, listen, pg_deadline(context), error);
}

void outbox_sleep_finish(struct outbox_sleep *sleep)
{
    pg_close(sleep->connection);
    sleep->connection = NULL;
    sleep->asking = false;
    sleep->asleep = false;
}

// The end of a slice.
static bool take_answer(struct outbox_sleep *sleep, bool *granted, struct relay_error *error)
{
    PGresult *result = pg_receive(sleep->connection, pg_deadline(sleep->context), error);
    sleep->asking = false;
    if (result == NULL) {
        return error_prefix(error, "going to sleep");
    }
    *granted = PQgetvalue(result, 0, 0)[0] == 't';
    sleep->asleep = *granted;
    PQclear(result);
    return true;
}

bool outbox_sleep_ask(struct outbox_sleep *sleep, bool *granted, struct relay_error *error)
{
    *granted = false;
    if (sleep->asleep) {
        return true;
    }
    if (!sleep->asking) {
        sleep->asking = pg_send(sleep->connection, "SELECT outbox_relay.try_sleep($1::oid::regclass, " SLICE_MS ")",
            (struct pg_value[]){PG_TEXT(sleep->table)}, 1, false, error);
        return sleep->asking;
    }
    return !pg_ready(sleep->connection) || take_answer(sleep, granted, error);
}

bool outbox_sleep_wake(struct outbox_sleep *sleep, struct relay_error *error)
{
    bool granted = false;
    if (sleep->asking && !take_answer(sleep, &granted, error)) {
        return false;
    }
    if (sleep->asleep) {
        PGresult *result = pg_query(sleep->connection, "SELECT pg_advisory_unlock($1::oid::int4, 0)",
            (struct pg_value[]){PG_TEXT(sleep->table)}, 1, false, pg_deadline(sleep->context), error);
        if (result == NULL) {
            return error_prefix(error, "waking up");
        }
        PQclear(result);
        sleep->asleep = false; // it was taken once: nobody asks while asleep
    }
    return true;
}

bool outbox_sleep_notified(struct outbox_sleep *sleep, bool *notified, struct relay_error *error)
{
    *notified = false;
    while (pg_take_notification(sleep->connection)) {
        *notified = true;
    }
    return !pg_broken(sleep->connection) ||
        error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "the session that waits for notifications is gone");
}

void outbox_sleep_tick(struct outbox_sleep *sleep)
{
    if (sleep->connection != NULL) {
        pg_beat(sleep->connection);
    }
}

int outbox_sleep_fd(const struct outbox_sleep *sleep)
{
    return sleep->connection == NULL ? -1 : pg_socket(sleep->connection);
}
