// SPDX-License-Identifier: Apache-2.0
//
// The parts of check_kafka() that look at what the insert stage reads, at partitions, and at the topics of Kafka
// itself. One thread.
#ifndef RELAY_CLI_CHECK_KAFKA_H
#define RELAY_CLI_CHECK_KAFKA_H

#include "relay/cli/check.h"
#include "relay/cli/kafka_probe.h"

// Of each enabled route. committed: the group's offsets; NULL, they could not be read, which was reported.
void check_route_topics(struct check *check, struct kafka_probe *probe,
    const rd_kafka_topic_partition_list_t *committed);
// Whether each partition of a topic takes records. what: as for check_add(); in_sync: its min.insync.replicas, 0: not
// known.
void check_partitions(const struct check *check, const struct kafka_probe *probe, const char *what, const char *name,
    int64_t in_sync);
// Whether the topics in which brokers keep transactions and offsets survive the loss of one, if they are used.
void check_own_topics(struct check *check, struct kafka_probe *probe);

#endif
