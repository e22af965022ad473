// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_producer_conf.h"

#include "relay/config/config_kafka.h"
#include "relay/kafka/kafka_conf.h"

#include <string.h>

#define BATCH_MS 60000 // the longest limit of a batch without transactions

static bool makes_topics(const rd_kafka_conf_t *conf)
{
    char text[16] = "";
    size_t size = sizeof(text);
    return rd_kafka_conf_get(conf, "allow.auto.create.topics", text, &size) == RD_KAFKA_CONF_OK &&
        strcmp(text, "true") == 0;
}

// How long a batch may take. Without transactions message.timeout.ms says it, where 0 is endless and Kafka Connect sets
// 24 days: the batch's transaction in PostgreSQL must not stay open for so long.
static struct duration batch_limit(const rd_kafka_conf_t *conf, bool transactional)
{
    if (transactional) {
        return DURATION_MS(kafka_conf_number(conf, "transaction.timeout.ms", 15000));
    }
    int64_t given = kafka_conf_number(conf, "message.timeout.ms", BATCH_MS);
    return DURATION_MS(given > 0 && given < BATCH_MS ? given : BATCH_MS);
}

static bool configure(rd_kafka_conf_t *conf, const struct config *config, const struct kafka_producer_options *options,
    struct relay_error *error)
{
    int64_t rows = 2 * options->batch_rows + 64;
    // A record larger than the queue is refused for ever, even by an empty one: the largest fits besides two batches.
    int64_t kilobytes = 2 * options->batch_bytes / 1024 + 16 * 1024 + kafka_conf_message_max(conf) / 1024;
    // One failed request closes the connection, which is how a time-out at the coordinator becomes visible to us.
    bool done = kafka_conf_set(conf, "enable.idempotence", "true", error) &&
        kafka_conf_set_number(conf, "socket.max.fails", 1, error) &&
        kafka_conf_set_default(conf, config, "queue.buffering.max.messages", rows, error) &&
        kafka_conf_set_default(conf, config, "queue.buffering.max.kbytes", kilobytes, error) &&
        kafka_conf_set_default(conf, config, "message.timeout.ms", 10000, error) &&
        (options->set_bytes == 0 || kafka_conf_set_default(conf, config, "batch.size", options->set_bytes, error));
    if (!done || options->transactional_id == NULL) {
        return done && kafka_conf_set_default(conf, config, "enable.gapless.guarantee", 1, error);
    }
    return kafka_conf_set(conf, "transactional.id", options->transactional_id, error) &&
        kafka_conf_set_default(conf, config, "transaction.timeout.ms", 15000, error);
}

rd_kafka_conf_t *kafka_producer_conf(const struct relay_context *context, const struct kafka_producer_options *options,
    struct relay_error *error)
{
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_PRODUCER, "publish", error);
    if (conf != NULL && !configure(conf, context->config, options, error)) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf;
}

struct kafka_producer_settings kafka_producer_settings(const rd_kafka_conf_t *conf, bool transactional)
{
    return (struct kafka_producer_settings){
        .message_max = (size_t)kafka_conf_message_max(conf),
        .set_bytes = (size_t)kafka_conf_number(conf, "batch.size", 1000000),
        .transaction_timeout = batch_limit(conf, transactional),
        .makes_topics = makes_topics(conf),
    };
}
