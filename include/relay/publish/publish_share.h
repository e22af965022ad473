// SPDX-License-Identifier: Apache-2.0
//
// How the replicas share several outboxes: each may own ceil(outboxes / live replicas of this one). One that owns more
// gives one up, one that owns its share leaves free ones to the others for a while, and takes them all the same when
// nobody comes (a replica that cannot reach something). Only counts; who is alive the caller knows from PostgreSQL.
// Shared by the pipes of a process. Any thread.
#ifndef RELAY_PUBLISH_PUBLISH_SHARE_H
#define RELAY_PUBLISH_PUBLISH_SHARE_H

#include "relay/base/clock.h"

#include <pthread.h>
#include <stdbool.h>

struct publish_share {
    pthread_mutex_t lock;
    int outboxes;
    int owned; // by this process
};

// What one pipe remembers.
struct publish_sharer {
    bool counted;              // in owned
    bool given_up;             // until it is taken again, by whomever
    int replicas;              // of its outbox when last asked, ourselves included; 0 not known
    struct mono_time owned_at; // since when
    struct mono_time tried_at;
    struct mono_time stays_until; // it was given up and nobody took it: not again before this
};

bool publish_share_init(struct publish_share *share, int outboxes);
void publish_share_finish(struct publish_share *share);
int publish_share_even(int outboxes, int replicas); // what each may own; replicas below 1 count as 1

// The pipe's ownership is this now.
void publish_share_note(struct publish_share *share, struct publish_sharer *sharer, bool owned, struct mono_time now);
// Whether the owner should give its outbox up now; if so it is counted as given up.
bool publish_share_give_up(struct publish_share *share, struct publish_sharer *sharer, struct mono_time now);
// Whether a pipe without ownership should try for it now.
bool publish_share_may_try(struct publish_share *share, struct publish_sharer *sharer, struct mono_time now);

#endif
