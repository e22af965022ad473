// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_consumer_conf.h"

#include "relay/config/config_kafka.h"
#include "relay/kafka/kafka_conf.h"

#define UNPACKED_LEAST 100000000 // librdkafka's own default

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

// What librdkafka receives at once is also what a record set may come to when it is unpacked (scripts/patches): one of
// 1 MB may come to a thousand times as much, and no queue's limit counts it before it is there.
static bool bound_receive(rd_kafka_conf_t *conf, const struct config *config, int64_t largest,
    struct relay_error *error)
{
    int64_t unpacked = config->insert.memory_limit / 2;
    int64_t fetch = kafka_conf_number(conf, "fetch.max.bytes", 52428800) + 512;
    unpacked = unpacked > 2 * largest ? unpacked : 2 * largest;
    return kafka_conf_set_default(conf, config, "receive.message.max.bytes",
        clamp(unpacked > fetch ? unpacked : fetch, UNPACKED_LEAST, INT32_MAX), error);
}

bool kafka_consumer_bound(rd_kafka_conf_t *conf, const struct relay_context *context, int64_t memory,
    struct relay_error *error)
{
    const struct config *config = context->config;
    // librdkafka makes no consumer that fetches less at a time than the largest message has, or more than it receives.
    int64_t largest = kafka_conf_message_max(conf);
    // Each broker is asked at the same time, and what comes out of an answer may be ten times as large.
    int64_t fetch = clamp(memory / 32, 65536, 52428800);
    if (config_kafka_given(config, "receive.message.max.bytes") != NULL) {
        fetch = clamp(fetch, 0, kafka_conf_number(conf, "receive.message.max.bytes", 100000000) - 512);
    }
    return kafka_conf_set_default(conf, config, "queued.max.messages.kbytes", clamp(memory / 1024, 2048, 2097151),
               error) &&
        // librdkafka counts the bytes of messages; each takes some hundred more, which is what small ones cost.
        kafka_conf_set_default(conf, config, "queued.min.messages", clamp(memory / 1024, 1000, 100000), error) &&
        // As compressed: what comes out of it may be ten times as large.
        kafka_conf_set_default(conf, config, "fetch.message.max.bytes", clamp(memory / 64, 65536, 1048576), error) &&
        kafka_conf_set_default(conf, config, "fetch.max.bytes", fetch > largest ? fetch : largest, error) &&
        bound_receive(conf, config, largest, error) &&
        // A partition whose queue is full is looked at again after this long.
        kafka_conf_set_default(conf, config, "fetch.queue.backoff.ms", 20, error);
}
