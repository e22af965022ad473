// SPDX-License-Identifier: Apache-2.0
//
// Copies of dead letters in a Kafka topic ([insert] dead_letter_topic), for whoever wants to consume them: the original
// key, value and headers, and dlq.reason, dlq.code, dlq.text, dlq.topic, dlq.partition, dlq.offset, dlq.table, dlq.at.
// At least once: a copy is acknowledged before its row is written, so a crash in between repeats it under the same
// identity. A batch gathers its copies; they are sent when its dead letters are about to be written, not before, since
// it may be given up. The topic is thread-safe; a set of copies belongs to one thread at a time.
#ifndef RELAY_INSERT_DEAD_LETTER_TOPIC_H
#define RELAY_INSERT_DEAD_LETTER_TOPIC_H

#include "relay/config/context.h"
#include "relay/insert/source_message.h"

#include <stdatomic.h>
#include <stdbool.h>

// What a set's copies may take to be acknowledged; librdkafka keeps none of them for longer.
#define DEAD_LETTER_COPIES_LIMIT DURATION_S(30)

struct dead_letter_topic;

// Makes the producer; contacts nothing itself. Errors: CONFIG, NO_MEMORY.
struct dead_letter_topic *dead_letter_topic_new(const struct relay_context *context, struct relay_error *error);
// Whether its producer can be made: as kafka_conf_try().
bool dead_letter_topic_try(const struct relay_context *context, struct relay_error *error);
// When nobody sends any more: gives up what is not acknowledged and lets the client go, which may hang, so it is not
// waited for long. Only questions and dead_letter_topic_free() may follow. Accepts NULL, and a topic that has ended.
void dead_letter_topic_end(struct dead_letter_topic *topic);
// Whether a client that it has replaced, or ended with, hangs, so that its threads may still run.
bool dead_letter_topic_left_client(const struct dead_letter_topic *topic); // NULL: false
void dead_letter_topic_free(struct dead_letter_topic *topic); // what is not acknowledged is given up; accepts NULL

// The copies of one batch. Start with {0}.
struct dead_letter_copies {
    struct dead_letter_copy *items;
    size_t count, room;
    size_t memory;                       // bytes of all that were added
    struct dead_letter_reports *reports; // of those that were sent
};

// Everything is copied. false: NO_MEMORY.
bool dead_letter_copies_add(struct dead_letter_copies *copies, const struct clock *clock, const char *target,
    const struct source_message *message, const char *reason, const char *code, const char *text,
    struct relay_error *error);
void dead_letter_copies_finish(struct dead_letter_copies *copies);

// Sends those that were not sent yet and waits until all are acknowledged; one that is larger than Kafka allows is left
// out, counted and logged. false: not before `until`, given_up (may be NULL) became true, or Kafka refused one: that is
// gone, and the set stays refused.
bool dead_letter_topic_send(struct dead_letter_topic *topic, struct dead_letter_copies *copies, struct mono_time until,
    const atomic_bool *given_up, struct relay_error *error);

#endif
