// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_commit.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/insert/insert_health.h"
#include "relay/insert/insert_note.h"
#include "relay/insert/view_note.h"
#include "relay/kafka/kafka_error.h"

#include <stdlib.h>
#include <string.h>

#define COMMIT_EVERY    DURATION_MS(500)
#define BEGINNING_LIMIT DURATION_S(3)  // of a question where a log begins
#define BEGINNING_SPAN  DURATION_S(1)  // no further one in this round
#define BEGINNING_PAUSE DURATION_S(3)  // after one without an answer: the others go on
#define BEGINNING_AGAIN DURATION_S(30) // for the same partition: others have their turn
#define METADATA_AGAIN  DURATION_S(600)

// A commit replaces the metadata of the one before: it carries every note that still counts.
static void add_notes(const struct insert_group *group, rd_kafka_topic_partition_t *element,
    const struct insert_partition *partition)
{
    size_t room = group->metadata_room > 0 ? group->metadata_room : VIEW_METADATA_MOST;
    char *metadata = NULL; // librdkafka frees it with the list
    size_t length = 0;
    for (size_t i = 0; i < partition->feed_count; i++) {
        const struct insert_feed *feed = &partition->feeds[i];
        const char *note = insert_note_of(feed->table, feed);
        size_t size = note ? strlen(note) : 0;
        char *more = size > 0 && length + size <= room ? realloc(metadata, length + size) : NULL;
        if (more) {
            memcpy(more + length, note, size);
            metadata = more;
            length += size;
        } else if (size > 0) {
            log_event(LOG_LEVEL_WARNING, "insert.no_note",
                "the offset commit has no room for it: if this process dies now, views may miss an INSERT that the "
                "table has",
                LOG_TEXT("table", feed->table->name));
        }
    }
    element->metadata = metadata;
    element->metadata_size = length;
}

static bool add_offset(const struct insert_group *group, rd_kafka_topic_partition_list_t *offsets,
    const struct insert_partition *partition, int64_t offset)
{
    rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(offsets, partition->topic,
        partition->number);
    if (!element) {
        return false;
    }
    element->offset = offset;
    add_notes(group, element, partition);
    return true;
}

static bool is_listed(const rd_kafka_topic_partition_list_t *offsets, const struct insert_partition *partition)
{
    for (int i = 0; i < offsets->cnt; i++) {
        if (offsets->elems[i].partition == partition->number &&
            strcmp(offsets->elems[i].topic, partition->topic) == 0) {
            return true;
        }
    }
    return false;
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

// Of a partition that was read from the log's beginning it is known. Others have rows from before, and no offset.
static void ask_beginning(struct insert_group *group, struct insert_partition *partition)
{
    struct relay_error error;
    int64_t low, high;
    if (kafka_consumer_ask_watermarks(group->consumer, partition->topic, partition->number, BEGINNING_LIMIT, &low,
            &high, &error)) {
        partition->beginning = low;
        return;
    }
    struct mono_time now = insert_group_now(group);
    group->beginnings_at = mono_add(now, BEGINNING_PAUSE);
    partition->beginning_at = mono_add(now, BEGINNING_AGAIN);
    log_event(LOG_LEVEL_WARNING, "insert.no_beginning", "the inserts wait for a first commit",
        LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number), LOG_ERROR(&error));
}

// Where nothing was ever committed, and a table that is paused or has yet to begin holds everything back: the log's
// beginning says the same as none, and shows what expires meanwhile.
static int64_t beginning_of(struct insert_group *group, struct insert_partition *partition)
{
    struct mono_time now = insert_group_now(group);
    if (partition->beginning == OFFSET_NONE && mono_reached(now, partition->beginning_at) &&
        mono_reached(now, group->beginnings_at) && mono_before(now, group->beginnings_until)) {
        ask_beginning(group, partition);
    }
    if (partition->beginning != OFFSET_NONE) {
        insert_partition_pin_beginning(partition);
    }
    return partition->beginning;
}

// Nothing is committable, but the lease needs a commit.
static void add_beginning(struct insert_group *group, rd_kafka_topic_partition_list_t *offsets)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (partition->gone || partition->failed || !partition->committed_known) {
            continue;
        }
        int64_t low = beginning_of(group, partition);
        if (low != OFFSET_NONE) {
            add_offset(group, offsets, partition, low);
            return;
        }
    }
}

// Every partition of the table's flight is committed, with its note if it has one. Where nothing can be committed any
// more, since the log has lost our offset, it goes without. false: one has to wait.
static bool add_flight(struct insert_group *group, struct insert_table *table, rd_kafka_topic_partition_list_t *offsets)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (partition->failed || is_listed(offsets, partition) || !insert_table_holds(table, partition)) {
            continue;
        }
        int64_t offset = committable(partition);
        offset = offset == OFFSET_NONE ? beginning_of(group, partition) : offset;
        if (offset == OFFSET_NONE || !add_offset(group, offsets, partition, offset)) {
            return false;
        }
    }
    return true;
}

static void add_flights(struct insert_group *group, rd_kafka_topic_partition_list_t *offsets)
{
    for (size_t i = 0; i < group->table_count; i++) {
        struct insert_table *table = group->tables[i];
        if (insert_note_wanted(table)) {
            table->note_sent = add_flight(group, table, offsets);
        }
    }
}

// The flights that were in the commit go, or wait for the next one.
static void end_notes(struct insert_group *group, const rd_kafka_topic_partition_list_t *offsets, bool accepted)
{
    for (size_t i = 0; i < group->table_count; i++) {
        struct insert_table *table = group->tables[i];
        bool noted = accepted && table->note_sent;
        for (int j = 0; noted && offsets && j < offsets->cnt; j++) {
            const struct insert_partition *partition = insert_group_find(group, offsets->elems[j].topic,
                offsets->elems[j].partition);
            noted = !offsets->elems[j].err || !partition || !insert_table_holds(table, partition);
        }
        table->note_sent = false;
        if (noted) {
            TEST_POINT(INSERT_AFTER_NOTE);
            insert_note_accepted(table);
        }
    }
}

static void add_changed(const struct insert_group *group, rd_kafka_topic_partition_list_t *offsets)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        int64_t offset = committable(partition);
        if (offset != OFFSET_NONE && offset != partition->committed) {
            add_offset(group, offsets, partition, offset);
        }
    }
}

// The lease needs a commit also where nothing has changed. After a refusal it is of all partitions: a topic without
// rights must not stand in for those that are accepted.
static void add_unchanged(struct insert_group *group, rd_kafka_topic_partition_list_t *offsets)
{
    for (size_t i = 0; i < group->partitions.count && (offsets->cnt == 0 || group->some_refused); i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        int64_t offset = committable(partition);
        if (offset != OFFSET_NONE && offset == partition->committed) {
            add_offset(group, offsets, partition, offset);
        }
    }
    if (offsets->cnt == 0) {
        add_beginning(group, offsets);
    }
}

// With the partitions and notes of the flights that wait for it. Takes the list over.
static bool send_offsets(struct insert_group *group, rd_kafka_topic_partition_list_t *offsets)
{
    add_flights(group, offsets);
    group->metadata_most = 0;
    for (int i = 0; i < offsets->cnt; i++) {
        size_t size = offsets->elems[i].metadata_size;
        group->metadata_most = size > group->metadata_most ? size : group->metadata_most;
    }
    bool sent = offsets->cnt > 0;
    if (sent) {
        TEST_POINT(INSERT_BEFORE_COMMIT);
        sent = kafka_consumer_commit(group->consumer, offsets);
    }
    if (!sent) {
        end_notes(group, NULL, false);
    }
    rd_kafka_topic_partition_list_destroy(offsets);
    return sent;
}

static rd_kafka_topic_partition_list_t *begin_offsets(struct insert_group *group)
{
    group->beginnings_until = mono_add(insert_group_now(group), BEGINNING_SPAN);
    return rd_kafka_topic_partition_list_new(16);
}

bool insert_commit_changed(struct insert_group *group)
{
    rd_kafka_topic_partition_list_t *offsets = begin_offsets(group);
    add_changed(group, offsets);
    return send_offsets(group, offsets);
}

static void renew_lease(struct insert_group *group)
{
    rd_kafka_topic_partition_list_t *offsets = begin_offsets(group);
    add_changed(group, offsets);
    add_unchanged(group, offsets);
    send_offsets(group, offsets);
}

static bool outcome_unknown(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__TIMED_OUT ||
        code == RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE || code == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT ||
        code == RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION || code == RD_KAFKA_RESP_ERR__DESTROY;
}

// A commit that the broker looks at behind our JoinGroup has the generation before, and one before our SyncGroup is
// refused as well; librdkafka repeats neither. Where we were thrown out instead, nothing of ours may be said any more.
static bool refused_by_rebalance(const struct insert_group *group, rd_kafka_resp_err_t code)
{
    return (code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION || code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS) &&
        !kafka_consumer_lost(group->consumer);
}

// Brokers limit what goes with an offset. How much they take is not known: less and less is tried, and soon as much.
static void note_too_large(struct insert_group *group)
{
    size_t most = group->metadata_most;
    group->metadata_room = most > 8 ? most - most / 8 : 1;
    group->metadata_again_at = mono_add(insert_group_now(group), METADATA_AGAIN);
}

void insert_commit_answered(void *context, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_resp_err_t code,
    struct mono_time sent)
{
    struct insert_group *group = context;
    struct relay_error error;
    struct duration taken = mono_since(insert_group_now(group), sent);
    int accepted = 0;
    bool too_large = code == RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE;
    rd_kafka_resp_err_t refused = code;
    for (int i = 0; !code && offsets && i < offsets->cnt; i++) {
        rd_kafka_resp_err_t err = offsets->elems[i].err;
        accepted += err == RD_KAFKA_RESP_ERR_NO_ERROR;
        too_large = too_large || err == RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE;
        refused = err && !outcome_unknown(refused) ? err : refused;
    }
    code = accepted == 0 || outcome_unknown(refused) ? refused : RD_KAFKA_RESP_ERR_NO_ERROR;
    group->some_refused = refused != RD_KAFKA_RESP_ERR_NO_ERROR;
    group->rebalancing = refused_by_rebalance(group, refused);
    group->stands_refused = false;
    // librdkafka may have repeated a late one, and a copy may still arrive. None of a generation that is over counts.
    bool late = taken.ns > kafka_consumer_commit_limit(group->consumer).ns &&
        code != RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    if (outcome_unknown(code) || late) {
        error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit took %.1f s (%s): whether it counts is unknown",
            duration_seconds(taken), rd_kafka_err2name(code));
        end_notes(group, NULL, false);
        insert_group_break(group, &error);
        return;
    }
    if (refused) {
        log_event(LOG_LEVEL_INFO, "insert.commit_refused",
            "some offsets were not committed; they are committed again while we are a member of the group",
            LOG_TEXT("error", rd_kafka_err2name(refused)), LOG_INT("accepted", accepted));
        kafka_error_set(&error, refused, "committing offsets");
        group->stands_refused = code && error.class == RELAY_CLASS_OPERATOR;
        if (too_large) {
            note_too_large(group);
        }
        if (error.class == RELAY_CLASS_OPERATOR) {
            insert_health_refused(group, error.text);
        }
    }
    end_notes(group, offsets, !code);
    if (code) {
        return;
    }
    for (int i = 0; offsets && i < offsets->cnt; i++) {
        struct insert_partition *partition = insert_group_find(group, offsets->elems[i].topic,
            offsets->elems[i].partition);
        if (partition && !offsets->elems[i].err) {
            partition->committed = offsets->elems[i].offset;
        }
    }
    insert_lease_grant(group->lease, sent);
    backoff_reset(&group->rejoin);
    if (!refused) {
        insert_health_tell(group, STATUS_OK, "");
    }
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

bool insert_commit_awaited(const struct insert_group *group)
{
    for (size_t i = 0; i < group->table_count; i++) {
        if (insert_note_wanted(group->tables[i])) {
            return true;
        }
    }
    return false;
}

// How long a commit may lack its answer. It lies behind our JoinGroup for as long as the coordinator waits for a member
// that was killed, a session at most; who left the group for that would be waited for as well. INSERTs stop by
// themselves when the lease ends.
static struct duration patience(const struct insert_group *group)
{
    struct duration limit = kafka_consumer_commit_limit(group->consumer);
    struct duration session = kafka_consumer_session_timeout(group->consumer);
    return DURATION_NS((limit.ns < session.ns ? session.ns : limit.ns) + 1000000000);
}

void insert_commit_if_due(struct insert_group *group, struct mono_time now)
{
    struct mono_time since;
    struct relay_error error;
    if (kafka_consumer_committing(group->consumer, &since)) {
        if (mono_reached(now, mono_add(since, patience(group)))) {
            error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit has no answer after %.1f s",
                duration_seconds(mono_since(now, since)));
            insert_group_break(group, &error);
        }
        return;
    }
    bool for_lease = insert_lease_is_wanted(group->lease) ||
        (any_busy(group) && insert_lease_renewal_due(group->lease));
    bool soon = (for_lease || insert_commit_awaited(group)) && !group->stands_refused;
    if (soon ? mono_reached(now, mono_add(group->committed_at, DURATION_MS(20)))
             : mono_reached(now, group->commit_at)) {
        // Without the safeguard as a careless consumer does it: what was read, at once.
        bool careless = !safeguard_active(SAFEGUARD_MONOTONIC_COMMIT);
        group->commit_at = mono_add(now, careless ? DURATION_MS(50) : COMMIT_EVERY);
        group->committed_at = now;
        if (for_lease) {
            renew_lease(group);
        } else {
            insert_commit_changed(group);
        }
    }
}
