// SPDX-License-Identifier: Apache-2.0
//
// Which rows Kafka will not take, and what becomes of them: a row that it never takes is judged by on_poison, rows
// whose topic is missing or forbidden wait for it. Here they become verdicts; publish_careful.c carries them out.
#include "relay/publish/publish_judge.h"

#include "relay/kafka/kafka_error.h"
#include "relay/kafka/kafka_rights.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_reason.h"
#include "relay/publish/publish_waiting.h"

#include <stdio.h>
#include <string.h>

#define TOPICS_AHEAD 1000
#define ASK_WITHIN   DURATION_S(5)

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

static bool stops_outbox(int64_t seq, const char *code, const char *text, struct relay_error *error)
{
    return error_set_class(error, RELAY_ERROR_ROUTE, RELAY_CLASS_OPERATOR, 0,
        "row %lld cannot be published (%s) and on_poison = stop: %s", (long long)seq, code, text);
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
        return stops_outbox(seq, code, text, error);
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

bool publish_judge_unsendable(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error)
{
    int64_t seq = lane->asked[lane->asked_count / 2];
    struct pg_connection *connection = publish_connection(pipe, lane);
    bool long_text = pg_too_long(connection, error);
    if (lane->asked_count > 1) {
        return publish_suspects_add(&pipe->verdicts, seq, error);
    }
    if (long_text && !(pipe->unprintable && pipe->unprintable_seq == seq)) {
        pipe->unprintable = true;
        pipe->unprintable_seq = seq;
        return publish_suspects_add(&pipe->verdicts, seq, error);
    }
    pipe->unprintable = false;
    enum publish_reason reason = long_text ? PUBLISH_REASON_TOO_LARGE : PUBLISH_REASON_BAD_ENCODING;
    const char *code = publish_reason_name(reason);
    const char *encoding = PQparameterStatus(pg_libpq(connection), "server_encoding");
    struct publish_verdict verdict = {.seq = seq, .action = VERDICT_DEAD_LETTER};
    snprintf(verdict.code, sizeof(verdict.code), "%s", code);
    snprintf(verdict.reason, sizeof(verdict.reason), "%s (server_encoding %s, SQLSTATE %s)",
        publish_reason_text(reason), encoding == NULL ? "unknown" : encoding, pg_last_sqlstate(connection));
    if (pipe->config->publish.on_poison == CONFIG_POISON_STOP) {
        return stops_outbox(verdict.seq, code, verdict.reason, error);
    }
    return publish_verdicts_add(&pipe->verdicts, &verdict, error);
}

bool publish_park(struct publish_pipe *pipe, const struct outbox_row *row, const char *topic,
    const struct relay_error *why, bool told, struct relay_error *error)
{
    struct publish_verdict verdict = {.seq = row->seq, .action = VERDICT_PARK, .told = told};
    publish_verdict_type(&verdict, row->type);
    snprintf(verdict.code, sizeof(verdict.code), "%s", rd_kafka_err2name((rd_kafka_resp_err_t)why->detail));
    snprintf(verdict.reason, sizeof(verdict.reason), "%.511s", why->text);
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

// Topics that nobody has asked for yet, from this row on: the batch's, as many as go into one request.
struct unknown {
    const char **names;
    size_t *rows; // the first one of each
    size_t count;
    size_t upto; // the rows before are looked through
};

static bool collect(struct publish_pipe *pipe, const struct outbox_batch *batch, struct unknown *unknown,
    struct name_set *seen, struct relay_error *error)
{
    for (; unknown->upto < batch->count && unknown->count < TOPICS_AHEAD; unknown->upto++) {
        const char *topic = batch->events[unknown->upto].topic;
        if (name_set_has(seen, topic) || kafka_producer_has_topic(pipe->producer, topic) ||
            publish_verdicts_parking(&pipe->verdicts, topic) != NULL) {
            continue;
        }
        if (!name_set_add(seen, topic, error)) {
            return false;
        }
        unknown->names[unknown->count] = topic;
        unknown->rows[unknown->count++] = unknown->upto;
    }
    return true;
}

// Those that are absent are parked. What else the answers say is found when each is looked up.
static bool park_absent(struct publish_pipe *pipe, const struct outbox_batch *batch, const struct unknown *unknown,
    const struct kafka_topic_answer *answers, struct relay_error *error)
{
    for (size_t i = 0; i < unknown->count; i++) {
        struct relay_error why;
        if (answers[i].code == RD_KAFKA_RESP_ERR_NO_ERROR || answers[i].code == RD_KAFKA_RESP_ERR__NOENT) {
            continue;
        }
        kafka_error_set(&why, answers[i].code, "topic %s", unknown->names[i]);
        if (why.code == RELAY_ERROR_KAFKA_OPERATOR &&
            !publish_park(pipe, &batch->rows[unknown->rows[i]], unknown->names[i], &why, false, error)) {
            return false;
        }
    }
    return true;
}

// One row after the other would ask for each topic by itself: thousands of round trips, while rows are locked.
// *asked: the rows before have been asked for.
static bool ask_ahead(struct publish_pipe *pipe, struct publish_lane *lane, size_t from, size_t *asked,
    struct relay_error *error)
{
    struct outbox_batch *batch = lane->batch;
    struct unknown unknown = {.names = event_arena_alloc(batch->arena, TOPICS_AHEAD * sizeof(*unknown.names)),
        .rows = event_arena_alloc(batch->arena, TOPICS_AHEAD * sizeof(*unknown.rows)),
        .upto = from};
    struct kafka_topic_answer *answers = event_arena_alloc(batch->arena, TOPICS_AHEAD * sizeof(*answers));
    if (unknown.names == NULL || unknown.rows == NULL || answers == NULL) {
        return error_no_memory(error, "the topics of a batch");
    }
    struct name_set seen = {0};
    bool done = collect(pipe, batch, &unknown, &seen, error);
    name_set_finish(&seen);
    *asked = unknown.upto;
    if (!done || unknown.count < 2) {
        return done;
    }
    struct relay_error refused;
    return !kafka_ask_topics(kafka_producer_client(pipe->producer), unknown.names, answers, unknown.count,
               publish_kafka_tick(pipe), pipe->context->clock, publish_deadline(pipe, ASK_WITHIN), &refused) ||
        park_absent(pipe, batch, &unknown, answers, error);
}

// The topic of the row, if nothing parks it: *parking.
static bool find_topic(struct publish_pipe *pipe, struct publish_lane *lane, size_t i, size_t *asked,
    const struct publish_verdict **parking, struct relay_error *why)
{
    const char *topic = lane->batch->events[i].topic;
    *parking = publish_verdicts_parking(&pipe->verdicts, topic);
    if (*parking == NULL && i >= *asked && !kafka_producer_has_topic(pipe->producer, topic) &&
        !kafka_producer_makes_topics(pipe->producer)) {
        if (!ask_ahead(pipe, lane, i, asked, why)) {
            return false;
        }
        *parking = publish_verdicts_parking(&pipe->verdicts, topic);
    }
    if (*parking == NULL) {
        lane->batch->topics[i] = kafka_producer_topic(pipe->producer, topic, publish_batch_deadline(pipe, lane), why);
    }
    return *parking != NULL || lane->batch->topics[i] != NULL;
}

// One event before it is sent. *fits: it can go.
static bool check_event(struct publish_pipe *pipe, struct publish_lane *lane, size_t i, size_t *asked, bool *fits,
    struct relay_error *error)
{
    const struct routed_event *event = &lane->batch->events[i];
    const struct outbox_row *row = &lane->batch->rows[i];
    struct relay_error why = {0};
    const struct publish_verdict *parking = NULL;
    *fits = false;
    if (lane->batch->topics[i] == NULL && find_topic(pipe, lane, i, asked, &parking, &why) && parking != NULL) {
        return park_alike(pipe, row, parking, error);
    }
    const struct kafka_topic *topic = lane->batch->topics[i];
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
        return publish_park(pipe, row, event->topic, &why, false, error);
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
    size_t asked = 0;
    for (size_t i = 0; i < batch->count; i++) {
        // Most rows go to the topic of the row before.
        bool same = i > 0 && batch->topics[i - 1] != NULL &&
            strcmp(batch->events[i].topic, batch->events[i - 1].topic) == 0;
        batch->topics[i] = same ? batch->topics[i - 1] : NULL;
        bool fits;
        if (!check_event(pipe, lane, i, &asked, &fits, error)) {
            return false;
        }
        *clean = *clean && fits;
    }
    return true;
}
