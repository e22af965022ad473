// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_partition.h"

#include <criterion/criterion.h>

static struct insert_partition *two_feeds(int64_t committed)
{
    struct insert_partition *partition = insert_partition_new("t", 3, 2, NULL);
    cr_assert_not_null(partition);
    partition->committed_known = true;
    partition->committed = committed;
    for (size_t i = 0; i < 2; i++) {
        partition->feeds[i].state = FEED_READY;
        partition->feeds[i].next = partition->feeds[i].mark = committed;
    }
    return partition;
}

static bool takes(struct insert_feed *feed, int64_t offset)
{
    bool found;
    return insert_feed_takes(feed, offset, &found);
}

static void begin(struct insert_partition *partition)
{
    int64_t from;
    cr_assert(insert_partition_wants_position(partition, &from));
    insert_partition_positioned(partition, from);
    partition->fetching = true;
}

Test(insert_partition, low_is_the_lowest_mark_and_never_passes_what_is_under_way)
{
    struct insert_partition *partition = two_feeds(100);
    struct insert_feed *a = &partition->feeds[0], *b = &partition->feeds[1];
    begin(partition);
    cr_assert_eq(insert_partition_low(partition), 100);
    cr_assert(takes(a, 100) && takes(b, 100));
    insert_feed_pending(a, 100);
    insert_feed_pending(b, 100);
    cr_assert(takes(a, 101) && takes(b, 101));
    cr_assert_eq(insert_partition_low(partition), 100);
    insert_feed_stored(a, 102);
    cr_assert_eq(insert_feed_done(a), 102);
    cr_assert_eq(insert_partition_low(partition), 100);
    insert_feed_stored(b, 102);
    cr_assert_eq(insert_partition_low(partition), 102);
    insert_partition_free(partition);
}

Test(insert_partition, a_batch_that_begins_after_passed_over_messages_does_not_pull_the_mark_back)
{
    struct insert_partition *partition = two_feeds(100);
    struct insert_feed *a = &partition->feeds[0];
    begin(partition);
    partition->feed_count = 1;
    insert_partition_reached_end(partition, 150, false); // markers
    cr_assert_eq(insert_partition_low(partition), 150);
    cr_assert(takes(a, 170));
    insert_feed_pending(a, 170);
    cr_assert_eq(insert_partition_low(partition), 170);
    partition->feed_count = 2;
    insert_partition_free(partition);
}

Test(insert_partition, what_the_table_has_is_passed_over_exactly)
{
    struct insert_partition *partition = two_feeds(10);
    struct insert_feed *a = &partition->feeds[0];
    cr_assert(offset_ranges_add(&a->found, 10, 12) && offset_ranges_add(&a->found, 14, 15));
    begin(partition);
    bool found;
    cr_assert_not(insert_feed_takes(a, 10, &found));
    cr_assert(found);
    cr_assert_not(takes(a, 11));
    cr_assert(takes(a, 12));
    cr_assert(takes(a, 13));
    cr_assert_not(takes(a, 14));
    cr_assert(takes(a, 15));
    cr_assert_not(takes(a, 15), "taken already");
    insert_partition_free(partition);
}

Test(insert_partition, a_rewind_with_batches_under_way_goes_to_the_mark_not_to_what_was_taken)
{
    struct insert_partition *partition = two_feeds(0);
    struct insert_feed *a = &partition->feeds[0];
    begin(partition);
    for (int64_t offset = 0; offset < 10; offset++) {
        cr_assert(takes(a, offset));
    }
    insert_feed_pending(a, 0); // the flight: 0 to 4
    insert_feed_pending(a, 5); // the open batch
    insert_feed_rewind(a);
    insert_feed_dropped(a);
    insert_feed_dropped(a);
    cr_assert_eq(a->next, 0);
    cr_assert_eq(insert_feed_done(a), 0);
    cr_assert_eq(a->state, FEED_WAITING);
    cr_assert_eq(insert_partition_low(partition), 0);
    insert_partition_free(partition);
}

Test(insert_partition, a_paused_feed_keeps_the_low_mark_and_takes_nothing)
{
    struct insert_partition *partition = two_feeds(100);
    struct insert_feed *a = &partition->feeds[0], *b = &partition->feeds[1];
    begin(partition);
    insert_feed_rewind(b);
    b->state = FEED_PAUSED;
    cr_assert(takes(a, 100));
    cr_assert_not(takes(b, 100));
    insert_partition_reached_end(partition, 500, false);
    cr_assert_eq(insert_feed_done(a), 500);
    cr_assert_eq(insert_partition_low(partition), 100);
    int64_t from;
    b->state = FEED_READY; // healed and read back
    cr_assert(insert_partition_wants_position(partition, &from));
    cr_assert_eq(from, 100);
    insert_partition_positioned(partition, from);
    cr_assert_not(takes(a, 200), "it has come further");
    cr_assert(takes(b, 200));
    insert_partition_free(partition);
}

Test(insert_partition, nothing_committed_and_nothing_stored_begins_at_the_logs_beginning)
{
    struct insert_partition *partition = two_feeds(OFFSET_NONE);
    int64_t from = 0;
    cr_assert(insert_partition_wants_position(partition, &from));
    cr_assert_eq(from, OFFSET_NONE);
    begin(partition);
    cr_assert_eq(insert_partition_low(partition), OFFSET_NONE, "nothing to commit before the log was seen");
    cr_assert(takes(&partition->feeds[0], 1000));
    insert_feed_pending(&partition->feeds[0], 1000);
    cr_assert_eq(insert_partition_low(partition), OFFSET_NONE);
    cr_assert(takes(&partition->feeds[1], 1000));
    insert_feed_pending(&partition->feeds[1], 1000);
    cr_assert_eq(insert_partition_low(partition), 1000);
    insert_partition_free(partition);
}

Test(insert_partition, an_end_of_the_reader_moves_only_its_feeds)
{
    struct insert_partition *partition = two_feeds(0);
    begin(partition);
    partition->feeds[1].by_reader = true;
    insert_partition_reached_end(partition, 50, false);
    cr_assert_eq(partition->feeds[0].next, 50);
    cr_assert_eq(partition->feeds[1].next, 0);
    insert_partition_reached_end(partition, 70, true);
    cr_assert_eq(partition->feeds[1].next, 70);
    cr_assert_eq(partition->position, 50);
    insert_partition_free(partition);
}

Test(insert_partition, a_message_that_found_no_memory_is_neither_passed_over_nor_committed)
{
    struct insert_partition *partition = two_feeds(100);
    struct insert_feed *a = &partition->feeds[0];
    begin(partition);
    partition->feed_count = 1;
    cr_assert(takes(a, 100));
    insert_feed_give_back(a, 100); // nothing is pending
    cr_assert_eq(insert_partition_low(partition), 100);
    cr_assert_eq(a->state, FEED_WAITING);
    cr_assert_eq(a->next, 100);
    a->state = FEED_ACTIVE;
    cr_assert(takes(a, 100));
    insert_feed_pending(a, 100);
    cr_assert(takes(a, 101));
    insert_feed_give_back(a, 101); // one batch is
    cr_assert_eq(insert_partition_low(partition), 100);
    insert_feed_stored(a, 101);
    cr_assert_eq(insert_partition_low(partition), 101);
    insert_partition_free(partition);
}

Test(insert_partition, a_refusal_does_not_push_out_the_one_before_it)
{
    struct insert_partition *partition = two_feeds(100);
    struct insert_feed *a = &partition->feeds[0];
    cr_assert_null(insert_feed_refusal(a, 100));
    insert_feed_refuse(a, 100, 469, "first");
    insert_feed_refuse(a, 101, 470, "second");
    cr_assert_eq(insert_feed_refusal(a, 100)->code, 469);
    cr_assert_str_eq(insert_feed_refusal(a, 101)->text, "ClickHouse code 470: second");
    insert_partition_free(partition);
}

Test(insert_partition, a_table_that_has_what_expired_goes_on_where_the_log_begins)
{
    struct insert_partition *partition = two_feeds(0);
    struct insert_feed *a = &partition->feeds[0], *b = &partition->feeds[1];
    cr_assert(offset_ranges_add(&a->found, 0, 90) && offset_ranges_add(&a->found, 95, 200));
    begin(partition);
    struct feed_holes holes = insert_feed_holes(a, 100);
    cr_assert_eq(holes.count, 1);
    cr_assert_eq(holes.first, 90);
    cr_assert_eq(holes.longest, 5);
    cr_assert(insert_feed_has_expired(a, 100));
    cr_assert_eq(a->next, 100);
    cr_assert_eq(a->mark, 100);
    cr_assert(a->found.count > 0); // what it has is still passed over
    cr_assert_not(insert_feed_has_expired(b, 100));
    cr_assert_eq(b->mark, 0);
    b->state = FEED_LOST;
    insert_partition_stopped(partition);
    cr_assert_eq(a->state, FEED_READY);
    cr_assert_eq(insert_partition_low(partition), 0); // the one that stands still keeps its place
    begin(partition);
    cr_assert_eq(partition->position, 100);
    cr_assert_eq(a->state, FEED_ACTIVE);
    insert_feed_skip(b, 100);
    cr_assert_eq(insert_partition_low(partition), 100);
    insert_partition_free(partition);
}

Test(insert_partition, what_a_table_lacks_of_what_expired_is_counted)
{
    struct insert_partition *partition = two_feeds(0);
    struct insert_feed *a = &partition->feeds[0];
    cr_assert(offset_ranges_add(&a->found, 10, 20) && offset_ranges_add(&a->found, 21, 30) &&
        offset_ranges_add(&a->found, 50, 60));
    begin(partition);
    struct feed_holes holes = insert_feed_holes(a, 45); // in the middle of a hole
    cr_assert_eq(holes.count, 3);
    cr_assert_eq(holes.first, 0);
    cr_assert_eq(holes.offsets, 10 + 1 + 15);
    cr_assert_eq(holes.longest, 15);
    a->next = 12; // it was read up to there
    holes = insert_feed_holes(a, 25);
    cr_assert_eq(holes.count, 1);
    cr_assert_eq(holes.first, 20);
    cr_assert_eq(holes.longest, 1);
    holes = insert_feed_holes(a, 20);
    cr_assert_eq(holes.count, 0);
    insert_partition_free(partition);
}

// A page up to 90, with or without rows, where the log begins at 100.
static void expect_the_next_page(bool rows)
{
    struct insert_partition *partition = two_feeds(0);
    struct insert_feed *a = &partition->feeds[0];
    cr_assert(!rows || offset_ranges_add(&a->found, 0, 90));
    a->found_through = 90;
    begin(partition);
    cr_assert(insert_feed_has_expired(a, 100));
    cr_assert_eq(a->state, FEED_WAITING);
    cr_assert_eq(a->mark, 90);
    insert_partition_free(partition);
}

Test(insert_partition, a_page_that_ends_before_the_log_begins_is_followed_by_the_next)
{
    expect_the_next_page(true);
    expect_the_next_page(false);
}

Test(insert_partition, a_page_that_ends_behind_where_the_log_begins_tells_that_the_table_has_more)
{
    struct insert_partition *partition = two_feeds(0);
    struct insert_feed *a = &partition->feeds[0];
    cr_assert(offset_ranges_add(&a->found, 0, 90));
    a->found_through = 200;
    begin(partition);
    cr_assert(insert_feed_has_expired(a, 100));
    cr_assert_eq(a->state, FEED_ACTIVE);
    cr_assert_eq(a->next, 100, "nothing that the log has is passed over");
    cr_assert_eq(a->mark, 100);
    insert_partition_free(partition);
}
