// SPDX-License-Identifier: Apache-2.0
//
// The end of a transaction in PostgreSQL: how far the outbox is settled goes into it, and what it has done is told
// once it is committed.
#include "relay/publish/publish_commit.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_waiting.h"

#include <assert.h>
#include <stdio.h>

#define NOTE_INTERVAL DURATION_S(1)

bool publish_note_progress(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error)
{
    int64_t settled = lane->state == LANE_IDLE ? seq_holes_settled(pipe->holes) : lane->settled;
    if (settled == INT64_MIN || settled == pipe->noted || !publish_due(pipe, pipe->noted_at, NOTE_INTERVAL)) {
        return true;
    }
    pipe->noted_at = clock_mono(pipe->context->clock);
    pipe->noted = settled;
    return outbox_sql_note_progress(publish_connection(pipe, lane), settled, pg_deadline(pipe->context), error);
}

static void log_verdict(const struct publish_pipe *pipe, const struct publish_verdict *verdict)
{
    static const struct {
        const char *event, *hint;
    } texts[] = {[VERDICT_DEAD_LETTER] = {"publish.dead_letter",
                     "fix the cause, then outbox-relay dead-letters retry; or dead-letters drop"},
        [VERDICT_HOLD] = {"publish.aggregate_held",
            "fix the row as the table's owner, or delete it: its aggregate waits behind it"},
        [VERDICT_PARK] = {"publish.topic_parked",
            "create the topic (one that was deleted: first runbooks.md, A topic was deleted), let the relay write to "
            "it, or correct the clock or setting: its events go on by themselves"}};
    char type[sizeof(verdict->type) + 1];
    snprintf(type, sizeof(type), "%.*s", (int)verdict->type_length, verdict->type);
    log_event(LOG_LEVEL_WARNING, texts[verdict->action].event, verdict->reason, LOG_TEXT("outbox", pipe->config->name),
        LOG_INT("seq", verdict->seq), LOG_TEXT("event_type", type), LOG_TEXT("topic", verdict->topic),
        LOG_TEXT("reason", verdict->code), LOG_TEXT("hint", texts[verdict->action].hint));
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
        if (!verdict->told) {
            log_verdict(pipe, verdict);
        }
        if (verdict->action != VERDICT_PARK) { // else it goes alone again when the topic is tried
            publish_suspects_clear(&pipe->verdicts, verdict->seq);
        }
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

// Slowly: a batch that is too much again costs a term, and what was sent of it.
static void grow_batches(struct publish_pipe *pipe)
{
    if (pipe->carried_rows > 0) {
        pipe->carried_rows += pipe->carried_rows / 8 + 1;
    }
    if (pipe->carried_rows >= pipe->most_rows) {
        pipe->carried_rows = 0;
    }
}

bool publish_committed(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    assert(lane->state == LANE_COMMITTING);
    struct mono_time asked = clock_mono(pipe->context->clock);
    if (!pg_receive_commit(publish_connection(pipe, lane), pg_deadline(pipe->context), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_COMMIT);
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    transaction->open = false;
    pipe->purges = 0;
    if (transaction->run_count > 0) {
        pipe->commits_slowly = publish_took_long(pipe, mono_since(clock_mono(pipe->context->clock), asked));
        grow_batches(pipe);
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
        // Many may have been fixed at a time: the next ones are looked at at once.
        pipe->waiting_checked_at = pipe->held_tried_at = (struct mono_time){0};
    }
    return (!lane->careful && !lane->released) || publish_count_waiting(pipe, pipe->owner.connections[0], error);
}
