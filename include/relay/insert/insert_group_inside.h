// SPDX-License-Identifier: Apache-2.0
//
// The state of the stage as a member of the consumer group, and what its parts share. Each part uses those below it
// only:
//
//   insert_group.c     membership, and the round of work
//   insert_flow.c      where partitions begin, and which stand still
//   insert_catch_up.c  tables that read on by themselves
//   insert_take.c      a message to its tables; insert_expiry.c: offsets that the log has no longer
//   insert_commit.c    what is committed; insert_health.c, insert_lag.c: what is told; insert_memory.c
//   insert_silence.c   partitions that give nothing
//
// The consumer's thread.
#ifndef RELAY_INSERT_INSERT_GROUP_INSIDE_H
#define RELAY_INSERT_INSERT_GROUP_INSIDE_H

#include "relay/base/backoff.h"
#include "relay/insert/insert_lease.h"
#include "relay/insert/insert_routes.h"
#include "relay/insert/insert_table.h"
#include "relay/kafka/kafka_consumer.h"

#include <stdatomic.h>
#include <stdbool.h>

// What insert_health.c knows of the brokers, and has told.
struct insert_health {
    bool healthy;               // as the board has it
    bool answered;              // a broker has, once
    size_t unreadable;          // partitions of which the board says that they cannot be read
    bool unreachable;           // no broker answered when last one was needed, or the breaker is not closed since
    char refused[512];          // the reason of what one has refused and that was not seen to work since; "": nothing
    char away[512];             // why no broker answers, since they were all said to be down; "": one has answered
    struct mono_time silent_at; // when the breaker hears again that none does
    struct mono_time prove_at;  // when to ask again whether one does
    struct mono_time alone;     // since when none has answered; 0: one has
    rd_kafka_topic_partition_list_t *absent; // what is subscribed to and not there; NULL: nothing ever was
    rd_kafka_topic_partition_list_t *known;  // topics of which we had partitions, and what they stand for in the
                                             // subscription; NULL: nothing
    struct mono_time absent_at;              // when to look for it again
    unsigned looks;                          // how often brokers may be asked whether what is known is still there
    struct mono_time look_at;                // from when on
    struct mono_time again_at;               // when to ask again for partitions that we may not read
};

struct insert_group {
    const struct relay_context *context;
    const struct insert_routes *routes;
    struct insert_table **tables; // one for each route
    size_t table_count;
    struct insert_partitions partitions;
    struct insert_lease *lease;
    int wake_fd;
    struct heartbeat *heartbeat;     // the stage's, which it waits for in a revocation; NULL: nobody's
    struct kafka_consumer *consumer; // NULL: not a member
    bool leaving;                    // closing: nothing is committed any more
    bool broken;                     // the consumer must be closed and made anew
    bool assigned;                   // this member was told its partitions, be it that there are none
    struct relay_error why_broken;
    bool some_refused;    // by the last commit
    bool stands_refused;  // all of the last commit was, and somebody has to do something
    size_t metadata_room; // bytes that may go with an offset, since brokers refused more; 0: as many as there are
    size_t metadata_most; // with one of the commit under way
    struct mono_time metadata_again_at; // when more is tried again
    bool rebalancing;       // the last commit, since the group is rebalancing with us in it: said again it may count
    struct backoff backoff; // until a client can be made, and until the committed offsets are read
    struct backoff rejoin;  // between memberships, until a commit is accepted
    struct mono_time joined_at, join_at, commit_at, committed_at, ask_at, tell_at;
    bool full;          // a table is, or the memory may be: no more messages now
    bool crowded;       // the memory is full: partitions are held until something is stored
    size_t room, taken; // bytes of messages that may be taken until memory is measured again, and that were
    struct mono_time full_since;
    struct mono_time beginnings_at, beginnings_until; // from when to when brokers may be asked where logs begin
    struct mono_time compare_at;                      // when they may be asked where logs end (insert_expiry.h)
    struct insert_health health;
    struct mono_time emptied_at;    // when everything that brokers had given was taken last
    struct mono_time silence_at;    // when to look again for partitions that give nothing
    struct mono_time silent_ask_at; // when to ask again for the end of one
    char trouble[160];              // the last one with a broker; "": none
    struct mono_time trouble_at;
    bool hangs;                    // a handle was left behind
    struct kafka_consumer *reader; // of feeds that catch up by themselves, NULL: there are none
    bool reader_stale;             // which partitions it has to read has changed
    struct insert_partition *last; // of the last message
    struct source_header *headers;
    size_t header_room;
    _Atomic int64_t lag;              // of all partitions together; -1: not known
    struct metric_series *shared_lag; // the gauge of partitions that have none of their own; NULL: all have one
};

struct insert_partition *insert_group_find(const struct insert_group *group, const char *topic, int32_t number);
// The consumer is of no more use: the group is left and joined again at the next insert_group_work.
void insert_group_break(struct insert_group *group, const struct relay_error *error);
struct mono_time insert_group_now(const struct insert_group *group);
// Adds the partition to the list, which is made for the first one.
rd_kafka_topic_partition_t *insert_group_list(rd_kafka_topic_partition_list_t **list,
    const struct insert_partition *partition);

#endif
