// SPDX-License-Identifier: Apache-2.0
//
// How much memory the stage holds, over all tables: batches that are open, under way, or kept to be used again, and
// what read-backs have found. [insert] memory_limit bounds it, less the share of librdkafka's queues. From half of that
// on the largest open batches are sent, however old; at the limit no message is taken until something is stored. Where
// nothing is on its way (paused tables keep inserts for their views) messages are taken in small portions, so that
// nothing stands still for good. The consumer's thread.
#ifndef RELAY_INSERT_INSERT_MEMORY_H
#define RELAY_INSERT_INSERT_MEMORY_H

#include "relay/insert/insert_group_inside.h"

#include <stdbool.h>
#include <stddef.h>

// What librdkafka may fetch ahead for the member, and for the reader of those that catch up.
#define INSERT_MEMORY_MEMBER_SHARE 16
#define INSERT_MEMORY_READER_SHARE 32

size_t insert_memory_held(const struct insert_group *group);
// Measures, sends the largest batches, and says in group->crowded whether messages have to wait.
void insert_memory_work(struct insert_group *group);
// A message of so many bytes went to one table. true: measure again before the next one.
bool insert_memory_took(struct insert_group *group, size_t bytes);

#endif
