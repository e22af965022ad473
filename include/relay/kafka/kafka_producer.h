// SPDX-License-Identifier: Apache-2.0
//
// A producer of one term: transactional (exactly_once) or only idempotent (at_least_once). It counts what the broker
// has said about each message, so that a caller can wait for a whole batch; copies neither payloads nor keys, so the
// batch that holds them must live until its flight is empty or the producer is freed; and bounds every call by a
// deadline. The transactional calls of librdkafka are made in short slices, with `tick` in between (heartbeats of the
// leases).
//
// librdkafka has no KIP-890, whatever the brokers have; what follows stays until it sends EndTxn of version 5, which
// raises the epoch (its issue 5423): a request to the transaction coordinator that timed out or was cut is repeated
// inside it, and the first one, delayed, can still hit the next transaction. It repeats only on another connection, or
// after it has closed the one that did not answer (socket.max.fails = 1). So kafka_producer_suspicious() tells when any
// broker connection was closed since the transaction began: the caller then ends the term after this transaction,
// whatever its outcome, and the delayed request finds a newer epoch. After an error other than KAFKA_POISON,
// KAFKA_OPERATOR or KAFKA_ABORTED a producer is freed; without transactions kafka_producer_abort() makes it a new
// client instead.
//
// One thread: delivery reports are served inside the calls below. Errors: as kafka_error.h; KAFKA_UNREACHABLE when a
// deadline passed (the outcome of commit is then unknown: KAFKA_UNKNOWN).
#ifndef RELAY_KAFKA_KAFKA_PRODUCER_H
#define RELAY_KAFKA_KAFKA_PRODUCER_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/base/metrics.h"
#include "relay/config/context.h"
#include "relay/kafka/kafka_wait.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kafka_producer;

struct kafka_producer_options {
    const char *transactional_id; // NULL: idempotent only
    int64_t batch_rows;           // the queue has room for two batches
    int64_t batch_bytes;
    int64_t set_bytes; // most that one set of records has, unless [kafka] batch.size says it; 0: librdkafka's
};

// What became of one message. Owned by the caller; must live until the flight is empty or the producer is freed.
struct kafka_slot {
    struct kafka_flight *flight;
    int32_t error;     // rd_kafka_resp_err_t; 0: delivered, or no report yet
    int32_t partition; // as the report says; KAFKA_NO_PARTITION: no report yet, or the record had got none
};
#define KAFKA_NO_PARTITION (-1)
// The messages of one batch that are on their way.
struct kafka_flight {
    size_t pending;      // handed over and not yet reported
    size_t failed;       // reported with an error
    int32_t first_error; // of the first that failed on its own account (not purged with others)
    int32_t partition;   // of the last one delivered
    int64_t offset;
};

// A topic that exists. Owned by the producer.
struct kafka_topic {
    rd_kafka_topic_t *handle;
    struct metric_series *published; // events_published_total of it
    int32_t partitions;
    const char *name;
};

struct kafka_message {
    const struct kafka_topic *topic; // kafka_producer_topic()
    int32_t partition;               // RD_KAFKA_PARTITION_UA: by the partitioner
    const char *key;                 // NULL: none
    size_t key_length;
    const char *value; // NULL: a tombstone
    size_t value_length;
    int64_t timestamp_ms;        // 0: now
    rd_kafka_headers_t *headers; // taken over when produce succeeds; may be NULL
};

// Contacts nothing yet. Errors: CONFIG, NO_MEMORY.
struct kafka_producer *kafka_producer_new(const struct relay_context *context,
    const struct kafka_producer_options *options, struct kafka_tick tick, struct relay_error *error);
// Whether one can be made: as kafka_conf_try().
bool kafka_producer_try(const struct relay_context *context, const struct kafka_producer_options *options,
    struct relay_error *error);
// Throws away what is still queued, waits up to two seconds for its reports, destroys the client; ticks meanwhile.
// Accepts NULL. false: librdkafka does not let go of a client, which holds nothing of the caller's any more; its
// threads may still run.
bool kafka_producer_free(struct kafka_producer *producer);
// The producer's own; without transactions good until the next kafka_producer_abort().
rd_kafka_t *kafka_producer_client(struct kafka_producer *producer);
size_t kafka_producer_message_max(const struct kafka_producer *producer); // message.max.bytes
size_t kafka_producer_set_bytes(const struct kafka_producer *producer);   // batch.size
// Without transactions message.timeout.ms, at most a minute.
struct duration kafka_producer_transaction_timeout(const struct kafka_producer *producer);

// Why a broker connection failed last, if that was less than a minute ago; the end of every error that says only that a
// deadline has passed, and for the board while init is waited for. false: there was nothing. Any thread.
bool kafka_producer_trouble(struct kafka_producer *producer, char *text, size_t room);

// Lets init_transactions begin, waits `within` for it, and leaves it in the background; whatever becomes of it,
// kafka_producer_init() says it.
void kafka_producer_init_start(struct kafka_producer *producer, struct duration within);
// Waits until a broker answers, whatever it may say of topics or rights later. A stop of the relay ends the waiting
// (STOPPED).
bool kafka_producer_reach(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error);
// init_transactions: fences every older producer of the transactional id and ends what it left open. A stop of the
// relay ends the waiting at once (STOPPED): nothing was produced yet. Without transactions, as kafka_producer_reach().
//
// Where the coordinator says until the deadline that the transaction before is still being ended, that is
// KAFKA_OPERATOR, of which kafka_producer_unended() is true: Kafka answers, and tells every producer of this id the
// same until each partition that the transaction wrote to takes the marker of its end.
bool kafka_producer_init(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error);
bool kafka_producer_unended(const struct relay_error *error);
bool kafka_producer_begin(struct kafka_producer *producer, struct relay_error *error);

// A topic, cached. Asks the broker the first time, so that an absent topic is found before anything is
// produced to it. NULL: KAFKA_OPERATOR (missing, not allowed), or KAFKA_UNREACHABLE.
const struct kafka_topic *kafka_producer_topic(struct kafka_producer *producer, const char *name,
    struct mono_time deadline, struct relay_error *error);
// Whether the topic was there when it was asked for.
bool kafka_producer_has_topic(struct kafka_producer *producer, const char *name);
// Whether kafka_producer_topic() may make a topic that is absent: [kafka] allow.auto.create.topics.
bool kafka_producer_makes_topics(const struct kafka_producer *producer);
// Ask again next time (a topic that vanished).
void kafka_producer_forget_topic(struct kafka_producer *producer, const char *name);

// Queues one message. A full queue is waited out until the deadline. Errors: KAFKA_POISON (too large), others.
bool kafka_producer_send(struct kafka_producer *producer, const struct kafka_message *message,
    struct kafka_flight *flight, struct kafka_slot *slot, struct mono_time deadline, struct relay_error *error);
// Serves reports; waits for the first one at most `wait`.
void kafka_producer_poll(struct kafka_producer *producer, struct duration wait);
// The same for a batch that is complete: nothing more will come, so nothing lingers. Waits for all reports, of all
// flights, at most `wait`.
void kafka_producer_flush(struct kafka_producer *producer, struct duration wait);
// Every flight must be empty. KAFKA_UNKNOWN: may or may not have been committed.
bool kafka_producer_commit(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error);
// Takes back what was produced since begin, or without transactions what has not gone yet; every flight is empty
// afterwards. Without transactions the topics are to be asked for again: their client may be another one.
bool kafka_producer_abort(struct kafka_producer *producer, struct mono_time deadline, struct relay_error *error);

// A broker connection was closed, by either side, since the last begin. Always false without transactions.
bool kafka_producer_suspicious(const struct kafka_producer *producer);

#endif
