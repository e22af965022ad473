// SPDX-License-Identifier: Apache-2.0
//
// Ownership of one outbox: two sessions of PostgreSQL, each with an advisory lock of the table, taken in order and
// given up only by closing the sessions. A replica that does not own it tries again now and then on one session that
// holds no snapshot and waits for nothing, so a standby costs the server nothing lasting. Sessions carry the lease: the
// server ends one that has been silent for so long, so a frozen owner loses the outbox; outbox_owner_tick() beats at a
// third of it, also while a statement or a new session is waited for. While it is owned by another session, it is asked
// now and then whether that one is a replica's (pg_stranger.h), and whether the server takes writes still. One thread
// at a time.
#ifndef RELAY_PUBLISH_OUTBOX_OWNER_H
#define RELAY_PUBLISH_OUTBOX_OWNER_H

#include "relay/postgres/pg_connection.h"
#include "relay/postgres/pg_stranger.h"
#include "relay/publish/outbox_table.h"

// So the application_name of the sessions begins; the oid of the table and the instance follow. In older versions the
// instance alone did: such a replica counts all sessions of this beginning, and every outbox counts it.
#define OUTBOX_OWNER_SESSIONS "outbox-relay-publish-"

struct outbox_owner {
    const struct relay_context *context;
    const struct config_outbox *config;
    struct pg_connection *connections[2]; // both set: owned; only the first: standby
    bool owned;
    struct outbox_table *table;  // as it was read when the locks were taken
    struct pg_stranger stranger; // who holds a lock that we wait for, and is no relay
    struct mono_time stranger_since, looked_at;
    void (*tick)(void *context);
    void *tick_context;
};

// tick: called while a session waits, so that the others beat meanwhile: it calls outbox_owner_tick().
void outbox_owner_init(struct outbox_owner *owner, const struct relay_context *context,
    const struct config_outbox *config, void (*tick)(void *context), void *tick_context);
// Closes the sessions: the locks are free as soon as the server has noticed.
void outbox_owner_finish(struct outbox_owner *owner);

// One attempt; of an owner, whether what it owns is the outbox still, else one with new sessions. true: look at
// owner->owned. false: an error (the sessions are closed).
bool outbox_owner_try(struct outbox_owner *owner, struct relay_error *error);
// A round trip on each session proves that both locks are still held. Errors: the connection's.
bool outbox_owner_prove(struct outbox_owner *owner, struct relay_error *error);
// *current: the table of this name is the one that is owned, under the same identity. Statements are prepared by name:
// once a table is swapped or made anew they go to the new one, on which there is no lock of ours. An error also where
// the server takes no writes any more: an idle owner would not notice, and keep to it.
bool outbox_owner_current(struct outbox_owner *owner, bool *current, struct relay_error *error);
// How many replicas own each of these outboxes or try to, ourselves included. On the first session of this one. The
// tables' oids; replicas: room for as many numbers.
bool outbox_owner_count(struct outbox_owner *owner, const int64_t *outboxes, size_t count, int *replicas,
    struct relay_error *error);
// Beats on sessions that have been silent for a third of the lease. Its failures show at the next use of the session.
void outbox_owner_tick(struct outbox_owner *owner);

#endif
