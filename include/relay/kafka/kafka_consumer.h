// SPDX-License-Identifier: Apache-2.0
//
// A member of a consumer group whose owner decides where each partition begins and when its offsets are committed: new
// partitions are assigned paused and stay so until kafka_consumer_begin(). Cooperative rebalancing, read_committed,
// ends of partitions are told, nothing is stored, committed or reset by librdkafka itself. Everything is called on, and
// told to, the one thread that owns the consumer; no function waits for the network longer than it says. librdkafka's
// own heartbeats go on meanwhile.
#ifndef RELAY_KAFKA_KAFKA_CONSUMER_H
#define RELAY_KAFKA_KAFKA_CONSUMER_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/config/context.h"

#include <librdkafka/rdkafka.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kafka_consumer;

// Called from kafka_consumer_serve and kafka_consumer_close. What is passed is valid during the call only.
struct kafka_consumer_listener {
    void *context;
    void (*assigned)(void *context, const rd_kafka_topic_partition_list_t *partitions);
    // Before the partitions go: finish with them. lost: somebody else may own them already. false: nobody may have them
    // yet. Then they stay this member's until its session ends; the handle is only good to be closed, as after
    // kafka_consumer_stay().
    bool (*revoked)(void *context, const rd_kafka_topic_partition_list_t *partitions, bool lost);
    void (*message)(void *context, const rd_kafka_message_t *message);
    void (*partition_end)(void *context, const char *topic, int32_t partition, int64_t offset);
    // The offset where we stand is not in the log: the partition stays still until begun again.
    void (*partition_failed)(void *context, const char *topic, int32_t partition, const struct relay_error *error);
    // Its messages cannot be read for now, which librdkafka repeats (a corrupt record set, a broker that cannot read
    // its disk): said about twice a second as long as it lasts. TOPIC_AUTHORIZATION_FAILED is said once, and once more
    // after each kafka_consumer_resume(). May be NULL.
    void (*partition_troubled)(void *context, const char *topic, int32_t partition, const struct relay_error *error);
    // sent: when. The offsets of each partition with its own error.
    void (*committed)(void *context, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_resp_err_t code,
        struct mono_time sent);
    // A name or an expression of the subscription that stands for no topic that we can see. Told once, also where it
    // stays so; that there is one now shows in kafka_consumer_all_topics().
    void (*topic_absent)(void *context, const char *subscribed);
    // finished: the handle is of no more use (fatal error, fenced): close it and make another.
    void (*trouble)(void *context, const struct relay_error *error, bool finished);
};

struct kafka_consumer_options {
    const char *group_id;
    const char *const *topics; // names, or expressions that begin with ^; the owner's, as long as the consumer is
    size_t topic_count;
    int64_t memory; // bytes that messages fetched ahead may take
    int wake_fd;    // an eventfd that becomes readable when there is something to serve
    bool member;    // false: no group; partitions come by kafka_consumer_take()
};

// Makes the handle and subscribes. Copies the listener. Errors: CONFIG, NO_MEMORY.
struct kafka_consumer *kafka_consumer_new(const struct relay_context *context,
    const struct kafka_consumer_options *options, const struct kafka_consumer_listener *listener,
    struct relay_error *error);
// Whether one can be made: as kafka_conf_try(). Topics and wake_fd are not looked at.
bool kafka_consumer_try(const struct relay_context *context, const struct kafka_consumer_options *options,
    struct relay_error *error);

// Takes what is there, at most `most` messages and events; false once nothing was left. *stop (may be NULL) ends it
// between messages.
bool kafka_consumer_serve(struct kafka_consumer *consumer, size_t most, const bool *stop);
// Only results of commits, for use within listener->revoked.
void kafka_consumer_serve_commits(struct kafka_consumer *consumer);

// The group's committed offsets of these partitions, into offset (RD_KAFKA_OFFSET_INVALID: none). Waits at most
// `timeout`.
bool kafka_consumer_committed(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct duration timeout, struct relay_error *error);
// Goes to each partition's offset (RD_KAFKA_OFFSET_BEGINNING: the log's beginning as it is now, put in its place, if
// the broker tells it within 3 s) and fetches from there.
bool kafka_consumer_begin(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct relay_error *error);
void kafka_consumer_pause(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions);
void kafka_consumer_resume(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions);
// Without a group: exactly these partitions, each from its offset.
bool kafka_consumer_take(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions,
    struct relay_error *error);

// One at a time: false while a commit is under way. The result comes by listener->committed.
bool kafka_consumer_commit(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *offsets);
// Since when a commit has been under way; false: none is.
bool kafka_consumer_committing(const struct kafka_consumer *consumer, struct mono_time *since);
// The partitions are no longer ours, which listener->revoked may not have heard yet.
bool kafka_consumer_lost(const struct kafka_consumer *consumer);
// Of unknown outcome when it takes longer.
struct duration kafka_consumer_commit_limit(const struct kafka_consumer *consumer);
struct duration kafka_consumer_session_timeout(const struct kafka_consumer *consumer);
// Offsets that librdkafka last saw as the log's first and end; false: none yet. Never waits.
bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t *low,
    int64_t *high);

// Asks the broker for the log's first offset and its end; waits at most `timeout`.
bool kafka_consumer_ask_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition,
    struct duration timeout, int64_t *low, int64_t *high, struct relay_error *error);

// A broker answers now, within `timeout`: one round trip.
bool kafka_consumer_answered(struct kafka_consumer *consumer, struct duration timeout);
// What topics there are, asked of a broker, within `timeout`: the caller's (rd_kafka_metadata_destroy). NULL: no
// answer.
const struct rd_kafka_metadata *kafka_consumer_all_topics(struct kafka_consumer *consumer, struct duration timeout);

// The closing that follows does not tell the coordinator: the group learns of it by the end of the session.
void kafka_consumer_stay(struct kafka_consumer *consumer);
// Leaves the group and frees, listener->revoked included, at most until the deadline. false: librdkafka hangs; the
// handle is left to a thread of its own and must be forgotten. Accepts NULL.
bool kafka_consumer_close(struct kafka_consumer *consumer, struct mono_time deadline);

#endif
