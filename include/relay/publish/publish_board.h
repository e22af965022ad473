// SPDX-License-Identifier: Apache-2.0
//
// What the rest of the process learns of a pipe: the status board, the gauges, Kafka's circuit breaker. Runs on the
// outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_BOARD_H
#define RELAY_PUBLISH_PUBLISH_BOARD_H

#include "relay/publish/publish_pipe.h"

// reason: copied. role: "owner", "standby", "none".
void publish_show(struct publish_pipe *pipe, enum status_level level, const char *role, const char *reason);
// Another session owns the outbox: a replica's, or that of a stranger, which is said.
void publish_show_standby(struct publish_pipe *pipe);
// The gauges of who owns the outbox; with the ownership end the figures of what waits in it.
void publish_show_ownership(struct publish_pipe *pipe);
// "owner" or "none", by whether the outbox is owned.
const char *publish_role(const struct publish_pipe *pipe);
// The servers as this stage sees them. error: of a term or a try; NULL: both answer.
void publish_show_servers(struct publish_pipe *pipe, const struct relay_error *error);
// What this pipe knows of Kafka. reason: copied.
void publish_show_kafka(struct publish_pipe *pipe, enum status_level level, const char *reason);
// Whether the error speaks of Kafka, and not of PostgreSQL.
bool publish_is_kafka(const struct relay_error *error);
// What the board and the gauges say: all is well or rows wait; something is in the way, going on.
void publish_show_waiting(struct publish_pipe *pipe);
void publish_show_trouble(struct publish_pipe *pipe, const struct relay_error *error);
// A batch is on its way, or nothing is to be done: what failed is forgotten.
void publish_show_well(struct publish_pipe *pipe);
// Rows are there that the DELETE does not take out: the log says so as well.
void publish_show_kept(struct publish_pipe *pipe);
// For every wait for Kafka: heartbeats, and the board says why a term does not start.
struct kafka_tick publish_kafka_tick(struct publish_pipe *pipe);
// Whether Kafka's breaker lets a try through; then publish_report_kafka() tells it how that went.
bool publish_ask_breaker(const struct publish_pipe *pipe, struct relay_error *error);
// Tells the breaker; error NULL: it works.
void publish_report_kafka(struct publish_pipe *pipe, const struct relay_error *error);

#endif
