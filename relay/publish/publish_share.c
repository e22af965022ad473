// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_share.h"

#include <stdlib.h>

#define SETTLE   DURATION_S(3)  // an outbox is kept at least so long
#define COURTESY DURATION_S(2)  // a free outbox beyond our share is left to others for so long
#define STAY     DURATION_S(60) // after nobody took one that we gave up
// A little less than the two seconds in which each pipe comes by, so that one of them finds it over.
#define COUNT_INTERVAL DURATION_MS(1800)

bool publish_share_init(struct publish_share *share, int outboxes)
{
    share->outboxes = outboxes;
    share->owned = 0;
    share->asked = share->reached = false;
    share->sharers = NULL;
    share->counted_at = (struct mono_time){0};
    return pthread_mutex_init(&share->lock, NULL) == 0;
}

void publish_share_finish(struct publish_share *share)
{
    pthread_mutex_destroy(&share->lock);
}

int publish_share_even(int outboxes, int replicas)
{
    return replicas <= 1 ? outboxes : (outboxes + replicas - 1) / replicas;
}

int publish_share_owned(struct publish_share *share)
{
    pthread_mutex_lock(&share->lock);
    int owned = share->owned;
    pthread_mutex_unlock(&share->lock);
    return owned;
}

void publish_share_note(struct publish_share *share, struct publish_sharer *sharer, bool owned, struct mono_time now)
{
    pthread_mutex_lock(&share->lock);
    if (owned != sharer->counted) {
        share->owned += owned ? 1 : -1;
        sharer->counted = owned;
        if (owned) {
            sharer->owned_at = now;
            if (sharer->given_up) {
                sharer->stays_until = mono_add(now, STAY);
            }
            sharer->given_up = false;
        }
    }
    pthread_mutex_unlock(&share->lock);
}

// Under the lock.
static void join(struct publish_share *share, struct publish_sharer *sharer, int64_t outbox)
{
    if (sharer->outbox == 0) {
        sharer->next = share->sharers;
        share->sharers = sharer;
    }
    if (sharer->outbox != outbox) { // another table under the name: its replicas are not known
        sharer->outbox = outbox;
        sharer->replicas = 0;
    }
}

bool publish_share_counts(struct publish_share *share, struct publish_sharer *sharer, int64_t outbox,
    struct mono_time now, int64_t **outboxes, size_t *count)
{
    *outboxes = NULL;
    *count = 0;
    pthread_mutex_lock(&share->lock);
    join(share, sharer, outbox);
    bool counts = sharer->replicas == 0 || mono_reached(now, mono_add(share->counted_at, COUNT_INTERVAL));
    if (counts) {
        share->counted_at = now;
        *outboxes = calloc((size_t)share->outboxes, sizeof(**outboxes));
    }
    for (struct publish_sharer *at = share->sharers; *outboxes != NULL && at != NULL; at = at->next) {
        (*outboxes)[(*count)++] = at->outbox;
    }
    pthread_mutex_unlock(&share->lock);
    return counts;
}

void publish_share_counted(struct publish_share *share, const int64_t *outboxes, const int *replicas, size_t count)
{
    pthread_mutex_lock(&share->lock);
    for (struct publish_sharer *at = share->sharers; at != NULL; at = at->next) {
        for (size_t i = 0; i < count; i++) {
            at->replicas = at->outbox == outboxes[i] ? replicas[i] : at->replicas;
        }
    }
    pthread_mutex_unlock(&share->lock);
}

int publish_share_replicas(struct publish_share *share, const struct publish_sharer *sharer)
{
    pthread_mutex_lock(&share->lock);
    int replicas = sharer->replicas;
    pthread_mutex_unlock(&share->lock);
    return replicas;
}

bool publish_share_give_up(struct publish_share *share, struct publish_sharer *sharer, struct mono_time now)
{
    pthread_mutex_lock(&share->lock);
    bool too_many = share->owned > publish_share_even(share->outboxes, sharer->replicas);
    bool give = too_many && sharer->counted && mono_reached(now, mono_add(sharer->owned_at, SETTLE)) &&
        mono_reached(now, sharer->stays_until);
    if (give) {
        share->owned--;
        sharer->counted = false;
        sharer->given_up = true;
        sharer->tried_at = now;
    }
    pthread_mutex_unlock(&share->lock);
    return give;
}

bool publish_share_may_try(struct publish_share *share, struct publish_sharer *sharer, struct mono_time now)
{
    pthread_mutex_lock(&share->lock);
    bool may = share->owned < publish_share_even(share->outboxes, sharer->replicas) ||
        mono_reached(now, mono_add(sharer->tried_at, COURTESY));
    if (may) {
        sharer->tried_at = now;
    }
    pthread_mutex_unlock(&share->lock);
    return may;
}

bool publish_share_asks(struct publish_share *share)
{
    pthread_mutex_lock(&share->lock);
    bool asks = !share->asked && !share->reached;
    share->asked = true;
    pthread_mutex_unlock(&share->lock);
    return asks;
}

void publish_share_note_reached(struct publish_share *share)
{
    pthread_mutex_lock(&share->lock);
    share->reached = true;
    pthread_mutex_unlock(&share->lock);
}

bool publish_share_reached(struct publish_share *share)
{
    pthread_mutex_lock(&share->lock);
    bool reached = share->reached;
    pthread_mutex_unlock(&share->lock);
    return reached;
}
