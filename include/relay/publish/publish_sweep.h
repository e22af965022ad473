// SPDX-License-Identifier: Apache-2.0
//
// The sweep: rows below the watermark that nobody waits for. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_SWEEP_H
#define RELAY_PUBLISH_PUBLISH_SWEEP_H

#include "relay/publish/publish_pipe.h"

// As with the other chores, the lane may be ROUTED afterwards. What was found is forgotten by publish_take_forget().
void publish_sweep_begin(struct publish_pipe *pipe); // a term
void publish_sweep_soon(struct publish_pipe *pipe);  // rather than in a minute
bool publish_sweep_due(const struct publish_pipe *pipe);
bool publish_sweep(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
void publish_sweep_finish(struct publish_pipe *pipe);

#endif
