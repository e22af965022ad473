// SPDX-License-Identifier: Apache-2.0
//
// The loop of a term. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_SERVE_H
#define RELAY_PUBLISH_PUBLISH_SERVE_H

#include "relay/publish/publish_pipe.h"

// Publishes batches until the stop, until the outbox is to be given up, until the producer needs a new epoch
// (kafka_producer_suspicious()), or an error.
bool publish_serve(struct publish_pipe *pipe, struct relay_error *error);

#endif
