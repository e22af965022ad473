// SPDX-License-Identifier: Apache-2.0
//
// See receipt_store.h. First a record of ours goes behind everything that the partition has, in a transaction of its
// own after our init_transactions: the brokers acknowledge it only in the log that has what they acknowledged before,
// so whatever an older producer of ours had committed lies below it. No answer to a question will do: a broker that
// was replaced as the leader, and has yet to hear of it, tells the end that it knows (ListOffsets), and what lies
// behind would be published again. The record is a tombstone under a key of its own, of which compaction leaves
// nothing.
//
// The reading is a consumer of its own, assigned to one partition, read_committed, without a group. It ends when the
// position is behind that record, which it reaches only when every transaction below is decided (the last stable offset
// has passed): at most other producers' transaction.timeout.ms, and never where Kafka has lost track of one. Until then
// the end that it is given lies below the record, which tells the place. An offset that the partition no longer has is
// reset to its beginning, and the caller finds that the record it expected is missing. A record under a key of ours
// that does not begin as a receipt is not ours, since Kafka's own checksum holds: it is skipped with a warning, or
// whoever may write there could keep the outbox from starting. A receipt that is broken is an error.
#include "relay/publish/receipt_store.h"

#include "relay/base/fnv.h"
#include "relay/base/log.h"
#include "relay/kafka/kafka_burial.h"
#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_error.h"
#include "relay/kafka/kafka_rights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECEIPT_PARTITIONS 16
// Kafka compacts no segment that is written to, and a term reads all that other outboxes have written there since its
// own last receipt.
#define SEGMENT_BYTES "67108864"
// The end of the partition is told by a fetch that finds nothing, which the broker holds back for so long.
#define FETCH_WAIT_MS "5"

// The broker's answer. segments: with SEGMENT_BYTES.
static bool ask_for_topic(const struct receipt_store *store, bool segments, struct kafka_tick tick,
    struct mono_time deadline, rd_kafka_resp_err_t *code, struct relay_error *error)
{
    char why[256];
    rd_kafka_t *client = kafka_producer_client(store->producer);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(store->topic, RECEIPT_PARTITIONS, -1, why, sizeof(why));
    if (topic == NULL) {
        return error_set(error, RELAY_ERROR_CONFIG, "[publish] receipt_topic: %s", why);
    }
    rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "compact");
    if (segments) {
        rd_kafka_NewTopic_set_config(topic, "segment.bytes", SEGMENT_BYTES);
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = kafka_wait_event(queue, tick, store->context->clock, deadline);
    *code = event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT : rd_kafka_event_error(event);
    if (event != NULL && *code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        size_t count = 0;
        const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(
            rd_kafka_event_CreateTopics_result(event), &count);
        *code = count == 1 ? rd_kafka_topic_result_error(topics[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
    }
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
    return true;
}

// What managed clusters answer that set a topic's segments themselves (Amazon MSK Serverless and Express brokers).
static bool refuses_settings(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_INVALID_CONFIG || code == RD_KAFKA_RESP_ERR_POLICY_VIOLATION ||
        code == RD_KAFKA_RESP_ERR_INVALID_REQUEST;
}

// Creates the topic; that somebody else was faster is no error.
static bool create_topic(const struct receipt_store *store, struct kafka_tick tick, struct mono_time deadline,
    struct relay_error *error)
{
    rd_kafka_resp_err_t code;
    if (!ask_for_topic(store, true, tick, deadline, &code, error) ||
        (refuses_settings(code) && !ask_for_topic(store, false, tick, deadline, &code, error))) {
        return false;
    }
    if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
        return true;
    }
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return kafka_error_set(error, code,
            "the receipt topic %s is missing and cannot be created (create it with cleanup.policy=compact)",
            store->topic);
    }
    log_event(LOG_LEVEL_INFO, "publish.receipt_topic_created", "the relay's own topic was missing",
        LOG_TEXT("topic", store->topic));
    return true;
}

// Fills topic_id, where the broker has one.
static void read_topic_id(struct receipt_store *store, struct kafka_tick tick, struct mono_time deadline)
{
    rd_kafka_t *client = kafka_producer_client(store->producer);
    store->topic_id[0] = '\0';
    const char *names[] = {store->topic};
    rd_kafka_TopicCollection_t *topics = rd_kafka_TopicCollection_of_topic_names(names, 1);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DescribeTopics(client, topics, NULL, queue);
    rd_kafka_event_t *event = kafka_wait_event(queue, tick, store->context->clock, deadline);
    const rd_kafka_DescribeTopics_result_t *result = event == NULL ? NULL : rd_kafka_event_DescribeTopics_result(event);
    size_t count = 0;
    const rd_kafka_TopicDescription_t **found = result == NULL ? NULL
                                                               : rd_kafka_DescribeTopics_result_topics(result, &count);
    if (count == 1 && rd_kafka_error_code(rd_kafka_TopicDescription_error(found[0])) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        const char *id = rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(found[0]));
        if (id != NULL && strspn(id, "A") != strlen(id)) { // all zero bits: a broker without topic ids
            strncpy(store->topic_id, id, sizeof(store->topic_id) - 1);
            store->topic_id[sizeof(store->topic_id) - 1] = '\0';
        }
    }
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_TopicCollection_destroy(topics);
}

bool receipt_store_open(struct receipt_store *store, const struct relay_context *context,
    struct kafka_producer *producer, const char *topic, struct kafka_tick tick, struct mono_time deadline,
    struct relay_error *error)
{
    store->producer = producer;
    store->context = context;
    store->topic = topic;
    store->handle = kafka_producer_topic(producer, topic, deadline, error);
    if (store->handle == NULL) {
        bool missing = error->detail == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
            error->detail == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
        if (!missing || !create_topic(store, tick, deadline, error)) {
            return false;
        }
        do { // the brokers learn of a new topic one after another
            store->handle = kafka_producer_topic(producer, topic, deadline, error);
            kafka_producer_poll(producer, DURATION_MS(store->handle == NULL ? 20 : 0));
            tick.function(tick.context);
        } while (store->handle == NULL && error->code == RELAY_ERROR_KAFKA_OPERATOR &&
            !mono_reached(clock_mono(context->clock), deadline));
        if (store->handle == NULL) {
            return false;
        }
    }
    store->partitions = store->handle->partitions;
    store->marks = calloc((size_t)store->partitions, sizeof(*store->marks));
    if (store->marks == NULL) {
        return error_no_memory(error, "the ends of the receipts");
    }
    read_topic_id(store, tick, deadline);
    return true;
}

void receipt_store_finish(struct receipt_store *store)
{
    free(store->marks);
    *store = (struct receipt_store){0};
}

int32_t receipt_store_partition(const struct receipt_store *store, const uint8_t identity[16])
{
    return (int32_t)(fnv_bytes(FNV_START, identity, 16) % (uint32_t)store->partitions);
}

static rd_kafka_conf_t *reader_conf(const struct relay_context *context, struct relay_error *error)
{
    rd_kafka_conf_t *conf = kafka_conf_new(context, KAFKA_CLIENT_CONSUMER, "receipts", error);
    if (conf == NULL) {
        return NULL;
    }
    if (!kafka_conf_set(conf, "group.id", "outbox-relay-receipts",
            error) || // required, never used: no subscription, no commit
        !kafka_conf_set(conf, "enable.auto.commit", "false", error) ||
        !kafka_conf_set(conf, "enable.auto.offset.store", "false", error) ||
        !kafka_conf_set(conf, "auto.offset.reset", "earliest", error) ||
        !kafka_conf_set(conf, "isolation.level", "read_committed", error) ||
        !kafka_conf_set(conf, "enable.partition.eof", "true", error) ||
        !kafka_conf_set(conf, "fetch.wait.max.ms", FETCH_WAIT_MS, error)) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf;
}

static rd_kafka_t *reader_new(const struct relay_context *context, struct relay_error *error)
{
    rd_kafka_conf_t *conf = reader_conf(context, error);
    return conf == NULL ? NULL : kafka_client_new(KAFKA_CLIENT_CONSUMER, conf, error);
}

bool receipt_store_try(const struct relay_context *context, struct relay_error *error)
{
    return kafka_conf_try(KAFKA_CLIENT_CONSUMER, reader_conf(context, error), error);
}

// How far the reading of one partition must come, and where it is.
struct progress {
    int64_t end;
    int64_t position; // the next offset to come
    bool undecided;   // a transaction is open there: the last that came was an end below ours
};

struct reading {
    rd_kafka_t *client;
    const struct receipt_store *store;
    const uint8_t *identity;
    receipt_reader *reader;
    void *context;
    int32_t first; // partition
    size_t count;  // of partitions
    size_t unread;
    struct progress *progress;
    uint64_t foreign; // records under our keys that are no receipts
    struct duration patience;
    struct mono_time deadline;  // put off by each progress
    struct relay_error trouble; // the last one, of a partition that has not moved since; RELAY_ERROR_NONE: none
    int32_t troubled;
};

static void note_foreign(struct reading *reading, const rd_kafka_message_t *message)
{
    if (reading->foreign++ == 0) { // there may be as many as somebody likes
        char key[64];              // identity/slot: it was read as one
        snprintf(key, sizeof(key), "%.*s", (int)message->key_len, (const char *)message->key);
        log_event(LOG_LEVEL_WARNING, "publish.foreign_receipt",
            "a record under a key of this outbox is no receipt, and is skipped, as are all others like it: only relays "
            "should have the right to write there",
            LOG_TEXT("topic", reading->store->topic), LOG_INT("partition", message->partition),
            LOG_INT("offset", message->offset), LOG_TEXT("key", key));
    }
}

static bool take_receipt(struct reading *reading, const rd_kafka_message_t *message, struct relay_error *error)
{
    uint8_t whose[16];
    unsigned slot;
    if (message->key == NULL || !receipt_key_parse(message->key, message->key_len, whose, &slot) ||
        memcmp(whose, reading->identity, 16) != 0 || message->payload == NULL) {
        return true;
    }
    if (!receipt_begins(message->payload, message->len)) {
        note_foreign(reading, message);
        return true;
    }
    struct receipt receipt;
    if (!receipt_decode(message->payload, message->len, &receipt, error)) {
        return error_prefix(error, "receipt at offset %lld of partition %d", (long long)message->offset,
            message->partition);
    }
    struct receipt_place place = {
        .partition = message->partition,
        .offset = message->offset,
        .timestamp_ms = rd_kafka_message_timestamp(message, NULL),
    };
    bool done = memcmp(receipt.header.identity, reading->identity, 16) != 0 ||
        reading->reader(reading->context, &receipt, &place, error);
    receipt_finish(&receipt);
    return done;
}

static void put_off(struct reading *reading)
{
    reading->deadline = mono_add(clock_mono(reading->store->context->clock), reading->patience);
}

static void note_position(struct reading *reading, int32_t partition, int64_t position)
{
    struct progress *progress = &reading->progress[partition - reading->first];
    if (position > progress->position) {
        if (progress->position < progress->end) { // what others write behind it brings us no further
            put_off(reading);
        }
        if (reading->troubled == partition) {
            reading->trouble.code = RELAY_ERROR_NONE;
        }
    }
    if (progress->position < progress->end && position >= progress->end) {
        reading->unread--;
    }
    progress->position = position;
    progress->undecided = false;
}

// Past control records and compacted ones, which never come as messages.
static void note_end(struct reading *reading, int32_t partition, int64_t position)
{
    struct progress *progress = &reading->progress[partition - reading->first];
    note_position(reading, partition, position);
    progress->undecided = position < progress->end;
}

static bool take_message(struct reading *reading, const rd_kafka_message_t *message, struct relay_error *error)
{
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        note_position(reading, message->partition, message->offset + 1);
        return take_receipt(reading, message, error);
    }
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        note_end(reading, message->partition, message->offset);
        return true;
    }
    if (kafka_error_code(message->err) == RELAY_ERROR_KAFKA_OPERATOR) {
        return kafka_error_set(error, message->err, "receipt topic %s", reading->store->topic);
    }
    // librdkafka asks again by itself, and tells nobody else. Its other codes are judged for what is produced.
    bool away = kafka_error_code(message->err) == RELAY_ERROR_KAFKA_UNREACHABLE;
    reading->troubled = message->partition;
    error_set(&reading->trouble, away ? RELAY_ERROR_KAFKA_UNREACHABLE : RELAY_ERROR_KAFKA_RETRIABLE, "partition %d: %s",
        message->partition, rd_kafka_message_errstr(message));
    return true;
}

static bool no_progress(const struct reading *reading, struct relay_error *error)
{
    bool told = reading->trouble.code != RELAY_ERROR_NONE;
    for (size_t i = 0; !told && i < reading->count; i++) {
        if (reading->progress[i].undecided) { // the brokers answer
            return error_set(error, RELAY_ERROR_KAFKA_RETRIABLE,
                "a transaction has been open at offset %lld of partition %d of the receipt topic %s for %lld s, and "
                "the receipts behind it cannot be read; kafka-transactions.sh tells whose it is",
                (long long)reading->progress[i].position, reading->first + (int32_t)i, reading->store->topic,
                (long long)(reading->patience.ns / DURATION_S(1).ns));
        }
    }
    return error_set(error, told ? reading->trouble.code : RELAY_ERROR_KAFKA_UNREACHABLE,
        "the receipts of %zu partitions of topic %s could not be read to their end%s%s", reading->unread,
        reading->store->topic, told ? "; " : "", told ? reading->trouble.text : "");
}

// However much other outboxes have written there: it ends where nothing comes any more.
static bool read_all(struct reading *reading, const struct stop *stop, struct kafka_tick tick,
    struct relay_error *error)
{
    put_off(reading);
    while (reading->unread > 0) {
        if (stop != NULL && stop_raised(stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "reading receipts: the relay is stopping");
        }
        if (mono_reached(clock_mono(reading->store->context->clock), reading->deadline)) {
            return no_progress(reading, error);
        }
        rd_kafka_message_t *message = rd_kafka_consumer_poll(reading->client, 100);
        tick.function(tick.context);
        bool done = message == NULL || take_message(reading, message, error);
        if (message != NULL) {
            rd_kafka_message_destroy(message);
        }
        if (!done) {
            return false;
        }
    }
    return true;
}

static bool assign(const struct reading *reading, int64_t offset, struct relay_error *error)
{
    rd_kafka_topic_partition_list_t *assignment = rd_kafka_topic_partition_list_new((int)reading->count);
    for (size_t i = 0; i < reading->count; i++) {
        rd_kafka_topic_partition_list_add(assignment, reading->store->topic, reading->first + (int32_t)i)->offset =
            offset < 0 ? RD_KAFKA_OFFSET_BEGINNING : offset;
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(reading->client, assignment);
    rd_kafka_topic_partition_list_destroy(assignment);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ||
        kafka_error_set(error, code, "receipt topic %s", reading->store->topic);
}

bool receipt_store_may_write(const struct receipt_store *store, struct kafka_tick tick, struct mono_time deadline,
    struct relay_error *error)
{
    return kafka_may_write(kafka_producer_client(store->producer), store->topic, tick, store->context->clock,
               deadline) ||
        kafka_error_set(error, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "writing receipts to topic %s",
            store->topic);
}

static bool send_marks(struct receipt_store *store, const struct reading *reading, struct relay_error *error)
{
    if (reading->first >= store->partitions) {
        return error_set(error, RELAY_ERROR_KAFKA_RETRIABLE,
            "the last receipt is in partition %d of topic %s, of which the broker knows %d: it has yet to learn of "
            "more",
            reading->first, store->topic, store->partitions);
    }
    char identity[37];
    receipt_identity_format(reading->identity, identity);
    int length = snprintf(store->mark_key, sizeof(store->mark_key), "%s/end", identity);
    for (size_t i = 0; i < reading->count; i++) {
        struct receipt_mark *mark = &store->marks[i];
        struct kafka_message message = {
            .topic = store->handle,
            .partition = reading->first + (int32_t)i,
            .key = store->mark_key,
            .key_length = (size_t)length,
        };
        *mark = (struct receipt_mark){0};
        if (!kafka_producer_send(store->producer, &message, &mark->flight, &mark->slot, reading->deadline, error)) {
            return error_prefix(error, "partition %d of the receipt topic %s", message.partition, store->topic);
        }
    }
    return true;
}

static bool wait_for_mark(const struct receipt_store *store, const struct reading *reading, size_t i,
    const struct stop *stop, struct kafka_tick tick, struct relay_error *error)
{
    const struct kafka_flight *flight = &store->marks[i].flight;
    while (flight->pending > 0) {
        if (stop != NULL && stop_raised(stop)) {
            return error_set(error, RELAY_ERROR_STOPPED, "looking for the end of the receipts: the relay is stopping");
        }
        if (mono_reached(clock_mono(reading->store->context->clock), reading->deadline)) {
            return error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE,
                "the end of partition %d of the receipt topic %s: a record was not acknowledged until the deadline",
                reading->first + (int32_t)i, store->topic);
        }
        kafka_producer_flush(store->producer, DURATION_MS(200));
        tick.function(tick.context);
    }
    if (flight->failed == 0) {
        return true;
    }
    kafka_error_set(error, (rd_kafka_resp_err_t)flight->first_error, "the end of partition %d of the receipt topic %s",
        reading->first + (int32_t)i, store->topic);
    // At whatever error of a transaction librdkafka purges what is queued, and tells nothing but that.
    if (error->code == RELAY_ERROR_KAFKA_ABORTED) {
        receipt_store_may_write(store, tick, reading->deadline, error);
    }
    return false;
}

// Where the partitions end, by a record of ours behind everything in them.
static bool mark_ends(struct receipt_store *store, struct reading *reading, const struct stop *stop,
    struct kafka_tick tick, struct relay_error *error)
{
    put_off(reading);
    if (!kafka_producer_begin(store->producer, error) || !send_marks(store, reading, error)) {
        return false;
    }
    for (size_t i = 0; i < reading->count; i++) {
        if (!wait_for_mark(store, reading, i, stop, tick, error)) {
            return false;
        }
        // -1 stands for the beginning, which nothing that is read can be below.
        reading->progress[i] = (struct progress){.end = store->marks[i].flight.offset + 1, .position = -1};
    }
    if (!kafka_producer_commit(store->producer, reading->deadline, error)) {
        return false;
    }
    return !kafka_producer_suspicious(store->producer) ||
        error_set(error, RELAY_ERROR_KAFKA_RETRIABLE,
            "a broker connection was closed while the end of the receipts was looked for");
}

// It has joined no group, but asks for a coordinator all the same, whose name may be all that hangs.
static void bury_reader(struct receipt_store *store, rd_kafka_t *reader, struct kafka_tick tick)
{
    struct mono_time deadline = mono_add(clock_mono(store->context->clock), KAFKA_BURIAL_WAIT);
    if (!kafka_client_bury(reader, (struct kafka_estate){0}, tick, deadline)) {
        log_event(LOG_LEVEL_WARNING, "kafka.close_hangs",
            "librdkafka does not let go of the reader of receipts; it is left behind");
        store->left = true;
    }
}

bool receipt_store_read(struct receipt_store *store, const uint8_t identity[16], int32_t partition, int64_t offset,
    receipt_reader *reader, void *reader_context, struct kafka_tick tick, struct duration patience,
    struct relay_error *error)
{
    const struct stop *stop = store->context->stop;
    struct reading reading = {
        .store = store,
        .identity = identity,
        .reader = reader,
        .context = reader_context,
        .first = partition < 0 ? 0 : partition,
        .count = partition < 0 ? (size_t)store->partitions : 1,
        .patience = patience,
        .troubled = -1,
    };
    reading.unread = reading.count;
    reading.progress = calloc(reading.count, sizeof(*reading.progress));
    if (reading.progress == NULL) {
        return error_no_memory(error, "the reading of receipts");
    }
    bool done = false;
    reading.client = mark_ends(store, &reading, stop, tick, error) ? reader_new(store->context, error) : NULL;
    if (reading.client != NULL) {
        rd_kafka_poll_set_consumer(reading.client);
        done = assign(&reading, offset, error) && read_all(&reading, stop, tick, error);
        bury_reader(store, reading.client, tick);
    }
    free(reading.progress);
    return done;
}
