// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_lag.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTITIONS (METRICS_SERIES_MAX + 2)

static struct clock_fake fake;
static struct relay_context context;
static struct insert_group group;
static struct insert_partition *items[PARTITIONS];

static bool broker_answers;
static int asked;
static int64_t broker_end;  // told by the broker where it is asked
static int64_t fetched_end; // of partition 5, as the answers to fetches have it; 0: none came

// Instead of the real one: a broker that tells the same end of all.
bool kafka_consumer_ask_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition,
    struct duration timeout, int64_t *low, int64_t *high, struct relay_error *error)
{
    (void)consumer;
    (void)topic;
    (void)partition;
    (void)timeout;
    (void)error;
    *low = 0;
    *high = broker_end;
    asked++;
    return broker_answers;
}

bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t *low,
    int64_t *high)
{
    (void)consumer;
    (void)topic;
    *low = 0;
    *high = fetched_end;
    return partition == 5 && fetched_end > 0;
}

// Each has been read up to its end, and stored but for as many messages as its number says.
static void start(void)
{
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    broker_end = 12000;
    context = (struct relay_context){.clock = &fake.base, .metrics = metrics_new(NULL)};
    cr_assert_not_null(context.metrics);
    group = (struct insert_group){.context = &context, .assigned = true};
    group.partitions = (struct insert_partitions){.items = items, .count = PARTITIONS, .room = PARTITIONS};
    for (int i = 0; i < PARTITIONS; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", i);
        items[i] = insert_partition_new("t", i, 1, NULL);
        cr_assert_not_null(items[i]);
        items[i]->asked_at = clock_mono(&fake.base);
        items[i]->fetching = true;
        items[i]->end = 10000;
        items[i]->feeds[0].state = FEED_ACTIVE;
        items[i]->feeds[0].next = 10000 - i;
        items[i]->lag = metrics_series2(context.metrics, METRIC_CONSUMER_LAG, "t", number);
    }
}

static void end(void)
{
    for (int i = 0; i < PARTITIONS; i++) {
        insert_partition_free(items[i]);
    }
    metrics_free(context.metrics);
}

struct shown {
    double sum, other; // other: -1: it is not shown
};

static void add(void *context_of, const char *const *values, double value)
{
    struct shown *shown = context_of;
    shown->sum += value;
    shown->other = strcmp(values[0], "other") == 0 ? value : shown->other;
}

static struct shown tell(void)
{
    struct shown shown = {.other = -1};
    insert_lag_tell(&group, clock_mono(&fake.base));
    metrics_each(context.metrics, METRIC_CONSUMER_LAG, add, &shown);
    return shown;
}

static void let_go(int number)
{
    items[number]->gone = true;
    insert_lag_end(&group, items[number]);
}

TestSuite(insert_lag, .init = start, .fini = end);

Test(insert_lag, partitions_beyond_the_limit_of_series_share_one_with_their_sum)
{
    struct shown all = tell();
    cr_assert_eq(all.other, 2000 + 2001);
    cr_assert_eq(all.sum, 2001.0 * 2002 / 2);
    cr_assert_eq(atomic_load(&group.lag), (int64_t)all.sum);
    let_go(2001);
    cr_assert_eq(tell().other, 2000, "the other one of the two is shown as before");
    let_go(2000);
    struct shown rest = tell();
    cr_assert_eq(rest.other, -1, "nobody shares it any more");
    cr_assert_eq(rest.sum, 1999.0 * 2000 / 2);
}

// The end that was reached says nothing of what came since.
Test(insert_lag, a_partition_that_gives_nothing_is_asked_for_and_unknown_without_an_answer)
{
    items[3]->silent = items[4]->silent = true;
    clock_fake_advance(&fake, DURATION_S(20));
    tell();
    cr_assert_eq(atomic_load(&group.lag), -1);
    cr_assert_eq(asked, 1, "others wait while a broker does not answer");
    clock_fake_advance(&fake, DURATION_S(1));
    tell();
    cr_assert_eq(asked, 1);
    broker_answers = true;
    clock_fake_advance(&fake, DURATION_S(10));
    struct shown known = tell();
    cr_assert_eq(asked, 3);
    cr_assert_eq(known.sum, 2001.0 * 2002 / 2 + 2 * 2000);
    cr_assert_eq(atomic_load(&group.lag), (int64_t)known.sum);
    items[3]->silent = items[4]->silent = false;
    clock_fake_advance(&fake, DURATION_S(10));
    cr_assert_eq(tell().sum, 2001.0 * 2002 / 2);
    cr_assert_eq(asked, 3);
}

// What is published behind an open transaction is read by nobody, and waits all the same.
Test(insert_lag, what_waits_behind_an_open_transaction_counts)
{
    double before = tell().sum;
    fetched_end = 10700;
    cr_assert_eq(tell().sum, before + 700);
    cr_assert_eq(atomic_load(&group.lag), (int64_t)before + 700);
    fetched_end = 9000; // older than the end that was given
    cr_assert_eq(tell().sum, before);
}

// The end that the broker tells of a partition that stands still is the open transaction's beginning, too.
Test(insert_lag, what_waits_behind_an_open_transaction_counts_while_the_partition_stands_still)
{
    double before = tell().sum;
    broker_answers = true;
    broker_end = 10000;
    fetched_end = 10700;
    items[5]->held = true;
    clock_fake_advance(&fake, DURATION_S(20));
    cr_assert_eq(tell().sum, before + 700);
    cr_assert_eq(asked, 1);
    broker_end = 11000; // newer than what was fetched
    clock_fake_advance(&fake, DURATION_S(20));
    cr_assert_eq(tell().sum, before + 1000);
}
