// SPDX-License-Identifier: Apache-2.0
//
// Brokers of Kafka's sample configuration make these topics with one replica each, however many brokers there are, and
// what is right with the topics of the events hides it. Who may not see them is told nothing: the relay needs no right
// to them.
#include "relay/cli/check_kafka.h"

#define SAFE_REPLICAS 3 // of which two have to acknowledge

struct own_topic {
    const char *name, *cost, *setting;
};

static const struct own_topic transactions = {"__transaction_state",
    "while its broker is away the outboxes whose transactions it coordinates publish nothing, and with its disk "
    "transactions are lost that then stay open",
    "transaction.state.log.replication.factor"};
static const struct own_topic offsets = {"__consumer_offsets",
    "while its broker is away the groups that it coordinates, ours perhaps, read nothing, and with its disk their "
    "offsets are lost",
    "offsets.topic.replication.factor"};

// Of the partition that has fewest; 0: the topic is not there, or not visible.
static int replicas_of(struct kafka_probe *probe, const char *name)
{
    const rd_kafka_metadata_topic_t *topic = kafka_probe_topic(probe, name);
    int least = 0;
    for (int i = 0; topic && i < topic->partition_cnt; i++) {
        int replicas = topic->partitions[i].replica_cnt;
        least = i == 0 || replicas < least ? replicas : least;
    }
    return least;
}

static int judge_replicas(const struct check *check, struct kafka_probe *probe, const struct own_topic *topic)
{
    int replicas = replicas_of(probe, topic->name);
    if (replicas == 1 && kafka_probe_metadata(probe)->broker_cnt > 1) {
        char hint[200];
        snprintf(hint, sizeof(hint),
            "three replicas for each partition (kafka-reassign-partitions.sh); %s counts only when brokers make the "
            "topic",
            topic->setting);
        check_add(check->report, CHECK_WARN, "Kafka's own topics", hint, "%s has partitions with one replica: %s",
            topic->name, topic->cost);
    }
    return replicas;
}

static void judge_acknowledging(const struct check *check, struct kafka_probe *probe, const struct own_topic *topic)
{
    struct kafka_topic_settings settings;
    struct relay_error error; // a right that the relay does not need
    if (kafka_probe_settings(probe, &topic->name, 1, &settings, CHECK_TIMEOUT, &error) &&
        settings.refused == RD_KAFKA_RESP_ERR_NO_ERROR && settings.min_insync_replicas < 2) {
        check_add(check->report, CHECK_WARN, "Kafka's own topics", "min.insync.replicas=2",
            "%s acknowledges what a single replica has (min.insync.replicas=%lld): with its disk Kafka may lose "
            "what it has committed",
            topic->name, (long long)settings.min_insync_replicas);
    }
}

void check_own_topics(struct check *check, struct kafka_probe *probe)
{
    const struct config *config = check->context->config;
    bool transactional = false;
    for (size_t i = 0; i < config->outbox_count; i++) {
        const struct config_publish *publish = &config->outboxes[i].publish;
        transactional = transactional || (publish->enabled && publish->guarantee == CONFIG_EXACTLY_ONCE);
    }
    if (transactional && judge_replicas(check, probe, &transactions) >= SAFE_REPLICAS) {
        judge_acknowledging(check, probe, &transactions);
    }
    if (config->insert.enabled) {
        judge_replicas(check, probe, &offsets);
    }
}
