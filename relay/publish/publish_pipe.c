// SPDX-License-Identifier: Apache-2.0
//
// The pipe from one outbox table to Kafka. What holds at every moment, and each part of it relies on:
//
//  1. A row leaves the outbox only in the transaction of the batch that published it, and only rows that were published
//     leave.
//  2. Events of an aggregate whose transactions do not overlap go out in the order of their commits; within one by seq.
//     Batches go to Kafka strictly one after another; what a look-up found below the watermark goes before what is new.
//  3. A batch is in Kafka or in the table, as a reader of committed data sees both; while it is in doubt, its receipt
//     and its number tell the next owner which.
//  4. Who publishes has proved the ownership after it fenced the producers before it (a term); what was read before
//     that is forgotten. Kafka refuses the producers of earlier terms, PostgreSQL their batch numbers.
//  5. Nothing is dropped: a row that Kafka will never take goes into the dead letters or waits, in a committed
//     transaction, with its reason.
//  6. Memory: at most two batches and what librdkafka holds of them; of the other batches of their transactions, a
//     number and a hash for each row.
//  7. No transaction stays open longer than Kafka's transaction.timeout.ms, none is begun while Kafka's breaker is
//     open, and the stop ends every wait.
//
// An error of any step ends the term: the producer is destroyed first (payloads in its queue belong to the batches),
// then everything read is rolled back. A broken session ends the ownership as well.
#include "relay/publish/publish_pipe.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY_INTERVAL_MS 300
#define OUTDATED_PAUSE  DURATION_S(15)
// An owner that Kafka does not answer for so long lets go, and leaves it so long to others, of whom some try every 2 s.
#define KAFKA_PATIENCE DURATION_S(30)
#define LET_GO_PAUSE   DURATION_S(3)
// No batch joins a transaction that is older: what was published in it becomes visible only with its end.
#define JOIN_WITHIN DURATION_MS(100)
// Each is a subtransaction; PostgreSQL keeps 64 of them at hand.
#define JOINED_BATCHES 32
// Readings that take nothing for so long while rows are there are not what happens by the way (somebody deletes rows).
#define IN_VAIN DURATION_S(5)
// After a reading that PostgreSQL refused or that took too long: it should not hold up others' rows again.
#define APART DURATION_S(5)

struct mono_time publish_deadline(const struct publish_pipe *pipe, struct duration from_now)
{
    struct mono_time own = mono_add(clock_mono(pipe->context->clock), from_now);
    struct mono_time stop = stop_deadline(pipe->context->stop);
    return mono_before(stop, own) ? stop : own;
}

bool publish_stopping(const struct publish_pipe *pipe)
{
    return stop_raised(pipe->context->stop);
}

void publish_tick(void *context)
{
    struct publish_pipe *pipe = context;
    outbox_owner_tick(&pipe->owner);
    outbox_sleep_tick(&pipe->sleep);
    heartbeat_beat(pipe->heartbeat);
}

struct pg_connection *publish_connection(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return pipe->owner.connections[lane->slot];
}

struct publish_transaction *publish_transaction_of(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return &pipe->transactions[lane->slot];
}

const struct publish_lane *publish_other(const struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane == &pipe->lanes[0] ? &pipe->lanes[1] : &pipe->lanes[0];
}

bool publish_goes_on(const struct publish_lane *lane, const struct publish_lane *next)
{
    return next->joined && next->state != LANE_IDLE && next->state != LANE_COMMITTING && next->slot == lane->slot;
}

void publish_lane_move(struct publish_pipe *pipe, struct publish_lane *lane, enum lane_state to)
{
    // From each state: where it may go.
    static const unsigned allowed[] = {
        [LANE_IDLE] = 1u << LANE_READING,
        [LANE_READING] = 1u << LANE_TAKEN | 1u << LANE_IDLE,
        [LANE_TAKEN] = 1u << LANE_READ | 1u << LANE_IDLE,
        [LANE_READ] = 1u << LANE_SENT | 1u << LANE_IDLE | 1u << LANE_COMMITTING,
        [LANE_SENT] = 1u << LANE_COMMITTING | 1u << LANE_IDLE,
        [LANE_COMMITTING] = 1u << LANE_IDLE,
    };
    assert((allowed[lane->state] & 1u << to) != 0);
    lane->state = to;
    metric_set(pipe->series.holes, (double)seq_holes_ranges(pipe->holes));
}

// Rows have to be judged one by one, or some wait.
static bool needs_care(const struct publish_pipe *pipe)
{
    return pipe->verdicts.count > 0 || pipe->verdicts.suspect_count > 0 || pipe->held > 0 || pipe->parked > 0;
}

static bool kafka_allows(const struct publish_pipe *pipe)
{
    return pipe->context->kafka_breaker == NULL || breaker_state_of(pipe->context->kafka_breaker) != BREAKER_OPEN;
}

// Whether the other lane is to take the next rows out while this one's batch is on its way.
static bool reads_ahead(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane->full && !needs_care(pipe) && !publish_stopping(pipe) && !pipe->giving_up && kafka_allows(pipe) &&
        !publish_chores_due(pipe);
}

// Whether the rows after the lane's are to be published in the same transaction. Not when rows that committed late are
// among these: they have waited long enough, and are visible only with its end.
static bool may_join(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    const struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    struct mono_time now = clock_mono(pipe->context->clock);
    if (pipe->failures > 0 || !mono_reached(now, mono_add(pipe->read_again_at, APART)) ||
        transaction->batches >= JOINED_BATCHES) {
        return false;
    }
    return pipe->exactly_once && !transaction->receipt_sent && !lane->late && !lane->careful && !lane->chosen &&
        !lane->released && !lane->holes_only && !pipe->holes_first &&
        (int64_t)transaction->rows + 2 * publish_read_limit(pipe) <= pipe->receipt_rows &&
        !mono_reached(now, mono_add(transaction->began, JOIN_WITHIN));
}

static bool read_ahead(struct publish_pipe *pipe, const struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (!reads_ahead(pipe, lane)) {
        return true;
    }
    if (other->state == LANE_COMMITTING && !publish_committed(pipe, other, error)) {
        return false;
    }
    return other->state != LANE_IDLE || !reads_ahead(pipe, lane) ||
        publish_read_start(pipe, other, may_join(pipe, lane) ? lane : NULL, error);
}

// The answer of PostgreSQL to the other lane's COMMIT is there, or not needed.
static bool is_free(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    return lane->state == LANE_IDLE || (lane->state == LANE_COMMITTING && pg_ready(publish_connection(pipe, lane)));
}

// Brings the lane's next rows into memory. The other lane is idle, or its COMMIT is on its way. PostgreSQL gets its
// next statement before these rows are routed, if nothing is to be waited for.
static bool read_rows(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (lane->state == LANE_IDLE && needs_care(pipe)) {
        return (other->state == LANE_IDLE || publish_committed(pipe, other, error)) &&
            publish_read_carefully(pipe, lane, error);
    }
    if (lane->state == LANE_IDLE && !publish_read_start(pipe, lane, NULL, error)) {
        return false;
    }
    if (lane->state == LANE_READING && !publish_read_take(pipe, lane, other, error)) {
        return false;
    }
    if (lane->state != LANE_TAKEN) {
        assert(lane->state == LANE_IDLE);
        return true;
    }
    bool ahead = lane->batch->count > 0 && is_free(pipe, other);
    return (!ahead || read_ahead(pipe, lane, other, error)) &&
        publish_read_route(pipe, lane, other->state == LANE_READING ? other : NULL, error);
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

static void show(struct publish_pipe *pipe, enum status_level level, const char *role, const char *reason)
{
    const char *name = pipe->config->name;
    status_board_set(pipe->context->board, STATUS_PUBLISH, name, level, reason);
    status_board_text(pipe->context->board, STATUS_PUBLISH, name, "role", role);
    // Ready: it owns the outbox, and could once publish it, or waits to own it. A relay that has not reached PostgreSQL
    // or Kafka yet does neither.
    bool ready = level != STATUS_DOWN && strcmp(role, "none") != 0;
    status_board_ready(pipe->context->board, STATUS_PUBLISH, name, ready && (pipe->came_up || !pipe->owner.owned));
    metric_set(pipe->series.owned, pipe->owner.owned ? 1 : 0);
}

static const char *role(const struct publish_pipe *pipe)
{
    return pipe->owner.owned ? "owner" : "none";
}

// Which server an error speaks of, for the board and the metrics. What a term finds wrong in the configuration is that
// no client can be made of [kafka], such as of a certificate's file that is not there.
static bool is_kafka(const struct relay_error *error)
{
    return error->code == RELAY_ERROR_CONFIG || strncmp(error_code_name(error->code), "kafka", 5) == 0;
}

// The servers as this stage sees them: error NULL, both answer.
static void show_servers(struct publish_pipe *pipe, const struct relay_error *error)
{
    struct status_board *board = pipe->context->board;
    if (error == NULL) {
        status_board_set(board, STATUS_KAFKA, "publish", STATUS_OK, "");
        status_board_set(board, STATUS_POSTGRES, "publish", STATUS_OK, "");
    } else if (error->code == RELAY_ERROR_POSTGRES_UNREACHABLE || error->code == RELAY_ERROR_KAFKA_UNREACHABLE) {
        status_board_set(board, is_kafka(error) ? STATUS_KAFKA : STATUS_POSTGRES, "publish",
            pipe->failures >= 3 ? STATUS_DOWN : STATUS_DEGRADED, error->text);
    }
}

// While a term waits for Kafka, which it does for half a minute, the board says why.
static void tick_of_kafka(void *context)
{
    struct publish_pipe *pipe = context;
    publish_tick(pipe);
    char why[256];
    if (pipe->starting && kafka_producer_trouble(pipe->producer, why, sizeof(why))) {
        enum status_level level = pipe->failures >= 3 ? STATUS_DOWN : STATUS_DEGRADED;
        status_board_set(pipe->context->board, STATUS_KAFKA, "publish", level, why);
        show(pipe, level, role(pipe), why);
    }
}

struct kafka_tick publish_kafka_tick(struct publish_pipe *pipe)
{
    return (struct kafka_tick){tick_of_kafka, pipe};
}

// Waits before the next attempt, beating.
static void pause_for(struct publish_pipe *pipe, struct duration length)
{
    struct mono_time until = mono_add(clock_mono(pipe->context->clock), length);
    while (!publish_stopping(pipe) && !mono_reached(clock_mono(pipe->context->clock), until)) {
        struct mono_time slice = mono_add(clock_mono(pipe->context->clock), DURATION_MS(200));
        stop_wait(pipe->context->stop, pipe->context->clock, mono_before(slice, until) ? slice : until);
        publish_tick(pipe);
    }
}

void publish_show_waiting(struct publish_pipe *pipe)
{
    metric_set(pipe->series.held, (double)pipe->held);
    metric_set(pipe->series.parked, (double)pipe->parked);
    status_board_number(pipe->context->board, STATUS_PUBLISH, pipe->config->name, "held_aggregates",
        (double)pipe->held);
    status_board_number(pipe->context->board, STATUS_PUBLISH, pipe->config->name, "parked_topics",
        (double)pipe->parked);
    char reason[128 + sizeof(pipe->first_waiting)] = "";
    if (pipe->held + pipe->parked > 0) {
        snprintf(reason, sizeof(reason), "%lld aggregate%s held, %lld topic%s parked; the first: %s",
            (long long)pipe->held, pipe->held == 1 ? "" : "s", (long long)pipe->parked, pipe->parked == 1 ? "" : "s",
            pipe->first_waiting);
    }
    show(pipe, reason[0] == '\0' ? STATUS_OK : STATUS_DEGRADED, "owner", reason);
}

void publish_show_trouble(struct publish_pipe *pipe, const struct relay_error *error)
{
    show(pipe, STATUS_DEGRADED, "owner", error->text);
    pipe->troubled = true;
}

static void is_well(struct publish_pipe *pipe)
{
    pipe->failures = 0;
    backoff_reset(&pipe->backoff);
    if (pipe->troubled) {
        pipe->troubled = false;
        publish_show_waiting(pipe);
    }
}

static bool ask_breaker(struct publish_pipe *pipe, struct relay_error *error)
{
    return pipe->context->kafka_breaker == NULL || breaker_check(pipe->context->kafka_breaker, "Kafka", error);
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
        return breaker_refuse(pipe->context->kafka_breaker, "Kafka", error);
    }
    if (pause) {
        pause_for(pipe, mono_left(clock_mono(pipe->context->clock), from));
        *paused = true;
        return true;
    }
    // Verdicts first: a chore would come to the same rows again.
    return pipe->verdicts.count > 0 || !publish_chores_due(pipe) || publish_chores(pipe, lane, error);
}

void publish_show_kept(struct publish_pipe *pipe)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_POSTGRES_OPERATOR,
        "rows of %s are there and cannot be taken out: does a trigger (BEFORE %s) or a rule of yours keep them?",
        pipe->owner.table->name, pipe->config->disposition == CONFIG_DISPOSITION_MARK ? "UPDATE" : "DELETE");
    if (!pipe->troubled) {
        log_event(LOG_LEVEL_WARNING, "publish.rows_kept", "trying again", LOG_TEXT("outbox", pipe->config->name),
            LOG_ERROR(&error));
    }
    publish_show_trouble(pipe, &error);
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
    if (!pipe->in_vain || !mono_reached(now, mono_add(pipe->in_vain_since, IN_VAIN))) {
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
    if (!commit_empty(pipe, lane, error) ||
        (other->state == LANE_COMMITTING && !publish_committed(pipe, other, error))) {
        return false;
    }
    if (!reads_in_vain(pipe, vain) && !lane->kept) {
        is_well(pipe);
    }
    return lane->full || publish_wait_for_rows(pipe, error);
}

// What there is to do on this lane before anything can be sent. The lane is then READ with rows, or IDLE after a wait.
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
    if (lane->state != LANE_READ && !read_rows(pipe, lane, other, error)) {
        return false;
    }
    if (lane->state == LANE_IDLE && lane->joined && publish_transaction_of(pipe, lane)->open) {
        publish_read_nothing(pipe, lane); // it was undone; what the transaction held before waits for its end
    }
    bool nothing = lane->state == LANE_READ && lane->batch->count == 0 && !lane->joined;
    return !nothing || after_nothing(pipe, lane, other, error);
}

// Sends the lane's batch and brings it to its COMMIT, while the other lane's COMMIT comes in and its next rows are
// read. With more rows behind it PostgreSQL is set to work first; otherwise nothing delays this batch.
static bool publish_batch(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    size_t rows = lane->batch->count;
    bool sent = lane->state == LANE_SENT;
    if (!publish_transaction_of(pipe, lane)->in_kafka && !ask_breaker(pipe, error)) {
        return false;
    }
    if (!read_ahead(pipe, lane, other, error)) {
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
    if (!publish_settle(pipe, lane, other, error)) {
        return false;
    }
    publish_report_kafka(pipe, NULL);
    pipe->in_vain = false;
    if (lane->state == LANE_COMMITTING) {
        is_well(pipe);
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

// Batches, until the stop or an error. The lanes take turns.
static bool serve(struct publish_pipe *pipe, struct relay_error *error)
{
    struct publish_lane *lane = &pipe->lanes[0], *other = &pipe->lanes[1];
    while (under_way(lane) || !(publish_stopping(pipe) || (pipe->giving_up && lane->state == LANE_IDLE))) {
        publish_tick(pipe);
        if (lane->state != LANE_SENT && !prepare_lane(pipe, lane, other, error)) {
            return false;
        }
        if (lane->state != LANE_READ && lane->state != LANE_SENT) {
            continue;
        }
        if (!publish_batch(pipe, lane, other, error)) {
            return false;
        }
        bool goes_on = lane->state == LANE_IDLE && publish_goes_on(lane, other);
        if (!goes_on && kafka_producer_suspicious(pipe->producer)) {
            return (lane->state != LANE_COMMITTING || publish_committed(pipe, lane, error)) &&
                publish_read_undo(pipe, other, error) &&
                error_set(error, RELAY_ERROR_KAFKA_RETRIABLE, "a broker connection was closed during the transaction");
        }
        if (lane->state == LANE_COMMITTING || goes_on) {
            struct publish_lane *before = lane;
            lane = other;
            other = before;
        }
    }
    return other->state != LANE_COMMITTING || publish_committed(pipe, other, error);
}

static void failed(struct publish_pipe *pipe, const struct relay_error *error)
{
    if (publish_stopping(pipe)) {
        return;
    }
    pipe->failures++;
    metric_add(metrics_series2(pipe->context->metrics, METRIC_RETRIES, is_kafka(error) ? "kafka" : "postgres",
                   error_class_name(error->class)),
        1);
    show_servers(pipe, error);
    log_event(pipe->failures == 1 ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, "publish.term_failed", "trying again",
        LOG_TEXT("outbox", pipe->config->name), LOG_ERROR(error), LOG_COUNT("failures", pipe->failures));
    bool down = pipe->failures >= 3 || error->class == RELAY_CLASS_OPERATOR;
    show(pipe, down ? STATUS_DOWN : STATUS_DEGRADED, role(pipe), error->text);
    struct duration length = backoff_next(&pipe->backoff);
    pause_for(pipe,
        pipe->outdated            ? OUTDATED_PAUSE
            : pipe->cut_off       ? LET_GO_PAUSE
            : pipe->failures == 1 ? DURATION_MS(20)
                                  : length);
    pipe->outdated = false;
}

// A statement of recovery that failed leaves its transaction open: in it, every statement of the next term would fail.
static bool sessions_idle(const struct publish_pipe *pipe)
{
    return pipe->owner.connections[0] != NULL && pipe->owner.connections[1] != NULL &&
        pg_idle(pipe->owner.connections[0]) && pg_idle(pipe->owner.connections[1]);
}

// After a term that has ended: whether the outbox is let go, since Kafka does not answer us, or cannot be asked. It may
// answer another replica: only our network, name service, certificate or password may be wrong.
static bool lets_go(struct publish_pipe *pipe, struct mono_time began, const struct relay_error *error)
{
    if (pipe->fenced || !is_kafka(error)) {
        pipe->unreached = false;
        return false;
    }
    if (!pipe->unreached) {
        pipe->unreached = true;
        pipe->unreached_since = began;
    }
    pipe->cut_off = mono_reached(clock_mono(pipe->context->clock), mono_add(pipe->unreached_since, KAFKA_PATIENCE));
    if (pipe->cut_off) {
        pipe->unreached = false;
        // PostgreSQL is not asked from now on: what it last was must not contradict the health watch, which asks it.
        status_board_remove(pipe->context->board, STATUS_POSTGRES, "publish");
        log_event(LOG_LEVEL_INFO, "publish.let_go", "Kafka does not answer; a replica that it answers may own it",
            LOG_TEXT("outbox", pipe->config->name));
    }
    return pipe->cut_off;
}

// One term, from its start to its end. The sessions are closed unless both are idle and whole.
static void one_term(struct publish_pipe *pipe)
{
    struct relay_error error = {0};
    struct mono_time began = clock_mono(pipe->context->clock);
    pipe->starting = true;
    bool started = publish_term_start(pipe, &error);
    pipe->starting = false;
    pipe->came_up = pipe->came_up || started;
    bool served = false;
    if (started) {
        log_event(LOG_LEVEL_INFO, "publish.term_started", "owns the outbox", LOG_TEXT("outbox", pipe->config->name),
            LOG_INT("number", pipe->number.number), LOG_TEXT("server", pg_server_address(pipe->owner.connections[0])));
        publish_show_waiting(pipe);
        show_servers(pipe, NULL);
        served = serve(pipe, &error);
    }
    bool idle = pipe->lanes[0].state == LANE_IDLE && pipe->lanes[1].state == LANE_IDLE && !pipe->transactions[0].open &&
        !pipe->transactions[1].open;
    publish_term_end(pipe);
    bool let_go = lets_go(pipe, began, &error);
    if (!idle || !sessions_idle(pipe) || pipe->giving_up || pipe->outdated || let_go) {
        outbox_owner_finish(&pipe->owner);
    }
    pipe->giving_up = false;
    if (!served) {
        if (started) {
            publish_report_kafka(pipe, &error);
        }
        failed(pipe, &error);
    }
}

// One try for the ownership, unless this process owns its share and others may want the outbox. What is owned may have
// been made anew or renewed since.
static void try_to_own(struct publish_pipe *pipe)
{
    struct relay_error error = {0};
    bool may = pipe->owner.owned || pipe->share == NULL ||
        publish_share_may_try(pipe->share, &pipe->sharer, clock_mono(pipe->context->clock));
    if (may &&
        (!outbox_owner_try(&pipe->owner, &error) ||
            (!pipe->owner.owned && pipe->owner.connections[0] != NULL && !publish_count_replicas(pipe, &error)))) {
        outbox_owner_finish(&pipe->owner);
        failed(pipe, &error);
        return;
    }
    // PostgreSQL has answered, whatever Kafka does with the term that may follow.
    status_board_set(pipe->context->board, STATUS_POSTGRES, "publish", STATUS_OK, "");
    if (!pipe->owner.owned) {
        show(pipe, STATUS_OK, "standby", "");
        pipe->unreached = false;
        backoff_reset(&pipe->backoff);
        pipe->failures = 0;
        pause_for(pipe, backoff_next(&pipe->turns));
    }
}

// For who has let go. While Kafka is away for everybody, each replica comes to wait here, without a session, and the
// outbox does not go round.
static bool kafka_answers(struct publish_pipe *pipe)
{
    struct relay_error error = {0};
    pipe->starting = true;
    pipe->cut_off = !publish_term_reach(pipe, &error);
    pipe->starting = false;
    if (pipe->cut_off) {
        failed(pipe, &error);
    } else {
        status_board_set(pipe->context->board, STATUS_KAFKA, "publish", STATUS_OK, "");
    }
    return !pipe->cut_off;
}

void publish_pipe_run(struct publish_pipe *pipe)
{
    while (!publish_stopping(pipe)) {
        heartbeat_beat(pipe->heartbeat);
        if (!pipe->cut_off || kafka_answers(pipe)) {
            try_to_own(pipe);
        }
        if (pipe->share != NULL) {
            publish_share_note(pipe->share, &pipe->sharer, pipe->owner.owned, clock_mono(pipe->context->clock));
        }
        if (pipe->owner.owned) {
            TEST_POINT(PUBLISH_AFTER_LOCKS);
            one_term(pipe);
        }
    }
    outbox_owner_finish(&pipe->owner);
    metric_set(pipe->series.owned, 0);
}

struct publish_pipe *publish_pipe_new(const struct relay_context *context, const struct config_outbox *config,
    struct publish_share *share, struct relay_error *error)
{
    struct publish_pipe *pipe = calloc(1, sizeof(*pipe));
    if (pipe == NULL) {
        error_no_memory(error, "a publish pipe");
        return NULL;
    }
    pipe->context = context;
    pipe->config = config;
    pipe->share = share;
    pipe->exactly_once = config->publish.guarantee == CONFIG_EXACTLY_ONCE;
    pipe->row_bytes = 2048;
    outbox_owner_init(&pipe->owner, context, config, publish_tick, pipe);
    backoff_init(&pipe->backoff, DURATION_MS(100), DURATION_S(5));
    backoff_init(&pipe->turns, DURATION_MS(TRY_INTERVAL_MS - 50), DURATION_MS(TRY_INTERVAL_MS + 50));
    struct metrics *metrics = context->metrics;
    pipe->series = (struct publish_series){
        .batch_seconds = metrics_series0(metrics, METRIC_PUBLISH_BATCH_SECONDS),
        .latency_seconds = metrics_series0(metrics, METRIC_PUBLISH_LATENCY_SECONDS),
        .owned = metrics_series1(metrics, METRIC_OUTBOX_OWNED, config->name),
        .holes = metrics_series1(metrics, METRIC_OUTBOX_HOLES, config->name),
        .held = metrics_series1(metrics, METRIC_HELD_AGGREGATES, config->name),
        .parked = metrics_series1(metrics, METRIC_PARKED_TOPICS, config->name),
        .replays = metrics_series1(metrics, METRIC_REPLAYS, "publish"),
    };
    pipe->router = event_router_new(config, error);
    pipe->heartbeat = pipe->router == NULL
        ? NULL
        : status_board_heartbeat(context->board, config->name, DURATION_S(60), error);
    if (pipe->heartbeat == NULL) {
        publish_pipe_free(pipe);
        return NULL;
    }
    // Before its thread runs: until then nothing else would keep the process from being called ready.
    show(pipe, STATUS_DEGRADED, "none", "starting");
    status_board_set_starting(context->board, STATUS_PUBLISH, config->name, "starting");
    return pipe;
}

void publish_pipe_free(struct publish_pipe *pipe)
{
    if (pipe == NULL) {
        return;
    }
    outbox_owner_finish(&pipe->owner);
    publish_verdicts_finish(&pipe->verdicts);
    publish_sweep_finish(pipe);
    for (size_t i = 0; i < pipe->missing_count; i++) {
        free(pipe->missing[i]);
    }
    free(pipe->missing);
    event_router_free(pipe->router);
    heartbeat_end(pipe->heartbeat);
    free(pipe);
}
