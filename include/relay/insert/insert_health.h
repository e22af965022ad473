// SPDX-License-Identifier: Apache-2.0
//
// What the group tells Kafka's breaker and the status board. Whether the brokers answer goes to both. What an answer
// does not take back goes to the board only, and stays there until it is over: partitions whose log no longer has our
// offset, or that cannot be read, what a broker refused us, and topics that are subscribed to and not there. The thread
// of the group.
#ifndef RELAY_INSERT_INSERT_HEALTH_H
#define RELAY_INSERT_INSERT_HEALTH_H

#include "relay/insert/insert_group_inside.h"

// A client was made for the group, or cannot be made.
void insert_health_begin(struct insert_group *group, struct mono_time now);
void insert_health_cannot_join(struct insert_group *group, const struct relay_error *error);
// OK: the group works: partitions are assigned or read, or offsets committed. DOWN: no broker answers, until one does.
// DEGRADED: some trouble with them, until one answers; while none does, no more than other words for DOWN.
void insert_health_tell(struct insert_group *group, enum status_level level, const char *reason);
// Partitions were assigned; an empty list says that there are none for us.
void insert_health_assigned(struct insert_group *group, const rd_kafka_topic_partition_list_t *list);
// Partitions were revoked: a topic of theirs may be gone.
void insert_health_revoked(struct insert_group *group);
// The brokers have answered with something that stays.
void insert_health_stands(struct insert_group *group);
// A broker has answered that we may not, or that something is not as it must be: until the next OK.
void insert_health_refused(struct insert_group *group, const char *reason);
// A broker has answered, and refuses nothing.
bool insert_health_up(const struct insert_group *group);
// Told by the consumer (kafka_consumer_listener): topic_absent, and partition_troubled.
void insert_health_absent(void *group, const char *subscribed);
void insert_health_unreadable(void *group, const char *topic, int32_t number, const struct relay_error *error);
// Asks whether the brokers are back, and for the topics that were not there: half a second at most.
void insert_health_work(struct insert_group *group, struct mono_time now);
// How many partitions do not go on before somebody does something.
size_t insert_health_stopped(const struct insert_group *group);
void insert_health_finish(struct insert_group *group); // frees what it has kept

#endif
