// SPDX-License-Identifier: Apache-2.0
//
// See broker.h.
#include "support/broker.h"

#include "support/bench_program.h"
#include "relay/kafka/kafka_conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *keep(char **at, const char *text, size_t length)
{
    char *kept = *at;
    memcpy(kept, text, length + 1);
    *at += length + 1;
    return kept;
}

struct message_store message_store_new(const struct event_shape *shape, uint64_t first, size_t count)
{
    // A payload can be longer than asked for only where the shape is too small for its frame.
    size_t room = (shape->payload_bytes < 512 ? 512 : shape->payload_bytes) + 320;
    struct message_store store = {.at = calloc(count, sizeof(struct stored_message)),
        .count = count,
        .text = malloc(room * count)};
    if (store.at == NULL || store.text == NULL) {
        bench_fail("out of memory for %zu messages", count);
    }
    char *at = store.text;
    struct made_event event;
    made_event_init(&event, shape);
    for (size_t i = 0; i < count; i++) {
        made_event_fill(&event, shape, first + i);
        struct stored_message *message = &store.at[i];
        const char *names[EVENT_HEADERS], *values[EVENT_HEADERS];
        made_event_headers(&event, names, values);
        message->value = keep(&at, event.payload, event.payload_length);
        message->value_length = (uint32_t)event.payload_length;
        message->key = keep(&at, event.aggregate_id, strlen(event.aggregate_id));
        message->topic = event.topic;
        message->timestamp_ms = event.created_us / 1000;
        for (size_t h = 0; h < EVENT_HEADERS; h++) {
            message->headers[h] = keep(&at, values[h], strlen(values[h]));
        }
    }
    made_event_finish(&event);
    return store;
}

void message_store_free(struct message_store *store)
{
    free(store->at);
    free(store->text);
    *store = (struct message_store){0};
}

static void report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    struct broker *broker = opaque;
    broker->pending--;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("a message was not delivered: %s", rd_kafka_err2str(message->err));
    }
}

static void must(rd_kafka_error_t *failed, const char *what)
{
    if (failed != NULL) {
        bench_fail("%s: %s", what, rd_kafka_error_string(failed));
    }
}

static void open_topics(struct broker *broker, const char *prefix, unsigned topics)
{
    broker->topic_count = topics;
    broker->topics = calloc(topics, sizeof(rd_kafka_topic_t *));
    if (broker->topics == NULL) {
        bench_fail("out of memory");
    }
    for (unsigned i = 0; i < topics; i++) {
        char name[256];
        event_topic_name(prefix, i, name, sizeof(name));
        broker->topics[i] = rd_kafka_topic_new(broker->client, name, NULL);
        const struct rd_kafka_metadata *metadata = NULL;
        rd_kafka_resp_err_t failed = broker->topics[i] == NULL
            ? rd_kafka_last_error()
            : rd_kafka_metadata(broker->client, 0, broker->topics[i], &metadata, 30000);
        if (failed != RD_KAFKA_RESP_ERR_NO_ERROR) {
            bench_fail("topic %s: %s", name, rd_kafka_err2str(failed));
        }
        rd_kafka_metadata_destroy(metadata);
    }
}

void broker_open(struct broker *broker, const struct relay_context *context, const char *transactional_id,
    const char *prefix, unsigned topics, int linger_ms)
{
    struct relay_error error;
    char linger[16];
    snprintf(linger, sizeof(linger), "%d", linger_ms);
    *broker = (struct broker){.transactional = transactional_id != NULL};
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_PRODUCER, "bench", &error);
    bench_must(conf != NULL, "producer", &error);
    bool set = kafka_conf_set(conf, "enable.idempotence", "true", &error) &&
        kafka_conf_set(conf, "queue.buffering.max.messages", "1000000", &error) &&
        kafka_conf_set(conf, "queue.buffering.max.kbytes", "1048576", &error) &&
        (transactional_id == NULL || kafka_conf_set(conf, "transactional.id", transactional_id, &error));
    bench_must(set, "producer", &error);
    rd_kafka_conf_set_opaque(conf, broker);
    rd_kafka_conf_set_dr_msg_cb(conf, report);
    broker->client = kafka_client_new(KAFKA_CLIENT_PRODUCER, conf, &error);
    bench_must(broker->client != NULL, "producer", &error);
    if (broker->transactional) {
        must(rd_kafka_init_transactions(broker->client, 60000), "init_transactions");
    }
    open_topics(broker, prefix, topics);
}

void broker_close(struct broker *broker)
{
    for (unsigned i = 0; i < broker->topic_count; i++) {
        rd_kafka_topic_destroy(broker->topics[i]);
    }
    free(broker->topics);
    rd_kafka_destroy(broker->client);
}

static rd_kafka_headers_t *make_headers(const struct stored_message *message)
{
    static const char *const names[EVENT_HEADERS] = {"event_id", "event_type", "aggregate_type", "aggregate_id",
        "created_at", "seq", "correlation_id"};
    rd_kafka_headers_t *headers = rd_kafka_headers_new(EVENT_HEADERS);
    for (size_t i = 0; i < EVENT_HEADERS; i++) {
        rd_kafka_header_add(headers, names[i], -1, message->headers[i], (ssize_t)strlen(message->headers[i]));
    }
    return headers;
}

void broker_send(struct broker *broker, const struct stored_message *message)
{
    rd_kafka_headers_t *headers = make_headers(message);
    const rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = broker->topics[message->topic]},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)message->key, strlen(message->key)}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)message->value, message->value_length}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = message->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    for (;;) {
        rd_kafka_error_t *failed = rd_kafka_produceva(broker->client, parts, sizeof(parts) / sizeof(parts[0]));
        if (failed == NULL) {
            break;
        }
        if (rd_kafka_error_code(failed) != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            bench_fail("produce: %s", rd_kafka_error_string(failed));
        }
        rd_kafka_error_destroy(failed);
        rd_kafka_poll(broker->client, 10);
    }
    if (++broker->pending % 256 == 0) {
        rd_kafka_poll(broker->client, 0);
    }
}

void broker_wait(struct broker *broker)
{
    while (broker->pending > 0) {
        rd_kafka_poll(broker->client, 100);
    }
}

void broker_begin(struct broker *broker)
{
    must(rd_kafka_begin_transaction(broker->client), "begin_transaction");
}

void broker_commit(struct broker *broker)
{
    broker_wait(broker);
    must(rd_kafka_commit_transaction(broker->client, 60000), "commit_transaction");
}
