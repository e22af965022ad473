// SPDX-License-Identifier: Apache-2.0
//
// A reader of its own for tables that are behind the others of a partition: healed after a pause, or slower than the
// rest. It is no member of the group and commits nothing; what it feeds counts for the marks as usual. A feed returns
// to the group's consumer once it has come as far. The consumer's thread.
#ifndef RELAY_INSERT_INSERT_CATCH_UP_H
#define RELAY_INSERT_INSERT_CATCH_UP_H

#include "relay/insert/insert_group_inside.h"

// The feed (active) takes its messages from the reader from now on.
void insert_catch_up_add(struct insert_group *group, struct insert_feed *feed);
// Takes feeds back that have caught up; opens, points and closes the reader as needed.
void insert_catch_up_work(struct insert_group *group);
// Takes messages, at most `most`, unless a table that catches up is full. false: nothing is left.
bool insert_catch_up_serve(struct insert_group *group, size_t most);
void insert_catch_up_end(struct insert_group *group, struct mono_time deadline);

// What the reader's consumer is made of, but for the group's wake_fd.
struct kafka_consumer_options insert_catch_up_options(const struct config *config);

#endif
