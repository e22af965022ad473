// SPDX-License-Identifier: Apache-2.0
//
// The parts of check_kafka() that look at what the insert stage reads, and at the topics of Kafka itself. One thread.
#ifndef RELAY_CLI_CHECK_KAFKA_H
#define RELAY_CLI_CHECK_KAFKA_H

#include "relay/cli/check.h"
#include "relay/cli/kafka_probe.h"

// Of each enabled route. committed: the group's offsets; NULL, they could not be read, which was reported.
void check_route_topics(struct check *check, struct kafka_probe *probe,
    const rd_kafka_topic_partition_list_t *committed);
// Whether the topics in which brokers keep transactions and offsets survive the loss of one, if they are used.
void check_own_topics(struct check *check, struct kafka_probe *probe);

#endif
