// SPDX-License-Identifier: Apache-2.0
//
// When a batch is full because its note would be: how many partitions one INSERT into a table with views can have, and
// that a note which is not full can always be written.
#include "encoder_fixture.h"
#include "relay/insert/insert_batch.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>

#define PARTITIONS 60

static const char *const topics[] = {"shop.order.events", "a", "shop.payment.events"};
static struct config_route route;
static struct table_plan *plan;
static struct insert_batch *batch;
static struct insert_partition *partitions[PARTITIONS];
static int64_t offsets[PARTITIONS];

static void start(void)
{
    static const char *const columns[] = {"value", "String", NULL}, *const pairs[] = {"value", "kafka.value", NULL};
    static struct config_pair room[4];
    static char table[] = "t";
    struct batch_memory memory = {0};
    struct relay_error error;
    route = fixture_route(pairs, room);
    route.table = table;
    plan = fixture_plan(columns, "INSERT");
    plan->schema->view_count = 1;
    plan->exactly_once = true;
    plan->encoder = row_encoder_new(&route, plan->schema, NULL, &error);
    cr_assert_not_null(plan->encoder, "%s", error.text);
    batch = insert_batch_new(plan, &memory, false, (struct mono_time){0}, &error);
    cr_assert_not_null(batch, "%s", error.text);
}

static void finish(void)
{
    insert_batch_drop(batch);
    insert_batch_free(batch);
    for (size_t i = 0; i < PARTITIONS; i++) {
        insert_partition_free(partitions[i]);
        partitions[i] = NULL;
    }
    plan->schema->view_count = 0;
    table_plan_release(plan);
}

TestSuite(insert_batch, .init = start, .fini = finish);

static void make_partition(size_t i, const char *topic, int64_t offset)
{
    struct relay_error error;
    partitions[i] = insert_partition_new(topic, (int32_t)i, 1, &error);
    cr_assert_not_null(partitions[i], "%s", error.text);
    partitions[i]->feeds[0].state = FEED_ACTIVE;
    partitions[i]->feeds[0].next = partitions[i]->feeds[0].mark = offset;
    offsets[i] = offset;
}

// A row of the partition, `gap` offsets behind the one before it.
static void add(size_t i, int64_t gap)
{
    struct insert_feed *feed = &partitions[i]->feeds[0];
    struct source_message message = {.topic = partitions[i]->topic,
        .partition = partitions[i]->number,
        .offset = offsets[i] + gap,
        .timestamp_ms = -1,
        .value = "x",
        .value_length = 1};
    struct relay_error error;
    bool found;
    offsets[i] = message.offset + 1;
    cr_assert(insert_feed_takes(feed, message.offset, &found));
    cr_assert(insert_batch_add(batch, feed, "t", NULL, &message, &error), "%s", error.text);
}

static void assert_note_is_written(void)
{
    struct relay_error error;
    char long_token[sizeof(batch->job->token)];
    memset(long_token, 't', 90);
    long_token[90] = '\0';
    snprintf(batch->job->token, sizeof(batch->job->token), "%s", long_token);
    char *line = insert_batch_note(batch, &route, 1700000000, &error);
    cr_assert_not_null(line, "%s", error.text);
    struct view_note read;
    cr_assert(view_note_parse(line, &read, &error), "%s", error.text);
    cr_assert_eq(read.run_count, batch->note.run_count);
    view_note_finish(&read);
    free(line);
}

Test(insert_batch, a_note_has_room_for_thirty_partitions_of_a_topic)
{
    for (size_t i = 0; i < 30; i++) {
        make_partition(i, topics[0], 1000000 + (int64_t)i);
        add(i, 0);
        add(i, 0);
        cr_assert_not(insert_batch_note_is_full(batch), "%zu partitions", i + 1);
    }
    assert_note_is_written();
}

Test(insert_batch, topics_that_take_turns_are_named_once)
{
    for (size_t i = 0; i < 24; i++) {
        make_partition(i, topics[i % 2 * 2], 1000000);
        add(i, 0);
        cr_assert_not(insert_batch_note_is_full(batch), "%zu partitions", i + 1);
    }
    assert_note_is_written();
}

Test(insert_batch, a_note_that_is_not_full_takes_any_further_row)
{
    uint64_t random = 1;
    for (size_t i = 0; i < PARTITIONS; i++) {
        make_partition(i, topics[i % 3], (int64_t)(i * 999));
    }
    while (!insert_batch_note_is_full(batch)) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        add((random >> 33) % PARTITIONS, (random >> 50) % 8 == 0 ? INT64_C(1) << (random >> 58) % 50 : 0);
    }
    assert_note_is_written();
}

// One may be made before the table is read again, and refuse the rows.
Test(insert_batch, without_views_there_is_no_note_and_all_that_one_would_name)
{
    struct batch_memory memory = {0};
    struct relay_error error;
    insert_batch_drop(batch);
    insert_batch_free(batch);
    plan->schema->view_count = 0;
    batch = insert_batch_new(plan, &memory, false, (struct mono_time){0}, &error);
    cr_assert_not_null(batch, "%s", error.text);
    for (size_t i = 0; i < PARTITIONS; i++) {
        make_partition(i, topics[0], 1000000);
        add(i, 0);
        add(i, 0);
        cr_assert_not(insert_batch_note_is_full(batch), "no note limits how many partitions it has");
    }
    cr_assert_null(insert_batch_note(batch, &route, 1700000000, &error));
    cr_assert_eq(error.class, RELAY_CLASS_NONE, "%s", error.text);
    cr_assert_null(batch->job->note);
    cr_assert_not_null(batch->job->unnoted);
    cr_assert_eq(batch->job->unnoted->run_count, PARTITIONS);
    cr_assert_eq(batch->job->unnoted->rows, 2 * PARTITIONS);
    cr_assert_eq(batch->job->unnoted->sent, 1700000000);
    while (!insert_batch_note_is_full(batch)) {
        cr_assert_lt(batch->note.run_count, 2000, "its memory has a limit");
        partitions[0]->feeds[0].passed = offsets[0]; // a row of another INSERT lies between
        add(0, 1);
    }
}
