// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_flow.h"

#include "relay/insert/insert_catch_up.h"

#define HOLD_AFTER     DURATION_MS(200) // a table that is full for longer has its partitions held
#define BEGIN_PATIENCE DURATION_S(2)
#define FAR_BEHIND     50000 // messages: nearer ones go back together with the others

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
    if (!insert_partition_has(partition, FEED_WAITING) && !insert_partition_has(partition, FEED_READING) &&
        !insert_partition_has(partition, FEED_DOUBTED)) {
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
            insert_group_list(&list, partition)->offset = from == OFFSET_NONE ? RD_KAFKA_OFFSET_BEGINNING : from;
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

// Nobody takes messages of it, or (full) a table that does is full, or the memory. One that is being asked whether it
// gives anything (insert_silence.h) gives nothing that would have to wait.
static bool stands(const struct insert_group *group, const struct insert_partition *partition, bool *full)
{
    bool active = false, asked = partition->asked_again && !partition->heard;
    *full = group->crowded;
    for (size_t i = 0; i < partition->feed_count; i++) {
        const struct insert_feed *feed = &partition->feeds[i];
        if (feed->state == FEED_ACTIVE && !feed->by_reader) {
            active = true;
            *full = *full || insert_table_full(feed->table);
        }
    }
    *full = *full && !asked;
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
            insert_group_list(&list, partition);
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
