// SPDX-License-Identifier: Apache-2.0
//
// An offset that is not in the log: messages were lost to retention, or the topic is another one. For
// kafka_consumer_listener; context: the struct insert_group. The consumer's thread.
#ifndef RELAY_INSERT_INSERT_EXPIRY_H
#define RELAY_INSERT_INSERT_EXPIRY_H

#include "relay/insert/insert_group_inside.h"

void insert_expiry_met(void *context, const char *topic, int32_t number, const struct relay_error *error);
// By the reader of those that catch up.
void insert_expiry_met_by_reader(void *context, const char *topic, int32_t number, const struct relay_error *error);

#endif
