// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_partition.h"

#include "relay/base/log.h"
#include "relay/insert/insert_table.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct insert_partition *insert_partition_new(const char *topic, int32_t number, size_t feeds,
    struct relay_error *error)
{
    struct insert_partition *partition = calloc(1, sizeof(*partition));
    if (partition) {
        partition->topic = strdup(topic);
        partition->feeds = calloc(feeds ? feeds : 1, sizeof(*partition->feeds));
    }
    if (!partition || !partition->topic || !partition->feeds) {
        insert_partition_free(partition);
        error_no_memory(error, "taking a partition");
        return NULL;
    }
    partition->number = number;
    partition->feed_count = feeds;
    partition->position = partition->committed = partition->beginning = OFFSET_NONE;
    partition->end = partition->asked_end = OFFSET_NONE;
    for (size_t i = 0; i < feeds; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        feed->partition = partition;
        feed->next = feed->mark = feed->copied = feed->passed = OFFSET_NONE;
        for (size_t j = 0; j < FEED_REFUSALS; j++) {
            feed->refusals[j].offset = OFFSET_NONE;
        }
        feed->found_through = INT64_MAX;
    }
    return partition;
}

void insert_partition_free(struct insert_partition *partition)
{
    if (!partition) {
        return;
    }
    for (size_t i = 0; partition->feeds && i < partition->feed_count; i++) {
        offset_ranges_finish(&partition->feeds[i].found);
        free(partition->feeds[i].owed);
    }
    free(partition->feeds);
    free(partition->topic);
    free(partition);
}

int64_t insert_feed_done(const struct insert_feed *feed)
{
    return feed->pending == 0 && feed->state == FEED_ACTIVE ? feed->next : feed->mark;
}

int64_t insert_partition_low(const struct insert_partition *partition)
{
    int64_t low = INT64_MAX;
    for (size_t i = 0; i < partition->feed_count; i++) {
        int64_t done = insert_feed_done(&partition->feeds[i]);
        low = done < low ? done : low; // OFFSET_NONE is the lowest of all
    }
    return partition->feed_count > 0 ? low : OFFSET_NONE;
}

void insert_feed_rewind(struct insert_feed *feed)
{
    feed->mark = insert_feed_done(feed);
    feed->next = feed->mark;
    feed->generation++;
    feed->state = FEED_WAITING;
    feed->by_reader = false;
    feed->passed = OFFSET_NONE;
    offset_ranges_finish(&feed->found);
    feed->found_through = INT64_MAX;
}

void insert_feed_pending(struct insert_feed *feed, int64_t offset)
{
    if (feed->pending++ == 0 && feed->mark < offset) {
        feed->mark = offset; // everything before it is stored, or is no message
    }
}

void insert_feed_stored(struct insert_feed *feed, int64_t after)
{
    assert(feed->pending > 0);
    feed->pending--;
    if (after > feed->mark) {
        feed->mark = after;
    }
}

void insert_feed_dropped(struct insert_feed *feed)
{
    assert(feed->pending > 0);
    feed->pending--;
}

bool insert_feed_takes(struct insert_feed *feed, int64_t offset, bool *found)
{
    *found = false;
    if (feed->state != FEED_ACTIVE || offset < feed->next) {
        return false;
    }
    if (feed->next == OFFSET_NONE) {
        feed->mark = offset; // the log begins here
    }
    *found = feed->found.count > 0 && offset_ranges_contain(&feed->found, offset);
    feed->passed = *found ? offset : feed->passed;
    feed->next = offset + 1;
    if (feed->found.count > 0 && feed->next >= offset_ranges_after(&feed->found)) {
        offset_ranges_finish(&feed->found); // passed
    }
    return !*found;
}

void insert_feed_give_back(struct insert_feed *feed, int64_t offset)
{
    if (feed->state == FEED_ACTIVE) {
        feed->next = offset;
        insert_feed_rewind(feed);
    }
}

const struct feed_refusal *insert_feed_refusal(const struct insert_feed *feed, int64_t offset)
{
    for (size_t i = 0; i < FEED_REFUSALS; i++) {
        if (feed->refusals[i].offset == offset) {
            return &feed->refusals[i];
        }
    }
    return NULL;
}

void insert_feed_refuse(struct insert_feed *feed, int64_t offset, int code, const char *text)
{
    if (offset == OFFSET_NONE || insert_feed_refusal(feed, offset)) {
        return;
    }
    struct feed_refusal *refusal = &feed->refusals[feed->next_refusal++ % FEED_REFUSALS];
    refusal->offset = offset;
    refusal->code = code;
    snprintf(refusal->text, sizeof(refusal->text), "ClickHouse code %d: %.270s", code, text);
}

void insert_partition_gives(struct insert_partition *partition, int64_t offset)
{
    if (partition->position == OFFSET_NONE && partition->beginning == OFFSET_NONE) {
        partition->beginning = offset;
    }
}

void insert_partition_reached_end(struct insert_partition *partition, int64_t end, bool by_reader)
{
    if (!by_reader) {
        insert_partition_gives(partition, end);
        partition->end = end;
        partition->position = partition->position < end ? end : partition->position;
    }
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        if (feed->state == FEED_ACTIVE && feed->by_reader == by_reader && feed->next < end) {
            if (feed->next == OFFSET_NONE) {
                feed->mark = end;
            }
            feed->next = end;
        }
    }
}

bool insert_partition_wants_position(const struct insert_partition *partition, int64_t *from)
{
    bool ready = false, elsewhere = false;
    int64_t lowest = INT64_MAX;
    for (size_t i = 0; i < partition->feed_count; i++) {
        const struct insert_feed *feed = &partition->feeds[i];
        if (feed->by_reader) {
            continue;
        }
        if (feed->state == FEED_READY) {
            ready = true;
            elsewhere = elsewhere || feed->next < partition->position;
            lowest = feed->next < lowest ? feed->next : lowest;
        } else if (feed->state == FEED_ACTIVE) {
            lowest = feed->next < lowest ? feed->next : lowest;
        }
    }
    *from = lowest;
    return ready && (elsewhere || !partition->fetching);
}

void insert_partition_positioned(struct insert_partition *partition, int64_t from)
{
    partition->position = from;
    partition->end = OFFSET_NONE;
    for (size_t i = 0; i < partition->feed_count; i++) {
        if (partition->feeds[i].state == FEED_READY) {
            partition->feeds[i].state = FEED_ACTIVE;
        }
    }
}

struct feed_holes insert_feed_holes(const struct insert_feed *feed, int64_t first)
{
    struct feed_holes holes = {.first = OFFSET_NONE};
    int64_t at = feed->next;
    for (size_t i = 0; i < feed->found.count && at < first; i++) {
        const struct offset_range *range = &feed->found.items[i];
        int64_t end = range->first < first ? range->first : first;
        if (end > at) {
            holes.first = holes.count++ == 0 ? at : holes.first;
            holes.offsets += end - at;
            holes.longest = holes.longest < end - at ? end - at : holes.longest;
        }
        at = at < range->after ? range->after : at;
    }
    return holes;
}

// Offsets below `first` that the table was never given, as far as it tells: the ends of transactions have one each, and
// what was aborted or compacted has some. So has a message of a batch that was stored in part when its sender died for
// long.
static void tell_holes(const struct insert_feed *feed, int64_t first)
{
    struct feed_holes holes = insert_feed_holes(feed, first);
    if (holes.count > 0) {
        log_event(holes.longest > 1 ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "insert.expired_holes",
            "Kafka no longer has offsets that the table lacks; those of messages, if any are, are lost",
            LOG_TEXT("table", feed->table ? feed->table->name : ""), LOG_TEXT("topic", feed->partition->topic),
            LOG_INT("partition", feed->partition->number), LOG_INT("first", holes.first), LOG_INT("to", first - 1),
            LOG_INT("holes", holes.count), LOG_INT("offsets", holes.offsets), LOG_INT("longest", holes.longest));
    }
}

bool insert_feed_has_expired(struct insert_feed *feed, int64_t first)
{
    // A table takes a partition in order: with a row or dead letter from there on, it has had what came before, but
    // for a batch of which only a part was stored. A page that ends before what is found does so at such a row, or with
    // one above.
    bool more = feed->found_through < INT64_MAX;
    if (offset_ranges_after(&feed->found) >= first || (more && feed->found_through >= first)) {
        tell_holes(feed, first);
        insert_feed_skip(feed, first);
        return true;
    }
    if (more && feed->pending == 0) {
        tell_holes(feed, feed->found_through);
        insert_feed_skip(feed, feed->found_through);
        insert_feed_rewind(feed);
        return true;
    }
    return false;
}

void insert_feed_skip(struct insert_feed *feed, int64_t first)
{
    feed->next = feed->next < first ? first : feed->next;
    if (feed->pending == 0 && feed->mark < first) {
        feed->mark = first;
    }
}

void insert_partition_stopped(struct insert_partition *partition)
{
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        feed->state = feed->state == FEED_ACTIVE && !feed->by_reader ? FEED_READY : feed->state;
    }
    partition->fetching = false;
}

void insert_partition_pin_beginning(struct insert_partition *partition)
{
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        if (feed->state == FEED_PAUSED && feed->mark == OFFSET_NONE) {
            feed->next = feed->mark = partition->beginning;
        }
    }
}

bool insert_partition_has(const struct insert_partition *partition, enum feed_state state)
{
    for (size_t i = 0; i < partition->feed_count; i++) {
        if (partition->feeds[i].state == state) {
            return true;
        }
    }
    return false;
}
