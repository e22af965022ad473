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
//  7. No transaction stays open in Kafka for longer than transaction.timeout.ms, nor in PostgreSQL for longer than that
//     (without transactions message.timeout.ms, at most a minute) after its rows were read; none is begun while Kafka's
//     breaker is open, and the stop ends every wait.
//
// An error of any step ends the term: the producer is destroyed first (payloads in its queue belong to the batches),
// then everything read is rolled back. A broken session ends the ownership as well.
#include "relay/publish/publish_pipe.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_chores.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_serve.h"
#include "relay/publish/publish_sweep.h"
#include "relay/publish/publish_term.h"
#include "relay/publish/publish_timestamp.h"

#include <stdlib.h>

#define TRY_INTERVAL_MS 300
#define OUTDATED_PAUSE  DURATION_S(15)
// An owner that Kafka does not answer for so long lets go, and leaves it so long to others, of whom some try every 2 s.
#define KAFKA_PATIENCE DURATION_S(30)
#define LET_GO_PAUSE   DURATION_S(3)

static void failed(struct publish_pipe *pipe, const struct relay_error *error)
{
    if (publish_stopping(pipe)) {
        return;
    }
    pipe->failures++;
    metric_add(metrics_series2(pipe->context->metrics, METRIC_RETRIES, publish_is_kafka(error) ? "kafka" : "postgres",
                   error_class_name(error->class)),
        1);
    publish_show_servers(pipe, error);
    log_event(pipe->failures == 1 ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, "publish.term_failed", "trying again",
        LOG_TEXT("outbox", pipe->config->name), LOG_ERROR(error), LOG_COUNT("failures", pipe->failures));
    bool down = pipe->failures >= 3 || error->class == RELAY_CLASS_OPERATOR;
    publish_show(pipe, down ? STATUS_DOWN : STATUS_DEGRADED, publish_role(pipe), error->text);
    struct duration length = backoff_next(&pipe->backoff);
    publish_pause(pipe,
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

// It is not asked from now on: what it last was must not contradict the health watch, which asks it.
static void forget_postgres(struct publish_pipe *pipe)
{
    status_board_remove(pipe->context->board, STATUS_POSTGRES, "publish");
}

// After a term that has ended: whether the outbox is let go, since Kafka does not answer us, or cannot be asked. It may
// answer another replica: only our network, name service, certificate or password may be wrong. Of a transaction that
// Kafka cannot end it tells every replica the same.
static bool lets_go(struct publish_pipe *pipe, struct mono_time began, const struct relay_error *error)
{
    if (pipe->fenced || !publish_is_kafka(error) || kafka_producer_unended(error)) {
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
        forget_postgres(pipe);
        log_event(LOG_LEVEL_INFO, "publish.let_go", "Kafka does not answer; a replica that it answers may own it",
            LOG_TEXT("outbox", pipe->config->name));
    }
    return pipe->cut_off;
}

static void note_reached(struct publish_pipe *pipe)
{
    pipe->reached = true;
    if (pipe->share != NULL) {
        publish_share_note_reached(pipe->share);
    }
}

// One term, from its start to its end. The sessions are closed unless both are idle and whole, and nothing was refused
// for which the table may have been changed since it was read: it is read anew with them, which may say more.
static void one_term(struct publish_pipe *pipe)
{
    struct relay_error error = {0};
    struct mono_time began = clock_mono(pipe->context->clock);
    pipe->starting = true;
    bool started = publish_term_start(pipe, &error);
    pipe->starting = false;
    pipe->came_up = pipe->came_up || started;
    if (pipe->fenced) {
        note_reached(pipe);
    }
    bool served = false;
    if (started) {
        log_event(LOG_LEVEL_INFO, "publish.term_started", "owns the outbox", LOG_TEXT("outbox", pipe->config->name),
            LOG_INT("number", pipe->number.number), LOG_TEXT("server", pg_server_address(pipe->owner.connections[0])));
        publish_show_waiting(pipe);
        publish_show_servers(pipe, NULL);
        served = publish_serve(pipe, &error);
    }
    bool idle = pipe->lanes[0].state == LANE_IDLE && pipe->lanes[1].state == LANE_IDLE && !pipe->transactions[0].open &&
        !pipe->transactions[1].open;
    publish_term_end(pipe);
    bool let_go = lets_go(pipe, began, &error);
    bool refused = !served && error.code == RELAY_ERROR_POSTGRES_OPERATOR;
    if (!idle || !sessions_idle(pipe) || refused || pipe->giving_up || pipe->outdated || let_go) {
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

// For who has let go, or was never answered. While Kafka is away for everybody, each replica comes to wait here,
// without a session, and the outbox does not go round.
static bool kafka_answers(struct publish_pipe *pipe)
{
    struct relay_error error = {0};
    pipe->starting = true;
    pipe->cut_off = !publish_term_reach(pipe, &error);
    pipe->starting = false;
    if (pipe->cut_off) {
        failed(pipe, &error);
    } else {
        publish_show_kafka(pipe, STATUS_OK, "");
        note_reached(pipe);
    }
    return !pipe->cut_off;
}

// A standby is ready, and by that a rollout goes on and takes another replica away. It has no client that would show
// whether Kafka lets this process in: asked once, before. The outboxes of a process have the same brokers and settings;
// one of them asks for all. A former owner that Kafka did not answer asks again: nothing else would ever take that off
// the board.
static bool may_stand_by(struct publish_pipe *pipe)
{
    pipe->reached = pipe->reached || (pipe->share != NULL && publish_share_reached(pipe->share));
    if ((pipe->reached && !pipe->told_kafka) || pipe->owner.stranger.lock != PG_LOCK_NONE) {
        return true; // a stranger is what has to be said
    }
    if (pipe->told_kafka || pipe->share == NULL || publish_share_asks(pipe->share)) {
        bool answers = kafka_answers(pipe);
        if (!answers) {
            outbox_owner_finish(&pipe->owner);
            forget_postgres(pipe);
        }
        return answers;
    }
    publish_show(pipe, STATUS_DEGRADED, "none", "Kafka has not answered this process yet");
    publish_pause(pipe, backoff_next(&pipe->turns));
    return false;
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
    if (!pipe->owner.owned && may_stand_by(pipe)) {
        publish_show_standby(pipe);
        pipe->unreached = false;
        backoff_reset(&pipe->backoff);
        pipe->failures = 0;
        publish_pause(pipe, backoff_next(&pipe->turns));
    }
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
    publish_show_ownership(pipe);
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
        .oldest_hole = metrics_series1(metrics, METRIC_OUTBOX_OLDEST_HOLE_SECONDS, config->name),
        .held = metrics_series1(metrics, METRIC_HELD_AGGREGATES, config->name),
        .parked = metrics_series1(metrics, METRIC_PARKED_TOPICS, config->name),
        .replays = metrics_series1(metrics, METRIC_REPLAYS, "publish"),
        .not_there = metrics_series1(metrics, METRIC_ROWS_NOT_THERE, config->name),
    };
    pipe->router = event_router_new(context->config, config, error);
    pipe->heartbeat = pipe->router == NULL
        ? NULL
        : status_board_heartbeat(context->board, config->name, DURATION_S(60), error);
    if (pipe->heartbeat == NULL) {
        publish_pipe_free(pipe);
        return NULL;
    }
    // Before its thread runs: until then nothing else would keep the process from being called ready.
    publish_show(pipe, STATUS_DEGRADED, "none", "starting");
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
    name_set_finish(&pipe->missing);
    publish_timestamp_finish(pipe);
    event_router_free(pipe->router);
    heartbeat_end(pipe->heartbeat);
    free(pipe);
}
