// SPDX-License-Identifier: Apache-2.0
//
// The first pipe of the daemon: every outbox that is enabled, each with a thread of its own, from the table to Kafka.
// Started and stopped by the lifecycle; it reports through the context (board, metrics, log) and needs no care.
#ifndef RELAY_PUBLISH_PUBLISH_STAGE_H
#define RELAY_PUBLISH_PUBLISH_STAGE_H

#include "relay/config/context.h"

#include <stdbool.h>

struct publish_stage;

// Whether librdkafka makes each client that the stage will use, of what [kafka] says. One that it refuses stops the
// stage again and again, since the stage makes them anew in each term. Contacts nothing, opens no file; true where the
// stage is switched off. Errors: CONFIG, NO_MEMORY; SYSTEM, which says nothing about the configuration.
bool publish_stage_try(const struct relay_context *context, struct relay_error *error);

// Starts the threads; contacts nothing itself, so it returns at once and works while servers are down.
// Errors: CONFIG (a template, a [kafka] property), NO_MEMORY, SYSTEM. A stage that comes with an error has threads that
// run and lacks one: it is to be stopped, joined and freed as any.
struct publish_stage *publish_stage_start(const struct relay_context *context, struct relay_error *error);
// After the stop was raised: waits for the threads, at most until the deadline. false: some thread hangs (in
// librdkafka); the process must end without freeing anything, nothing is lost by it.
bool publish_stage_join(struct publish_stage *stage, struct mono_time deadline);
// After a join that returned true: at some time since the start librdkafka did not let go of a client. Its thread may
// still run, so nothing is freed here either; the process has all the same ended properly.
bool publish_stage_left_handle(const struct publish_stage *stage);
void publish_stage_free(struct publish_stage *stage); // after a join that returned true; accepts NULL

#endif
