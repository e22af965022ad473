// SPDX-License-Identifier: Apache-2.0
//
// How rows come out of the table, into a lane. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_TAKE_H
#define RELAY_PUBLISH_PUBLISH_TAKE_H

#include "relay/publish/publish_pipe.h"

int64_t publish_take_limit(const struct publish_pipe *pipe); // rows of the next batch
void publish_take_fewer(struct publish_pipe *pipe);          // half as many from now on
// Notes whether a statement that took so many rows was slow because of them. What else a reading waits for is not
// shorter with fewer rows.
void publish_take_judge(struct publish_pipe *pipe, struct publish_lane *lane, size_t rows, struct mono_time began);
// Sends the statement that takes the next rows, in the transaction of `before`, whose rows are in memory, or in a new
// one (NULL).
bool publish_take_start(struct publish_pipe *pipe, struct publish_lane *lane, const struct publish_lane *before,
    struct relay_error *error);
// Takes its rows, looks up the holes. The lane is then TAKEN; with no rows its batch is empty. IDLE: undone, and the
// next reading knows why (a locked row: pipe->read_again_at). TAKING: lane->behind, and the other lane's COMMIT is not
// on its way yet; once it is, this waits for it.
bool publish_take_rows(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// Routes what was taken. The lane is then ROUTED. IDLE: undone for a verdict, and with it `later`, the lane that has
// begun to read what comes after it (NULL: none has).
bool publish_take_route(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *later,
    struct relay_error *error);
// Rolls back and forgets what the lane and every later one have read, but not what its transaction held before.
bool publish_take_undo(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// The lane's whole transaction, and what the other lane holds after it. Kafka has aborted, or was told nothing.
bool publish_take_undo_all(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// Takes nothing more into the transaction in which the lane was to go on: an empty batch ends it. The lane is ROUTED.
void publish_take_nothing(struct publish_pipe *pipe, struct publish_lane *lane);
// Whether there is anything to read.
bool publish_take_probe(struct publish_pipe *pipe, bool *found, struct relay_error *error);

// What publish_careful.c takes with. A step inside a batch's transaction; from BEGIN to ROUTED, whatever takes the rows
// out; pg_locks, when a hole wants it, but not more often than every 20 ms for each outbox that the process
// owns; the ranges to look up; rows for the batch.
typedef bool publish_step(struct publish_pipe *pipe, struct publish_lane *lane, void *context,
    struct relay_error *error);
bool publish_take_with(struct publish_pipe *pipe, struct publish_lane *lane, publish_step *take, void *context,
    struct relay_error *error);
bool publish_take_holders(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
size_t publish_take_ask(struct publish_pipe *pipe, const struct seq_range **ranges);
bool publish_take_add(struct publish_pipe *pipe, struct publish_lane *lane, bool guarded, PGresult *result,
    struct relay_error *error);
// What the sweep has listed and is not taken yet: it may wait by now, or would overtake what was undone.
void publish_take_forget(struct publish_pipe *pipe);

#endif
