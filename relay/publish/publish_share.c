// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_share.h"

#define SETTLE   DURATION_S(3)  // an outbox is kept at least so long
#define COURTESY DURATION_S(2)  // a free outbox beyond our share is left to others for so long
#define STAY     DURATION_S(60) // after nobody took one that we gave up

bool publish_share_init(struct publish_share *share, int outboxes)
{
    share->outboxes = outboxes;
    share->owned = 0;
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
