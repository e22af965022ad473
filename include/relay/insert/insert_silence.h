// SPDX-License-Identifier: Apache-2.0
//
// Partitions that flow and give nothing, although their broker may not be away: it answers no fetch within
// socket.timeout.ms, is cut off one way, or the partition has no leader. librdkafka tells that of no partition. And
// those that give their end, but not what an open transaction holds back behind it. No I/O that waits. The thread of
// the group.
#ifndef RELAY_INSERT_INSERT_SILENCE_H
#define RELAY_INSERT_INSERT_SILENCE_H

#include "relay/insert/insert_group_inside.h"

// Looks once a second which partitions are silent (insert_partition.h).
void insert_silence_work(struct insert_group *group, struct mono_time now);
// It gives its end: that is where the first transaction begins that is still open, or the log's end. Before
// insert_partition_reached_end().
void insert_silence_end(struct insert_group *group, struct insert_partition *partition, int64_t end);
// Some trouble with a broker: it may be why.
void insert_silence_trouble(struct insert_group *group, const struct relay_error *error);
// Fetching begins anew, which says once more what is said only once: that the end is reached, or why not.
// Frees the list, which may be NULL.
void insert_silence_ask_again(struct insert_group *group, rd_kafka_topic_partition_list_t *partitions);

#endif
