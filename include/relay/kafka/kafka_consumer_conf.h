// SPDX-License-Identifier: Apache-2.0
//
// What librdkafka is told for a consumer, beside [kafka]: above all how much memory it may take for what it fetches
// ahead, since librdkafka's own limits are those of a program that has a machine to itself. Nothing is contacted; any
// thread.
#ifndef RELAY_KAFKA_KAFKA_CONSUMER_CONF_H
#define RELAY_KAFKA_KAFKA_CONSUMER_CONF_H

#include "relay/kafka/kafka_consumer.h"

// memory: bytes that messages fetched ahead may take. What [kafka] gives stays. The largest record set that can be read
// follows from [insert] memory_limit alone, so that each consumer reads what another has read. Errors: CONFIG.
bool kafka_consumer_bound(rd_kafka_conf_t *conf, const struct relay_context *context, int64_t memory,
    struct relay_error *error);
// For one that reads a backlog. A broker before Kafka 3.8 gives up the reading from tiered storage after
// fetch.wait.max.ms. A member has less: one fetch at a time goes to a broker, and a partition that goes on again waits
// for it. What [kafka] gives stays.
bool kafka_consumer_wait_longer(rd_kafka_conf_t *conf, const struct relay_context *context, struct relay_error *error);
// All that the insert stage's consumers are told; the caller's. NULL: CONFIG, NO_MEMORY.
rd_kafka_conf_t *kafka_consumer_conf(const struct relay_context *context, const struct kafka_consumer_options *options,
    struct relay_error *error);

#endif
