// SPDX-License-Identifier: Apache-2.0
#include "check_lines.h"
#include "relay/cli/check_kafka.h"

#include <criterion/criterion.h>
#include <string.h>

// Instead of the real one: the topic as it is described.
static rd_kafka_metadata_partition_t partitions[2];
static rd_kafka_metadata_topic_t events;

const rd_kafka_metadata_topic_t *kafka_probe_topic(const struct kafka_probe *probe, const char *topic)
{
    (void)probe;
    return strcmp(topic, "events") == 0 ? &events : NULL;
}

static void start(void)
{
    partitions[0] = (rd_kafka_metadata_partition_t){.id = 0, .leader = 1, .replica_cnt = 3, .isr_cnt = 3};
    partitions[1] = (rd_kafka_metadata_partition_t){.id = 1, .leader = 2, .replica_cnt = 3, .isr_cnt = 2};
    events = (rd_kafka_metadata_topic_t){.partition_cnt = 2, .partitions = partitions};
}

TestSuite(check_partitions, .init = start);

// words: of the only line; NULL: nothing is said. in_sync 0: the settings cannot be read.
static void expect(const char *words, const char *topic, int64_t in_sync)
{
    struct check_lines lines;
    check_lines_begin(&lines);
    struct check check = {.report = &lines.report};
    check_partitions(&check, NULL, "topics", topic, in_sync);
    check_lines_end(&lines, CHECK_FAIL, words);
}

Test(check_partitions, partitions_that_take_records_are_not_mentioned)
{
    expect(NULL, "events", 2);
    expect(NULL, "events", 0);
    expect(NULL, "invisible", 2);
}

Test(check_partitions, a_partition_without_a_leader_stops_its_outbox)
{
    partitions[1].leader = -1;
    expect("1 of 2 partitions of topic events do not take records: partition 1 has no leader", "events", 2);
    expect("partition 1 has no leader", "events", 0);
}

Test(check_partitions, a_partition_with_too_few_replicas_in_sync_stops_its_outbox)
{
    partitions[1].isr_cnt = 1;
    expect("1 of 2 partitions of topic events do not take records: partition 1 has 1 in-sync replica, and "
           "min.insync.replicas=2",
        "events", 2);
    expect(NULL, "events", 1);
    expect(NULL, "events", 0);
    partitions[0].isr_cnt = 2;
    expect("2 of 2 partitions", "events", 3);
    partitions[0].replica_cnt = 2;
    expect("1 of 2 partitions", "events", 3);
}
