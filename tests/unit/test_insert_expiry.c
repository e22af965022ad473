// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_expiry.h"
#include "resumed_partitions.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct clock_fake fake;
static struct relay_context context;
static struct insert_group group;
static struct insert_partition *items[2];
static struct insert_table tables[2] = {{.name = "first"}, {.name = "second"}};

static int64_t ends[2]; // of the logs; -1: the broker does not say
static int asked;

// Instead of the real ones: the brokers, as the consumer finds them.
bool kafka_consumer_ask_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition,
    struct duration timeout, int64_t *low, int64_t *high, struct relay_error *error)
{
    (void)consumer;
    (void)topic;
    (void)timeout;
    asked++;
    *low = 0;
    *high = ends[partition];
    return ends[partition] >= 0 || error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE, "no answer");
}

bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t *low,
    int64_t *high)
{
    (void)consumer;
    (void)topic;
    (void)partition;
    (void)low;
    (void)high;
    return false;
}

bool kafka_consumer_answered(struct kafka_consumer *consumer, struct duration timeout)
{
    (void)consumer;
    (void)timeout;
    return true;
}

const struct rd_kafka_metadata *kafka_consumer_all_topics(struct kafka_consumer *consumer, struct duration timeout)
{
    (void)consumer;
    (void)timeout;
    return NULL;
}

// Two partitions with two tables each, which have the offsets 40 to 49 and have been asked.
static void start(void)
{
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    context = (struct relay_context){.clock = &fake.base, .board = status_board_new(&fake.base, NULL)};
    cr_assert_not_null(context.board);
    group = (struct insert_group){.context = &context};
    group.partitions = (struct insert_partitions){.items = items, .count = 2, .room = 2};
    for (int i = 0; i < 2; i++) {
        items[i] = insert_partition_new("posts", i, 2, NULL);
        cr_assert_not_null(items[i]);
        for (int j = 0; j < 2; j++) {
            struct insert_feed *feed = &items[i]->feeds[j];
            feed->table = &tables[j];
            feed->state = FEED_DOUBTED;
            feed->next = feed->mark = 40;
            feed->highest = 49;
        }
        ends[i] = 1000;
    }
    asked = 0;
}

static void end(void)
{
    for (int i = 0; i < 2; i++) {
        insert_partition_free(items[i]);
    }
    status_board_free(context.board);
}

static void compare(void)
{
    insert_expiry_compare(&group, clock_mono(&fake.base));
}

static void compare_for(int seconds)
{
    for (int i = 0; i < seconds; i++) {
        clock_fake_advance(&fake, DURATION_S(1));
        compare();
    }
}

TestSuite(insert_expiry, .init = start, .fini = end);

Test(insert_expiry, a_log_that_has_what_its_tables_have_is_theirs)
{
    ends[0] = 50;
    compare();
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(items[i]->feeds[0].state, FEED_READY);
        cr_assert_eq(items[i]->feeds[1].state, FEED_READY);
        cr_assert(items[i]->feeds[0].compared && !items[i]->failed);
    }
    cr_assert_eq(asked, 2);
    compare();
    cr_assert_eq(asked, 2, "once");
}

Test(insert_expiry, a_log_that_ends_before_what_a_table_has_is_another_one_and_its_partition_stands_still)
{
    ends[0] = 49;
    items[0]->feeds[1].highest = 48;
    compare();
    compare_for(14);
    cr_assert_eq(items[0]->feeds[0].state, FEED_DOUBTED, "a broker may answer that is not the leader any more");
    cr_assert_eq(items[0]->feeds[1].state, FEED_READY);
    cr_assert_eq(asked, 4, "every five seconds");
    compare_for(1);
    cr_assert(items[0]->failed && !items[1]->failed);
    cr_assert_eq(items[0]->feeds[0].state, FEED_LOST);
    cr_assert_eq(items[0]->lost_at, 49);
    cr_assert_eq(items[1]->feeds[0].state, FEED_READY, "the other partitions go on");
    size_t count = 0;
    struct status_entry *entries = status_board_entries(context.board, &count);
    cr_assert_eq(count, 1);
    cr_assert(entries->waiting, "for somebody");
    cr_assert_not_null(strstr(entries->reason, "posts [0]: offset 49 is not in Kafka's log"), "%s", entries->reason);
    free(entries);
}

Test(insert_expiry, an_answer_of_a_leader_that_was_deposed_stops_nothing)
{
    ends[0] = 45;
    compare();
    compare_for(10);
    ends[0] = 50;
    compare_for(5);
    cr_assert(!items[0]->failed);
    cr_assert_eq(items[0]->feeds[0].state, FEED_READY);
    // One more time counts from its own beginning.
    items[0]->feeds[0].state = FEED_DOUBTED;
    ends[0] = 45;
    compare_for(14);
    cr_assert_eq(items[0]->feeds[0].state, FEED_DOUBTED);
}

Test(insert_expiry, a_broker_that_does_not_say_where_a_log_ends_is_asked_again_and_the_tables_wait)
{
    ends[0] = -1;
    compare();
    compare();
    cr_assert_eq(asked, 1, "three seconds may be lost with each question");
    cr_assert_eq(items[0]->feeds[0].state, FEED_DOUBTED);
    clock_fake_advance(&fake, DURATION_S(5));
    compare();
    cr_assert_eq(items[1]->feeds[0].state, FEED_READY, "the other one has its turn first");
    cr_assert_eq(items[0]->feeds[0].state, FEED_DOUBTED);
    ends[0] = 50;
    clock_fake_advance(&fake, DURATION_S(5));
    compare();
    cr_assert_eq(items[0]->feeds[0].state, FEED_READY);
}

Test(insert_expiry, partitions_that_are_gone_are_not_asked_for)
{
    items[0]->gone = items[1]->gone = true;
    compare();
    cr_assert_eq(asked, 0);
}
