// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/seq_holes.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct seq_holders *holders;
static struct seq_holes *holes;

static struct mono_time at(int seconds)
{
    return (struct mono_time){DURATION_S(1000 + seconds).ns};
}

static void set_up(void)
{
    holders = seq_holders_new(NULL);
    holes = seq_holes_new(0, 64, NULL);
}

static void tear_down(void)
{
    seq_holders_free(holders);
    seq_holes_free(holes);
}

TestSuite(seq_holes, .init = set_up, .fini = tear_down);

#define SAW(...) SAW_AT(0, __VA_ARGS__)
#define SAW_AT(seconds, ...)                                                                                           \
    seq_holes_saw(holes, (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), at(seconds))
#define FOUND(...)                                                                                                     \
    seq_holes_looked_up(holes, (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), INT64_MAX)
#define FOUND_NOTHING() seq_holes_looked_up(holes, NULL, 0, INT64_MAX)
#define LISTED(...)     list((uint64_t[]){0, __VA_ARGS__}, sizeof((uint64_t[]){0, __VA_ARGS__}) / sizeof(uint64_t) - 1)

static void list(const uint64_t *with_zero, size_t count)
{
    cr_assert(seq_holders_listed(holders, with_zero + 1, count, NULL));
    seq_holes_listed(holes, holders);
}

// "1-4 6-9"
static void expect(const char *expected)
{
    char text[512] = "";
    const struct seq_range *ranges;
    size_t count = seq_holes_ask(holes, &ranges);
    for (size_t i = 0; i < count; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%lld-%lld", i ? " " : "",
            (long long)ranges[i].first, (long long)ranges[i].last);
    }
    cr_assert_str_eq(text, expected);
}

Test(seq_holes, gaps_become_holes_and_the_watermark_moves)
{
    SAW(5, 6, 10);
    expect("1-4 7-9");
    cr_assert_eq(seq_holes_watermark(holes), 10);
    SAW(11, 12);
    seq_holes_saw(holes, NULL, 0, at(0));
    SAW(12, 12);
    expect("1-4 7-9");
    cr_assert_eq(seq_holes_watermark(holes), 12);
    seq_holes_reset(holes, 50);
    SAW(51);
    expect("");
}

Test(seq_holes, found_numbers_are_taken_out)
{
    SAW(11);
    LISTED(7);
    expect("1-10");
    FOUND(1, 5, 6, 10);
    expect("2-4 7-9");
    FOUND(3, 3, 8, 100);
    expect("2-2 4-4 7-7 9-9");
    FOUND(2, 4, 7, 9);
    expect("");
}

Test(seq_holes, roll_backs_are_over_in_the_batch_that_saw_them)
{
    SAW(5, 7);
    cr_assert(seq_holes_wants_listing(holes));
    LISTED();
    cr_assert_not(seq_holes_wants_listing(holes));
    expect("1-4 6-6");
    FOUND(3);
    expect("");
}

Test(seq_holes, a_hole_stays_while_one_of_its_first_transactions_does)
{
    SAW(2);
    LISTED(70, 71, 72);
    expect("1-1");
    FOUND_NOTHING();
    LISTED(71, 72, 80); // 80 came later: it cannot fill number 1
    expect("1-1");
    FOUND_NOTHING();
    SAW(4);
    LISTED(72, 80);
    expect("1-1 3-3");
    FOUND_NOTHING();
    LISTED(80); // 72 is gone; number 3 may be 80's
    expect("1-1 3-3");
    FOUND_NOTHING();
    expect("3-3");
    LISTED(90);
    expect("3-3");
    FOUND_NOTHING();
    expect("");
}

static uint64_t holder(const char *text)
{
    uint64_t id;
    struct relay_error error;
    cr_assert(seq_holder_parse(text, &id, &error), "%s", error.text);
    return id;
}

Test(seq_holes, names_of_transactions)
{
    cr_assert_eq(holder("3/4711"), (uint64_t)3 << 32 | 4711);
    cr_assert_eq(holder("-1/815"), (uint64_t)UINT32_MAX << 32 | 815);
    cr_assert_neq(holder("1/23"), holder("12/3"));
    cr_assert_eq(holder("4294967294/4294967295"), 0xFFFFFFFEFFFFFFFF);
    static const char *const bad[] = {"", "/", "3", "3/", "/3", "3/4 ", " 3/4", "-2/4", "-1", "3/4/5", "4294967295/1",
        "3/4294967296", "99999999999999999999999/1", "x/1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t id;
        struct relay_error error;
        cr_assert_not(seq_holder_parse(bad[i], &id, &error), "%s", bad[i]);
        cr_assert_eq(error.code, RELAY_ERROR_PROTOCOL);
    }
}

Test(seq_holes, a_prepared_transaction_is_the_one_that_it_was)
{
    SAW(2);
    LISTED(holder("3/1"), holder("4/1"));
    SAW(4);
    LISTED(holder("3/1"), holder("4/1"), holder("5/1"));
    expect("1-1 3-3");
    FOUND_NOTHING();
    LISTED(holder("4/1"), holder("-1/815")); // 3/1 or 5/1 was prepared, the other one has ended
    expect("1-1 3-3");
    FOUND_NOTHING();
    LISTED(holder("-1/815"));
    expect("1-1 3-3");
    FOUND_NOTHING();
    expect("1-1 3-3");
    LISTED(holder("-1/816")); // begun and prepared since? it may have been 3/1 all the same
    expect("1-1 3-3");
    FOUND_NOTHING();
    LISTED();
    expect("1-1 3-3");
    FOUND_NOTHING();
    expect("");
}

Test(seq_holes, prepared_transactions_that_share_a_name)
{
    SAW(2);
    LISTED(holder("3/1"));
    expect("1-1");
    FOUND_NOTHING();
    LISTED(holder("3/1"), holder("-1/0")); // some other one
    expect("1-1");
    FOUND_NOTHING();
    LISTED(holder("-1/0")); // that one committed, and 3/1 was prepared
    expect("1-1");
    FOUND_NOTHING();
    expect("1-1");
    LISTED();
    expect("1-1");
    FOUND_NOTHING();
    expect("");
}

Test(seq_holes, a_look_up_from_before_the_last_listing_forgets_nothing)
{
    SAW(2);
    LISTED(7);
    expect("1-1"); // asked while 7 lives
    LISTED();      // 7 has committed between the look-up and this listing
    FOUND_NOTHING();
    expect("1-1"); // so one more look-up
    FOUND_NOTHING();
    expect("");
}

Test(seq_holes, a_hole_without_a_listing_is_not_forgotten)
{
    SAW(2);
    expect("1-1");
    FOUND_NOTHING();
    expect("1-1");
    LISTED();
    SAW(5);
    cr_assert(seq_holes_wants_listing(holes));
    expect("1-1 3-4");
    FOUND_NOTHING();
    expect("3-4");
}

Test(seq_holes, a_look_up_cut_by_its_limit_forgets_as_far_as_it_came)
{
    SAW(10, 20, 30);
    LISTED();
    expect("1-9 11-19 21-29");
    seq_holes_looked_up(holes, (int64_t[]){3, 15}, 2, 15);
    expect("16-19 21-29");
    FOUND_NOTHING();
    expect("");
}

Test(seq_holes, a_batch_that_rolls_back_leaves_nothing)
{
    struct seq_holes *before = seq_holes_new(0, 64, NULL);
    SAW(5);
    LISTED(1);
    expect("1-4");
    FOUND_NOTHING();
    seq_holes_copy(before, holes);
    SAW(9, 20);
    FOUND(1, 2, 3, 7);
    LISTED();
    FOUND_NOTHING();
    seq_holes_copy(holes, before);
    cr_assert_eq(seq_holes_watermark(holes), 5);
    LISTED();
    expect("1-4"); // what the listings have found out stays true
    FOUND(2);
    expect("");
    seq_holes_free(before);
}

static int64_t age_at(int seconds)
{
    return seq_holes_age(holes, at(seconds)).ns / DURATION_S(1).ns;
}

Test(seq_holes, the_age_is_that_of_the_oldest_range_that_is_left)
{
    SAW_AT(0, 1, 2);
    cr_assert_eq(age_at(100), 0, "no holes");
    SAW_AT(10, 5);
    SAW_AT(20, 8, 9);
    cr_assert_eq(age_at(100), 90);
    LISTED(7);
    FOUND(3);
    cr_assert_eq(age_at(100), 90, "4 is still open");
    FOUND(4);
    cr_assert_eq(age_at(100), 80);
    FOUND(6, 7);
    cr_assert_eq(age_at(100), 0);
}

// A transaction that stays open, while the others' roll-backs leave more holes than are kept apart.
Test(seq_holes, ranges_that_are_merged_are_as_old_as_the_oldest_of_them)
{
    LISTED(5);
    for (int second = 1; second <= 1000; second++) {
        SAW_AT(second, 2 * (int64_t)second);
        LISTED(5, 1000 + (uint64_t)second);
    }
    cr_assert_eq(age_at(1000), 999);
    LISTED(3000); // it has ended
    const struct seq_range *ranges;
    seq_holes_ask(holes, &ranges);
    FOUND_NOTHING();
    cr_assert_eq(age_at(1000), 0);
}

Test(seq_holes, many_holes_are_covered_by_fewer_ranges)
{
    for (int64_t seq = 2; seq <= 200000;
         seq += 2) { // each second number rolled back, while one old transaction is open
        seq_holes_saw(holes, &seq, 1, at(0));
        if (seq % 1000 == 0) {
            LISTED(5, (uint64_t)seq);
        }
        cr_assert_leq(seq_holes_ranges(holes), 64);
    }
    const struct seq_range *ranges;
    size_t count = seq_holes_ask(holes, &ranges);
    size_t range = 0;
    for (int64_t seq = 1; seq < 200000; seq += 2) {
        while (range < count && ranges[range].last < seq) {
            range++;
        }
        cr_assert(range < count && ranges[range].first <= seq, "%lld is not covered", (long long)seq);
    }
    LISTED(200001); // the old one is gone
    seq_holes_ask(holes, &ranges);
    FOUND_NOTHING();
    expect("");
}

Test(seq_holes, the_nearest_are_merged_first)
{
    struct seq_holes *few = seq_holes_new(0, 16, NULL);
    int64_t seqs[] = {11, 13, 15, 17, 1000, 1002, 2000, 2002, 3000, 3002, 4000, 4002, 5000, 5002, 6000, 6002, 7000};
    for (size_t i = 0; i < sizeof(seqs) / sizeof(seqs[0]); i++) {
        seq_holes_saw(few, &seqs[i], 1, at(0));
    }
    const struct seq_range *ranges;
    size_t count = seq_holes_ask(few, &ranges);
    cr_assert_leq(count, 16);
    cr_assert_eq(ranges[count - 1].last, 6999);
    cr_assert_leq(ranges[0].first, 1);
    seq_holes_free(few);
}

Test(seq_holes, a_merged_hole_is_as_young_as_its_youngest_part)
{
    struct seq_holes *few = seq_holes_new(0, 16, NULL);
    int64_t seqs[16];
    for (int64_t i = 0; i < 16; i++) {
        seqs[i] = 2 * (i + 1);
    }
    seq_holes_saw(few, seqs, 2, at(0));
    cr_assert(seq_holders_listed(holders, NULL, 0, NULL));
    seq_holes_listed(few, holders); // the first two are over, the others not
    seq_holes_saw(few, seqs + 2, 14, at(0));
    const struct seq_range *ranges;
    cr_assert_eq(seq_holes_ask(few, &ranges), 16);
    int64_t next = 40;
    seq_holes_saw(few, &next, 1, at(0)); // merges from the left, as all are equally near
    seq_holes_looked_up(few, NULL, 0, INT64_MAX);
    seq_holes_ask(few, &ranges);
    cr_assert(ranges[0].first == 1 && ranges[0].last == 9, "%lld", (long long)ranges[0].last);
    seq_holes_looked_up(few, NULL, 0, INT64_MAX);
    cr_assert_eq(seq_holes_ask(few, &ranges), 13, "numbers 5, 7 and 9 have never been listed");
    cr_assert(seq_holes_wants_listing(few));
    seq_holes_free(few);
}

Test(seq_holes, a_look_up_that_nobody_asked_for_forgets_nothing)
{
    SAW(10, 20);
    LISTED();
    expect("1-9 11-19");
    seq_holes_looked_up(holes, (int64_t[]){5}, 1, 5);
    seq_holes_looked_up(holes, (int64_t[]){7}, 1, INT64_MAX); // a sweep
    expect("6-6 8-9 11-19");
    FOUND_NOTHING();
    expect("");
}

Test(seq_holes, without_room_a_found_number_stays_covered)
{
    struct seq_holes *few = seq_holes_new(0, 16, NULL);
    int64_t seqs[16];
    for (int64_t i = 0; i < 16; i++) {
        seqs[i] = (i + 1) * 100;
    }
    seq_holes_saw(few, seqs, 16, at(0)); // 16 ranges: full
    seq_holes_looked_up(few, (int64_t[]){50, 101, 150, 199, 1599}, 5, INT64_MAX);
    const struct seq_range *ranges;
    cr_assert_eq(seq_holes_ask(few, &ranges), 16);
    cr_assert(ranges[0].first == 1 && ranges[0].last == 99);
    cr_assert(ranges[1].first == 102 && ranges[1].last == 198);
    cr_assert(ranges[15].first == 1501 && ranges[15].last == 1598);
    seq_holes_free(few);
}

Test(seq_holes, a_merged_range_covers_what_was_read_between_two_holes)
{
    cr_assert_not(seq_holes_covers(holes, 1));
    SAW(3, 4, 8);
    const int64_t covered[] = {1, 2, 5, 6, 7}, others[] = {INT64_MIN, 0, 3, 4, 8, 9, INT64_MAX};
    for (size_t i = 0; i < sizeof(covered) / sizeof(covered[0]); i++) {
        cr_assert(seq_holes_covers(holes, covered[i]), "%lld", (long long)covered[i]);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        cr_assert_not(seq_holes_covers(holes, others[i]), "%lld", (long long)others[i]);
    }
    for (int64_t seq = 10; seq <= 200; seq += 2) { // more holes than are kept apart
        SAW(seq);
    }
    cr_assert(seq_holes_covers(holes, 10), "which was read");
    cr_assert_not(seq_holes_covers(holes, 200));
}

Test(seq_holes, numbers_at_the_ends)
{
    seq_holes_reset(holes, INT64_MIN);
    SAW(INT64_MIN + 1, INT64_MAX);
    const struct seq_range *ranges;
    cr_assert_eq(seq_holes_ask(holes, &ranges), 1);
    cr_assert(ranges[0].first == INT64_MIN + 2 && ranges[0].last == INT64_MAX - 1);
    FOUND(INT64_MIN + 2, 0, INT64_MAX - 1);
    cr_assert_eq(seq_holes_ask(holes, &ranges), 2);
}

// A model of the table: transactions draw numbers, commit or roll back in any order; batches read, look up, sometimes
// roll back. Every committed row must come out once, and when all is quiet nothing may be left.
struct model_row {
    int transaction; // who drew the number
    bool committed, taken;
};
#define ROWS 4000
static struct model_row rows[ROWS + 1];
static int64_t drawn;
static uint64_t open_transactions[200]; // 0: not open; else a number that no other one has
static uint64_t begun;
static bool quiet; // nobody writes any more
static bool old_server;
static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void writers_go_on(void)
{
    for (uint64_t i = quiet ? 0 : next_random() % 20; i > 0; i--) {
        int transaction = (int)(next_random() % 200);
        bool prepared = open_transactions[transaction] >> 32 == UINT32_MAX;
        if (!prepared && (!open_transactions[transaction] || next_random() % 3)) {
            open_transactions[transaction] = open_transactions[transaction] ? open_transactions[transaction] : ++begun;
            if (drawn < ROWS) {
                rows[++drawn] = (struct model_row){.transaction = transaction};
            }
            continue;
        }
        if (next_random() % 4 == 0) { // prepared first: another name, and all of them one on old servers
            open_transactions[transaction] = (uint64_t)UINT32_MAX << 32 | (old_server ? 0 : ++begun);
            continue;
        }
        bool commit = next_random() % 2;
        for (int64_t seq = 1; seq <= drawn; seq++) {
            if (rows[seq].transaction == transaction) {
                rows[seq].transaction = -1;
                rows[seq].committed = commit;
            }
        }
        open_transactions[transaction] = 0;
    }
}

static size_t take(int64_t first, int64_t last, int64_t *out, size_t room)
{
    size_t count = 0;
    for (int64_t seq = first; seq <= last && seq <= drawn && count < room; seq++) {
        if (rows[seq].committed && !rows[seq].taken) {
            rows[seq].taken = true;
            out[count++] = seq;
        }
    }
    return count;
}

static void one_batch(struct seq_holes *before, size_t room)
{
    int64_t new_rows[64], late[64];
    uint64_t list_of[200];
    seq_holes_copy(before, holes);
    size_t new_count = take(seq_holes_watermark(holes) + 1, INT64_MAX, new_rows, room), late_count = 0, listed = 0;
    seq_holes_saw(holes, new_rows, new_count, at(0));
    writers_go_on();
    if (seq_holes_wants_listing(holes)) {
        for (int i = 0; i < 200; i++) {
            if (open_transactions[i]) {
                list_of[listed++] = open_transactions[i];
            }
        }
        cr_assert(seq_holders_listed(holders, list_of, listed, NULL));
        seq_holes_listed(holes, holders);
    }
    writers_go_on();
    const struct seq_range *ranges;
    size_t count = seq_holes_ask(holes, &ranges);
    for (size_t i = 0; i < count && late_count < room; i++) {
        late_count += take(ranges[i].first, ranges[i].last, late + late_count, room - late_count);
    }
    seq_holes_looked_up(holes, late, late_count, late_count == room ? late[late_count - 1] : INT64_MAX);
    if (next_random() % 5 == 0) {
        for (size_t i = 0; i < new_count; i++) {
            rows[new_rows[i]].taken = false;
        }
        for (size_t i = 0; i < late_count; i++) {
            rows[late[i]].taken = false;
        }
        seq_holes_copy(holes, before);
    }
}

Test(seq_holes, a_model_of_writers_and_batches_misses_nothing)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        state = seed * 0x9e3779b97f4a7c15;
        old_server = seed % 2;
        memset(open_transactions, 0, sizeof(open_transactions));
        drawn = 0;
        seq_holders_free(holders);
        seq_holes_free(holes);
        holders = seq_holders_new(NULL);
        size_t limit = seed % 3 ? 256 : 16;
        holes = seq_holes_new(0, limit, NULL);
        struct seq_holes *before = seq_holes_new(0, limit, NULL);
        for (int i = 0; i < 300; i++) {
            writers_go_on();
            one_batch(before, 8 + seed % 57);
        }
        memset(open_transactions, 0, sizeof(open_transactions)); // everybody else commits or rolls back ...
        for (int64_t seq = 1; seq <= drawn; seq++) {
            if (rows[seq].transaction >= 0) {
                rows[seq] = (struct model_row){.transaction = -1, .committed = seq % 2};
            }
        }
        quiet = true;
        for (int i = 0; i < 600; i++) {
            one_batch(before, 64);
        }
        quiet = false;
        for (int64_t seq = 1; seq <= drawn; seq++) {
            cr_assert_eq(rows[seq].taken, rows[seq].committed, "seed %llu: %lld was missed", (unsigned long long)seed,
                (long long)seq);
        }
        cr_assert_eq(seq_holes_ranges(holes), 0, "seed %llu: %zu ranges left", (unsigned long long)seed,
            seq_holes_ranges(holes));
        seq_holes_free(before);
    }
}
