// SPDX-License-Identifier: Apache-2.0
//
// The second pipe of the daemon: a consumer group member that takes events from Kafka into ClickHouse by the configured
// routes. Started and stopped by the lifecycle; it reports through the context (board, metrics, log) and needs no care.
#ifndef RELAY_INSERT_INSERT_STAGE_H
#define RELAY_INSERT_INSERT_STAGE_H

#include "relay/config/context.h"

#include <stdbool.h>
#include <stdint.h>

struct insert_stage;

// Whether librdkafka makes each client that the stage will use: as publish_stage_try().
bool insert_stage_try(const struct relay_context *context, struct relay_error *error);

// Starts the threads; contacts nothing itself, so it returns at once and works while servers are down.
// Errors: CONFIG (a route, a [kafka] property, a URL), NO_MEMORY, SYSTEM.
struct insert_stage *insert_stage_start(const struct relay_context *context, struct relay_error *error);
// After the stop was raised: waits for the threads, at most until the deadline. false: some thread hangs; the process
// must end without freeing anything, nothing is lost by it.
bool insert_stage_join(struct insert_stage *stage, struct mono_time deadline);
// After a join that returned true: at some time since the start librdkafka did not let go of a client. Its thread may
// still run, so nothing is freed here either; the process has all the same ended properly.
bool insert_stage_left_handle(const struct insert_stage *stage);
void insert_stage_free(struct insert_stage *stage); // after a join that returned true; accepts NULL
// Takes over what may change while running: the limits of ClickHouse's breakers. Copies; any thread.
void insert_stage_reload(struct insert_stage *stage, const struct config *config);

// Messages behind the end of the assigned partitions, all together; -1 while unknown. Any thread, never waits.
int64_t insert_stage_lag(const struct insert_stage *stage);

#endif
