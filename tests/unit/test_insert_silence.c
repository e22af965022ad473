// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_silence.h"
#include "resumed_partitions.h"

#include <criterion/criterion.h>
#include <string.h>

static struct clock_fake fake;
static struct relay_context context;
static struct insert_group group;
static struct insert_partition calm, other, *items[] = {&calm, &other};

static int64_t fetched_end; // the log's, as the answers to fetches have it; 0: none came

bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t *low,
    int64_t *high)
{
    (void)consumer;
    (void)topic;
    (void)partition;
    *low = 0;
    *high = fetched_end;
    return fetched_end > 0;
}

static void start(void)
{
    static char topic[] = "shop.orders";
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    context = (struct relay_context){.clock = &fake.base};
    group = (struct insert_group){.context = &context, .partitions = {.items = items, .count = 2}};
    calm = (struct insert_partition){.topic = topic, .fetching = true};
    other = (struct insert_partition){.topic = topic, .number = 1, .fetching = true};
    calm.end = OFFSET_NONE;
    resumed = 0;
    fetched_end = 0;
}

TestSuite(insert_silence, .init = start);

// The other one gives something each second. emptied: what had come is taken.
static void pass(struct duration time, bool emptied)
{
    for (int64_t second = 0; second < time.ns / DURATION_S(1).ns; second++) {
        clock_fake_advance(&fake, DURATION_S(1));
        other.heard = true;
        group.emptied_at = emptied ? clock_mono(&fake.base) : group.emptied_at;
        insert_silence_work(&group, clock_mono(&fake.base));
    }
}

Test(insert_silence, a_partition_is_silent_that_gives_nothing_when_it_begins_anew)
{
    pass(DURATION_S(30), true);
    cr_assert_eq(resumed, 0);
    pass(DURATION_S(1), true);
    cr_assert_eq(resumed, 1);
    cr_assert_not(calm.silent, "it may have reached its end before");
    pass(DURATION_S(30), true);
    cr_assert(calm.silent);
    cr_assert_not(other.silent);
    cr_assert_str_eq(calm.trouble, "it gives neither messages nor its end");
    pass(DURATION_S(90), true);
    cr_assert(calm.silent);
    cr_assert_eq(resumed, 1, "it may be reading a long range of aborted transactions");
    calm.heard = true;
    pass(DURATION_S(31), true);
    cr_assert_not(calm.silent);
}

Test(insert_silence, a_partition_that_says_its_end_again_is_calm)
{
    for (int i = 0; i < 5; i++) {
        pass(DURATION_S(31), true);
        cr_assert_eq(resumed, i + 1);
        calm.heard = true;
        pass(DURATION_S(1), true);
        cr_assert_not(calm.silent);
    }
}

// A message of it may be what waits.
Test(insert_silence, a_partition_is_not_judged_while_messages_wait_for_us)
{
    pass(DURATION_S(1), true);
    pass(DURATION_S(600), false);
    cr_assert_eq(resumed, 0);
    cr_assert_not(calm.silent);
    pass(DURATION_S(1), true);
    cr_assert_eq(resumed, 1);
    pass(DURATION_S(600), false);
    cr_assert_not(calm.silent);
}

Test(insert_silence, a_partition_that_is_stopped_otherwise_is_not_judged)
{
    bool *why[] = {&calm.gone, &calm.failed, &calm.refused};
    for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++) {
        pass(DURATION_S(62), true);
        cr_assert(calm.silent);
        *why[i] = true;
        resumed = 0;
        pass(DURATION_S(120), true);
        cr_assert_not(calm.silent);
        cr_assert_eq(resumed, 0);
        *why[i] = false;
    }
}

// In a backlog partitions are held whenever a table is full.
Test(insert_silence, time_in_which_a_partition_cannot_flow_does_not_count_and_changes_nothing)
{
    bool *why[] = {&calm.held, &group.health.unreachable};
    for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++) {
        resumed = 0;
        for (int second = 0; second < 60; second++) {
            cr_assert_not(calm.silent);
            cr_assert_eq(resumed, second >= 30);
            *why[i] = true;
            pass(DURATION_S(3), true);
            *why[i] = false;
            pass(DURATION_S(1), true);
        }
        cr_assert(calm.silent);
        *why[i] = true;
        pass(DURATION_S(120), true);
        cr_assert(calm.silent, "told until it gives something");
        *why[i] = false;
        pass(DURATION_S(1), true);
        cr_assert(calm.silent);
        calm.heard = true;
        pass(DURATION_S(1), true);
        cr_assert_not(calm.silent);
    }
}

Test(insert_silence, a_recent_trouble_with_a_broker_is_said_with_it)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "b:9092/2: 1 request(s) timed out");
    error.detail = RD_KAFKA_RESP_ERR__TIMED_OUT;
    pass(DURATION_S(20), true);
    insert_silence_trouble(&group, &error);
    error.detail = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; // said by itself
    strcpy(error.text, "no");
    insert_silence_trouble(&group, &error);
    pass(DURATION_S(42), true);
    cr_assert_str_eq(calm.trouble, "it gives neither messages nor its end; b:9092/2: 1 request(s) timed out");
    calm.refused = true;
    pass(DURATION_S(120), true);
    calm.refused = false;
    pass(DURATION_S(62), true);
    cr_assert_str_eq(calm.trouble, "it gives neither messages nor its end", "that was another one");
}

static void give_end(int64_t end)
{
    insert_silence_end(&group, &calm, end);
    calm.end = end;
    calm.heard = true;
}

static void give_end_again(int times, int64_t end)
{
    for (int i = 0; i < times; i++) {
        pass(DURATION_S(31), true);
        give_end(end);
    }
}

Test(insert_silence, a_transaction_that_stays_open_is_said_until_the_end_moves)
{
    fetched_end = 40;
    give_end(12);
    give_end_again(1, 12);
    cr_assert_not(calm.open, "it may be one of ours");
    give_end_again(1, 12);
    cr_assert(calm.open);
    cr_assert_str_eq(calm.trouble,
        "a transaction has been open at offset 12 for more than a minute, and what is behind it waits; "
        "kafka-transactions.sh tells whose it is");
    give_end_again(3, 12);
    cr_assert(calm.open);
    give_end_again(1, 20);
    cr_assert_not(calm.open, "the next one");
    give_end_again(2, 20);
    cr_assert(calm.open);
    give_end_again(1, 40);
    cr_assert_not(calm.open);
}

Test(insert_silence, ends_at_which_no_transaction_is_open_are_calm)
{
    give_end_again(4, 12); // no fetch told the log's end
    cr_assert_not(calm.open);
    fetched_end = 12;
    give_end_again(4, 12);
    cr_assert_not(calm.open);
    for (int64_t end = 13; end < 18; end++) { // behind each end the next transaction has begun
        fetched_end = end + 1;
        give_end_again(1, end);
        cr_assert_not(calm.open);
    }
}

Test(insert_silence, an_open_transaction_is_not_said_of_a_partition_that_is_stopped)
{
    fetched_end = 40;
    give_end(12);
    give_end_again(2, 12);
    cr_assert(calm.open);
    calm.fetching = false;
    pass(DURATION_S(1), true);
    cr_assert_not(calm.open);
}
