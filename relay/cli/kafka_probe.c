// SPDX-License-Identifier: Apache-2.0
//
// Happy path: a producer handle (the kind that joins nothing) reads metadata; further questions are admin requests
// whose answers come on a queue of their own. A group's offsets are asked for by a consumer handle that has the group's
// name and joins nothing either: where the coordinator has moved, librdkafka looks for it through the handle's group,
// and follows a null pointer in a handle that has none.
// - Nobody answers: librdkafka only says "timed out"; what its error callback heard meanwhile (refused, TLS, SASL) is
//   put into the error, since that is what an operator can fix.
// - A question is refused (rights): the broker's own code, per topic where the answer has one.
#include "relay/cli/kafka_probe.h"

#include "relay/kafka/kafka_conf.h"
#include "relay/kafka/kafka_error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_AGAIN_MS 100

struct kafka_probe {
    const struct relay_context *context;
    const char *role;
    rd_kafka_t *client;
    const struct rd_kafka_metadata *metadata;
    char heard[300]; // the last thing that the error callback told
};

static void hear(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
    (void)client;
    struct kafka_probe *probe = opaque;
    // "all brokers down" says less than what came before it.
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || probe->heard[0] == '\0') {
        snprintf(probe->heard, sizeof(probe->heard), "%s", reason);
    }
}

static int in_ms(struct duration timeout)
{
    return (int)duration_ms(timeout);
}

// group: NULL for a producer.
static rd_kafka_t *client_new(struct kafka_probe *probe, const char *group, struct relay_error *error)
{
    enum kafka_client_kind kind = group ? KAFKA_CLIENT_CONSUMER : KAFKA_CLIENT_PRODUCER;
    rd_kafka_conf_t *conf = kafka_conf_new(probe->context, kind, probe->role, error);
    if (!conf) {
        return NULL;
    }
    // A broker tells the end of a partition by it, see kafka_probe_watermarks().
    if (!kafka_conf_set(conf, "isolation.level", "read_uncommitted", error) ||
        (group && !kafka_conf_set(conf, "group.id", group, error))) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, probe);
    rd_kafka_conf_set_error_cb(conf, hear);
    rd_kafka_conf_set_log_cb(conf, NULL); // what matters comes through the callback; a command's output is its answer
    return kafka_client_new(kind, conf, error);
}

struct kafka_probe *kafka_probe_open(const struct relay_context *context, const char *role, struct duration timeout,
    struct relay_error *error)
{
    struct kafka_probe *probe = calloc(1, sizeof(*probe));
    if (!probe) {
        error_no_memory(error, "asking Kafka");
        return NULL;
    }
    probe->context = context;
    probe->role = role;
    probe->client = client_new(probe, NULL, error);
    if (!probe->client) {
        goto failed;
    }
    rd_kafka_resp_err_t code = rd_kafka_metadata(probe->client, 1, NULL, &probe->metadata, in_ms(timeout));
    rd_kafka_poll(probe->client, 0);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return probe;
    }
    kafka_error_set(error, code, "Kafka%s%s", probe->heard[0] != '\0' ? ": " : "", probe->heard);
failed:
    kafka_probe_close(probe);
    return NULL;
}

void kafka_probe_close(struct kafka_probe *probe)
{
    if (!probe) {
        return;
    }
    if (probe->metadata) {
        rd_kafka_metadata_destroy(probe->metadata);
    }
    if (probe->client) {
        rd_kafka_destroy(probe->client);
    }
    free(probe);
}

const rd_kafka_metadata_t *kafka_probe_metadata(const struct kafka_probe *probe)
{
    return probe->metadata;
}

const rd_kafka_metadata_topic_t *kafka_probe_topic(const struct kafka_probe *probe, const char *topic)
{
    for (int i = 0; i < probe->metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *found = &probe->metadata->topics[i];
        if (strcmp(found->topic, topic) == 0) {
            return found->err == RD_KAFKA_RESP_ERR_NO_ERROR || found->partition_cnt > 0 ? found : NULL;
        }
    }
    return NULL;
}

// The answer of an admin request, or NULL with the error set.
static rd_kafka_event_t *answer(rd_kafka_queue_t *queue, struct duration timeout, const char *what,
    struct relay_error *error)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, in_ms(timeout) + 200);
    if (!event) {
        kafka_error_set(error, RD_KAFKA_RESP_ERR__TIMED_OUT, "%s", what);
        return NULL;
    }
    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        kafka_error_set(error, rd_kafka_event_error(event), "%s", what);
        rd_kafka_event_destroy(event);
        return NULL;
    }
    return event;
}

static rd_kafka_AdminOptions_t *options_new(rd_kafka_t *client, rd_kafka_admin_op_t kind, struct duration timeout)
{
    char why[128];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, kind);
    if (options) {
        rd_kafka_AdminOptions_set_request_timeout(options, in_ms(timeout), why, sizeof(why));
    }
    return options;
}

static void take_settings(const rd_kafka_ConfigResource_t *resource, struct kafka_topic_settings *settings)
{
    settings->refused = rd_kafka_ConfigResource_error(resource);
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]), *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (!value) {
            continue;
        }
        if (strcmp(name, "cleanup.policy") == 0) {
            snprintf(settings->cleanup_policy, sizeof(settings->cleanup_policy), "%s", value);
        } else if (strcmp(name, "segment.bytes") == 0) {
            settings->segment_bytes = strtoll(value, NULL, 10);
        } else if (strcmp(name, "max.message.bytes") == 0) {
            settings->max_message_bytes = strtoll(value, NULL, 10);
        } else if (strcmp(name, "min.insync.replicas") == 0) {
            settings->min_insync_replicas = strtoll(value, NULL, 10);
        } else if (strcmp(name, "min.compaction.lag.ms") == 0) {
            settings->min_compaction_lag_ms = strtoll(value, NULL, 10);
        } else if (strcmp(name, "unclean.leader.election.enable") == 0) {
            settings->unclean_leader_election = strcmp(value, "true") == 0;
        }
    }
}

bool kafka_probe_settings(struct kafka_probe *probe, const char *const *topics, size_t count,
    struct kafka_topic_settings *settings, struct duration timeout, struct relay_error *error)
{
    bool done = false;
    rd_kafka_event_t *event = NULL;
    if (count == 0) {
        return true;
    }
    rd_kafka_ConfigResource_t **asked = calloc(count, sizeof(*asked));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(probe->client);
    rd_kafka_AdminOptions_t *options = options_new(probe->client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
    if (!asked || !options) {
        error_no_memory(error, "reading the settings of topics");
        goto asked_held;
    }
    for (size_t i = 0; i < count; i++) {
        asked[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topics[i]);
        settings[i] = (struct kafka_topic_settings){.refused = RD_KAFKA_RESP_ERR_UNKNOWN};
        snprintf(settings[i].topic, sizeof(settings[i].topic), "%s", topics[i]);
    }
    rd_kafka_DescribeConfigs(probe->client, asked, count, options, queue);
    event = answer(queue, timeout, "reading the settings of topics", error);
    if (!event) {
        goto asked_held;
    }
    size_t found = 0;
    const rd_kafka_ConfigResource_t **resources = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(event), &found);
    for (size_t i = 0; i < found; i++) {
        for (size_t j = 0; j < count; j++) {
            if (strcmp(rd_kafka_ConfigResource_name(resources[i]), topics[j]) == 0) {
                take_settings(resources[i], &settings[j]);
            }
        }
    }
    done = true;
asked_held:
    if (event) {
        rd_kafka_event_destroy(event);
    }
    if (options) {
        rd_kafka_AdminOptions_destroy(options);
    }
    rd_kafka_queue_destroy(queue);
    for (size_t i = 0; asked && i < count; i++) {
        if (asked[i]) {
            rd_kafka_ConfigResource_destroy(asked[i]);
        }
    }
    free(asked);
    return done;
}

static rd_kafka_topic_partition_list_t *ask_committed(rd_kafka_t *client, const char *group, struct duration timeout,
    struct relay_error *error)
{
    rd_kafka_topic_partition_list_t *copy = NULL;
    rd_kafka_ListConsumerGroupOffsets_t *asked = rd_kafka_ListConsumerGroupOffsets_new(group, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_AdminOptions_t *options = options_new(client, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout);
    rd_kafka_ListConsumerGroupOffsets(client, &asked, 1, options, queue);
    rd_kafka_event_t *event = answer(queue, timeout, "reading the group's offsets", error);
    size_t count = 0;
    const rd_kafka_group_result_t **groups = event
        ? rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(event), &count)
        : NULL;
    if (count == 1 && rd_kafka_group_result_error(groups[0])) {
        kafka_error_set(error, rd_kafka_error_code(rd_kafka_group_result_error(groups[0])),
            "reading the offsets of group %s", group);
    } else if (count == 1) {
        copy = rd_kafka_topic_partition_list_copy(rd_kafka_group_result_partitions(groups[0]));
    } else if (event) {
        error_set(error, RELAY_ERROR_PROTOCOL, "Kafka says nothing of group %s", group);
    }
    if (event) {
        rd_kafka_event_destroy(event);
    }
    if (options) {
        rd_kafka_AdminOptions_destroy(options);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_ListConsumerGroupOffsets_destroy(asked);
    return copy;
}

// The first question of a cluster's life makes the topic of the groups, and librdkafka then waits until its time is up:
// a second one finds the coordinator.
rd_kafka_topic_partition_list_t *kafka_probe_committed(struct kafka_probe *probe, const char *group,
    struct duration timeout, struct relay_error *error)
{
    const struct clock *clock = probe->context->clock;
    struct mono_time deadline = mono_add(clock_mono(clock), timeout);
    struct duration part = {timeout.ns / 4};
    rd_kafka_topic_partition_list_t *committed = NULL;
    rd_kafka_t *client = client_new(probe, group, error);
    while (client) {
        committed = ask_committed(client, group, part, error);
        if (committed || error->class != RELAY_CLASS_RETRIABLE || mono_reached(clock_mono(clock), deadline)) {
            break;
        }
        rd_kafka_poll(client, ASK_AGAIN_MS); // a coordinator that is not ready refuses at once
    }
    if (client) {
        rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE); // it is no member
    }
    return committed;
}

bool kafka_probe_watermarks(struct kafka_probe *probe, const char *topic, int32_t partition, int64_t *low,
    int64_t *high, struct duration timeout, struct relay_error *error)
{
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(probe->client, topic, partition, low, high,
        in_ms(timeout));
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || kafka_error_set(error, code, "end of %s [%d]", topic, (int)partition);
}
