// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_lease.h"

#include <time.h>

void insert_lease_init(struct insert_lease *lease, const struct clock *clock, struct duration length,
    void (*wake)(void *context), void *context)
{
    *lease = (struct insert_lease){.clock = clock, .length = length, .wake = wake, .context = context};
    pthread_mutex_init(&lease->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lease->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void insert_lease_finish(struct insert_lease *lease)
{
    pthread_cond_destroy(&lease->changed);
    pthread_mutex_destroy(&lease->lock);
}

void insert_lease_grant(struct insert_lease *lease, struct mono_time sent)
{
    struct mono_time until = mono_add(sent, lease->length);
    pthread_mutex_lock(&lease->lock);
    if (mono_before(lease->until, until)) {
        lease->until = until;
        lease->wanted = false;
    }
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->lock);
}

void insert_lease_revoke(struct insert_lease *lease)
{
    pthread_mutex_lock(&lease->lock);
    lease->until = (struct mono_time){0};
    pthread_mutex_unlock(&lease->lock);
}

bool insert_lease_is_wanted(struct insert_lease *lease)
{
    pthread_mutex_lock(&lease->lock);
    bool wanted = lease->wanted;
    pthread_mutex_unlock(&lease->lock);
    return wanted;
}

bool insert_lease_renewal_due(struct insert_lease *lease)
{
    struct mono_time half = mono_add(clock_mono(lease->clock), DURATION_NS(lease->length.ns / 2));
    pthread_mutex_lock(&lease->lock);
    bool due = lease->wanted || mono_before(lease->until, half);
    pthread_mutex_unlock(&lease->lock);
    return due;
}

struct mono_time insert_lease_until(struct insert_lease *lease)
{
    pthread_mutex_lock(&lease->lock);
    struct mono_time until = lease->until;
    pthread_mutex_unlock(&lease->lock);
    return until;
}

bool insert_lease_hold(struct insert_lease *lease, struct mono_time since, struct duration least,
    const atomic_bool *given_up, struct mono_time until, struct mono_time *end)
{
    bool held = false;
    pthread_mutex_lock(&lease->lock);
    for (;;) {
        struct mono_time now = clock_mono(lease->clock);
        if (given_up && atomic_load(given_up)) {
            break; // whatever the lease says: the partition may be somebody else's already
        }
        held = !mono_before(lease->until, mono_add(now, least)) &&
            !mono_before(lease->until, mono_add(since, lease->length));
        if (held || mono_reached(now, until)) {
            break;
        }
        if (!lease->wanted) {
            lease->wanted = true;
            lease->wake(lease->context);
        }
        // In slices: given_up and the clock of a test change without telling us.
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_nsec += 100000000;
        if (at.tv_nsec >= 1000000000) {
            at.tv_sec++;
            at.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&lease->changed, &lease->lock, &at);
    }
    *end = lease->until;
    pthread_mutex_unlock(&lease->lock);
    return held;
}

void insert_lease_nudge(struct insert_lease *lease)
{
    pthread_mutex_lock(&lease->lock);
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->lock);
}
