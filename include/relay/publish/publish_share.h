// SPDX-License-Identifier: Apache-2.0
//
// How the replicas share several outboxes: each may own ceil(outboxes / live replicas of this one). One that owns more
// gives one up, one that owns its share leaves free ones to the others for a while, and takes them all the same when
// nobody comes (a replica that cannot reach something). Only counts; who is alive the caller knows from PostgreSQL,
// which one pipe asks for all of them. Shared by the pipes of a process. Any thread.
#ifndef RELAY_PUBLISH_PUBLISH_SHARE_H
#define RELAY_PUBLISH_PUBLISH_SHARE_H

#include "relay/base/clock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct publish_sharer;

struct publish_share {
    pthread_mutex_t lock;
    int outboxes;
    int owned;           // by this process
    bool asked, reached; // Kafka, for the first time
    struct publish_sharer *sharers;
    struct mono_time counted_at; // the replicas of all of them
};

// What one pipe remembers.
struct publish_sharer {
    struct publish_sharer *next; // among those of the process
    int64_t outbox;              // its table's oid; 0 not known
    bool counted;                // in owned
    bool given_up;               // until it is taken again, by whomever
    int replicas;                // of its outbox when last asked, ourselves included; 0 not known
    struct mono_time owned_at;   // since when
    struct mono_time tried_at;
    struct mono_time stays_until; // it was given up and nobody took it: not again before this
};

bool publish_share_init(struct publish_share *share, int outboxes);
void publish_share_finish(struct publish_share *share);
int publish_share_owned(struct publish_share *share);
int publish_share_even(int outboxes, int replicas); // what each may own; replicas below 1 count as 1

// The pipe's ownership is this now.
void publish_share_note(struct publish_share *share, struct publish_sharer *sharer, bool owned, struct mono_time now);
// Whether the caller is to count the replicas of all outboxes now: of these tables (malloc'd; NULL where memory is
// missing, then of none). Not if somebody has lately, its own among them.
bool publish_share_counts(struct publish_share *share, struct publish_sharer *sharer, int64_t outbox,
    struct mono_time now, int64_t **outboxes, size_t *count);
void publish_share_counted(struct publish_share *share, const int64_t *outboxes, const int *replicas, size_t count);
int publish_share_replicas(struct publish_share *share, const struct publish_sharer *sharer); // when last counted
// Whether the owner should give its outbox up now; if so it is counted as given up.
bool publish_share_give_up(struct publish_share *share, struct publish_sharer *sharer, struct mono_time now);
// Whether the caller is the one that asks Kafka whether it answers this process, until it does.
bool publish_share_asks(struct publish_share *share);
void publish_share_note_reached(struct publish_share *share); // Kafka has answered
bool publish_share_reached(struct publish_share *share);
// Whether a pipe without ownership should try for it now.
bool publish_share_may_try(struct publish_share *share, struct publish_sharer *sharer, struct mono_time now);

#endif
