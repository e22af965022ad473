// SPDX-License-Identifier: Apache-2.0
//
// Timestamps that a broker refuses: whose fault it is, and when what waits for a topic that refused one is tried again.
// Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_TIMESTAMP_H
#define RELAY_PUBLISH_PUBLISH_TIMESTAMP_H

#include "relay/publish/publish_pipe.h"

// The only row of the lane was refused alone, for its timestamp. A verdict: poison where created_at is no time at which
// the row can have been written; otherwise a clock or the topic's setting is wrong, and the topic is parked. Asks
// PostgreSQL for its time, in the open transaction. Errors: NO_MEMORY, PostgreSQL's; OPERATOR with on_poison = stop.
bool publish_timestamp_judge(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error);
// Of these parked topics those that may be tried now, moved to the front; how many. One of them at most has refused a
// timestamp: the one that has waited longest since, and ten seconds at least.
size_t publish_timestamp_due(const struct publish_pipe *pipe, char **names, size_t count);
void publish_timestamp_finish(struct publish_pipe *pipe);

#endif
