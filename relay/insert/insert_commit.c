// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_commit.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"

#define COMMIT_EVERY DURATION_MS(500)

static bool add_offset(rd_kafka_topic_partition_list_t *offsets, const struct insert_partition *partition,
    int64_t offset)
{
    rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(offsets, partition->topic,
        partition->number);
    if (!element) {
        return false;
    }
    element->offset = offset;
    return true;
}

// What may be committed for the partition now; OFFSET_NONE: nothing.
static int64_t committable(const struct insert_partition *partition)
{
    if (partition->gone || !partition->committed_known || partition->failed) {
        return OFFSET_NONE;
    }
    int64_t low = insert_partition_low(partition);
    if (!safeguard_active(SAFEGUARD_MONOTONIC_COMMIT)) {
        return partition->position; // what was read, stored or not
    }
    return low < partition->committed ? partition->committed : low;
}

// Sends what has changed, or, for the lease, what has not. false: nothing was sent.
bool insert_commit_send(struct insert_group *group, bool for_lease)
{
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(16);
    const struct insert_partition *any = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        int64_t offset = committable(partition);
        if (offset == OFFSET_NONE) {
            continue;
        }
        any = partition;
        if (offset != partition->committed) {
            add_offset(offsets, partition, offset);
        }
    }
    if (offsets->cnt == 0 && for_lease && any) {
        add_offset(offsets, any, committable(any));
    }
    bool sent = offsets->cnt > 0;
    if (sent) {
        TEST_POINT(INSERT_BEFORE_COMMIT);
        sent = kafka_consumer_commit(group->consumer, offsets);
    }
    rd_kafka_topic_partition_list_destroy(offsets);
    return sent;
}

static bool outcome_unknown(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__TIMED_OUT ||
        code == RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE || code == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT ||
        code == RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION || code == RD_KAFKA_RESP_ERR__DESTROY;
}

void insert_commit_answered(void *context, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_resp_err_t code,
    struct mono_time sent)
{
    struct insert_group *group = context;
    struct relay_error error;
    struct duration taken = mono_since(insert_group_now(group), sent);
    for (int i = 0; !code && offsets && i < offsets->cnt; i++) {
        code = offsets->elems[i].err;
    }
    if (outcome_unknown(code) || taken.ns > kafka_consumer_commit_limit(group->consumer).ns) {
        error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit took %.1f s (%s): whether it counts is unknown",
            duration_seconds(taken), rd_kafka_err2name(code));
        insert_group_break(group, &error);
        return;
    }
    if (code) {
        log_event(LOG_LEVEL_INFO, "insert.commit_refused",
            "nothing was committed; it is said again if we are still members",
            LOG_TEXT("error", rd_kafka_err2name(code)));
        return;
    }
    for (int i = 0; offsets && i < offsets->cnt; i++) {
        struct insert_partition *partition = insert_group_find(group, offsets->elems[i].topic,
            offsets->elems[i].partition);
        if (partition) {
            partition->committed = offsets->elems[i].offset;
        }
    }
    insert_lease_grant(group->lease, sent);
    insert_group_health(group, STATUS_OK, "");
    TEST_POINT(INSERT_AFTER_COMMIT);
}

static bool any_busy(const struct insert_group *group)
{
    for (size_t i = 0; i < group->table_count; i++) {
        if (insert_table_busy(group->tables[i])) {
            return true;
        }
    }
    return false;
}

void insert_commit_if_due(struct insert_group *group, struct mono_time now)
{
    struct mono_time since;
    struct relay_error error;
    if (kafka_consumer_committing(group->consumer, &since)) {
        struct mono_time limit = mono_add(since, kafka_consumer_commit_limit(group->consumer));
        if (mono_reached(now, mono_add(limit, DURATION_S(1)))) {
            error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit has no answer after %.1f s",
                duration_seconds(mono_since(now, since)));
            insert_group_break(group, &error);
        }
        return;
    }
    bool for_lease = any_busy(group) && insert_lease_renewal_due(group->lease);
    if (for_lease ? mono_reached(now, mono_add(group->committed_at, DURATION_MS(20)))
                  : mono_reached(now, group->commit_at)) {
        // Without the safeguard as a careless consumer does it: what was read, at once.
        bool careless = !safeguard_active(SAFEGUARD_MONOTONIC_COMMIT);
        group->commit_at = mono_add(now, careless ? DURATION_MS(50) : COMMIT_EVERY);
        group->committed_at = now;
        insert_commit_send(group, for_lease);
    }
}
