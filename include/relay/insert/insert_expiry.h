// SPDX-License-Identifier: Apache-2.0
//
// An offset that is not in the log: messages were lost to retention, or the topic is another one. The thread of the
// group's consumer.
#ifndef RELAY_INSERT_INSERT_EXPIRY_H
#define RELAY_INSERT_INSERT_EXPIRY_H

#include "relay/insert/insert_group_inside.h"

// Asks where the logs end of which tables have offsets that were not committed. A log that ends at or below an offset
// that its table has is another one, since that table was asked first: if that lasts, the partition stands still.
// 50 ms, or one question of half a second at most.
void insert_expiry_compare(struct insert_group *group, struct mono_time now);
// For kafka_consumer_listener; context: the struct insert_group.
void insert_expiry_met(void *context, const char *topic, int32_t number, const struct relay_error *error);
// By the reader of those that catch up.
void insert_expiry_met_by_reader(void *context, const char *topic, int32_t number, const struct relay_error *error);

#endif
