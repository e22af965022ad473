// SPDX-License-Identifier: Apache-2.0
//
// What every long-lived part of the daemon borrows: made by the lifecycle, outlives all stages, members never change.
#ifndef RELAY_CONFIG_CONTEXT_H
#define RELAY_CONFIG_CONTEXT_H

#include "relay/base/circuit_breaker.h"
#include "relay/base/clock.h"
#include "relay/base/metrics.h"
#include "relay/base/status_board.h"
#include "relay/base/stop.h"
#include "relay/config/config.h"

struct pg_newest; // relay/postgres/pg_newest.h

struct relay_context {
    const struct config *config;
    const struct clock *clock;
    struct metrics *metrics;
    struct status_board *board;
    const struct stop *stop; // raised by the lifecycle only
    // The breakers of the two servers that have one for the whole process; ClickHouse's endpoints and the alert targets
    // keep their own. NULL in commands and tests that do without.
    struct circuit_breaker *postgres_breaker;
    struct circuit_breaker *kafka_breaker;
    struct pg_newest *postgres_newest; // NULL: an old primary of PostgreSQL is taken like any other server
    // Random lower-case hex, one for each process start: names us in application_name, client.id, query_id.
    char instance[33];
};

#endif
