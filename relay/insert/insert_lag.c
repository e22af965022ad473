// SPDX-License-Identifier: Apache-2.0
//
// Happy path: librdkafka learns a log's end with the messages that it fetches, and with the end itself. An end that is
// given to us is the first open transaction's beginning: what waits behind that counts, too.
// - A partition stands still, since a table is paused or full, or since the server has been away from the start:
//   nothing is fetched, and what librdkafka knows is as old as that, or nothing. The broker is asked, every 10 s. The
//   same where the partition cannot be read, or gives nothing (insert_silence.h).
// - It flows again: what was asked for counts until the first messages tell more.
//   It tells the open transaction's beginning, too; what was fetched before then had waited behind that counts on.
// - The broker does not answer: the sum is unknown, unless an end was told before. Unknown is not "none". A broker that
//   leaves a partition silent mostly answers nothing else either, while others go on: it is asked no more for 10 s.
#include "relay/insert/insert_lag.h"

#define ASK_EVERY DURATION_S(10)
#define ASK_LIMIT DURATION_MS(500)
#define ASK_SPAN  DURATION_MS(50)

static bool flows(const struct insert_partition *partition)
{
    return partition->fetching && !partition->held && partition->troubled_at.ns == 0 && !partition->silent;
}

// The one that was not asked for longest, so that each has its turn, however slowly the broker answers. NULL: none is
// due.
static struct insert_partition *most_overdue(const struct insert_group *group, struct mono_time now)
{
    struct insert_partition *found = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        bool due = !partition->gone && mono_reached(now, mono_add(partition->asked_at, ASK_EVERY)) &&
            (!partition->silent || mono_reached(now, group->silent_ask_at));
        if (due && flows(partition)) {
            partition->asked_end = OFFSET_NONE;
        } else if (due && (!found || mono_before(partition->asked_at, found->asked_at))) {
            found = partition;
        }
    }
    return found;
}

static void ask_ends(struct insert_group *group, struct mono_time now)
{
    struct mono_time until = mono_add(now, ASK_SPAN);
    struct insert_partition *partition;
    while (!mono_reached(insert_group_now(group), until) && (partition = most_overdue(group, now)) != NULL) {
        struct relay_error error; // whoever needs the broker tells that it is away
        int64_t low, high;
        partition->asked_at = now;
        if (!kafka_consumer_ask_watermarks(group->consumer, partition->topic, partition->number, ASK_LIMIT, &low, &high,
                &error)) {
            group->silent_ask_at = partition->silent ? mono_add(now, ASK_EVERY) : group->silent_ask_at;
            return;
        }
        partition->asked_end = high;
    }
}

// OFFSET_NONE: not known.
static int64_t end_of(const struct insert_group *group, const struct insert_partition *partition)
{
    bool flowing = flows(partition);
    int64_t low, high, end = flowing && partition->end > partition->asked_end ? partition->end : partition->asked_end;
    if (!flowing && end == OFFSET_NONE) {
        return end; // what was fetched is of any age
    }
    bool known = kafka_consumer_watermarks(group->consumer, partition->topic, partition->number, &low, &high);
    return known && high > end ? high : end;
}

// Nobody else takes the shared gauge away: each of those that share it only knows of itself.
static void tell_shared(struct insert_group *group, struct metric_series *gauge, int64_t sum)
{
    if (gauge) {
        metric_set(gauge, (double)sum);
    } else if (group->shared_lag) {
        metrics_retire(group->context->metrics, group->shared_lag);
    }
    group->shared_lag = gauge;
}

void insert_lag_tell(struct insert_group *group, struct mono_time now)
{
    int64_t total = 0, shared_total = 0;
    struct metric_series *shared = NULL;
    bool unknown = !group->assigned;
    ask_ends(group, now);
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        if (partition->gone) {
            continue;
        }
        bool own = !metric_is_shared(partition->lag);
        shared = own ? shared : partition->lag;
        int64_t end = end_of(group, partition), done = insert_partition_low(partition);
        if (end == OFFSET_NONE) {
            unknown = true;
            continue;
        }
        int64_t lag = done == OFFSET_NONE ? end : end - done;
        lag = lag > 0 ? lag : 0;
        total += lag;
        if (own) {
            metric_set(partition->lag, (double)lag);
        } else {
            shared_total += lag;
        }
    }
    tell_shared(group, shared, shared_total);
    atomic_store(&group->lag, unknown ? -1 : total);
}

void insert_lag_end(struct insert_group *group, struct insert_partition *partition)
{
    if (!metric_is_shared(partition->lag)) {
        metrics_retire(group->context->metrics, partition->lag);
    }
    partition->lag = NULL;
}
