// SPDX-License-Identifier: Apache-2.0
//
// How a batch that was read comes to Kafka and out of the table. The happy path: a Kafka transaction, all records and
// with them the receipt, all delivery reports, the batch number in PostgreSQL, Kafka's commit, PostgreSQL's COMMIT. The
// number before Kafka's commit, so that afterwards nothing is left that can be refused. (at_least_once: records,
// reports, COMMIT.)
//
// While the outbox is behind, several batches go into one transaction: the next one is read, and its records follow,
// while the broker still takes those of this one. Receipt, number and commits come with the last of them.
#include "relay/publish/publish_send.h"

#include "relay/base/test_points.h"
#include "relay/kafka/kafka_error.h"
#include "relay/publish/publish_commit.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"
#include "relay/publish/publish_refused.h"

#include <assert.h>
#include <string.h>

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
    assert(lane->state == LANE_ROUTED && !transaction->receipt_sent);
    struct mono_time begins = clock_mono(pipe->context->clock);
    if (!publish_transaction_add(transaction, lane->batch, pipe->exactly_once, error) ||
        (!transaction->in_kafka && !kafka_producer_begin(pipe->producer, error))) {
        return false;
    }
    if (!transaction->in_kafka) {
        transaction->in_kafka = true;
        transaction->limit_from = begins;
    }
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
    return other->state == LANE_TAKING && !other->behind;
}

// While the broker takes this batch, the other lane's rows arrive and are routed, and sent unless they must wait for
// the end of this transaction.
static bool advance_other(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (is_reading(other) && (other->holes_only || pg_ready(publish_connection(pipe, other))) &&
        !publish_take_rows(pipe, other, lane, error)) {
        return false;
    }
    if (other->state == LANE_TAKEN && !publish_take_route(pipe, other, NULL, error)) {
        return false;
    }
    bool may_send = (!pipe->exactly_once || other->joined) && lane->batch->flight.failed == 0;
    if (may_send && other->state == LANE_ROUTED && other->batch->count > 0) {
        return publish_send(pipe, other, error);
    }
    return true;
}

// Records and receipts of the lane whose reports are not in.
static size_t undelivered(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane->batch->flight.pending + publish_transaction_of(pipe, lane)->flight.pending;
}

// Waits a moment for reports. late: only takes those that are there.
static void take_reports(struct publish_pipe *pipe, struct publish_lane *lane, const struct publish_lane *other,
    bool late)
{
    struct mono_time began = clock_mono(pipe->context->clock);
    // Under load the other lane's rows arrive meanwhile, and what lingers is little. Otherwise nothing more comes.
    if (late || is_reading(other)) {
        kafka_producer_poll(pipe->producer, DURATION_MS(late ? 0 : 1));
    } else {
        kafka_producer_flush(pipe->producer, other->state == LANE_SENT ? DURATION_MS(5) : DURATION_MS(200));
    }
    publish_transaction_of(pipe, lane)->awaited.ns += mono_since(clock_mono(pipe->context->clock), began).ns;
}

static bool wait_delivered(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    struct mono_time deadline = publish_batch_deadline(pipe, lane);
    bool late = false;
    while (undelivered(pipe, lane) > 0 && !late) {
        // This thread may come from a long wait for PostgreSQL: what Kafka has answered meanwhile still counts.
        late = mono_reached(clock_mono(pipe->context->clock), deadline);
        take_reports(pipe, lane, other, late);
        publish_tick(pipe);
        if (!late && !advance_other(pipe, lane, other, error)) {
            return false;
        }
    }
    if (undelivered(pipe, lane) == 0) {
        return true;
    }
    error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE, "%zu of %zu records not acknowledged until the deadline",
        undelivered(pipe, lane), lane->batch->count + pipe->exactly_once);
    if (lane->batch->flight.pending > 0) {
        publish_name_place(lane->batch, RD_KAFKA_RESP_ERR_NO_ERROR, error);
    } else {
        error_prefix(error, "topic %s [%d]", pipe->store.topic, (int)pipe->receipt_partition);
    }
    return false;
}

// A receipt that the broker finds too large is made of fewer rows from now on.
static void receipt_failed(struct publish_pipe *pipe, const struct publish_transaction *transaction,
    struct relay_error *error)
{
    rd_kafka_resp_err_t code = (rd_kafka_resp_err_t)transaction->flight.first_error;
    kafka_error_set(error, code, "receipt of batch %lld, of %zu rows, topic %s [%d]",
        (long long)transaction->number.number, transaction->sent_count, pipe->store.topic,
        (int)pipe->receipt_partition);
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE) {
        pipe->receipt_refused = (int64_t)transaction->sent_count;
        error_prefix(error, "max.message.bytes of topic %s should be 1000000; going on with smaller transactions",
            pipe->store.topic);
    }
}

// Whether Kafka may still be asked for the commit: later it may have aborted the transaction by itself. Of fewer rows
// the next ones may be quicker.
static bool in_time(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error)
{
    struct mono_time now = clock_mono(pipe->context->clock);
    if (!mono_reached(now, publish_batch_deadline(pipe, lane))) {
        return true;
    }
    const struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    struct duration age = mono_since(now, transaction->limit_from);
    bool kafka = transaction->awaited.ns > age.ns / 2;
    publish_take_fewer(pipe);
    return error_set(error, kafka ? RELAY_ERROR_KAFKA_UNREACHABLE : RELAY_ERROR_POSTGRES_QUERY,
        "after %.1f s, in which Kafka aborts a transaction ([kafka] transaction.timeout.ms), this one is not ready to "
        "be committed: %.1f s of it Kafka took to acknowledge its records, the rest PostgreSQL for its statements",
        duration_seconds(age), duration_seconds(transaction->awaited));
}

// From here on PostgreSQL has the number, and Kafka's commit decides.
static bool commit_kafka(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    struct batch_number *number = &transaction->number;
    if (transaction->flight.failed > 0) {
        receipt_failed(pipe, transaction, error);
        publish_note_late(pipe, lane, error);
        return false;
    }
    memcpy(number->topic_id, pipe->store.topic_id, sizeof(number->topic_id));
    number->partition = transaction->flight.partition;
    number->offset = transaction->flight.offset;
    struct pg_connection *connection = publish_connection(pipe, lane);
    if (!in_time(pipe, lane, error) ||
        !outbox_sql_write_number(pipe->sql, connection, number, pg_deadline(pipe->context), error) ||
        !in_time(pipe, lane, error)) {
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

bool publish_complete(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
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
