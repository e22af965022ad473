// SPDX-License-Identifier: Apache-2.0
//
// The stage as a member of the consumer group: which partitions are ours, where each begins, what is committed, and the
// lease that follows from it. It hands messages to the tables. Everything runs on the consumer's thread; waits for
// Kafka are bounded, and it never waits for ClickHouse but in a revocation, for seconds.
#ifndef RELAY_INSERT_INSERT_GROUP_H
#define RELAY_INSERT_INSERT_GROUP_H

#include "relay/insert/insert_group_inside.h"

void insert_group_init(struct insert_group *group);
void insert_group_finish(struct insert_group *group); // after insert_group_leave

// Takes messages until there are none, or a table is full, or `most` were taken. false: nothing is left.
bool insert_group_serve(struct insert_group *group, size_t most);
// What is due: joining, read positions, commits, the board.
void insert_group_work(struct insert_group *group, struct mono_time now);
// Sends what is open, waits until it is stored, commits and leaves, all until the deadline.
void insert_group_drain(struct insert_group *group, struct mono_time deadline);

// What the member's consumer is made of, but for what the group itself adds: its topics and wake_fd.
struct kafka_consumer_options insert_group_options(const struct config *config);

#endif
