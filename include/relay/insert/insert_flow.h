// SPDX-License-Identifier: Apache-2.0
//
// Where each partition begins once its tables were asked, and what stands still while a table is full or paused. A
// table that is behind the others of a partition is sent away to catch up by itself. The consumer's thread.
#ifndef RELAY_INSERT_INSERT_FLOW_H
#define RELAY_INSERT_INSERT_FLOW_H

#include "relay/insert/insert_group_inside.h"

// Positions partitions whose tables know where to begin.
void insert_flow_begin(struct insert_group *group);
// Holds partitions that nobody takes messages of, lets the others flow.
void insert_flow_hold(struct insert_group *group);
// true: a table or the memory is full, no message may be taken now.
bool insert_flow_must_wait(struct insert_group *group, struct mono_time now);

#endif
