// SPDX-License-Identifier: Apache-2.0
//
// The ground that the parts of a pipe stand on: its deadlines and heartbeats, and the lanes with their transactions.
#include "relay/publish/publish_lane.h"

#include <assert.h>
#include <string.h>

// A wait for PostgreSQL is long from this share of Kafka's limit on: while a transaction is open in Kafka, this thread
// may have to wait for a statement of the next one, and then for the transaction's own.
#define LONG_SHARE 3

struct mono_time publish_deadline(const struct publish_pipe *pipe, struct duration from_now)
{
    struct mono_time own = mono_add(clock_mono(pipe->context->clock), from_now);
    struct mono_time stop = stop_deadline(pipe->context->stop);
    return mono_before(stop, own) ? stop : own;
}

bool publish_due(const struct publish_pipe *pipe, struct mono_time last, struct duration interval)
{
    return mono_reached(clock_mono(pipe->context->clock), mono_add(last, interval));
}

bool publish_stopping(const struct publish_pipe *pipe)
{
    return stop_raised(pipe->context->stop);
}

bool publish_too_slow(const struct pg_connection *connection, const struct relay_error *error)
{
    return error->code == RELAY_ERROR_POSTGRES_QUERY && strcmp(pg_last_sqlstate(connection), "57014") == 0;
}

// The server refused the statement itself: the last SQLSTATE may be of an earlier one.
bool publish_not_sent(struct pg_connection *connection, const struct relay_error *error)
{
    return (pg_not_converted(connection, error) || pg_too_long(connection, error)) &&
        PQtransactionStatus(pg_libpq(connection)) == PQTRANS_INERROR;
}

bool publish_took_long(const struct publish_pipe *pipe, struct duration took)
{
    return took.ns >= kafka_producer_transaction_timeout(pipe->producer).ns / LONG_SHARE;
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

void publish_show_holes(struct publish_pipe *pipe)
{
    size_t ranges = pipe->holes == NULL ? 0 : seq_holes_ranges(pipe->holes);
    metric_set(pipe->series.holes, (double)ranges);
    metric_set(pipe->series.oldest_hole,
        ranges == 0 ? 0 : (double)seq_holes_age(pipe->holes, clock_mono(pipe->context->clock)).ns / 1e9);
}

void publish_lane_move(struct publish_pipe *pipe, struct publish_lane *lane, enum lane_state to)
{
    // From each state: where it may go.
    static const unsigned allowed[] = {
        [LANE_IDLE] = 1u << LANE_TAKING,
        [LANE_TAKING] = 1u << LANE_TAKEN | 1u << LANE_IDLE,
        [LANE_TAKEN] = 1u << LANE_ROUTED | 1u << LANE_IDLE,
        [LANE_ROUTED] = 1u << LANE_SENT | 1u << LANE_IDLE | 1u << LANE_COMMITTING,
        [LANE_SENT] = 1u << LANE_COMMITTING | 1u << LANE_IDLE,
        [LANE_COMMITTING] = 1u << LANE_IDLE,
    };
    assert((allowed[lane->state] & 1u << to) != 0);
    lane->state = to;
    publish_show_holes(pipe);
}

struct mono_time publish_batch_deadline(const struct publish_pipe *pipe, const struct publish_lane *lane)
{
    struct mono_time own = mono_add(pipe->transactions[lane->slot].limit_from,
        kafka_producer_transaction_timeout(pipe->producer));
    struct mono_time stop = stop_deadline(pipe->context->stop);
    return mono_before(stop, own) ? stop : own;
}

// Waits before the next attempt, beating.
void publish_pause(struct publish_pipe *pipe, struct duration length)
{
    struct mono_time until = mono_add(clock_mono(pipe->context->clock), length);
    while (!publish_stopping(pipe) && !mono_reached(clock_mono(pipe->context->clock), until)) {
        struct mono_time slice = mono_add(clock_mono(pipe->context->clock), DURATION_MS(200));
        stop_wait(pipe->context->stop, pipe->context->clock, mono_before(slice, until) ? slice : until);
        publish_tick(pipe);
    }
}
