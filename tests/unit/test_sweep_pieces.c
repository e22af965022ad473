// SPDX-License-Identifier: Apache-2.0
//
// No number is left out, wherever the watermark is and whatever the pieces cost.
#include "relay/publish/sweep_pieces.h"

#include <criterion/criterion.h>

#define WANTED DURATION_MS(50)

// What a look through this range costs: a microsecond for each of a million dead rows.
static struct duration cost(int64_t above, int64_t upto, int64_t first_dead)
{
    int64_t first = above >= first_dead ? above + 1 : first_dead;
    int64_t last = upto < first_dead + 999999 ? upto : first_dead + 999999;
    return last < first ? DURATION_US(100) : DURATION_US(last - first + 1);
}

struct round {
    int pieces, too_slow;
};

// A round, in which a piece may take 0.5 s.
static struct round go_round(struct sweep_pieces *pieces, int64_t watermark, int64_t first_dead)
{
    struct round round = {0};
    int64_t covered = INT64_MIN;
    for (bool over = false; !over;) {
        cr_assert_lt(round.pieces + round.too_slow, 1000, "it comes to an end");
        cr_assert_eq(pieces->from, covered, "each number once");
        int64_t end = sweep_pieces_end(pieces, watermark);
        cr_assert(end > covered && end <= watermark);
        struct duration took = cost(covered, end, first_dead);
        if (took.ns > DURATION_MS(500).ns) {
            round.too_slow++;
            cr_assert(sweep_pieces_narrow(pieces, watermark));
            continue;
        }
        round.pieces++;
        covered = end;
        over = sweep_pieces_done(pieces, end, watermark, took, WANTED);
    }
    cr_assert_eq(covered, watermark);
    cr_assert_eq(pieces->from, INT64_MIN, "the next round begins");
    return round;
}

Test(sweep_pieces, an_outbox_without_dead_rows_takes_two)
{
    static const int64_t watermarks[] = {1, 100, 1000000000, INT64_C(1) << 62, INT64_MAX - 2000000};
    for (size_t i = 0; i < sizeof(watermarks) / sizeof(watermarks[0]); i++) {
        struct sweep_pieces pieces;
        sweep_pieces_init(&pieces);
        struct round round = go_round(&pieces, watermarks[i], INT64_MAX - 1000000); // dead ones above it cost nothing
        cr_assert_leq(round.pieces, 2);
        cr_assert_eq(round.too_slow, 0);
    }
}

Test(sweep_pieces, numbers_below_zero_take_one)
{
    struct sweep_pieces pieces;
    sweep_pieces_init(&pieces);
    cr_assert_eq(go_round(&pieces, INT64_MIN + 1, 0).pieces, 1);
    cr_assert_eq(go_round(&pieces, -5, 0).pieces, 1);
    cr_assert_eq(go_round(&pieces, 0, 0).pieces, 1);
}

Test(sweep_pieces, dead_rows_are_looked_through_in_pieces_of_the_wanted_time)
{
    static const int64_t first_dead[] = {1, 500000, 3000000, 100000000, -2000000, INT64_MIN + 5};
    for (size_t i = 0; i < sizeof(first_dead) / sizeof(first_dead[0]); i++) {
        struct sweep_pieces pieces;
        sweep_pieces_init(&pieces);
        struct round round = go_round(&pieces, 200000000, first_dead[i]);
        cr_assert_geq(round.pieces, 1000000 / 2 / 50000);
        for (int again = 0; again < 3; again++) {
            go_round(&pieces, 200000000, first_dead[i]);
        }
    }
}

Test(sweep_pieces, a_piece_that_cannot_be_smaller_says_so)
{
    struct sweep_pieces pieces;
    sweep_pieces_init(&pieces);
    int tries = 0;
    while (sweep_pieces_narrow(&pieces, 1000)) {
        cr_assert_lt(++tries, 100);
    }
    cr_assert_gt(sweep_pieces_end(&pieces, 1000), INT64_MIN, "but it is one all the same");
    pieces.from = 999;
    cr_assert_not(sweep_pieces_narrow(&pieces, 1000));
    cr_assert_eq(sweep_pieces_end(&pieces, 1000), 1000);
}

// A watermark that went back (another table under the name) ends the round.
Test(sweep_pieces, a_watermark_below_the_piece_ends_the_round)
{
    struct sweep_pieces pieces;
    sweep_pieces_init(&pieces);
    pieces.from = 500;
    int64_t end = sweep_pieces_end(&pieces, 100);
    cr_assert(sweep_pieces_done(&pieces, end, 100, WANTED, WANTED));
    cr_assert_eq(pieces.from, INT64_MIN);
}
