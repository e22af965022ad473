// SPDX-License-Identifier: Apache-2.0
//
// How a batch that was read comes to Kafka and out of the table. The happy path: a Kafka transaction, all records and
// with them the receipt, all delivery reports, the batch number in PostgreSQL, Kafka's commit, PostgreSQL's COMMIT. The
// number before Kafka's commit, so that afterwards nothing is left that can be refused. (at_least_once: records,
// reports, COMMIT.)
//
// While the outbox is behind, several batches go into one transaction: the next one is read, and its records follow,
// while the broker still takes those of this one. Receipt, number and commits come with the last of them.
#include "relay/publish/publish_pipe.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/kafka/kafka_error.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void publish_report_kafka(struct publish_pipe *pipe, const struct relay_error *error)
{
    struct circuit_breaker *breaker = pipe->context->kafka_breaker;
    if (breaker == NULL) {
        return;
    }
    if (error == NULL) {
        breaker_success(breaker);
    } else if (error->code == RELAY_ERROR_KAFKA_UNREACHABLE || error->code == RELAY_ERROR_KAFKA_UNKNOWN ||
        error->code == RELAY_ERROR_KAFKA_RETRIABLE) {
        breaker_failure(breaker, error->text);
    } else {
        breaker_cancel(breaker);
    }
}

struct mono_time publish_batch_deadline(const struct publish_pipe *pipe, const struct publish_lane *lane)
{
    struct mono_time own = mono_add(pipe->transactions[lane->slot].began,
        kafka_producer_transaction_timeout(pipe->producer));
    struct mono_time stop = stop_deadline(pipe->context->stop);
    return mono_before(stop, own) ? stop : own;
}

bool publish_park(struct publish_pipe *pipe, const struct outbox_row *row, const char *topic,
    const struct relay_error *why, struct relay_error *error)
{
    struct publish_verdict verdict = {.seq = row->seq, .action = VERDICT_PARK};
    publish_verdict_type(&verdict, row->type);
    snprintf(verdict.code, sizeof(verdict.code), "%s", rd_kafka_err2name((rd_kafka_resp_err_t)why->detail));
    snprintf(verdict.reason, sizeof(verdict.reason), "%s", why->text);
    snprintf(verdict.topic, sizeof(verdict.topic), "%s", topic);
    return publish_note_missing(pipe, topic, error) && publish_verdicts_add(&pipe->verdicts, &verdict, error);
}

// A topic that some row of the batch has just missed is not asked for again: each answer takes a round trip.
static bool park_alike(struct publish_pipe *pipe, const struct outbox_row *row, const struct publish_verdict *other,
    struct relay_error *error)
{
    struct publish_verdict verdict = *other;
    verdict.seq = row->seq;
    return publish_verdicts_add(&pipe->verdicts, &verdict, error);
}

// One event before it is sent. *fits: it can go.
static bool check_event(struct publish_pipe *pipe, struct publish_lane *lane, size_t i, bool *fits,
    struct relay_error *error)
{
    const struct routed_event *event = &lane->batch->events[i];
    const struct outbox_row *row = &lane->batch->rows[i];
    struct relay_error why;
    const struct kafka_topic *topic = lane->batch->topics[i];
    *fits = false;
    if (topic == NULL) {
        const struct publish_verdict *missing = publish_verdicts_parking(&pipe->verdicts, event->topic);
        if (missing != NULL) {
            return park_alike(pipe, row, missing, error);
        }
        topic = kafka_producer_topic(pipe->producer, event->topic, publish_batch_deadline(pipe, lane), &why);
        lane->batch->topics[i] = topic;
    }
    if (topic != NULL && event->partition >= topic->partitions) {
        // Partitions may have been added since it was looked up.
        kafka_producer_forget_topic(pipe->producer, event->topic);
        topic = kafka_producer_topic(pipe->producer, event->topic, publish_batch_deadline(pipe, lane), &why);
        lane->batch->topics[i] = topic;
    }
    if (topic == NULL) {
        if (why.code != RELAY_ERROR_KAFKA_OPERATOR) {
            *error = why;
            return false;
        }
        publish_tick(pipe);
        return publish_park(pipe, row, event->topic, &why, error);
    }
    char text[200];
    if (event->size > kafka_producer_message_max(pipe->producer)) {
        snprintf(text, sizeof(text), "the record takes up to %zu bytes, message.max.bytes is %zu", event->size,
            kafka_producer_message_max(pipe->producer));
        return publish_judge_poison(pipe, lane, row->seq, publish_reason_name(PUBLISH_REASON_TOO_LARGE), text, error);
    }
    if (event->partition >= topic->partitions) {
        snprintf(text, sizeof(text), "partition %d, topic %s has %d", event->partition, topic->name, topic->partitions);
        return publish_judge_poison(pipe, lane, row->seq, publish_reason_name(PUBLISH_REASON_BAD_PARTITION), text,
            error);
    }
    *fits = true;
    return true;
}

bool publish_check(struct publish_pipe *pipe, struct publish_lane *lane, bool *clean, struct relay_error *error)
{
    struct outbox_batch *batch = lane->batch;
    for (size_t i = 0; i < batch->count; i++) {
        // Most rows go to the topic of the row before.
        bool same = i > 0 && batch->topics[i - 1] != NULL &&
            strcmp(batch->events[i].topic, batch->events[i - 1].topic) == 0;
        batch->topics[i] = same ? batch->topics[i - 1] : NULL;
        bool fits;
        if (!check_event(pipe, lane, i, &fits, error)) {
            return false;
        }
        *clean = *clean && fits;
    }
    return true;
}

static rd_kafka_headers_t *make_headers(const struct routed_event *event)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(event->header_count);
    for (size_t k = 0; headers != NULL && k < event->header_count; k++) {
        const struct event_header *header = &event->headers[k];
        rd_kafka_header_add(headers, header->name, (ssize_t)header->name_length, header->value.at,
            (ssize_t)header->value.length);
    }
    return headers;
}

static bool send_event(struct publish_pipe *pipe, struct publish_lane *lane, size_t i, struct relay_error *error)
{
    struct outbox_batch *batch = lane->batch;
    const struct routed_event *event = &batch->events[i];
    struct kafka_message message = {
        .topic = batch->topics[i],
        .partition = event->partition,
        .key = event->key.at,
        .key_length = event->key.length,
        .value = event->value.at,
        .value_length = event->value.length,
        .timestamp_ms = event->timestamp_ms,
        .headers = make_headers(event),
    };
    if (message.headers == NULL) {
        return error_no_memory(error, "headers");
    }
    if (!kafka_producer_send(pipe->producer, &message, &batch->flight, &batch->slots[i],
            publish_batch_deadline(pipe, lane), error)) {
        rd_kafka_headers_destroy(message.headers);
        return false;
    }
    return true;
}

// One more record of the transaction. Its number becomes the last one with Kafka's commit.
bool publish_send_receipt(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    const struct outbox_table *table = pipe->owner.table;
    transaction->number = (struct batch_number){.generation = pipe->number.generation,
        .number = pipe->number.number + 1};
    struct receipt_header header = {
        .generation = (uint64_t)transaction->number.generation,
        .number = (uint64_t)transaction->number.number,
        .system_identifier = table->system_identifier,
        .timeline = table->timeline,
    };
    memcpy(header.identity, table->identity_bytes, sizeof(header.identity));
    size_t size = publish_transaction_receipt(transaction, &header, error);
    if (size == 0) {
        return false;
    }
    struct kafka_message message = {
        .topic = pipe->store.handle,
        .partition = pipe->receipt_partition,
        .key = transaction->key,
        .key_length = receipt_key(table->identity_bytes, header.number, transaction->key),
        .value = (const char *)transaction->receipt,
        .value_length = size,
    };
    transaction->receipt_sent = true;
    if (!kafka_producer_send(pipe->producer, &message, &transaction->flight, &transaction->slot,
            publish_batch_deadline(pipe, lane), error)) {
        return error_prefix(error, "receipt of batch %lld", (long long)transaction->number.number);
    }
    return true;
}

bool publish_send(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    assert(lane->state == LANE_READ && !transaction->receipt_sent);
    if (!publish_transaction_add(transaction, lane->batch, pipe->exactly_once, error) ||
        (!transaction->in_kafka && !kafka_producer_begin(pipe->producer, error))) {
        return false;
    }
    transaction->in_kafka = true;
    publish_lane_move(pipe, lane, LANE_SENT);
    memset(lane->batch->slots, 0, lane->batch->count * sizeof(*lane->batch->slots)); // also of those never handed over
    for (size_t i = 0; i < lane->batch->count; i++) {
        if (!send_event(pipe, lane, i, error)) {
            return false;
        }
    }
    return true;
}

// Whether it goes on reading before this lane's COMMIT.
static bool is_reading(const struct publish_lane *other)
{
    return other->state == LANE_READING && !other->behind;
}

// While the broker takes this batch, the other lane's rows arrive and are routed, and sent unless they must wait for
// the end of this transaction.
static bool advance_other(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (is_reading(other) && (other->holes_only || pg_ready(publish_connection(pipe, other))) &&
        !publish_read_take(pipe, other, lane, error)) {
        return false;
    }
    if (other->state == LANE_TAKEN && !publish_read_route(pipe, other, NULL, error)) {
        return false;
    }
    bool may_send = !pipe->exactly_once || (other->joined && lane->batch->flight.failed == 0);
    if (may_send && other->state == LANE_READ && other->batch->count > 0) {
        return publish_send(pipe, other, error);
    }
    return true;
}

static bool wait_delivered(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    struct mono_time deadline = publish_batch_deadline(pipe, lane);
    const struct kafka_flight *receipt = &publish_transaction_of(pipe, lane)->flight;
    while (lane->batch->flight.pending + receipt->pending > 0) {
        if (mono_reached(clock_mono(pipe->context->clock), deadline)) {
            return error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE,
                "%zu of %zu records not acknowledged until the deadline",
                lane->batch->flight.pending + receipt->pending, lane->batch->count + pipe->exactly_once);
        }
        // Under load the other lane's rows arrive meanwhile, and what lingers is little. Otherwise nothing more comes.
        if (is_reading(other)) {
            kafka_producer_poll(pipe->producer, DURATION_MS(1));
        } else {
            kafka_producer_flush(pipe->producer, other->state == LANE_SENT ? DURATION_MS(5) : DURATION_MS(200));
        }
        publish_tick(pipe);
        if (!advance_other(pipe, lane, other, error)) {
            return false;
        }
    }
    return true;
}

// A receipt that the broker finds too large is made of fewer rows from now on.
static bool receipt_failed(struct publish_pipe *pipe, const struct publish_transaction *transaction,
    struct relay_error *error)
{
    rd_kafka_resp_err_t code = (rd_kafka_resp_err_t)transaction->flight.first_error;
    kafka_error_set(error, code, "receipt of batch %lld, of %zu rows", (long long)transaction->number.number,
        transaction->sent_count);
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE) {
        pipe->receipt_refused = (int64_t)transaction->sent_count;
        error_prefix(error, "max.message.bytes of topic %s should be 1000000; going on with smaller transactions",
            pipe->store.topic);
    }
    return false;
}

// From here on PostgreSQL has the number, and Kafka's commit decides.
static bool commit_kafka(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    struct batch_number *number = &transaction->number;
    if (transaction->flight.failed > 0) {
        return receipt_failed(pipe, transaction, error);
    }
    memcpy(number->topic_id, pipe->store.topic_id, sizeof(number->topic_id));
    number->partition = transaction->flight.partition;
    number->offset = transaction->flight.offset;
    struct pg_connection *connection = publish_connection(pipe, lane);
    if (!outbox_sql_write_number(pipe->sql, connection, number, pg_deadline(pipe->context), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_NUMBER);
    if (!kafka_producer_commit(pipe->producer, publish_batch_deadline(pipe, lane), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_KAFKA_COMMIT);
    pipe->number = *number;
    return true;
}

bool publish_settle(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    assert(lane->state == LANE_SENT);
    if (!wait_delivered(pipe, lane, other, error)) {
        return publish_send_failed(pipe, lane, other, error);
    }
    if (lane->batch->flight.failed > 0) {
        return publish_refused(pipe, lane, other, error);
    }
    if (publish_goes_on(lane, other)) { // the other batch brings the transaction to its end
        TEST_POINT(PUBLISH_BETWEEN_BATCHES);
        outbox_batch_reset(lane->batch);
        publish_lane_move(pipe, lane, LANE_IDLE);
        return true;
    }
    // The receipt has not gone with the batch when another one was to follow, and then was not read.
    if (pipe->exactly_once && !publish_transaction_of(pipe, lane)->receipt_sent &&
        (!publish_send_receipt(pipe, lane, error) || !wait_delivered(pipe, lane, other, error))) {
        return publish_send_failed(pipe, lane, other, error);
    }
    TEST_POINT(PUBLISH_AFTER_DELIVERY);
    if (!publish_note_progress(pipe, lane, error)) {
        return false;
    }
    if (pipe->exactly_once && !commit_kafka(pipe, lane, error)) {
        return false;
    }
    if (!pg_send_commit(publish_connection(pipe, lane), error)) {
        return false;
    }
    publish_lane_move(pipe, lane, LANE_COMMITTING);
    return true;
}

static void log_verdict(const struct publish_pipe *pipe, const struct publish_verdict *verdict)
{
    static const struct {
        const char *event, *mend;
    } texts[] = {[VERDICT_DEAD_LETTER] = {"publish.dead_letter",
                     "mend the cause, then outbox-relay dead-letters retry; or dead-letters drop"},
        [VERDICT_HOLD] = {"publish.aggregate_held",
            "mend the row as the table's owner, or delete it: its aggregate waits behind it"},
        [VERDICT_PARK] = {"publish.topic_parked",
            "create the topic, or let the relay write to it: its events go on by themselves"}};
    char type[sizeof(verdict->type) + 1];
    snprintf(type, sizeof(type), "%.*s", (int)verdict->type_length, verdict->type);
    log_event(LOG_LEVEL_WARNING, texts[verdict->action].event, verdict->reason, LOG_TEXT("outbox", pipe->config->name),
        LOG_INT("seq", verdict->seq), LOG_TEXT("event_type", type), LOG_TEXT("topic", verdict->topic),
        LOG_TEXT("reason", verdict->code), LOG_TEXT("mend", texts[verdict->action].mend));
}

// The careful batch is in: its verdicts are facts now.
static void verdicts_carried_out(struct publish_pipe *pipe)
{
    for (size_t i = 0; i < pipe->verdicts.count; i++) {
        const struct publish_verdict *verdict = &pipe->verdicts.items[i];
        if (verdict->moot) {
            continue;
        }
        if (verdict->action == VERDICT_DEAD_LETTER) {
            metric_add(metrics_series2(pipe->context->metrics, METRIC_DEAD_LETTERS, "publish", verdict->code), 1);
        }
        log_verdict(pipe, verdict);
        publish_suspects_clear(&pipe->verdicts, verdict->seq);
    }
    publish_verdicts_clear(&pipe->verdicts);
}

static void tell_released(const struct publish_pipe *pipe, const struct publish_lane *lane)
{
    struct log_field name = LOG_TEXT(lane->released_topics ? "topic" : "aggregate_id", lane->released_name);
    struct log_field count = LOG_COUNT(lane->released_topics ? "topics" : "aggregates", lane->released_count);
    log_event(LOG_LEVEL_INFO, "publish.released", "the last rows that waited are published",
        LOG_TEXT("outbox", pipe->config->name), name, count);
}

bool publish_committed(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    assert(lane->state == LANE_COMMITTING);
    if (!pg_receive_commit(publish_connection(pipe, lane), pg_deadline(pipe->context), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_COMMIT);
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    transaction->open = false;
    pipe->purges = 0;
    if (transaction->run_count > 0) {
        publish_transaction_count(transaction, pipe->series.latency_seconds, clock_wall(pipe->context->clock));
        metric_observe(pipe->series.batch_seconds,
            duration_seconds(mono_since(clock_mono(pipe->context->clock), transaction->began)));
    }
    for (size_t i = 0; i < lane->batch->count; i++) {
        publish_suspects_clear(&pipe->verdicts, lane->batch->rows[i].seq);
    }
    outbox_batch_reset(lane->batch);
    publish_lane_move(pipe, lane, LANE_IDLE);
    if (lane->careful) {
        verdicts_carried_out(pipe);
    }
    if (lane->released) {
        tell_released(pipe, lane);
        // Many may have been mended at a time: the next ones are looked at at once.
        pipe->waiting_checked_at = pipe->held_tried_at = (struct mono_time){0};
    }
    return (!lane->careful && !lane->released) || publish_count_waiting(pipe, pipe->owner.connections[0], error);
}
