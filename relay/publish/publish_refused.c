// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a batch that Kafka did not take:
//
//   The broker refuses records   what is on its way is taken back, all is undone; the refused rows become suspects,
//                                which the careful way sends alone. One that is refused alone is judged as poison,
//                                or, for its timestamp, in publish_timestamp.c.
//   Sets of records that are     an error, and smaller sets from the next term on: the records may all be small ones.
//   larger than a topic takes
//   A topic is not there,        undone; the topic is parked. (A transaction that may not be written to a
//   or not for us                topic fails with reports that do not say so: then the rights are asked for.)
//   Anything else, any time-out  an error: the pipe ends the term, PostgreSQL rolls back, and the next term finds out.
//                                If a part was acknowledged in time, its batches are smaller.
#include "relay/publish/publish_refused.h"

#include "relay/base/log.h"
#include "relay/config/config_kafka.h"
#include "relay/kafka/kafka_error.h"
#include "relay/kafka/kafka_rights.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_judge.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"
#include "relay/publish/publish_timestamp.h"

#include <stdio.h>
#include <string.h>

#define REFUSAL_WITHIN DURATION_S(1)
#define PURGES         2 // in a row, and no reason
#define RIGHTS_WITHIN  DURATION_S(3)
#define SMALLEST_SET   16384

// The broker refuses records by the set, and whatever lies in one with a bad record: only a record that was on its way
// alone is known to be bad.
static bool was_alone(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane->batch->count == 1 && publish_transaction_of(pipe, lane)->rows == 1 &&
        publish_other(pipe, lane)->state != LANE_SENT;
}

void publish_note_late(struct publish_pipe *pipe, const struct publish_lane *lane, const struct relay_error *why)
{
    const struct outbox_batch *batch = lane->batch;
    if (why->code == RELAY_ERROR_KAFKA_UNREACHABLE && batch->count > 1 &&
        batch->flight.pending + batch->flight.failed < batch->count) {
        pipe->carried_rows = (int64_t)batch->count / 2;
    }
}

// Whether sets of several records were larger than their topic takes. A record that is larger than a set may be was
// alone in its own, so with one record that is too large sets do not become smaller than a quarter of it.
static bool sets_too_large(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error)
{
    const struct outbox_batch *batch = lane->batch;
    size_t most = kafka_producer_set_bytes(pipe->producer), count = 0, bytes = 0;
    const char *topic = NULL;
    for (size_t i = 0; batch->flight.failed > 0 && i < batch->count; i++) {
        if (batch->slots[i].error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE && batch->events[i].size <= most) {
            topic = batch->events[i].topic;
            bytes += batch->events[i].size;
            count++;
        }
    }
    most = bytes < most ? bytes : most;
    if (count < 2 || most <= SMALLEST_SET || config_kafka_given(pipe->context->config, "batch.size") != NULL) {
        return false;
    }
    pipe->set_bytes = most / 4 > SMALLEST_SET ? (int64_t)most / 4 : SMALLEST_SET;
    kafka_error_set(error, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "topic %s, a set of up to %zu bytes of records", topic,
        most);
    error_prefix(error, "going on with [kafka] batch.size = %lld", (long long)pipe->set_bytes);
    return true;
}

// One that was read with nothing beside it is judged: PostgreSQL is asked, and does nothing else.
static bool judge_timestamp(struct publish_pipe *pipe, const struct publish_lane *lane, int64_t seq,
    struct relay_error *error)
{
    bool judged = was_alone(pipe, lane) && (lane->careful || lane->chosen);
    return judged ? publish_timestamp_judge(pipe, lane, error) : publish_suspects_add(&pipe->verdicts, seq, error);
}

// After the broker refused records of the batch: what is to be done about which row.
static bool judge_refused(struct publish_pipe *pipe, struct publish_lane *lane, bool *anything,
    struct relay_error *error)
{
    struct outbox_batch *batch = lane->batch;
    for (size_t i = 0; batch->flight.failed > 0 && i < batch->count; i++) {
        rd_kafka_resp_err_t code = (rd_kafka_resp_err_t)batch->slots[i].error;
        int64_t seq = batch->rows[i].seq;
        struct relay_error why;
        kafka_error_set(&why, code, "topic %s", batch->events[i].topic);
        if (code == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP) {
            *anything = true;
            if (!judge_timestamp(pipe, lane, seq, error)) {
                return false;
            }
        } else if (why.code == RELAY_ERROR_KAFKA_OPERATOR) {
            kafka_producer_forget_topic(pipe->producer, batch->events[i].topic);
            *anything = true;
            if (!publish_park(pipe, &batch->rows[i], batch->events[i].topic, &why, false, error)) {
                return false;
            }
        } else if (why.code == RELAY_ERROR_KAFKA_POISON) {
            *anything = true;
            const char *reason = publish_reason_name(
                code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ? PUBLISH_REASON_TOO_LARGE : PUBLISH_REASON_REFUSED);
            if (was_alone(pipe, lane) ? !publish_judge_poison(pipe, lane, seq, reason, why.text, error)
                                      : !publish_suspects_add(&pipe->verdicts, seq, error)) {
                return false;
            }
        }
    }
    return true;
}

void publish_name_place(const struct outbox_batch *batch, rd_kafka_resp_err_t code, struct relay_error *error)
{
    const struct kafka_slot *first = NULL;
    const char *topic = "";
    bool others = false;
    for (size_t i = 0; i < batch->count; i++) {
        const struct kafka_slot *slot = &batch->slots[i];
        bool reported = slot->flight == NULL || slot->partition != KAFKA_NO_PARTITION;
        if (slot->error != code || (code == RD_KAFKA_RESP_ERR_NO_ERROR && reported)) {
            continue;
        }
        if (first == NULL) {
            first = slot;
            topic = batch->events[i].topic;
        } else {
            others = others || slot->partition != first->partition || strcmp(batch->events[i].topic, topic) != 0;
        }
    }
    if (first != NULL) {
        char partition[24] = "";
        if (first->partition != KAFKA_NO_PARTITION) {
            snprintf(partition, sizeof(partition), " [%d]", (int)first->partition);
        }
        error_prefix(error, "topic %s%s%s", topic, partition, others ? " and others" : "");
    }
}

// Why the batch failed; NONE when it did not. What librdkafka threw away itself says nothing of its partition.
static struct relay_error why_failed(const struct publish_lane *lane)
{
    const struct outbox_batch *batch = lane->batch;
    struct relay_error why = {0};
    if (batch->flight.failed > 0) {
        rd_kafka_resp_err_t code = (rd_kafka_resp_err_t)batch->flight.first_error;
        kafka_error_set(&why, code, "%zu of %zu records failed", batch->flight.failed, batch->count);
        if (why.code != RELAY_ERROR_KAFKA_ABORTED) {
            publish_name_place(batch, code, &why);
        }
    }
    return why;
}

struct topic_right {
    const struct kafka_topic *topic;
    bool may_write;
};

// Asks once for each topic of a batch.
static bool may_write(struct publish_pipe *pipe, const struct kafka_topic *topic, struct topic_right *asked,
    size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        if (asked[i].topic == topic) {
            return asked[i].may_write;
        }
    }
    bool may = kafka_may_write(kafka_producer_client(pipe->producer), topic->name, publish_kafka_tick(pipe),
        pipe->context->clock, publish_deadline(pipe, RIGHTS_WITHIN));
    asked[(*count)++] = (struct topic_right){topic, may};
    publish_tick(pipe);
    return may;
}

// After a transaction that failed without a reason: rows to whose topics nothing may be written wait for an operator.
static bool judge_rights(struct publish_pipe *pipe, const struct publish_lane *lane, bool *anything,
    struct relay_error *error)
{
    const struct outbox_batch *batch = lane->batch;
    struct topic_right *asked = event_arena_alloc(batch->arena, (batch->count + 1) * sizeof(*asked));
    if (asked == NULL) {
        return error_no_memory(error, "the topics of a batch");
    }
    size_t count = 0;
    for (size_t i = 0; batch->flight.failed > 0 && i < batch->count; i++) {
        if (may_write(pipe, batch->topics[i], asked, &count)) {
            continue;
        }
        const char *topic = batch->topics[i]->name;
        struct relay_error why;
        kafka_error_set(&why, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "writing to topic %s", topic);
        if (!publish_park(pipe, &batch->rows[i], topic, &why, false, error)) {
            return false;
        }
        *anything = true;
    }
    return true;
}

// librdkafka's purge at an abort may also meet what the next transaction has just queued: that is sent once more. It
// purges at other errors of a transaction, too, and tells nothing but that: a right that is missing is asked for, all
// else comes again. A transaction into which nothing could be added cannot be aborted either; then the term ends, and
// the next one acts on what is found here.
static bool judge_purged(struct publish_pipe *pipe, const struct publish_lane *lane, const struct publish_lane *other,
    bool aborted, bool *anything, struct relay_error *error)
{
    if (aborted && pipe->purges++ < PURGES) {
        *anything = true;
        return true;
    }
    if (!judge_rights(pipe, lane, anything, error) ||
        (other->state == LANE_SENT && !judge_rights(pipe, other, anything, error))) {
        return false;
    }
    return *anything ||
        receipt_store_may_write(&pipe->store, publish_kafka_tick(pipe), publish_deadline(pipe, RIGHTS_WITHIN), error);
}

// The row that is sent alone to learn whether its parked topic still refuses its timestamp, every ten seconds for as
// long as that lasts: the topic was told when it was parked.
static bool is_told(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    const struct publish_verdict *parking = publish_verdicts_parking(&pipe->verdicts, lane->batch->events[0].topic);
    return was_alone(pipe, lane) && parking != NULL && parking->told;
}

bool publish_refused(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    struct relay_error not_ended = {0};
    // Ends what Kafka holds of the refused batch and of what was sent after it: all reports are in then.
    bool ended = kafka_producer_abort(pipe->producer, publish_batch_deadline(pipe, lane), &not_ended);
    struct relay_error why = lane->batch->flight.failed > 0 ? why_failed(lane) : why_failed(other);
    bool anything = false;
    if (sets_too_large(pipe, lane, error) || (other->state == LANE_SENT && sets_too_large(pipe, other, error))) {
        return false;
    }
    if (!judge_refused(pipe, lane, &anything, error) ||
        (other->state == LANE_SENT && !judge_refused(pipe, other, &anything, error))) {
        return false;
    }
    if (!anything && pipe->exactly_once && why.code == RELAY_ERROR_KAFKA_ABORTED &&
        !judge_purged(pipe, lane, other, ended, &anything, error)) {
        return false;
    }
    if (!ended || !anything) {
        publish_note_late(pipe, lane, &why);
        *error = why;
        if (!ended) {
            *error = not_ended;
            error_prefix(error, "%s", why.text);
        }
        return false;
    }
    log_event(is_told(pipe, lane) ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "publish.records_refused",
        "the batch is repeated without them", LOG_ERROR(&why), LOG_TEXT("outbox", pipe->config->name));
    return publish_take_undo_all(pipe, lane, other, error);
}

bool publish_send_failed(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (lane->state == LANE_SENT) {
        publish_note_late(pipe, lane, error);
    }
    if (lane->state != LANE_SENT ||
        (error->code != RELAY_ERROR_KAFKA_FATAL && error->code != RELAY_ERROR_KAFKA_ABORTED)) {
        return false;
    }
    const struct kafka_flight none = {0}, *own = &lane->batch->flight,
                              *next = other->state == LANE_SENT ? &other->batch->flight : &none;
    struct mono_time deadline = mono_add(clock_mono(pipe->context->clock), REFUSAL_WITHIN);
    while (own->failed + next->failed == 0 && !mono_reached(clock_mono(pipe->context->clock), deadline)) {
        kafka_producer_poll(pipe->producer, DURATION_MS(10));
        publish_tick(pipe);
    }
    return own->failed + next->failed > 0 && publish_refused(pipe, lane, other, error);
}
