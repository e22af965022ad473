// SPDX-License-Identifier: Apache-2.0
//
// Happy path: a feed is added, the reader is made, or pointed anew, at the lowest offset that its feeds lack in each
// partition; once a feed has come within reach of the group's consumer it goes back to it; the last one closes the
// reader. Failures: the reader cannot be made or breaks: it is made again at the next turn from where the feeds are. An
// offset that is not in the log stops the tables that lack it, and no others.
#include "relay/insert/insert_catch_up.h"

#include "relay/base/log.h"
#include "relay/insert/insert_expiry.h"
#include "relay/insert/insert_memory.h"
#include "relay/insert/insert_take.h"

// For each feed of the reader.
#define FOR_READER_FEEDS(group, partition, feed)                                                                       \
    for (size_t i_ = 0; i_ < (group)->partitions.count; i_++)                                                          \
        for (struct insert_partition *partition = (group)->partitions.items[i_]; partition; partition = NULL)          \
            for (struct insert_feed *feed = partition->feeds; feed < partition->feeds + partition->feed_count; feed++) \
                if (feed->by_reader && !partition->gone)

void insert_catch_up_add(struct insert_group *group, struct insert_feed *feed)
{
    feed->by_reader = true;
    group->reader_stale = true;
    log_event(LOG_LEVEL_INFO, "insert.catch_up", "a table that is behind the others of a partition reads on by itself",
        LOG_TEXT("table", feed->table->name), LOG_TEXT("topic", feed->partition->topic),
        LOG_INT("partition", feed->partition->number), LOG_INT("from", feed->next),
        LOG_INT("position", feed->partition->position));
}

static void on_end(void *context, const char *topic, int32_t number, int64_t offset)
{
    struct insert_partition *partition = insert_group_find(context, topic, number);
    if (partition) {
        insert_partition_reached_end(partition, offset, true);
    }
}

static void on_trouble(void *context, const struct relay_error *error, bool finished)
{
    struct insert_group *group = context;
    log_event(LOG_LEVEL_WARNING, "insert.catch_up_trouble", NULL, LOG_ERROR(error));
    group->reader_stale = group->reader_stale || finished;
}

struct kafka_consumer_options insert_catch_up_options(const struct config *config)
{
    return (struct kafka_consumer_options){.group_id = config->insert.group_id,
        .memory = config->insert.memory_limit / INSERT_MEMORY_READER_SHARE};
}

static bool open_reader(struct insert_group *group)
{
    struct kafka_consumer_listener listener = {.context = group,
        .message = insert_take_reader_message,
        .partition_end = on_end,
        .partition_failed = insert_expiry_met_by_reader,
        .trouble = on_trouble};
    struct kafka_consumer_options options = insert_catch_up_options(group->context->config);
    struct relay_error error;
    options.wake_fd = group->wake_fd;
    group->reader = kafka_consumer_new(group->context, &options, &listener, &error);
    if (!group->reader) {
        log_event(LOG_LEVEL_WARNING, "insert.catch_up_trouble", NULL, LOG_ERROR(&error));
    }
    return group->reader != NULL;
}

void insert_catch_up_end(struct insert_group *group, struct mono_time deadline)
{
    if (group->reader && !kafka_consumer_close(group->reader, deadline)) {
        group->hangs = true;
    }
    group->reader = NULL;
}

// The partitions of the reader's feeds, each from the lowest offset that one of them lacks.
static rd_kafka_topic_partition_list_t *wanted(struct insert_group *group)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    FOR_READER_FEEDS(group, partition, feed)
    {
        int64_t from = feed->next == OFFSET_NONE ? RD_KAFKA_OFFSET_BEGINNING : feed->next;
        rd_kafka_topic_partition_t *known = rd_kafka_topic_partition_list_find(list, partition->topic,
            partition->number);
        if (!known) {
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->number)->offset = from;
        } else if (from < known->offset) {
            known->offset = from;
        }
    }
    return list;
}

void insert_catch_up_work(struct insert_group *group)
{
    bool any = false;
    FOR_READER_FEEDS(group, partition, feed)
    {
        if (feed->state == FEED_ACTIVE && partition->fetching && feed->next >= partition->position &&
            !insert_table_full(feed->table)) {
            feed->by_reader = false;
            group->reader_stale = true;
            log_event(LOG_LEVEL_INFO, "insert.caught_up", NULL, LOG_TEXT("table", feed->table->name),
                LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number),
                LOG_INT("offset", feed->next));
        } else {
            any = true;
        }
    }
    if (!any) {
        if (group->reader) {
            insert_catch_up_end(group, mono_add(insert_group_now(group), DURATION_S(2)));
        }
        group->reader_stale = false;
        return;
    }
    if (!group->reader_stale) {
        return;
    }
    struct relay_error error;
    rd_kafka_topic_partition_list_t *list = wanted(group);
    if (group->reader || open_reader(group)) {
        if (kafka_consumer_take(group->reader, list, &error)) {
            group->reader_stale = false;
        } else {
            on_trouble(group, &error, true);
            insert_catch_up_end(group, mono_add(insert_group_now(group), DURATION_S(2)));
        }
    }
    rd_kafka_topic_partition_list_destroy(list);
}

bool insert_catch_up_serve(struct insert_group *group, size_t most)
{
    if (!group->reader || group->reader_stale || group->full || group->crowded) {
        return false;
    }
    FOR_READER_FEEDS(group, partition, feed)
    {
        if (insert_table_full(feed->table)) {
            return false;
        }
    }
    return kafka_consumer_serve(group->reader, most, &group->full);
}
