// SPDX-License-Identifier: Apache-2.0
//
// A message on its way to the tables that it feeds. For kafka_consumer_listener; context: the struct insert_group. The
// consumer's thread.
#ifndef RELAY_INSERT_INSERT_TAKE_H
#define RELAY_INSERT_INSERT_TAKE_H

#include "relay/insert/insert_group_inside.h"

void insert_take_message(void *context, const rd_kafka_message_t *message);        // of the group's consumer
void insert_take_reader_message(void *context, const rd_kafka_message_t *message); // of the reader that catches up
// The group's consumer has read the partition to its end.
void insert_take_end(void *context, const char *topic, int32_t number, int64_t offset);

#endif
