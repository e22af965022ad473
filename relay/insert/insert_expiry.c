// SPDX-License-Identifier: Apache-2.0
//
// Happy path: a table has offsets behind the committed one, and the log ends behind them.
// - It ends before them: the topic was made anew, or is that of another cluster, or the brokers have lost its end. New
//   messages get offsets that the table has, and would be passed over as stored: the partition stands still. A log that
//   has outgrown the old one by then is not recognised. It has to last: a broker that has lost the partition without
//   knowing it yet gives the end of its own, older log.
// - The broker does not say where it ends: asked again, and the tables wait.
// - An offset that a table lacks is not in the log any more: Kafka expired messages, or the topic is another one. Each
//   table judges for itself: it has had them, it may go on behind them, or it stands still.
#include "relay/insert/insert_expiry.h"

#include "relay/base/log.h"
#include "relay/insert/insert_health.h"
#include "relay/kafka/kafka_error.h"

#define COMPARE_LIMIT DURATION_MS(500) // the thread that takes all messages waits
#define COMPARE_SPAN  DURATION_MS(50)
#define COMPARE_PAUSE DURATION_S(5) // after no answer, which holds the others up; of a partition whose log is short
#define SHORT_LASTS   DURATION_S(15)
#define LOST                                                                                                           \
    "messages are lost, or the topic is another one; the tables of the partition that lack them stand still (see "     \
    "[insert] on_lost_messages)"

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

static void tell_lost(struct insert_group *group, struct insert_partition *partition, int64_t from, const char *what,
    const struct relay_error *error)
{
    partition->lost_at = from;
    insert_health_stands(group);
    log_event(LOG_LEVEL_ERROR, "insert.offset_not_in_log", what, LOG_TEXT("topic", partition->topic),
        LOG_INT("partition", partition->number), LOG_INT("offset", from), LOG_ERROR(error));
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
        tell_lost(group, partition, expiry.lowest, LOST, error);
    } else if (expiry.any_lost) {
        tell_lost(group, partition, expiry.from, LOST, error);
    } else if (expiry.from != INT64_MAX) {
        count_lost(group, partition, &expiry);
    }
    if (by_reader) {
        group->reader_stale = true;
    } else if (!partition->failed) {
        insert_partition_stopped(partition);
    }
}

// The one that was not asked for longest, so that each has its turn. NULL: none.
static struct insert_partition *doubted_partition(const struct insert_group *group)
{
    struct mono_time now = insert_group_now(group);
    struct insert_partition *found = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        bool due = partition->short_since.ns == 0 || mono_reached(now, mono_add(partition->compared_at, COMPARE_PAUSE));
        if (due && !partition->gone && !partition->failed && insert_partition_has(partition, FEED_DOUBTED) &&
            (!found || mono_before(partition->compared_at, found->compared_at))) {
            found = partition;
        }
    }
    return found;
}

// Nothing of a partition that stands still is committed: with an offset of the new log nothing would tell it from the
// old one.
static void compare_feeds(struct insert_group *group, struct insert_partition *partition, int64_t end)
{
    bool lasts = partition->short_since.ns != 0 &&
        mono_reached(partition->compared_at, mono_add(partition->short_since, SHORT_LASTS));
    bool ends_short = false;
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        struct relay_error error;
        if (feed->state != FEED_DOUBTED) {
            continue;
        }
        feed->compared = feed->highest < end;
        ends_short = ends_short || !feed->compared;
        feed->state = feed->compared ? FEED_READY : lasts ? FEED_LOST : FEED_DOUBTED;
        if (feed->state == FEED_LOST && !partition->failed) {
            partition->failed = true;
            kafka_error_set(&error, RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
                "table %.80s has it, and the log ends at %lld", feed->table->name, (long long)end);
            tell_lost(group, partition, feed->highest,
                "the topic was made anew, or is that of another Kafka: the partition stands still, or its messages "
                "would be taken for stored (runbooks.md, A topic was deleted)",
                &error);
        }
    }
    if (!ends_short) {
        partition->short_since = (struct mono_time){0};
    } else if (partition->short_since.ns == 0) {
        partition->short_since = partition->compared_at;
    }
}

void insert_expiry_compare(struct insert_group *group, struct mono_time now)
{
    struct mono_time until = mono_add(now, COMPARE_SPAN);
    struct insert_partition *partition;
    while (mono_reached(now, group->compare_at) && !mono_reached(insert_group_now(group), until) &&
        (partition = doubted_partition(group)) != NULL) {
        struct relay_error error;
        int64_t low, high;
        partition->compared_at = insert_group_now(group);
        if (!kafka_consumer_ask_watermarks(group->consumer, partition->topic, partition->number, COMPARE_LIMIT, &low,
                &high, &error)) {
            group->compare_at = mono_add(insert_group_now(group), COMPARE_PAUSE);
            log_event(LOG_LEVEL_WARNING, "insert.no_end", "where the log ends is not known yet; the partition waits",
                LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number), LOG_ERROR(&error));
            return;
        }
        compare_feeds(group, partition, high);
    }
}

void insert_expiry_met(void *context, const char *topic, int32_t number, const struct relay_error *error)
{
    struct insert_partition *partition = insert_group_find(context, topic, number);
    if (partition && partition->fetching && !partition->failed) {
        offset_not_in_log(context, partition, false, error);
    }
}

void insert_expiry_met_by_reader(void *context, const char *topic, int32_t number, const struct relay_error *error)
{
    struct insert_partition *partition = insert_group_find(context, topic, number);
    if (partition) {
        offset_not_in_log(context, partition, true, error);
    }
}
