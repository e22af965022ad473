// SPDX-License-Identifier: Apache-2.0
//
// What a feed takes of the messages that come, against librdkafka's mock cluster.
#include "encoder_fixture.h"
#include "group_member.h"

#include <criterion/criterion.h>

TestSuite(fault_insert_take, .init = start, .fini = finish);

static void produce(const char *value)
{
    char why[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    cr_assert_eq(rd_kafka_conf_set(conf, "bootstrap.servers", mock.servers.value, why, sizeof(why)), RD_KAFKA_CONF_OK);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    cr_assert_not_null(producer, "%s", why);
    for (const char *at = value; *at; at++) {
        cr_assert_eq(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("posts"), RD_KAFKA_V_PARTITION(0),
                         RD_KAFKA_V_VALUE((void *)(uintptr_t)at, 1), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                         RD_KAFKA_V_END),
            RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    cr_assert_eq(rd_kafka_flush(producer, 20000), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(producer);
}

// The table takes messages now.
static void open_table(void)
{
    static const char *const columns[] = {"value", "String", NULL}, *const pairs[] = {"value", "kafka.value", NULL};
    static struct config_pair room[4];
    struct relay_error error;
    struct config_route its_route = fixture_route(pairs, room);
    table.plan = fixture_plan(columns, "INSERT");
    table.plan->encoder = row_encoder_new(&its_route, table.plan->schema, NULL, &error);
    cr_assert_not_null(table.plan->encoder, "%s", error.text);
    table.limit = (struct insert_limit){.rejected = SIZE_MAX, .slow = SIZE_MAX};
    config.insert.batch_rows = 100;
    config.insert.batch_bytes = 1 << 20;
}

static struct mono_time patience_until;

static void go_on(void)
{
    cr_assert_not(mono_reached(clock_mono(context.clock), patience_until), "nothing comes");
    work_once();
}

// The table may have what lies behind the page that was read back: it is asked before anything of that is taken.
Test(fault_insert_take, messages_behind_a_read_back_that_ends_before_them_are_not_taken)
{
    await_committed();
    struct insert_partition *partition = group.partitions.items[0];
    struct insert_feed *feed = &partition->feeds[0];
    open_table();
    produce("abcde");
    feed->state = FEED_READY;
    feed->next = feed->mark = 0;
    cr_assert(offset_ranges_add(&feed->found, 0, 3));
    feed->found_through = 3;
    patience_until = in_seconds(30);
    while (feed->state != FEED_WAITING && !table.open) {
        go_on();
    }
    cr_assert_null(table.open, "it is inserted unseen");
    cr_assert_eq(feed->state, FEED_WAITING, "the next page is to be read back");
    cr_assert_eq(feed->next, 3);
    cr_assert_eq(feed->mark, 3);

    feed->state = FEED_READY; // the table has no more of it
    patience_until = in_seconds(30);
    while (feed->next < 5) {
        go_on();
    }
    cr_assert_not_null(table.open);
    cr_assert_eq(table.open->rows, 2);
    insert_table_forget(&table, partition);
    insert_group_drain(&group, in_seconds(30));
    batch_memory_free(&table.spare);
    table_plan_release(table.plan);
}
