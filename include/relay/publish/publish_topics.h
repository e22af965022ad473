// SPDX-License-Identifier: Apache-2.0
//
// Which of many topics are there. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_TOPICS_H
#define RELAY_PUBLISH_PUBLISH_TOPICS_H

#include "relay/publish/publish_pipe.h"

// Which of these parked topics rows may go to now. *looked: those before it; the others are left for the next time.
// Errors: KAFKA_UNREACHABLE, NO_MEMORY.
bool publish_topics_ready(struct publish_pipe *pipe, char *const *names, size_t count, bool *ready, size_t *looked,
    struct relay_error *error);

#endif
