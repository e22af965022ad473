// SPDX-License-Identifier: Apache-2.0
//
// A partition without a leader, or with fewer in-sync replicas than min.insync.replicas, takes neither records nor the
// end of a transaction: one is enough to stop an outbox that writes to it. librdkafka tells of that as a time-out only.
#include "relay/cli/check_kafka.h"

#include <stdio.h>

// Newer brokers ask of a partition for no more replicas than it has.
static bool takes_records(const rd_kafka_metadata_partition_t *partition, int64_t in_sync)
{
    int64_t wanted = in_sync < partition->replica_cnt ? in_sync : partition->replica_cnt;
    return partition->leader >= 0 && partition->isr_cnt >= wanted;
}

void check_partitions(const struct check *check, const struct kafka_probe *probe, const char *what, const char *name,
    int64_t in_sync)
{
    const rd_kafka_metadata_topic_t *topic = kafka_probe_topic(probe, name);
    const rd_kafka_metadata_partition_t *first = NULL;
    int count = 0;
    for (int i = 0; topic && i < topic->partition_cnt; i++) {
        if (!takes_records(&topic->partitions[i], in_sync)) {
            first = first ? first : &topic->partitions[i];
            count++;
        }
    }
    if (!first) {
        return;
    }
    char why[100] = "no leader";
    if (first->leader >= 0) {
        snprintf(why, sizeof(why), "%d in-sync replica%s, and min.insync.replicas=%lld", first->isr_cnt,
            first->isr_cnt == 1 ? "" : "s", (long long)in_sync);
    }
    check_add(check->report, CHECK_FAIL, what,
        "bring back the brokers of its replicas (kafka-topics.sh --describe --topic TOPIC): an outbox that writes to "
        "such a partition stops, also for all other topics",
        "%d of %d partitions of topic %s do not take records: partition %d has %s", count, topic->partition_cnt, name,
        (int)first->id, why);
}
