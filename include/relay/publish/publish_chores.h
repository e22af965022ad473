// SPDX-License-Identifier: Apache-2.0
//
// What a term does now and then. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_CHORES_H
#define RELAY_PUBLISH_PUBLISH_CHORES_H

#include "relay/publish/publish_pipe.h"

// Counts the live replicas, every two seconds at most, on the first session.
bool publish_count_replicas(struct publish_pipe *pipe, struct relay_error *error);
bool publish_chores_due(const struct publish_pipe *pipe);
// When both lanes are idle: rows that waited, the sweep below the watermark, progress. The lane may be ROUTED
// afterwards, with rows that are to be sent.
bool publish_chores(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);

#endif
