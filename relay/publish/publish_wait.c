// SPDX-License-Identifier: Apache-2.0
//
// Waiting for rows. Awake: probes, at first after a millisecond, then more and more slowly, up to every 20 ms; after a
// quiet moment it asks for the wake-up lock, and goes on probing until the grant. Asleep: one more probe after the
// grant, then it blocks until a notification, the next fallback poll (for rows whose INSERT fires no trigger), a
// heartbeat or the stop.
//
// - A session for notifications that is gone is made anew; until then the outbox is awake, that is it polls.
// - PostgreSQL refuses a probe for now (somebody's DDL holds the table for longer than lock_timeout, a DBA cancels it):
//   as with a reading, the session is whole, and the next probe comes a little later.
#include "relay/publish/publish_wait.h"

#include "relay/base/log.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_chores.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"

#include <poll.h>

#define PROBE_FIRST   DURATION_MS(1)
#define PROBE_SLOWEST DURATION_MS(20)
#define LINGER        DURATION_MS(60)
// After a probe that PostgreSQL refused.
#define REFUSED_PAUSE DURATION_MS(200)
// So many rows within so short a time while asleep: the writers should not pay for notifications. Rows, not the size of
// a batch: writers that wait for each other's NOTIFY never fill one.
#define BUSY_ROWS   16
#define BUSY_WITHIN DURATION_MS(100)
// What a transaction costs PostgreSQL, Kafka and us is taken from the writers, and hardly depends on its rows. From
// 5,000 rows a second on (PACE_A_ROW) it is begun so late after the one before that it has more of them. Below, the one
// before takes longer than that itself, and nothing waits.
#define PACE_A_ROW   DURATION_US(200)
#define PACE_SLOWEST DURATION_MS(20)

// Sleeps until there is something on the notifications' socket, the stop, or the time.
static void block(struct publish_pipe *pipe, struct duration length)
{
    struct pollfd fds[2] = {
        {.fd = pipe->context->stop->fd, .events = POLLIN},
        {.fd = outbox_sleep_fd(&pipe->sleep), .events = POLLIN},
    };
    poll(fds, 2, duration_to_poll_ms(length));
}

// The session for notifications, made anew when it is gone, once a second at most. Without it the pipe polls.
static void keep_session(struct publish_pipe *pipe)
{
    struct mono_time now = clock_mono(pipe->context->clock);
    bool there = pipe->sleep.connection != NULL && !pg_broken(pipe->sleep.connection);
    if (there || !mono_reached(now, mono_add(pipe->sleep_tried_at, DURATION_S(1)))) {
        return;
    }
    pipe->sleep_tried_at = now;
    outbox_sleep_finish(&pipe->sleep);
    struct relay_error error;
    if (!outbox_sleep_start(&pipe->sleep, pipe->context, pipe->owner.table, publish_tick, pipe, &error)) {
        log_event(LOG_LEVEL_WARNING, "publish.no_notifications", "polling instead",
            LOG_TEXT("outbox", pipe->config->name), LOG_ERROR(&error));
        outbox_sleep_finish(&pipe->sleep);
    }
}

// Blocks as long as nothing can have come. *look: it may have.
static void sleep_on(struct publish_pipe *pipe, struct mono_time fallback, bool *look)
{
    struct duration beat = DURATION_NS(pipe->context->config->lease.ns / 3);
    struct duration left = mono_left(clock_mono(pipe->context->clock), fallback);
    bool notified = false;
    // What came with the answer to a beat has been read already: the socket is silent.
    bool there = outbox_sleep_notified(&pipe->sleep, &notified, NULL);
    if (there && !notified) {
        block(pipe, duration_shorter(duration_shorter(left, beat), DURATION_S(1)));
        there = outbox_sleep_notified(&pipe->sleep, &notified, NULL);
    }
    if (!there) {
        outbox_sleep_finish(&pipe->sleep); // W went with it: awake
        notified = true;
    }
    *look = notified || mono_reached(clock_mono(pipe->context->clock), fallback);
}

// One step of the waking outbox after a probe that found nothing. *granted: asleep now.
static void rest(struct publish_pipe *pipe, struct duration length, bool quiet, bool *granted)
{
    *granted = false;
    block(pipe, length);
    bool notified;
    if (pipe->sleep.connection == NULL) {
        return;
    }
    if ((quiet || pipe->sleep.asking) && !outbox_sleep_ask(&pipe->sleep, granted, NULL)) {
        outbox_sleep_finish(&pipe->sleep);
    } else if (!pipe->sleep.asking) {
        outbox_sleep_notified(&pipe->sleep, &notified, NULL);
    }
}

// One of many outboxes that have a backlog now and then would keep what its largest batch took.
static void give_back(struct publish_pipe *pipe)
{
    for (int i = 0; i < 2; i++) {
        if (pipe->lanes[i].state == LANE_IDLE) {
            outbox_batch_shrink(pipe->lanes[i].batch);
        }
    }
}

// One probe, and a moment's pause if it is refused. *refused: in, the one before was; out, this one was. The first that
// is answered ends what the board says of those before it, and nothing else that it says.
static bool probe(struct publish_pipe *pipe, bool *refused, struct relay_error *error)
{
    if (publish_take_probe(pipe, &pipe->found, error)) {
        if (*refused) {
            *refused = false;
            publish_show_well(pipe);
        }
        return true;
    }
    if (error->code != RELAY_ERROR_POSTGRES_QUERY || pg_broken(pipe->owner.connections[0])) {
        return false;
    }
    *refused = true;
    log_event(LOG_LEVEL_WARNING, "publish.read_refused", "trying again", LOG_TEXT("outbox", pipe->config->name),
        LOG_ERROR(error));
    publish_show_trouble(pipe, error);
    publish_pause(pipe, REFUSED_PAUSE);
    return true;
}

bool publish_wait_for_rows(struct publish_pipe *pipe, struct relay_error *error)
{
    const struct clock *clock = pipe->context->clock;
    struct mono_time began = clock_mono(clock), fallback = began;
    struct duration pace = PROBE_FIRST;
    bool look = true, refused = false;
    pipe->found = false;
    while (!publish_stopping(pipe) && !pipe->giving_up && !publish_chores_due(pipe)) {
        publish_tick(pipe);
        keep_session(pipe);
        if (look) {
            if (!probe(pipe, &refused, error)) {
                return false;
            }
            if (pipe->found) {
                return true;
            }
            if (refused) {
                continue;
            }
            pipe->in_vain = false;
            fallback = mono_add(clock_mono(clock), pipe->config->fallback_poll);
        }
        if (pipe->sleep.asleep) {
            sleep_on(pipe, fallback, &look);
            continue;
        }
        bool granted;
        rest(pipe, pace, mono_reached(clock_mono(clock), mono_add(began, LINGER)), &granted);
        if (granted) {
            give_back(pipe);
        }
        pace = duration_shorter(DURATION_NS(pace.ns * 2), PROBE_SLOWEST);
        look = true; // until the grant, and once after it
    }
    return true;
}

void publish_stay_awake(struct publish_pipe *pipe, size_t rows)
{
    struct outbox_sleep *sleep = &pipe->sleep;
    struct mono_time now = clock_mono(pipe->context->clock);
    bool granted;
    // A slice that still runs is left to end by itself: waiting for it would hold up the rows.
    if (sleep->asking && !outbox_sleep_ask(sleep, &granted, NULL)) {
        outbox_sleep_finish(sleep);
    }
    if (mono_reached(now, mono_add(pipe->busy_since, BUSY_WITHIN))) {
        pipe->busy_since = now;
        pipe->busy_rows = 0;
    }
    pipe->busy_rows += rows;
    if (sleep->asleep && pipe->busy_rows >= BUSY_ROWS && !outbox_sleep_wake(sleep, NULL)) {
        outbox_sleep_finish(sleep);
    }
}

void publish_pace(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    const struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    struct duration apart = duration_shorter(DURATION_NS((int64_t)transaction->rows * PACE_A_ROW.ns), PACE_SLOWEST);
    pipe->begin_again_at = mono_add(transaction->began, lane->full ? DURATION_NS(0) : apart);
}
