// SPDX-License-Identifier: Apache-2.0
//
// Going to sleep, and being woken, without polling and without taxing the writers. Asleep means: this session holds the
// wake-up lock W of the outbox exclusively, so that the trigger of every INSERT that commits from then on sends a
// NOTIFY. Writers that began before hold W shared until they end, so the grant comes only when the last of them has:
// until then the caller polls, and after the grant it must look once more before it blocks. W is asked for in slices
// shorter than the server's deadlock_timeout, so that neither its deadlock detector nor its log is disturbed. Once
// asleep, it may stay so through light traffic; under load it must wake, since a NOTIFY costs the writers. A session of
// its own, since W is released by name. One thread at a time.
#ifndef RELAY_PUBLISH_OUTBOX_SLEEP_H
#define RELAY_PUBLISH_OUTBOX_SLEEP_H

#include "relay/postgres/pg_connection.h"
#include "relay/publish/outbox_table.h"

struct outbox_sleep {
    const struct relay_context *context;
    struct pg_connection *connection;
    char table[16]; // the oid
    bool asking;    // a slice is running
    bool asleep;    // W is ours
};

// Connects and listens. tick: called with tick_context while it waits. Errors: the connection's.
bool outbox_sleep_start(struct outbox_sleep *sleep, const struct relay_context *context,
    const struct outbox_table *table, void (*tick)(void *context), void *tick_context, struct relay_error *error);
void outbox_sleep_finish(struct outbox_sleep *sleep); // W is free when the server has noticed

// One step towards sleep: starts a slice, or looks whether the running one has ended. true in *granted: asleep from now
// on, look for rows once more.
bool outbox_sleep_ask(struct outbox_sleep *sleep, bool *granted, struct relay_error *error);
// Gives W back; a slice that is still running is waited for (it is short).
bool outbox_sleep_wake(struct outbox_sleep *sleep, struct relay_error *error);
// Whether a notification came since the last call. Reads what has arrived, never waits. A broken session shows as an
// error.
bool outbox_sleep_notified(struct outbox_sleep *sleep, bool *notified, struct relay_error *error);
// Beats when the session has been silent for a third of the lease. Its failure shows at the next use.
void outbox_sleep_tick(struct outbox_sleep *sleep);
int outbox_sleep_fd(const struct outbox_sleep *sleep); // readable when there is something to look at; -1 none

#endif
