// SPDX-License-Identifier: Apache-2.0
//
// The end of a batch's transaction in PostgreSQL. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_COMMIT_H
#define RELAY_PUBLISH_PUBLISH_COMMIT_H

#include "relay/publish/publish_pipe.h"

// Notes how far the outbox is settled, in the batch's transaction or alone, at most once a second.
bool publish_note_progress(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error);
// Takes PostgreSQL's answer to the COMMIT; the lane is then IDLE.
bool publish_committed(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);

#endif
