// SPDX-License-Identifier: Apache-2.0
//
// Waiting for rows, and the pace of transactions. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_WAIT_H
#define RELAY_PUBLISH_PUBLISH_WAIT_H

#include "relay/publish/publish_pipe.h"

// Nothing to do, both lanes idle: returns when there is, when a chore is due, or at the stop.
bool publish_wait_for_rows(struct publish_pipe *pipe, struct relay_error *error);
// After a batch of so many rows: under load the outbox does not sleep.
void publish_stay_awake(struct publish_pipe *pipe, size_t rows);
// After the lane's COMMIT was sent: under load the next transaction is not begun at once.
void publish_pace(struct publish_pipe *pipe, const struct publish_lane *lane);

#endif
