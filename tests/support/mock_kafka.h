// SPDX-License-Identifier: Apache-2.0
//
// librdkafka's mock cluster, as a [kafka] section names it, for tests that need no real brokers.
#ifndef TESTS_SUPPORT_MOCK_KAFKA_H
#define TESTS_SUPPORT_MOCK_KAFKA_H

#include "relay/config/config.h"
#include "relay/kafka/kafka_consumer.h"

#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>
#include <string.h>

struct mock_kafka {
    rd_kafka_t *host; // the cluster lives in it
    rd_kafka_mock_cluster_t *cluster;
    struct config_pair servers; // bootstrap.servers
};

// Fills config->kafka, which lasts until mock_kafka_stop(). The topic has one partition on one broker.
static inline void mock_kafka_start(struct mock_kafka *mock, int brokers, const char *topic, struct config *config)
{
    static char name[] = "bootstrap.servers";
    char why[200];
    mock->host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof(why));
    cr_assert_not_null(mock->host, "%s", why);
    mock->cluster = rd_kafka_mock_cluster_new(mock->host, brokers);
    cr_assert_not_null(mock->cluster);
    cr_assert_eq(rd_kafka_mock_topic_create(mock->cluster, topic, 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    mock->servers = (struct config_pair){.name = name,
        .value = strdup(rd_kafka_mock_cluster_bootstraps(mock->cluster))};
    cr_assert_not_null(mock->servers.value);
    config->kafka = &mock->servers;
    config->kafka_count = 1;
}

// Another cluster, of one broker, in place of the first, whose addresses nobody listens at any more.
static inline void mock_kafka_move(struct mock_kafka *mock)
{
    rd_kafka_mock_cluster_destroy(mock->cluster);
    mock->cluster = rd_kafka_mock_cluster_new(mock->host, 1);
    cr_assert_not_null(mock->cluster);
}

// Has the consumer read the topic's partition from its beginning.
static inline void mock_kafka_take(struct kafka_consumer *consumer, const char *topic)
{
    struct relay_error error;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = 0;
    cr_assert(kafka_consumer_take(consumer, list, &error), "%s", error.text);
    rd_kafka_topic_partition_list_destroy(list);
}

// A partition_end of a listener that does not count ends.
static inline void mock_kafka_ignore_end(void *context, const char *topic, int32_t partition, int64_t offset)
{
    (void)context;
    (void)topic;
    (void)partition;
    (void)offset;
}

static inline void mock_kafka_stop(struct mock_kafka *mock)
{
    rd_kafka_mock_cluster_destroy(mock->cluster);
    rd_kafka_destroy(mock->host);
    free(mock->servers.value);
}

#endif
