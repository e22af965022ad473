// SPDX-License-Identifier: Apache-2.0
//
// The part of check_kafka() that looks at what the insert stage reads. One thread.
#ifndef RELAY_CLI_CHECK_KAFKA_H
#define RELAY_CLI_CHECK_KAFKA_H

#include "relay/cli/check.h"
#include "relay/cli/kafka_probe.h"

// Of each enabled route. committed: the group's offsets; NULL, they could not be read, which was reported.
void check_route_topics(struct check *check, struct kafka_probe *probe,
    const rd_kafka_topic_partition_list_t *committed);

#endif
