// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_rights.h"

#include <stddef.h>

// Brokers before 2.3 and topics that are not there tell no operations at all.
static bool allows_write(rd_kafka_event_t *event)
{
    const rd_kafka_DescribeTopics_result_t *result = rd_kafka_event_DescribeTopics_result(event);
    size_t count = 0, operations = 0;
    const rd_kafka_TopicDescription_t **topics = result == NULL ? NULL
                                                                : rd_kafka_DescribeTopics_result_topics(result, &count);
    const rd_kafka_AclOperation_t *allowed = count == 1
        ? rd_kafka_TopicDescription_authorized_operations(topics[0], &operations)
        : NULL;
    for (size_t i = 0; allowed != NULL && i < operations; i++) {
        if (allowed[i] == RD_KAFKA_ACL_OPERATION_WRITE || allowed[i] == RD_KAFKA_ACL_OPERATION_ALL) {
            return true;
        }
    }
    return operations == 0;
}

bool kafka_may_write(rd_kafka_t *client, const char *topic, struct kafka_tick tick, const struct clock *clock,
    struct mono_time deadline)
{
    rd_kafka_TopicCollection_t *topics = rd_kafka_TopicCollection_of_topic_names(&topic, 1);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_error_destroy(rd_kafka_AdminOptions_set_include_authorized_operations(options, 1));
    rd_kafka_DescribeTopics(client, topics, options, queue);
    rd_kafka_event_t *event = kafka_wait_event(queue, tick, clock, deadline);
    bool may = event == NULL || allows_write(event);
    if (event != NULL) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_TopicCollection_destroy(topics);
    return may;
}
