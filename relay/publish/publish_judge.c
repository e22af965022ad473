// SPDX-License-Identifier: Apache-2.0
//
// Which rows Kafka will not take, and what becomes of them: a row that it never takes is judged by on_poison, rows
// whose topic is missing or forbidden wait for it. Here they become verdicts; publish_careful.c carries them out.
#include "relay/publish/publish_judge.h"

#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_reason.h"
#include "relay/publish/publish_waiting.h"

#include <stdio.h>
#include <string.h>

static enum verdict_action poison_action(const struct publish_pipe *pipe)
{
    return pipe->config->publish.on_poison == CONFIG_POISON_HOLD_AGGREGATE ? VERDICT_HOLD : VERDICT_DEAD_LETTER;
}

// Whether held_aggregates has room for the row's aggregate: otherwise it would fail at every term.
static bool can_be_held(const struct outbox_table *table, const struct outbox_batch *batch, int64_t seq)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct outbox_row *row = &batch->rows[i];
        if (row->seq == seq) {
            size_t type = row->aggregate_type.length, key = row->key.length;
            return outbox_table_text_length(table, CONFIG_COLUMN_AGGREGATE_TYPE, type) +
                outbox_table_text_length(table, CONFIG_COLUMN_KEY, key) <=
                PUBLISH_WAITING_KEY_MAX;
        }
    }
    return true;
}

bool publish_judge_poison(struct publish_pipe *pipe, const struct publish_lane *lane, int64_t seq, const char *code,
    const char *text, struct relay_error *error)
{
    bool stops = pipe->config->publish.on_poison == CONFIG_POISON_STOP;
    bool alone = lane->batch->count == 1 && (lane->careful || lane->chosen);
    if (stops && !alone) { // what lies before the row is let out first, and then the row stops the outbox
        return publish_suspects_add(&pipe->verdicts, seq, error);
    }
    if (stops) {
        return error_set_class(error, RELAY_ERROR_ROUTE, RELAY_CLASS_OPERATOR, 0,
            "row %lld cannot be published (%s) and on_poison = stop: %s", (long long)seq, code, text);
    }
    if (poison_action(pipe) == VERDICT_HOLD && lane->chosen && lane->batch->count > 1) {
        // The aggregate is held already. What lies before this row goes first, and the row is judged when it is next.
        return publish_suspects_add(&pipe->verdicts, seq, error);
    }
    struct publish_verdict verdict = {.seq = seq,
        .action = can_be_held(pipe->owner.table, lane->batch, seq) ? poison_action(pipe) : VERDICT_DEAD_LETTER};
    for (size_t i = 0; i < lane->batch->count; i++) {
        if (lane->batch->rows[i].seq == seq) {
            publish_verdict_type(&verdict, lane->batch->rows[i].type);
        }
    }
    snprintf(verdict.code, sizeof(verdict.code), "%s", code);
    snprintf(verdict.reason, sizeof(verdict.reason), "%s", text);
    return publish_verdicts_add(&pipe->verdicts, &verdict, error);
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

bool publish_validate(struct publish_pipe *pipe, struct publish_lane *lane, bool *clean, struct relay_error *error)
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
