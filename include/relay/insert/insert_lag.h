// SPDX-License-Identifier: Apache-2.0
//
// How far the partitions of this process are behind the ends of their logs: the gauge of each, and the sum, which the
// health watch judges. Partitions that have no gauge of their own (metrics.h) share one with their sum. Counted from
// what is stored, not from what is read. The thread of the group.
#ifndef RELAY_INSERT_INSERT_LAG_H
#define RELAY_INSERT_INSERT_LAG_H

#include "relay/insert/insert_group_inside.h"

// Asks the broker for ends that nothing else tells, for 50 ms, or half a second where it does not answer.
void insert_lag_tell(struct insert_group *group, struct mono_time now);
// The partition is no longer ours: its gauge is taken away.
void insert_lag_end(struct insert_group *group, struct insert_partition *partition);

#endif
