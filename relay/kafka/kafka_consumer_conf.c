// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_consumer_conf.h"

#include "relay/config/config_kafka.h"
#include "relay/kafka/kafka_conf.h"

#define UNPACKED_LEAST   100000000 // librdkafka's own default
#define BACKLOG_WAIT_MS  500       // the same
#define TIMEOUT_LEAST_MS 2000
#define TIMEOUT_MOST_MS  60000  // librdkafka's own default
#define POLL_LEAST_MS    60000  // and two commits
#define POLL_MS          300000 // librdkafka's own default

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

bool kafka_consumer_wait_longer(rd_kafka_conf_t *conf, const struct relay_context *context, struct relay_error *error)
{
    return kafka_conf_set_default(conf, context->config, "fetch.wait.max.ms", BACKLOG_WAIT_MS, error);
}

// A commit that is answered later is of unknown outcome and ends the membership. Its lease counts from when it was sent
// and ends 2 s before the session: INSERTs under one that was answered just in time have the rest.
static bool set_timeout(const struct relay_context *context, rd_kafka_conf_t *conf, struct relay_error *error)
{
    int64_t session = kafka_conf_number(conf, "session.timeout.ms", 45000);
    return kafka_conf_set_default(conf, context->config, "socket.timeout.ms",
        clamp(session * 2 / 3, TIMEOUT_LEAST_MS, TIMEOUT_MOST_MS), error);
}

// Whoever is not back within max.poll.interval.ms is no member any more, for librdkafka and for the coordinator,
// however short ago a commit was accepted: its lease would be untrue. Partitions are given back within one call
// (insert_group.c): two commits, the INSERTs that are finished, killed or awaited meanwhile, and a reserve.
static bool set_poll_interval(const struct relay_context *context, rd_kafka_conf_t *conf, struct relay_error *error)
{
    int64_t least = 2 * kafka_conf_number(conf, "socket.timeout.ms", TIMEOUT_MOST_MS) + POLL_LEAST_MS;
    if (!kafka_conf_set_default(conf, context->config, "max.poll.interval.ms", least > POLL_MS ? least : POLL_MS,
            error)) {
        return false;
    }
    int64_t given = kafka_conf_number(conf, "max.poll.interval.ms", POLL_MS);
    return given >= least ||
        error_set(error, RELAY_ERROR_CONFIG,
            "[kafka]: `max.poll.interval.ms` = %lld is too short for the insert stage, which may need as long to give "
            "partitions back: leave it out, or set at least %lld (two `socket.timeout.ms` and 60 s)",
            (long long)given, (long long)least);
}

// How often a topic that is new is looked for. For an expression librdkafka asks for the topics of the whole cluster
// each time, which may be thousands.
static int64_t refresh_ms(const struct kafka_consumer_options *options)
{
    for (size_t i = 0; i < options->topic_count; i++) {
        if (options->topics[i][0] == '^') {
            return 60000;
        }
    }
    return 10000;
}

static bool set_ours(const struct relay_context *context, const struct kafka_consumer_options *options,
    rd_kafka_conf_t *conf, struct relay_error *error)
{
    static const struct {
        const char *name, *value;
    } ours[] = {
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"enable.partition.eof", "true"},
        {"isolation.level", "read_committed"},
        {"partition.assignment.strategy", "cooperative-sticky"},
    };
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (!kafka_conf_set(conf, ours[i].name, ours[i].value, error)) {
            return false;
        }
    }
    return kafka_conf_set(conf, "group.id", options->group_id, error) &&
        kafka_consumer_bound(conf, context, options->memory, error) && set_timeout(context, conf, error) &&
        set_poll_interval(context, conf, error) &&
        (options->member || kafka_consumer_wait_longer(conf, context, error)) &&
        kafka_conf_set_default(conf, context->config, "topic.metadata.refresh.interval.ms", refresh_ms(options), error);
}

rd_kafka_conf_t *kafka_consumer_conf(const struct relay_context *context, const struct kafka_consumer_options *options,
    struct relay_error *error)
{
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_CONSUMER,
        options->member ? "insert" : "insert-catch-up", error);
    if (conf && !set_ours(context, options, conf, error)) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf;
}
