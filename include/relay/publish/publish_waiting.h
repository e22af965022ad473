// SPDX-License-Identifier: Apache-2.0
//
// What rows of an outbox wait for. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_WAITING_H
#define RELAY_PUBLISH_PUBLISH_WAITING_H

#include "relay/publish/publish_pipe.h"

// What waits, as PostgreSQL has it: how many aggregates, and which topics.
bool publish_count_waiting(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error);
// Whether rows wait for this topic, as of then.
bool publish_is_parked(const struct publish_pipe *pipe, const char *topic);
// A topic is missing or forbidden, as Kafka has just said. Errors: NO_MEMORY.
bool publish_note_missing(struct publish_pipe *pipe, const char *topic, struct relay_error *error);
// Whether it has been noted so.
bool publish_has_missed(const struct publish_pipe *pipe, const char *topic);

#endif
