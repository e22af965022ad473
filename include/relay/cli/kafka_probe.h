// SPDX-License-Identifier: Apache-2.0
//
// What the commands ask a Kafka cluster, over one librdkafka handle that is no member of any group and produces
// nothing: metadata, the settings of topics, committed and end offsets. Each question has a deadline. One thread.
#ifndef RELAY_CLI_KAFKA_PROBE_H
#define RELAY_CLI_KAFKA_PROBE_H

#include "relay/config/context.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

struct kafka_probe;

// Connects and reads the metadata of all topics. role: as for kafka_conf_new. Errors: CONFIG, KAFKA_* (with the reason
// that librdkafka logs: refused, authentication ...), NO_MEMORY.
struct kafka_probe *kafka_probe_open(const struct relay_context *context, const char *role, struct duration timeout,
    struct relay_error *error);
void kafka_probe_close(struct kafka_probe *probe); // accepts NULL

const rd_kafka_metadata_t *kafka_probe_metadata(const struct kafka_probe *probe);
const rd_kafka_metadata_topic_t *kafka_probe_topic(const struct kafka_probe *probe,
    const char *topic); // NULL: none, or no right

// Settings of topics; a list belongs to its maker, start with {0}.
struct kafka_topic_settings {
    char topic[256];
    rd_kafka_resp_err_t refused; // they cannot be read
    char cleanup_policy[64];
    int64_t segment_bytes;
    int64_t max_message_bytes, min_insync_replicas, min_compaction_lag_ms;
    bool unclean_leader_election;
};
// Fills settings[i] for topics[i]. Errors: KAFKA_*, NO_MEMORY.
bool kafka_probe_settings(struct kafka_probe *probe, const char *const *topics, size_t count,
    struct kafka_topic_settings *settings, struct duration timeout, struct relay_error *error);

// The group's committed offsets: a new list, the caller destroys it. Errors: KAFKA_*, NO_MEMORY.
rd_kafka_topic_partition_list_t *kafka_probe_committed(struct kafka_probe *probe, const char *group,
    struct duration timeout, struct relay_error *error);
// Low and high watermark of a partition: what waits behind an open transaction is below the high one. Errors: KAFKA_*.
bool kafka_probe_watermarks(struct kafka_probe *probe, const char *topic, int32_t partition, int64_t *low,
    int64_t *high, struct duration timeout, struct relay_error *error);

#endif
