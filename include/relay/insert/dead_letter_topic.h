// SPDX-License-Identifier: Apache-2.0
//
// Copies of dead letters in a Kafka topic ([insert] dead_letter_topic), for whoever wants to consume them: the original
// key, value and headers, and dlq.reason, dlq.code, dlq.text, dlq.topic, dlq.partition, dlq.offset, dlq.table, dlq.at.
// At least once: a copy is acknowledged before its row is written, so a crash in between repeats it under the same
// identity. Thread-safe.
#ifndef RELAY_INSERT_DEAD_LETTER_TOPIC_H
#define RELAY_INSERT_DEAD_LETTER_TOPIC_H

#include "relay/config/context.h"
#include "relay/insert/source_message.h"

#include <stdatomic.h>
#include <stdbool.h>

struct dead_letter_topic;

// Makes the producer; contacts nothing itself. Errors: CONFIG, NO_MEMORY.
struct dead_letter_topic *dead_letter_topic_new(const struct relay_context *context, struct relay_error *error);
void dead_letter_topic_free(struct dead_letter_topic *topic); // what is not acknowledged is given up; accepts NULL

// Queues a copy; everything is copied. false: the queue is full or memory is out; give up the batch, it is read again.
bool dead_letter_topic_add(struct dead_letter_topic *topic, const char *target, const struct source_message *message,
    const char *reason, const char *code, const char *text, struct relay_error *error);
// Waits until all that was queued so far is acknowledged. false: not before `until`, or some copy failed since the last
// call.
bool dead_letter_topic_flush(struct dead_letter_topic *topic, struct mono_time until, const atomic_bool *given_up,
    struct relay_error *error); // ends early when given_up (may be NULL) becomes true

#endif
