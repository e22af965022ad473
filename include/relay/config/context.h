// SPDX-License-Identifier: Apache-2.0
//
// What every long-lived part of the daemon borrows: made by the lifecycle, outlives all stages, members never change.
#ifndef RELAY_CONFIG_CONTEXT_H
#define RELAY_CONFIG_CONTEXT_H

#include "relay/base/clock.h"
#include "relay/base/metrics.h"
#include "relay/base/status_board.h"
#include "relay/base/stop.h"
#include "relay/config/config.h"

struct relay_context {
    const struct config *config;
    const struct clock *clock;
    struct metrics *metrics;
    struct status_board *board;
    const struct stop *stop; // raised by the lifecycle only
    char instance[33]; // random lower-case hex, one for each process start: names us in application_name, client.id, query_id
};

#endif
