// SPDX-License-Identifier: Apache-2.0
//
// Happy path: a copy is queued in librdkafka when its message is found unfit; the table's worker waits for the
// acknowledgements before it writes the dead letters. Failures: a copy that Kafka refuses or does not acknowledge in
// time makes the next flush fail (one that is too large is left out, and logged); the batch is then read again from its
// marks, and all of its copies are queued again.
#include "relay/insert/dead_letter_topic.h"

#include "relay/base/log.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dead_letter_topic {
    const struct relay_context *context;
    const char *name;
    rd_kafka_t *producer;
    atomic_int failed; // rd_kafka_resp_err_t of the last failure since the last flush
};

static void on_delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    struct dead_letter_topic *topic = opaque;
    (void)producer;
    if (message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        log_event(LOG_LEVEL_WARNING, "insert.copy_too_large",
            "a dead letter is larger than the dead-letter topic allows: it has no copy there");
    } else if (message->err) {
        atomic_store(&topic->failed, (int)message->err);
    }
}

struct dead_letter_topic *dead_letter_topic_new(const struct relay_context *context, struct relay_error *error)
{
    struct dead_letter_topic *topic = calloc(1, sizeof(*topic));
    if (!topic) {
        error_no_memory(error, "preparing the dead-letter topic");
        return NULL;
    }
    topic->context = context;
    topic->name = context->config->insert.dead_letter_topic;
    atomic_init(&topic->failed, 0);
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_PRODUCER, "dead-letters", error);
    if (!conf) {
        goto topic_held;
    }
    if (!kafka_conf_set(conf, "enable.idempotence", "true", error)) {
        rd_kafka_conf_destroy(conf);
        goto topic_held;
    }
    rd_kafka_conf_set_opaque(conf, topic);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    topic->producer = kafka_client_new(KAFKA_CLIENT_PRODUCER, conf, error);
    if (topic->producer) {
        return topic;
    }

topic_held:
    free(topic);
    return NULL;
}

void dead_letter_topic_free(struct dead_letter_topic *topic)
{
    if (!topic) {
        return;
    }
    rd_kafka_purge(topic->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(topic->producer, 100);
    rd_kafka_destroy(topic->producer);
    free(topic);
}

static bool add_header(rd_kafka_headers_t *headers, const char *name, const char *text)
{
    return rd_kafka_header_add(headers, name, -1, text, (ssize_t)strlen(text)) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_headers_t *headers_of(const struct dead_letter_topic *topic, const char *target,
    const struct source_message *message, const char *reason, const char *code, const char *text)
{
    char partition[16], offset[24], at[WALL_TIME_TEXT];
    snprintf(partition, sizeof(partition), "%d", message->partition);
    snprintf(offset, sizeof(offset), "%lld", (long long)message->offset);
    wall_time_format(clock_wall(topic->context->clock), at);
    const char *const ours[][2] = {{"dlq.reason", reason}, {"dlq.code", code}, {"dlq.text", text},
        {"dlq.topic", message->topic}, {"dlq.partition", partition}, {"dlq.offset", offset}, {"dlq.table", target},
        {"dlq.at", at}};
    rd_kafka_headers_t *headers = rd_kafka_headers_new(message->header_count + 8);
    bool done = headers != NULL;
    for (size_t i = 0; done && i < message->header_count; i++) {
        const struct source_header *header = &message->headers[i];
        done = rd_kafka_header_add(headers, header->name, -1, header->value, (ssize_t)header->length) ==
            RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    for (size_t i = 0; done && i < sizeof(ours) / sizeof(ours[0]); i++) {
        done = add_header(headers, ours[i][0], ours[i][1]);
    }
    if (!done && headers) {
        rd_kafka_headers_destroy(headers);
        return NULL;
    }
    return headers;
}

bool dead_letter_topic_add(struct dead_letter_topic *topic, const char *target, const struct source_message *message,
    const char *reason, const char *code, const char *text, struct relay_error *error)
{
    rd_kafka_headers_t *headers = headers_of(topic, target, message, reason, code, text);
    if (!headers) {
        return error_no_memory(error, "copying a dead letter");
    }
    rd_kafka_poll(topic->producer, 0);
    rd_kafka_resp_err_t code_of_send = rd_kafka_producev(topic->producer, RD_KAFKA_V_TOPIC(topic->name),
        RD_KAFKA_V_KEY((void *)(uintptr_t)message->key, message->key_length),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)message->value, message->value_length), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (code_of_send) {
        rd_kafka_headers_destroy(headers);
    }
    if (code_of_send == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        // It would never pass, and its table would stand still for a copy; the dead letter itself is written.
        log_event(LOG_LEVEL_WARNING, "insert.copy_too_large",
            "a dead letter is larger than message.max.bytes: it has no copy in the dead-letter topic",
            LOG_TEXT("topic", message->topic), LOG_INT("partition", message->partition),
            LOG_INT("offset", message->offset));
        return true;
    }
    if (code_of_send) {
        return kafka_error_set(error, code_of_send, "copying a dead letter to %s", topic->name);
    }
    return true;
}

bool dead_letter_topic_flush(struct dead_letter_topic *topic, struct mono_time until, const atomic_bool *given_up,
    struct relay_error *error)
{
    const struct clock *clock = topic->context->clock;
    rd_kafka_resp_err_t code;
    do {
        code = rd_kafka_flush(topic->producer, 100);
    } while (code == RD_KAFKA_RESP_ERR__TIMED_OUT && !atomic_load(&topic->failed) &&
        !(given_up && atomic_load(given_up)) && !mono_reached(clock_mono(clock), until));
    int failed = atomic_exchange(&topic->failed, 0);
    if (failed || code) {
        return kafka_error_set(error, failed ? (rd_kafka_resp_err_t)failed : code, "copying dead letters to %s",
            topic->name);
    }
    return true;
}
