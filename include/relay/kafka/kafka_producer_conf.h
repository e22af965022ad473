// SPDX-License-Identifier: Apache-2.0
//
// What librdkafka is told for a producer, beside [kafka], and what of that the producer has to know. For
// kafka_producer.c. Nothing is contacted; any thread.
#ifndef RELAY_KAFKA_KAFKA_PRODUCER_CONF_H
#define RELAY_KAFKA_KAFKA_PRODUCER_CONF_H

#include "relay/kafka/kafka_producer.h"

// The caller's. Errors: CONFIG, NO_MEMORY.
rd_kafka_conf_t *kafka_producer_conf(const struct relay_context *context, const struct kafka_producer_options *options,
    struct relay_error *error);

struct kafka_producer_settings {
    size_t message_max, set_bytes;       // message.max.bytes, batch.size
    struct duration transaction_timeout; // kafka_producer_transaction_timeout()
    bool makes_topics;                   // allow.auto.create.topics
};
struct kafka_producer_settings kafka_producer_settings(const rd_kafka_conf_t *conf, bool transactional);

#endif
