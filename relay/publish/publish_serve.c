// SPDX-License-Identifier: Apache-2.0
//
// The loop of a term: the two lanes take turns, each with a batch on its way from the table to Kafka.
#include "relay/publish/publish_serve.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_careful.h"
#include "relay/publish/publish_chores.h"
#include "relay/publish/publish_commit.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"
#include "relay/publish/publish_refused.h"
#include "relay/publish/publish_send.h"
#include "relay/publish/publish_wait.h"

#include <assert.h>

// No batch joins a transaction that is older: what was published in it becomes visible only with its end.
#define JOIN_WITHIN DURATION_MS(100)
// Each is a subtransaction; PostgreSQL keeps 64 of them at hand.
#define JOINED_BATCHES 32
// Readings that take nothing for so long while rows are there are not what happens by the way (somebody deletes rows).
#define IN_VAIN DURATION_S(5)
// After a reading that PostgreSQL refused or that took too long: it should not hold up others' rows again.
#define APART DURATION_S(5)

// Rows have to be judged one by one, or some wait, or one was left where it is.
static bool needs_care(const struct publish_pipe *pipe)
{
    return pipe->closely || pipe->verdicts.count > 0 || pipe->verdicts.suspect_count > 0 || pipe->held > 0 ||
        pipe->parked > 0;
}

static bool kafka_allows(const struct publish_pipe *pipe)
{
    return pipe->context->kafka_breaker == NULL || breaker_state_of(pipe->context->kafka_breaker) != BREAKER_OPEN;
}

// Whether the other lane is to take the next rows out while this one's batch is on its way.
static bool takes_ahead(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane->full && !pipe->looks_slowly && !needs_care(pipe) && !publish_stopping(pipe) && !pipe->giving_up &&
        kafka_allows(pipe) && !publish_chores_due(pipe);
}

// Whether the rows after the lane's are to be published in the same transaction. Not when rows that committed late are
// among these: they have waited long enough, and are visible only with its end.
static bool may_join(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    const struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    struct mono_time now = clock_mono(pipe->context->clock);
    if (pipe->failures > 0 || pipe->carried_rows > 0 || !mono_reached(now, mono_add(pipe->read_again_at, APART)) ||
        transaction->batches >= JOINED_BATCHES) {
        return false;
    }
    return pipe->exactly_once && !transaction->receipt_sent && !lane->late && !lane->careful && !lane->chosen &&
        !lane->released && !lane->holes_only && !pipe->holes_first &&
        (int64_t)transaction->rows + 2 * publish_take_limit(pipe) <= pipe->receipt_rows &&
        !mono_reached(now, mono_add(transaction->began, JOIN_WITHIN));
}

static bool take_ahead(struct publish_pipe *pipe, const struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (!takes_ahead(pipe, lane)) {
        return true;
    }
    if (other->state == LANE_COMMITTING && !publish_committed(pipe, other, error)) {
        return false;
    }
    return other->state != LANE_IDLE || !takes_ahead(pipe, lane) ||
        publish_take_start(pipe, other, may_join(pipe, lane) ? lane : NULL, error);
}

// The answer of PostgreSQL to the other lane's COMMIT is there, or not needed.
static bool is_free(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane->state == LANE_IDLE || (lane->state == LANE_COMMITTING && pg_ready(publish_connection(pipe, lane)));
}

// The other lane is idle. Careful readings go on until one has nothing to judge.
static bool take_carefully(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    bool reads = pipe->verdicts.count == 0;
    if (!publish_take_carefully(pipe, lane, error)) {
        return false;
    }
    pipe->closely = pipe->closely && !(reads && lane->state == LANE_ROUTED);
    pipe->in_vain = pipe->in_vain && reads; // what was in the way is judged
    return true;
}

// Brings the lane's next rows into memory. The other lane is idle, or its COMMIT is on its way. PostgreSQL gets its
// next statement before these rows are routed, if nothing is to be waited for.
static bool take_rows(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (lane->state == LANE_IDLE && needs_care(pipe)) {
        return (other->state == LANE_IDLE || publish_committed(pipe, other, error)) &&
            take_carefully(pipe, lane, error);
    }
    if (lane->state == LANE_IDLE && !publish_take_start(pipe, lane, NULL, error)) {
        return false;
    }
    if (lane->state == LANE_TAKING && !publish_take_rows(pipe, lane, other, error)) {
        return false;
    }
    if (lane->state != LANE_TAKEN) {
        assert(lane->state == LANE_IDLE);
        return true;
    }
    bool ahead = lane->batch->count > 0 && is_free(pipe, other);
    return (!ahead || take_ahead(pipe, lane, other, error)) &&
        publish_take_route(pipe, lane, other->state == LANE_TAKING ? other : NULL, error);
}

// A transaction without a row: nothing to publish, but verdicts may have been carried out in it.
static bool commit_empty(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (!pg_send_commit(publish_connection(pipe, lane), error)) {
        return false;
    }
    publish_lane_move(pipe, lane, LANE_COMMITTING);
    return publish_committed(pipe, lane, error);
}

// What comes before the lane's next batch is begun. *paused: a moment was waited instead.
static bool before_batch(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other, bool *paused,
    struct relay_error *error)
{
    struct mono_time from = mono_before(pipe->read_again_at, pipe->begin_again_at) ? pipe->begin_again_at
                                                                                   : pipe->read_again_at;
    bool pause = !mono_reached(clock_mono(pipe->context->clock), from);
    // Under steady load the other lane's COMMIT is always on its way. What wants both lanes idle waits for it: nothing
    // else would ever end the chores' being due, nor the pause after a refused reading or a small transaction.
    if (other->state == LANE_COMMITTING && (pause || publish_chores_due(pipe)) &&
        !publish_committed(pipe, other, error)) {
        return false;
    }
    if (other->state != LANE_IDLE) {
        return true;
    }
    if (!kafka_allows(pipe)) {
        return breaker_refuse(pipe->context->kafka_breaker, RELAY_SERVER_KAFKA, "Kafka", error);
    }
    if (pause) {
        publish_pause(pipe, mono_left(clock_mono(pipe->context->clock), from));
        *paused = true;
        return true;
    }
    // Verdicts first: a chore would come to the same rows again.
    return pipe->verdicts.count > 0 || !publish_chores_due(pipe) || publish_chores(pipe, lane, error);
}

// Notes whether the reading took nothing of what the probe had found. A reading without a probe, after a chore, tells
// nothing: only rows that are taken do, or a probe that finds none. true: it has been so for long, which is said.
static bool reads_in_vain(struct publish_pipe *pipe, bool vain)
{
    struct mono_time now = clock_mono(pipe->context->clock);
    if (vain && !pipe->in_vain) {
        pipe->in_vain = true;
        pipe->in_vain_since = now;
    }
    if (!pipe->in_vain || pipe->closely || !mono_reached(now, mono_add(pipe->in_vain_since, IN_VAIN))) {
        return false;
    }
    publish_show_kept(pipe);
    pipe->read_again_at = mono_add(now, DURATION_S(1));
    return true;
}

// The lane has read nothing: both lanes are idle then, and there is something to read, or to do.
static bool after_nothing(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    // A careful one may have carried out verdicts, or all its rows wait. What a chore asked for it has told of itself.
    bool vain = lane->careful ? lane->kept : pipe->found && !lane->full;
    // The plain reading leaves a row that is too large to be read, and what is behind it. The second time: the first
    // reading after the last rows takes nothing, too.
    pipe->closely = pipe->closely || (pipe->in_vain && !lane->careful && !lane->full);
    if (!commit_empty(pipe, lane, error) ||
        (other->state == LANE_COMMITTING && !publish_committed(pipe, other, error))) {
        return false;
    }
    if (!reads_in_vain(pipe, vain) && !lane->kept) {
        publish_show_well(pipe);
    }
    return lane->full || publish_wait_for_rows(pipe, error);
}

// What there is to do on this lane before anything can be sent. It is then ROUTED with rows, or IDLE after a wait.
static bool prepare_lane(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    bool paused = false;
    if (lane->state == LANE_IDLE && !before_batch(pipe, lane, other, &paused, error)) {
        return false;
    }
    if (paused) {
        return true;
    }
    if (lane->state != LANE_ROUTED && !take_rows(pipe, lane, other, error)) {
        return false;
    }
    if (lane->state == LANE_IDLE && lane->joined && publish_transaction_of(pipe, lane)->open) {
        publish_take_nothing(pipe, lane); // it was undone; what the transaction held before waits for its end
    }
    bool nothing = lane->state == LANE_ROUTED && lane->batch->count == 0 && !lane->joined;
    return !nothing || after_nothing(pipe, lane, other, error);
}

// Sends the lane's batch and brings it to its COMMIT, while the other lane's COMMIT comes in and its next rows are
// read. With more rows behind it PostgreSQL is set to work first; otherwise nothing delays this batch.
static bool publish_batch(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    size_t rows = lane->batch->count;
    bool sent = lane->state == LANE_SENT;
    if (!publish_transaction_of(pipe, lane)->in_kafka && !publish_ask_breaker(pipe, error)) {
        return false;
    }
    if (!take_ahead(pipe, lane, other, error)) {
        return false;
    }
    // Else this batch's time in Kafka would go by meanwhile.
    if (pipe->commits_slowly && other->state == LANE_COMMITTING && !publish_committed(pipe, other, error)) {
        return false;
    }
    if ((!sent && !publish_send(pipe, lane, error)) ||
        (pipe->exactly_once && !publish_goes_on(lane, other) && !publish_send_receipt(pipe, lane, error))) {
        return publish_send_failed(pipe, lane, other, error);
    }
    TEST_POINT(PUBLISH_AFTER_SEND);
    if (other->state == LANE_COMMITTING && !publish_committed(pipe, other, error)) {
        return false;
    }
    if (!publish_complete(pipe, lane, other, error)) {
        return false;
    }
    publish_report_kafka(pipe, NULL);
    pipe->in_vain = false;
    if (lane->state == LANE_COMMITTING) {
        publish_show_well(pipe);
        publish_pace(pipe, lane);
    }
    publish_stay_awake(pipe, rows);
    return true;
}

// Whether records of the lane's transaction are in Kafka: it must come to its end.
static bool under_way(const struct publish_lane *lane)
{
    return lane->state == LANE_SENT || (lane->state != LANE_IDLE && lane->joined);
}

// A transaction during which a connection was closed has come to its end: nothing has failed, and brokers close those
// that nobody has used for ten minutes. But the next transaction needs a new epoch.
static bool end_suspicious(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if ((lane->state == LANE_COMMITTING && !publish_committed(pipe, lane, error)) ||
        !publish_take_undo(pipe, other, error)) {
        return false;
    }
    metric_add(metrics_series2(pipe->context->metrics, METRIC_RETRIES, "kafka", "retriable"), 1);
    log_event(LOG_LEVEL_INFO, "publish.term_renewed", "a broker connection was closed during the transaction",
        LOG_TEXT("outbox", pipe->config->name));
    return true;
}

// Batches, until the stop or an error. The lanes take turns.
bool publish_serve(struct publish_pipe *pipe, struct relay_error *error)
{
    struct publish_lane *lane = &pipe->lanes[0], *other = &pipe->lanes[1];
    while (under_way(lane) || !(publish_stopping(pipe) || (pipe->giving_up && lane->state == LANE_IDLE))) {
        publish_tick(pipe);
        if (lane->state != LANE_SENT && !prepare_lane(pipe, lane, other, error)) {
            return false;
        }
        if (lane->state != LANE_ROUTED && lane->state != LANE_SENT) {
            continue;
        }
        if (!publish_batch(pipe, lane, other, error)) {
            return false;
        }
        bool goes_on = lane->state == LANE_IDLE && publish_goes_on(lane, other);
        if (!goes_on && kafka_producer_suspicious(pipe->producer)) {
            return end_suspicious(pipe, lane, other, error);
        }
        if (lane->state == LANE_COMMITTING || goes_on) {
            struct publish_lane *before = lane;
            lane = other;
            other = before;
        }
    }
    return other->state != LANE_COMMITTING || publish_committed(pipe, other, error);
}
