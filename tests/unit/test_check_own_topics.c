// SPDX-License-Identifier: Apache-2.0
#include "check_lines.h"
#include "relay/cli/check_kafka.h"

#include <criterion/criterion.h>
#include <string.h>

// Instead of the real ones: the cluster as it is described.
static rd_kafka_metadata_partition_t partitions[2][2];
static rd_kafka_metadata_topic_t topics[2];
static rd_kafka_metadata_t metadata;
static struct kafka_topic_settings described;
static bool answers;

const rd_kafka_metadata_t *kafka_probe_metadata(const struct kafka_probe *probe)
{
    (void)probe;
    return &metadata;
}

const rd_kafka_metadata_topic_t *kafka_probe_topic(const struct kafka_probe *probe, const char *topic)
{
    (void)probe;
    for (int i = 0; i < metadata.topic_cnt; i++) {
        if (strcmp(topics[i].topic, topic) == 0) {
            return &topics[i];
        }
    }
    return NULL;
}

bool kafka_probe_settings(struct kafka_probe *probe, const char *const *names, size_t count,
    struct kafka_topic_settings *settings, struct duration timeout, struct relay_error *error)
{
    (void)probe;
    (void)timeout;
    (void)error;
    cr_assert_eq(count, 1);
    cr_assert_str_eq(names[0], "__transaction_state");
    *settings = described;
    return answers;
}

static struct config_outbox outbox;
static struct config config;
static struct relay_context context;

static void start(void)
{
    static char names[][24] = {"__transaction_state", "__consumer_offsets"};
    outbox = (struct config_outbox){.publish = {.enabled = true, .guarantee = CONFIG_EXACTLY_ONCE}};
    config = (struct config){.outboxes = &outbox, .outbox_count = 1, .insert = {.enabled = true}};
    context = (struct relay_context){.config = &config};
    metadata = (rd_kafka_metadata_t){.broker_cnt = 3, .topic_cnt = 2};
    for (int i = 0; i < 2; i++) {
        topics[i] = (rd_kafka_metadata_topic_t){.topic = names[i], .partition_cnt = 2, .partitions = partitions[i]};
        partitions[i][0].replica_cnt = partitions[i][1].replica_cnt = 3;
    }
    described = (struct kafka_topic_settings){.min_insync_replicas = 2};
    answers = true;
}

TestSuite(check_own_topics, .init = start);

// words: of the only line; NULL: nothing is said.
static void expect(const char *words)
{
    struct check_lines lines;
    check_lines_begin(&lines);
    struct check check = {.context = &context, .report = &lines.report};
    check_own_topics(&check, NULL);
    check_lines_end(&lines, CHECK_WARN, words);
    cr_assert_eq(lines.report.counts[CHECK_FAIL], 0);
}

Test(check_own_topics, a_partition_with_one_replica_is_said)
{
    expect(NULL);
    partitions[0][1].replica_cnt = 1;
    expect("__transaction_state has partitions with one replica: while its broker is away");
    partitions[0][1].replica_cnt = 3;
    partitions[1][0].replica_cnt = 1;
    expect("__consumer_offsets has partitions with one replica: while its broker is away");
    metadata.broker_cnt = 1; // nothing better is to be had
    expect(NULL);
}

Test(check_own_topics, what_is_not_used_is_not_looked_at)
{
    partitions[0][0].replica_cnt = partitions[1][0].replica_cnt = 1;
    outbox.publish.guarantee = CONFIG_AT_LEAST_ONCE;
    expect("__consumer_offsets");
    outbox.publish.guarantee = CONFIG_EXACTLY_ONCE;
    config.insert.enabled = false;
    expect("__transaction_state");
    outbox.publish.enabled = false;
    expect(NULL);
}

Test(check_own_topics, what_may_not_be_seen_is_not_judged)
{
    described.min_insync_replicas = 1;
    answers = false;
    expect(NULL);
    answers = true;
    described.refused = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    expect(NULL);
    described.refused = RD_KAFKA_RESP_ERR_NO_ERROR;
    expect("__transaction_state acknowledges what a single replica has (min.insync.replicas=1)");
    metadata.topic_cnt = 0;
    expect(NULL);
}
