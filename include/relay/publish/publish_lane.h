// SPDX-License-Identifier: Apache-2.0
//
// What every part of a pipe needs: its deadlines, its heartbeats, and the way of a lane. Runs on the outbox's own
// thread.
#ifndef RELAY_PUBLISH_PUBLISH_LANE_H
#define RELAY_PUBLISH_PUBLISH_LANE_H

#include "relay/publish/publish_pipe.h"

// Deadlines of one pipe.
struct mono_time publish_deadline(const struct publish_pipe *pipe, struct duration from_now);
// Whether so much time has gone by since `last`.
bool publish_due(const struct publish_pipe *pipe, struct mono_time last, struct duration interval);
bool publish_stopping(const struct publish_pipe *pipe);
// Whether the error is that a statement ran into its time limit.
bool publish_too_slow(const struct pg_connection *connection, const struct relay_error *error);
// Whether it is that PostgreSQL cannot convert what a row has to UTF-8, or that it is too long as a text.
bool publish_not_sent(struct pg_connection *connection, const struct relay_error *error);
// Heartbeats of the sessions and of the loop; called in every wait, also for an answer of PostgreSQL.
void publish_tick(void *pipe);
// Whether PostgreSQL took a large part of the time that Kafka gives to a transaction.
bool publish_took_long(const struct publish_pipe *pipe, struct duration took);
struct pg_connection *publish_connection(struct publish_pipe *pipe, const struct publish_lane *lane);
struct publish_transaction *publish_transaction_of(struct publish_pipe *pipe, const struct publish_lane *lane);
const struct publish_lane *publish_other(const struct publish_pipe *pipe, const struct publish_lane *lane);
// Whether `next` has joined the lane's transaction, and is not undone.
bool publish_goes_on(const struct publish_lane *lane, const struct publish_lane *next);
void publish_show_holes(struct publish_pipe *pipe); // the gauges; without a term there are none
void publish_lane_move(struct publish_pipe *pipe, struct publish_lane *lane, enum lane_state to);
// Of the lane's transaction, whose first rows are in memory. Once it is begun in Kafka: Kafka ends it by itself a
// little later, since its own clock starts with the transaction's first partition.
struct mono_time publish_batch_deadline(const struct publish_pipe *pipe, const struct publish_lane *lane);
// Waits before the next attempt, beating; ends early at the stop.
void publish_pause(struct publish_pipe *pipe, struct duration length);

#endif
