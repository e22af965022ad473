// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_take.h"

#include "relay/insert/insert_health.h"
#include "relay/insert/insert_memory.h"
#include "relay/insert/insert_silence.h"

#include <stdlib.h>
#include <string.h>

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

static void note_read(struct insert_partition *partition)
{
    partition->troubled_at = (struct mono_time){0};
    partition->refused = partition->silent = false;
    partition->heard = true;
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
        insert_partition_gives(partition, message->offset);
        partition->position = message->offset + 1;
        partition->end = OFFSET_NONE;
        partition->open = false;
        note_read(partition);
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

void insert_take_message(void *context, const rd_kafka_message_t *message)
{
    take_message(context, message, false);
}

void insert_take_reader_message(void *context, const rd_kafka_message_t *message)
{
    take_message(context, message, true);
}

void insert_take_end(void *context, const char *topic, int32_t number, int64_t offset)
{
    struct insert_group *group = context;
    struct insert_partition *partition = insert_group_find(group, topic, number);
    if (partition && partition->fetching) {
        insert_silence_end(group, partition, offset);
        insert_partition_reached_end(partition, offset, false);
        note_read(partition);
        insert_health_tell(group, STATUS_OK, "");
    }
}
