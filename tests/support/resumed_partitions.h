// SPDX-License-Identifier: Apache-2.0
//
// Instead of the consumer's own calls: which partitions begin anew to be fetched, for tests without librdkafka's.
#ifndef TESTS_SUPPORT_RESUMED_PARTITIONS_H
#define TESTS_SUPPORT_RESUMED_PARTITIONS_H

#include "relay/kafka/kafka_consumer.h"

static int resumed; // partitions

void kafka_consumer_pause(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
    (void)consumer;
    (void)partitions;
}

void kafka_consumer_resume(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
    (void)consumer;
    resumed += partitions->cnt;
}

#endif
