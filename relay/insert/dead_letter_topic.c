// SPDX-License-Identifier: Apache-2.0
//
// Happy path: a copy is kept with its batch when its message is found unfit; once the batch's rows are stored the
// table's worker sends them and waits for the acknowledgements, then it writes the dead letters. Failures: a copy that
// Kafka refuses or does not acknowledge in time makes the sending fail (one that is too large is left out); the batch
// is then read again from its marks, and its copies are sent again. librdkafka's queue is full: wait until it is not.
// Nothing is acknowledged for ten minutes: a new client takes the place of the one that is there, since each reads the
// files of certificates once, and with old ones may never be let in again. Tables that are still sending keep the old
// one until they have given up; whoever is the last destroys it.
#include "relay/insert/dead_letter_topic.h"

#include "relay/base/log.h"
#include "relay/kafka/kafka_burial.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALONE_LIMIT DURATION_S(600)
#define BURIAL_WAIT DURATION_S(5)
#define SET_BYTES   16384
#define END_WAIT    DURATION_MS(500) // the stop waits for it

struct client {
    rd_kafka_t *producer;
    size_t users; // under the topic's lock: who is sending, and the topic while this is its client
};

struct dead_letter_topic {
    const struct relay_context *context;
    const char *name;
    struct metric_series *acknowledged, *too_large;
    atomic_bool left;            // a client was left behind
    _Atomic int64_t alone_since; // ns: a set was not acknowledged, and no broker has said anything since; 0: one has
    pthread_mutex_t lock;
    struct client *client; // under it; NULL: the topic has ended
};

// What became of the copies of one set that were sent. The reports of a set that was given up come later: whoever
// refers to it last frees it.
struct dead_letter_reports {
    atomic_size_t references; // the set's, and one of each copy without a report
    atomic_int failed;        // rd_kafka_resp_err_t of a copy that Kafka refused, for good: it is gone
};

struct dead_letter_copy {
    rd_kafka_headers_t *headers; // NULL: sent
    char *bytes;                 // key, then value
    size_t key_length, value_length;
    bool has_key, has_value;
    int32_t partition;
    int64_t offset;
};

static struct dead_letter_reports *reports_new(void)
{
    struct dead_letter_reports *reports = malloc(sizeof(*reports));
    if (reports) {
        atomic_init(&reports->references, 1);
        atomic_init(&reports->failed, 0);
    }
    return reports;
}

static void reports_release(struct dead_letter_reports *reports)
{
    if (reports && atomic_fetch_sub(&reports->references, 1) == 1) {
        free(reports);
    }
}

static void on_delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    struct dead_letter_topic *topic = opaque;
    struct dead_letter_reports *reports = message->_private;
    (void)producer;
    if (message->err >= 0) { // of a broker; librdkafka's own are below
        atomic_store(&topic->alone_since, 0);
    }
    if (!message->err) {
        metric_add(topic->acknowledged, 1);
    } else if (message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        metric_add(topic->too_large, 1);
        log_event(LOG_LEVEL_WARNING, "insert.copy_too_large",
            "a dead letter is larger than the dead-letter topic allows: it has no copy there");
    } else {
        atomic_store(&reports->failed, (int)message->err);
    }
    reports_release(reports);
}

// The broker judges a set of records by its size: in small ones a copy is not refused for those beside it. What was not
// acknowledged when its round ends is not kept for later, since the batch sends it again.
static bool configure(rd_kafka_conf_t *conf, const struct config *config, struct relay_error *error)
{
    int64_t kilobytes = 2 * config->insert.batch_bytes / 1024 + kafka_conf_message_max(conf) / 1024;
    return kafka_conf_set(conf, "enable.idempotence", "true", error) &&
        kafka_conf_set_default(conf, config, "batch.size", SET_BYTES, error) &&
        kafka_conf_set_default(conf, config, "message.timeout.ms", duration_ms(DEAD_LETTER_COPIES_LIMIT), error) &&
        kafka_conf_set_default(conf, config, "queue.buffering.max.kbytes", kilobytes, error);
}

static rd_kafka_conf_t *make_conf(const struct relay_context *context, struct relay_error *error)
{
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_PRODUCER, "dead-letters", error);
    if (conf && !configure(conf, context->config, error)) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf;
}

bool dead_letter_topic_try(const struct relay_context *context, struct relay_error *error)
{
    return kafka_conf_try(KAFKA_CLIENT_PRODUCER, make_conf(context, error), error);
}

static struct client *client_new(struct dead_letter_topic *topic, struct relay_error *error)
{
    struct client *client = calloc(1, sizeof(*client));
    if (!client) {
        error_no_memory(error, "preparing the dead-letter topic");
        return NULL;
    }
    rd_kafka_conf_t *conf = make_conf(topic->context, error);
    if (conf) {
        rd_kafka_conf_set_opaque(conf, topic);
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
        client->producer = kafka_client_new(KAFKA_CLIENT_PRODUCER, conf, error);
    }
    if (!client->producer) {
        free(client);
        return NULL;
    }
    client->users = 1;
    return client;
}

// Gives up what is not acknowledged; its reports are served.
static void purge(const struct client *client)
{
    rd_kafka_purge(client->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(client->producer, 100);
}

static void bury(struct dead_letter_topic *topic, struct client *client, struct duration patience)
{
    purge(client);
    if (!kafka_client_destroy_until(client->producer, mono_add(clock_mono(topic->context->clock), patience))) {
        log_event(LOG_LEVEL_WARNING, "kafka.close_hangs",
            "librdkafka does not let go of the producer of dead letters; it is left behind");
        atomic_store(&topic->left, true);
    }
    free(client);
}

static void release(struct dead_letter_topic *topic, struct client *client)
{
    pthread_mutex_lock(&topic->lock);
    bool last = --client->users == 0;
    pthread_mutex_unlock(&topic->lock);
    if (last) {
        bury(topic, client, BURIAL_WAIT);
    }
}

// Puts a new client in the place of one that hears of no broker: the old one, or NULL. Under the lock.
static struct client *renew(struct dead_letter_topic *topic)
{
    struct relay_error error;
    struct mono_time now = clock_mono(topic->context->clock), since = {atomic_load(&topic->alone_since)};
    if (since.ns == 0 || mono_since(now, since).ns < ALONE_LIMIT.ns) {
        return NULL;
    }
    atomic_store(&topic->alone_since, now.ns); // the next one in ten minutes
    struct client *old = topic->client, *client = client_new(topic, &error);
    if (!client) {
        log_event(LOG_LEVEL_WARNING, "insert.kafka_trouble", "a new client for copies of dead letters cannot be made",
            LOG_ERROR(&error));
        return NULL;
    }
    log_event(LOG_LEVEL_WARNING, "insert.kafka_trouble",
        "no copy of a dead letter was acknowledged for ten minutes; a new client reads the certificate files of "
        "[kafka] again");
    topic->client = client;
    return old;
}

static struct client *take(struct dead_letter_topic *topic)
{
    pthread_mutex_lock(&topic->lock);
    struct client *old = renew(topic), *client = topic->client;
    client->users++;
    pthread_mutex_unlock(&topic->lock);
    if (old) {
        release(topic, old);
    }
    return client;
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
    topic->acknowledged = metrics_series1(context->metrics, METRIC_DEAD_LETTER_COPIES, "acknowledged");
    topic->too_large = metrics_series1(context->metrics, METRIC_DEAD_LETTER_COPIES, "too_large");
    topic->client = client_new(topic, error);
    if (!topic->client) {
        free(topic);
        return NULL;
    }
    pthread_mutex_init(&topic->lock, NULL);
    return topic;
}

void dead_letter_topic_end(struct dead_letter_topic *topic)
{
    if (topic && topic->client) {
        bury(topic, topic->client, END_WAIT);
        topic->client = NULL;
    }
}

bool dead_letter_topic_left_client(const struct dead_letter_topic *topic)
{
    return topic && atomic_load(&topic->left);
}

void dead_letter_topic_free(struct dead_letter_topic *topic)
{
    if (!topic) {
        return;
    }
    if (topic->client) {
        purge(topic->client);
        rd_kafka_destroy(topic->client->producer);
        free(topic->client);
    }
    pthread_mutex_destroy(&topic->lock);
    free(topic);
}

static bool add_header(rd_kafka_headers_t *headers, const char *name, const char *text)
{
    return rd_kafka_header_add(headers, name, -1, text, (ssize_t)strlen(text)) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_headers_t *headers_of(const struct clock *clock, const char *target,
    const struct source_message *message, const char *reason, const char *code, const char *text)
{
    char partition[16], offset[24], at[WALL_TIME_TEXT];
    snprintf(partition, sizeof(partition), "%d", message->partition);
    snprintf(offset, sizeof(offset), "%lld", (long long)message->offset);
    wall_time_format(clock_wall(clock), at);
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

// key and value in one piece of memory, or NULL.
static char *bytes_of(const struct source_message *message)
{
    char *bytes = malloc(message->key_length + message->value_length + 1);
    if (bytes && message->key_length > 0) {
        memcpy(bytes, message->key, message->key_length);
    }
    if (bytes && message->value_length > 0) {
        memcpy(bytes + message->key_length, message->value, message->value_length);
    }
    return bytes;
}

static void finish_copy(struct dead_letter_copy *copy)
{
    if (copy->headers) {
        rd_kafka_headers_destroy(copy->headers);
    }
    free(copy->bytes);
    copy->headers = NULL;
    copy->bytes = NULL;
}

bool dead_letter_copies_add(struct dead_letter_copies *copies, const struct clock *clock, const char *target,
    const struct source_message *message, const char *reason, const char *code, const char *text,
    struct relay_error *error)
{
    if (copies->count == copies->room) {
        size_t room = copies->room ? copies->room * 2 : 16;
        struct dead_letter_copy *items = reallocarray(copies->items, room, sizeof(*items));
        if (!items) {
            return error_no_memory(error, "copying a dead letter");
        }
        copies->memory += (room - copies->room) * sizeof(*items);
        copies->items = items;
        copies->room = room;
    }
    struct dead_letter_copy copy = {.headers = headers_of(clock, target, message, reason, code, text),
        .bytes = bytes_of(message),
        .key_length = message->key_length,
        .value_length = message->value_length,
        .has_key = message->key != NULL,
        .has_value = message->value != NULL,
        .partition = message->partition,
        .offset = message->offset};
    if (!copy.headers || !copy.bytes) {
        finish_copy(&copy);
        return error_no_memory(error, "copying a dead letter");
    }
    copies->memory += copy.key_length + copy.value_length + strlen(text);
    for (size_t i = 0; i < message->header_count; i++) {
        copies->memory += strlen(message->headers[i].name) + message->headers[i].length;
    }
    copies->items[copies->count++] = copy;
    return true;
}

void dead_letter_copies_finish(struct dead_letter_copies *copies)
{
    for (size_t i = 0; i < copies->count; i++) {
        finish_copy(&copies->items[i]);
    }
    free(copies->items);
    reports_release(copies->reports);
    *copies = (struct dead_letter_copies){0};
}

static bool must_end(const struct dead_letter_topic *topic, struct mono_time until, const atomic_bool *given_up)
{
    return (given_up && atomic_load(given_up)) || mono_reached(clock_mono(topic->context->clock), until);
}

static bool send_copy(struct dead_letter_topic *topic, const struct client *client, struct dead_letter_copy *copy,
    struct dead_letter_reports *reports, struct mono_time until, const atomic_bool *given_up, struct relay_error *error)
{
    rd_kafka_resp_err_t code;
    atomic_fetch_add(&reports->references, 1);
    do {
        rd_kafka_poll(client->producer, 0);
        code = rd_kafka_producev(client->producer, RD_KAFKA_V_TOPIC(topic->name),
            RD_KAFKA_V_KEY(copy->has_key ? copy->bytes : NULL, copy->key_length),
            RD_KAFKA_V_VALUE(copy->has_value ? copy->bytes + copy->key_length : NULL, copy->value_length),
            RD_KAFKA_V_HEADERS(copy->headers), RD_KAFKA_V_OPAQUE(reports), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
            RD_KAFKA_V_END);
    } while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL && rd_kafka_poll(client->producer, 100) >= 0 &&
        !must_end(topic, until, given_up));
    if (code) {
        atomic_fetch_sub(&reports->references, 1); // no report will come; the set's own is left
    }
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        // It would never pass, and its table would stand still for a copy; the dead letter itself is written.
        metric_add(topic->too_large, 1);
        log_event(LOG_LEVEL_WARNING, "insert.copy_too_large",
            "a dead letter is larger than message.max.bytes: it has no copy in the dead-letter topic",
            LOG_INT("partition", copy->partition), LOG_INT("offset", copy->offset));
    } else if (code) {
        return kafka_error_set(error, code, "copying a dead letter to %s", topic->name);
    } else {
        copy->headers = NULL; // librdkafka's now
    }
    finish_copy(copy);
    return true;
}

// All copies of the set that were ever sent, whoever gets their reports: other tables send and wait at the same time.
static bool all_acknowledged(struct dead_letter_topic *topic, const struct client *client,
    struct dead_letter_reports *reports, struct mono_time until, const atomic_bool *given_up, struct relay_error *error)
{
    size_t left;
    do {
        rd_kafka_flush(client->producer, 100); // serves reports, until there are none to come
        left = atomic_load(&reports->references) - 1;
    } while (left > 0 && !atomic_load(&reports->failed) && !must_end(topic, until, given_up));
    rd_kafka_resp_err_t failed = (rd_kafka_resp_err_t)atomic_load(&reports->failed);
    if (failed || left > 0) {
        return kafka_error_set(error, failed ? failed : RD_KAFKA_RESP_ERR__TIMED_OUT, "copying dead letters to %s",
            topic->name);
    }
    return true;
}

static bool send_all(struct dead_letter_topic *topic, const struct client *client, struct dead_letter_copies *copies,
    struct mono_time until, const atomic_bool *given_up, struct relay_error *error)
{
    for (size_t i = 0; i < copies->count; i++) {
        if (copies->items[i].bytes &&
            !send_copy(topic, client, &copies->items[i], copies->reports, until, given_up, error)) {
            return false;
        }
    }
    return all_acknowledged(topic, client, copies->reports, until, given_up, error);
}

bool dead_letter_topic_send(struct dead_letter_topic *topic, struct dead_letter_copies *copies, struct mono_time until,
    const atomic_bool *given_up, struct relay_error *error)
{
    if (!copies->reports && !(copies->reports = reports_new())) {
        return error_no_memory(error, "copying dead letters");
    }
    struct client *client = take(topic);
    bool sent = send_all(topic, client, copies, until, given_up, error);
    if (!sent && !(given_up && atomic_load(given_up))) {
        int64_t none = 0;
        atomic_compare_exchange_strong(&topic->alone_since, &none, clock_mono(topic->context->clock).ns);
    }
    release(topic, client);
    return sent;
}
