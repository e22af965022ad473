// SPDX-License-Identifier: Apache-2.0
//
// How rows come out of the table while some of them wait or have to be judged. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_CAREFUL_H
#define RELAY_PUBLISH_PUBLISH_CAREFUL_H

#include "relay/publish/publish_take.h"

// Rows that wait are looked up one by one, a piece of them in a statement: some 0.1 s of PostgreSQL, in which nothing
// is published.
#define PUBLISH_PIECE_ROWS 20000

// The careful way, from BEGIN on: verdicts are carried out, rows that wait are left. Both lanes must be idle before.
bool publish_take_carefully(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// Takes exactly these rows, as a batch without new rows (the sweep, rows that waited). Both lanes must be idle before.
// then: one more step in the batch's transaction, NULL for none.
bool publish_take_these(struct publish_pipe *pipe, struct publish_lane *lane, const int64_t *seqs, size_t count,
    publish_step *then, void *context, struct relay_error *error);
// After rows were read by their numbers. more: there are others besides, to be read at once, unless that would list the
// same again. *last: when it was looked for them last.
void publish_after_these(struct publish_pipe *pipe, const struct publish_lane *lane, bool more, struct mono_time *last);

#endif
