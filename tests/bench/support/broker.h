// SPDX-License-Identifier: Apache-2.0
//
// A librdkafka producer as anybody would write it, for the references: messages from memory, no copy of key or value,
// the relay's own settings ([kafka] of the configuration and the relay's defaults), idempotent or transactional. One
// thread.
#ifndef BENCH_BROKER_H
#define BENCH_BROKER_H

#include "support/event_maker.h"
#include "relay/config/context.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Messages in memory, ready to be produced.
struct stored_message {
    const char *value, *key;
    uint32_t value_length;
    uint32_t topic;
    int64_t timestamp_ms;
    const char *headers[EVENT_HEADERS]; // values
};
struct message_store {
    struct stored_message *at;
    size_t count;
    char *text;
};
// Makes `count` events from number `first` on. message_store_free gives them back.
struct message_store message_store_new(const struct event_shape *shape, uint64_t first, size_t count);
void message_store_free(struct message_store *store);

struct broker {
    rd_kafka_t *client;
    rd_kafka_topic_t **topics;
    unsigned topic_count;
    size_t pending; // sent, not yet acknowledged
    bool transactional;
};

// transactional_id NULL: idempotent only. Topics as event_topic_name makes them. Connects, fetches the topics' metadata
// and, where transactional, initialises transactions: nothing of that is left to the first message. linger_ms -1: the
// relay's.
void broker_open(struct broker *broker, const struct relay_context *context, const char *transactional_id,
    const char *prefix, unsigned topics, int linger_ms);
void broker_close(struct broker *broker);
// Queues; waits where the queue is full. The message must stay until it is acknowledged.
void broker_send(struct broker *broker, const struct stored_message *message);
void broker_wait(struct broker *broker); // for everything queued; ends the program when a message fails
void broker_begin(struct broker *broker);
void broker_commit(struct broker *broker); // waits for the reports first

#endif
