// SPDX-License-Identifier: Apache-2.0
//
// Where the receipts of an outbox stand in Kafka: one partition of a compacted topic. Opening makes the topic when it
// is missing; reading gives every committed receipt of the outbox from an offset up to what was in the partition when
// the reading began, also behind other producers' open transactions (it waits for those): it puts a record of its own
// behind that, for which no transaction may be open. Writing is a message of the batch's own transaction and is done by
// the pipe. One thread at a time.
#ifndef RELAY_PUBLISH_RECEIPT_STORE_H
#define RELAY_PUBLISH_RECEIPT_STORE_H

#include "relay/config/context.h"
#include "relay/kafka/kafka_producer.h"
#include "relay/publish/receipt.h"

// A record that shows where a partition ends.
struct receipt_mark {
    struct kafka_flight flight;
    struct kafka_slot slot;
};

struct receipt_store {
    const struct relay_context *context;
    struct kafka_producer *producer; // borrowed, with transactions
    const char *topic;               // borrowed
    char topic_id[40];               // "" when the broker or librdkafka is too old to tell
    int32_t partitions;
    const struct kafka_topic *handle; // the producer's
    struct receipt_mark *marks;       // one for each partition
    char mark_key[48];
    bool left; // a reader that librdkafka does not let go of; its threads may still run
};

// The topic through this producer's connections. tick: called while waiting. Errors: KAFKA_OPERATOR (no right to create
// it), KAFKA_UNREACHABLE, ...
bool receipt_store_open(struct receipt_store *store, const struct relay_context *context,
    struct kafka_producer *producer, const char *topic, struct kafka_tick tick, struct mono_time deadline,
    struct relay_error *error);
// Only after the producer was freed. Accepts one that was never opened.
void receipt_store_finish(struct receipt_store *store);
// The partition of an outbox that has no receipt yet.
int32_t receipt_store_partition(const struct receipt_store *store, const uint8_t identity[16]);

// Whether the consumer that reads them can be made: as kafka_conf_try().
bool receipt_store_try(const struct relay_context *context, struct relay_error *error);

struct receipt_place {
    int32_t partition;
    int64_t offset, timestamp_ms; // -1: it has none
};
// Whether the broker lets us write there; true also when it does not tell. Errors: KAFKA_OPERATOR.
bool receipt_store_may_write(const struct receipt_store *store, struct kafka_tick tick, struct mono_time deadline,
    struct relay_error *error);

// One receipt that was read; only valid during the call. false ends the reading with the error that was set.
typedef bool receipt_reader(void *context, const struct receipt *receipt, const struct receipt_place *place,
    struct relay_error *error);

// From `offset` (or -1: the beginning) of the partition (or -1: of every one). Receipts of other outboxes are
// skipped, and what is no receipt, with a warning.
// Waits until everything that was there at the start is decided and read, however long that takes, but for `patience`
// at most where nothing comes. tick: called while waiting. After an error the producer is to be freed. Errors:
// KAFKA_UNREACHABLE, or what librdkafka told of the partition, when patience is over (KAFKA_RETRIABLE: a transaction
// that stays open); those of a transaction; STOPPED; PROTOCOL (a broken receipt of ours).
bool receipt_store_read(struct receipt_store *store, const uint8_t identity[16], int32_t partition, int64_t offset,
    receipt_reader *reader, void *reader_context, struct kafka_tick tick, struct duration patience,
    struct relay_error *error);

#endif
