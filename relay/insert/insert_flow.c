// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_flow.h"

#include "relay/base/log.h"
#include "relay/insert/insert_catch_up.h"
#include "relay/insert/insert_health.h"
#include "relay/insert/insert_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOLD_AFTER     DURATION_MS(200) // a table that is full for longer has its partitions held
#define BEGIN_PATIENCE DURATION_S(2)
#define FAR_BEHIND     50000 // messages: nearer ones go back together with the others

// librdkafka makes a list of them when it is first asked, an allocation for each.
static bool take_headers(struct source_message *source)
{
    struct insert_group *group = source->consumer;
    rd_kafka_headers_t *headers;
    source->take_headers = NULL;
    if (rd_kafka_message_headers(source->consumed, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return true;
    }
    size_t count = rd_kafka_header_cnt(headers);
    if (count > group->header_room) {
        struct source_header *room = reallocarray(group->headers, count * 2, sizeof(*room));
        if (!room) {
            return false;
        }
        group->headers = room;
        group->header_room = count * 2;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = NULL;
        const void *value = NULL;
        size_t length = 0;
        rd_kafka_header_get_all(headers, i, &name, &value, &length);
        group->headers[i] = (struct source_header){.name = name, .value = value, .length = length};
    }
    source->headers = group->headers;
    source->header_count = count;
    return true;
}

static void view_message(struct insert_group *group, const struct insert_partition *partition,
    const rd_kafka_message_t *message, struct source_message *source)
{
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(message, &type);
    *source = (struct source_message){.topic = partition->topic,
        .partition = partition->number,
        .offset = message->offset,
        .timestamp_ms = type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp,
        .key = message->key,
        .key_length = message->key_len,
        .value = message->payload,
        .value_length = message->len,
        .value_room = message->len,
        .take_headers = take_headers,
        .consumer = group,
        .consumed = message};
}

// A message from the group's consumer, or from the reader of those that catch up: each feed listens to one of them.
static void take_message(struct insert_group *group, const rd_kafka_message_t *message, bool by_reader)
{
    struct insert_partition *partition = group->last;
    const char *topic = rd_kafka_topic_name(message->rkt);
    if (!partition || partition->number != message->partition || strcmp(partition->topic, topic) != 0) {
        partition = group->last = insert_group_find(group, topic, message->partition);
    }
    if (!partition || !partition->fetching) {
        return; // fetched before we said where to begin: it comes again
    }
    struct source_message source;
    bool viewed = false;
    if (!by_reader) {
        partition->position = message->offset + 1;
        partition->end = OFFSET_NONE;
    }
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        bool found;
        if (feed->by_reader != by_reader) {
            continue;
        }
        if (feed->state == FEED_ACTIVE && message->offset >= feed->found_through) {
            insert_feed_rewind(feed); // the read-back reaches only so far: ask for the rest
            continue;
        }
        if (!insert_feed_takes(feed, message->offset, &found)) {
            continue;
        }
        if (!viewed) {
            view_message(group, partition, message, &source);
            viewed = true;
        }
        if (source.take_headers && insert_table_reads_headers(feed->table) && !source.take_headers(&source)) {
            insert_feed_give_back(feed, message->offset);
            continue;
        }
        insert_table_add(feed->table, feed, &source);
        bool much = insert_memory_took(group, source.key_length + source.value_length);
        group->full = group->full || much || insert_table_full(feed->table);
    }
}

void insert_flow_message(void *context, const rd_kafka_message_t *message)
{
    take_message(context, message, false);
}

void insert_flow_reader_message(void *context, const rd_kafka_message_t *message)
{
    take_message(context, message, true);
}

void insert_flow_end(void *context, const char *topic, int32_t number, int64_t offset)
{
    struct insert_group *group = context;
    struct insert_partition *partition = insert_group_find(group, topic, number);
    if (partition && partition->fetching) {
        insert_partition_reached_end(partition, offset, false);
        insert_health_tell(group, STATUS_OK, "");
    }
}

// Offsets that are not in the log

// Messages that one partition's log no longer has, and what that means to its tables.
struct expiry {
    bool by_reader; // the reader of those that catch up came upon it, else the group's consumer
    int64_t low;    // where the log begins; OFFSET_NONE: the broker does not say
    int64_t from;   // the first that a table lacks; INT64_MAX: each has what it needs
    int64_t lowest; // where the reading was
    bool any_lost;  // a table stands still
};

static bool concerns(const struct expiry *expiry, const struct insert_feed *feed)
{
    return feed->by_reader == expiry->by_reader && feed->state == FEED_ACTIVE;
}

static void lose(struct insert_feed *feed, struct expiry *expiry)
{
    feed->state = FEED_LOST;
    feed->by_reader = false;
    expiry->any_lost = true;
}

// Each table judges for itself: it may have had what expired (a group without committed offsets begins at the lowest
// that a table has, however old), may go on without, or stands still.
static void judge_feeds(const struct insert_group *group, struct insert_partition *partition, struct expiry *expiry)
{
    bool go_on = group->context->config->insert.on_lost_messages == CONFIG_LOST_CONTINUE;
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        if (!concerns(expiry, feed)) {
            continue;
        }
        expiry->lowest = feed->next < expiry->lowest ? feed->next : expiry->lowest;
        if (feed->next == OFFSET_NONE || feed->next >= expiry->low || insert_feed_has_expired(feed, expiry->low)) {
            continue;
        }
        expiry->from = feed->next < expiry->from ? feed->next : expiry->from;
        if (go_on) {
            insert_feed_skip(feed, expiry->low);
        } else {
            lose(feed, expiry);
        }
    }
}

static void count_lost(const struct insert_group *group, const struct insert_partition *partition,
    const struct expiry *expiry)
{
    metric_add(metrics_series1(group->context->metrics, METRIC_MESSAGES_LOST, partition->topic),
        (uint64_t)(expiry->low - expiry->from));
    log_event(LOG_LEVEL_ERROR, "insert.messages_lost",
        "Kafka expired messages before they were inserted; going on behind them, as "
        "[insert] on_lost_messages says",
        LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number), LOG_INT("from", expiry->from),
        LOG_INT("to", expiry->low - 1));
}

static void tell_lost(struct insert_group *group, struct insert_partition *partition, int64_t from,
    const struct relay_error *error)
{
    partition->lost_at = from;
    insert_health_stands(group);
    log_event(LOG_LEVEL_ERROR, "insert.offset_not_in_log",
        "messages are lost, or the topic is another one; the tables of the partition that lack them stand still "
        "(see [insert] on_lost_messages)",
        LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number), LOG_INT("offset", from),
        LOG_ERROR(error));
}

// Not that it begins later: nobody of these tables can read on.
static void stand_still(struct insert_partition *partition, struct expiry *expiry)
{
    partition->failed = partition->failed || !expiry->by_reader;
    for (size_t i = 0; expiry->by_reader && i < partition->feed_count; i++) {
        if (concerns(expiry, &partition->feeds[i])) {
            lose(&partition->feeds[i], expiry);
        }
    }
}

static void offset_not_in_log(struct insert_group *group, struct insert_partition *partition, bool by_reader,
    const struct relay_error *error)
{
    struct expiry expiry = {.by_reader = by_reader, .low = OFFSET_NONE, .from = INT64_MAX, .lowest = INT64_MAX};
    struct relay_error unknown;
    int64_t high;
    bool known = kafka_consumer_ask_watermarks(group->consumer, partition->topic, partition->number, DURATION_S(3),
        &expiry.low, &high, &unknown);
    if (known) {
        judge_feeds(group, partition, &expiry);
    } else {
        log_event(LOG_LEVEL_WARNING, "insert.no_beginning", "an offset is not in the log; it is tried again",
            LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number), LOG_ERROR(&unknown));
    }
    if (known && expiry.lowest >= expiry.low && expiry.lowest != INT64_MAX) { // else nobody reads there any more
        stand_still(partition, &expiry);
        tell_lost(group, partition, expiry.lowest, error);
    } else if (expiry.any_lost) {
        tell_lost(group, partition, expiry.from, error);
    } else if (expiry.from != INT64_MAX) {
        count_lost(group, partition, &expiry);
    }
    if (by_reader) {
        group->reader_stale = true;
    } else if (!partition->failed) {
        insert_partition_stopped(partition);
    }
}

void insert_flow_failed(void *context, const char *topic, int32_t number, const struct relay_error *error)
{
    struct insert_partition *partition = insert_group_find(context, topic, number);
    if (partition && partition->fetching && !partition->failed) {
        offset_not_in_log(context, partition, false, error);
    }
}

void insert_flow_reader_failed(void *context, const char *topic, int32_t number, const struct relay_error *error)
{
    struct insert_partition *partition = insert_group_find(context, topic, number);
    if (partition) {
        offset_not_in_log(context, partition, true, error);
    }
}

// A feed that is far behind what others already take reads on by itself, so that they need not wait for it.
static void send_far_ones_away(struct insert_group *group, struct insert_partition *partition)
{
    for (size_t i = 0; partition->fetching && i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        bool far = feed->next == OFFSET_NONE || partition->position - feed->next > FAR_BEHIND;
        bool others = false;
        for (size_t j = 0; j < partition->feed_count; j++) {
            others = others || (j != i && partition->feeds[j].state == FEED_ACTIVE && !partition->feeds[j].by_reader);
        }
        if (feed->state == FEED_READY && !feed->by_reader && far && others) {
            feed->state = FEED_ACTIVE;
            insert_catch_up_add(group, feed);
        }
    }
}

// A partition begins once all of its tables know where, so that nothing is fetched twice. One that cannot say for a
// while, since its read-back fails, goes back when it can, or catches up by itself: the others need not wait for it.
static bool waits_for_others(struct insert_partition *partition, struct mono_time now)
{
    if (!insert_partition_has(partition, FEED_WAITING) && !insert_partition_has(partition, FEED_READING)) {
        return false;
    }
    if (partition->ready_since.ns == 0) {
        partition->ready_since = now;
    }
    return !mono_reached(now, mono_add(partition->ready_since, BEGIN_PATIENCE));
}

static bool may_begin(struct insert_partition *partition, struct mono_time now, int64_t *from)
{
    bool wants = !partition->gone && !partition->failed && insert_partition_wants_position(partition, from);
    return wants && (partition->fetching || !waits_for_others(partition, now)); // one that flows goes back at once
}

void insert_flow_begin(struct insert_group *group)
{
    struct mono_time now = insert_group_now(group);
    rd_kafka_topic_partition_list_t *list = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        int64_t from;
        if (!partition->gone) {
            send_far_ones_away(group, partition);
        }
        if (may_begin(partition, now, &from)) {
            list = list ? list : rd_kafka_topic_partition_list_new(16);
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->number)->offset = from == OFFSET_NONE
                ? RD_KAFKA_OFFSET_BEGINNING
                : from;
        } else if (partition->fetching && insert_partition_has(partition, FEED_READY)) {
            int64_t position = partition->position, end = partition->end;
            insert_partition_positioned(partition, position); // it is there already
            partition->end = end;
        }
    }
    if (!list) {
        return;
    }
    struct relay_error error;
    if (kafka_consumer_begin(group->consumer, list, &error)) {
        for (int i = 0; i < list->cnt; i++) {
            struct insert_partition *partition = insert_group_find(group, list->elems[i].topic,
                list->elems[i].partition);
            int64_t from = OFFSET_NONE;
            if (partition) {
                insert_partition_wants_position(partition, &from);
                insert_partition_positioned(partition, from);
                partition->fetching = true;
                partition->held = false;
            }
        }
    } else {
        insert_group_break(group, &error);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

// Back-pressure

// Nobody takes messages of it, or (full) a table that does is full, or the memory.
static bool stands(const struct insert_group *group, const struct insert_partition *partition, bool *full)
{
    bool active = false;
    *full = group->crowded;
    for (size_t i = 0; i < partition->feed_count; i++) {
        const struct insert_feed *feed = &partition->feeds[i];
        if (feed->state == FEED_ACTIVE && !feed->by_reader) {
            active = true;
            *full = *full || insert_table_full(feed->table);
        }
    }
    return !active || *full;
}

// A table that is full while others of its partitions are not reads on by itself.
static void detach_full(struct insert_group *group)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        size_t full = 0, active = 0;
        for (size_t j = 0; !partition->gone && j < partition->feed_count; j++) {
            const struct insert_feed *feed = &partition->feeds[j];
            active += feed->state == FEED_ACTIVE && !feed->by_reader;
            full += feed->state == FEED_ACTIVE && !feed->by_reader && insert_table_full(feed->table);
        }
        for (size_t j = 0; full > 0 && full < active && j < partition->feed_count; j++) {
            struct insert_feed *feed = &partition->feeds[j];
            if (feed->state == FEED_ACTIVE && !feed->by_reader && insert_table_full(feed->table)) {
                insert_catch_up_add(group, feed);
            }
        }
    }
}

// Holds the partitions that stand still (with `full` also those of full tables), or lets those that do not flow again.
static void hold_partitions(struct insert_group *group, bool hold, bool for_full)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        bool full, still = stands(group, partition, &full);
        if (!partition->gone && partition->fetching && partition->held != hold && still == hold &&
            (!hold || for_full || !full)) {
            list = list ? list : rd_kafka_topic_partition_list_new(16);
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->number);
            partition->held = hold;
        }
    }
    if (list) {
        if (hold) {
            kafka_consumer_pause(group->consumer, list);
        } else {
            kafka_consumer_resume(group->consumer, list);
        }
        rd_kafka_topic_partition_list_destroy(list);
    }
}

void insert_flow_hold(struct insert_group *group)
{
    hold_partitions(group, false, false);
    hold_partitions(group, true, false);
}

static bool any_flows(const struct insert_group *group)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone && partition->fetching && !partition->held) {
            return true;
        }
    }
    return false;
}

// true: no message may be taken now.
bool insert_flow_must_wait(struct insert_group *group, struct mono_time now)
{
    if (!group->full && !(group->crowded && any_flows(group))) {
        return false;
    }
    bool full = group->crowded;
    for (size_t i = 0; i < group->table_count; i++) {
        full = full || insert_table_full(group->tables[i]);
    }
    if (!full) {
        group->full = false;
        group->full_since = (struct mono_time){0};
        return false;
    }
    if (group->full_since.ns == 0) {
        group->full_since = now;
    }
    if (!mono_reached(now, mono_add(group->full_since, HOLD_AFTER))) {
        return true;
    }
    detach_full(group);
    hold_partitions(group, true, true);
    group->full = false; // the others go on; held ones give no messages
    group->full_since = (struct mono_time){0};
    return false;
}
