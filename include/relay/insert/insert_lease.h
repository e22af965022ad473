// SPDX-License-Identifier: Apache-2.0
//
// How long nobody else can own our partitions. An offset commit that the group coordinator accepts and that was sent at
// T keeps this member in the group until T + session.timeout.ms at least; until then no other member is given its
// partitions. Inserts are started under the lease only, and carry its end, in the server's time, as a condition that
// the server checks (insert_deadline.h). A machine that was paused or suspended finds its lease unchanged, since its
// monotonic clock stood still: so a lease counts only with a measurement of the server's clock that was made before its
// commit was sent. A pause then makes the condition end too early, never too late. The committer (one thread) grants
// and revokes; table workers wait for it. Thread-safe; a short lock.
#ifndef RELAY_INSERT_INSERT_LEASE_H
#define RELAY_INSERT_INSERT_LEASE_H

#include "relay/base/clock.h"
#include "relay/base/stop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct insert_lease {
    const struct clock *clock;
    struct duration length;      // what a commit gives: session.timeout less a margin for clocks
    void (*wake)(void *context); // the committer, to renew
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    // under the lock
    struct mono_time until; // ns 0: none
    bool wanted;
};

void insert_lease_init(struct insert_lease *lease, const struct clock *clock, struct duration length,
    void (*wake)(void *context), void *context);
void insert_lease_finish(struct insert_lease *lease);

// A commit sent at `sent` was accepted.
void insert_lease_grant(struct insert_lease *lease, struct mono_time sent);
// We are out of the group, or may be.
void insert_lease_revoke(struct insert_lease *lease);
// Whether somebody waits for it.
bool insert_lease_is_wanted(struct insert_lease *lease);
// Whether somebody waits for it, or it has less than half left.
bool insert_lease_renewal_due(struct insert_lease *lease);
struct mono_time insert_lease_until(struct insert_lease *lease);

// Waits until the lease lasts for at least `least` from now, by a commit that was sent at `since` or later; asks for
// its renewal. false: `given_up` became true, or `until` came first. given_up may be NULL. *end: when it ends.
bool insert_lease_hold(struct insert_lease *lease, struct mono_time since, struct duration least,
    const atomic_bool *given_up, struct mono_time until, struct mono_time *end);
// Wakes those who wait, so that they look at given_up again.
void insert_lease_nudge(struct insert_lease *lease);

#endif
