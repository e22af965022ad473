// SPDX-License-Identifier: Apache-2.0
//
// Every [health] interval: for each outbox, the one replica that holds its watch lock calls check_outbox_health(), pins
// figures on the board and in the metrics, and raises alerts; every replica also judges its own consumer lag and its
// dependencies. One thread with a connection of its own, so that a busy or stuck pipe cannot silence it. While
// PostgreSQL is not reachable every replica speaks (receivers merge by fingerprint).
#ifndef RELAY_OPS_HEALTH_WATCH_H
#define RELAY_OPS_HEALTH_WATCH_H

#include "relay/config/context.h"
#include "relay/ops/alerts.h"

struct health_watch;

// lag: insert_stage_lag of lag_of, or NULL where no insert stage runs in this process. alerts is borrowed.
// Errors: NO_MEMORY, SYSTEM.
struct health_watch *health_watch_start(const struct relay_context *context, struct alerts *alerts,
    int64_t (*lag)(const void *lag_of), const void *lag_of, struct relay_error *error);
bool health_watch_join(struct health_watch *watch, struct mono_time deadline);     // after the stop was raised
void health_watch_free(struct health_watch *watch);                                // accepts NULL
void health_watch_reload(struct health_watch *watch, const struct config *config); // copies what it keeps

#endif
