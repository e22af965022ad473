// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_verdicts.h"

#include <criterion/criterion.h>
#include <string.h>

Test(publish_verdicts, a_second_verdict_on_a_row_replaces_the_first)
{
    struct publish_verdicts verdicts = {0};
    struct publish_verdict verdict = {.seq = 7, .action = VERDICT_DEAD_LETTER, .code = "bad_topic"};
    cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    verdict.action = VERDICT_HOLD;
    cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    verdict.seq = 8;
    cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    cr_assert_eq(verdicts.count, 2);
    cr_assert_eq(verdicts.items[0].action, VERDICT_HOLD);
    publish_verdicts_clear(&verdicts);
    cr_assert_eq(verdicts.count, 0);
    publish_verdicts_finish(&verdicts);
}

Test(publish_verdicts, suspects_go_alone_and_the_others_together_up_to_them)
{
    struct publish_verdicts verdicts = {0};
    const int64_t seqs[] = {1, 2, 3, 4, 5, 6};
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs, 6), 6);
    const int64_t suspects[] = {5, 3, 5, 3};
    for (size_t i = 0; i < 4; i++) {
        cr_assert(publish_suspects_add(&verdicts, suspects[i], NULL));
    }
    cr_assert_eq(verdicts.suspect_count, 2);
    cr_assert(publish_suspects_has(&verdicts, 3) && publish_suspects_has(&verdicts, 5) &&
        !publish_suspects_has(&verdicts, 4));
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs, 6), 2, "those before the first suspect");
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs + 2, 4), 1, "the suspect alone");
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs + 3, 3), 1, "what lies between two of them");
    publish_suspects_clear(&verdicts, 4);
    cr_assert_eq(verdicts.suspect_count, 2, "4 is none");
    publish_suspects_clear(&verdicts, 3);
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs, 6), 4);
    publish_suspects_clear(&verdicts, 5);
    cr_assert_eq(verdicts.suspect_count, 0);
    publish_verdicts_finish(&verdicts);
}

// Brings rows 0 to count - 1 through as the pipe does, where the broker refuses every batch with the row `bad`. Returns
// how many batches it took.
static size_t bring_through(struct publish_verdicts *verdicts, size_t count, int64_t bad)
{
    size_t batches = 0;
    int64_t seqs[1000];
    for (int64_t first = 0; first < (int64_t)count;) {
        size_t left = count - (size_t)first;
        for (size_t i = 0; i < left; i++) {
            seqs[i] = first + (int64_t)i;
        }
        size_t rows = publish_suspects_cut(verdicts, seqs, left);
        cr_assert(rows >= 1 && rows <= left);
        bool refused = bad >= first && bad < first + (int64_t)rows, suspects = false;
        batches++;
        if (refused && rows > 1) {
            for (size_t i = 0; i < rows; i++) {
                cr_assert(publish_suspects_add(verdicts, seqs[i], NULL));
            }
            publish_suspects_refused(verdicts, rows);
            continue;
        }
        for (size_t i = 0; i < rows; i++) {
            suspects = publish_suspects_clear(verdicts, seqs[i]) || suspects;
        }
        if (suspects && !refused) {
            publish_suspects_passed(verdicts);
        }
        first += (int64_t)rows;
    }
    return batches;
}

Test(publish_verdicts, one_bad_row_among_a_thousand_is_found_in_some_dozen_batches)
{
    for (int64_t bad = 0; bad < 1000; bad += 37) {
        struct publish_verdicts verdicts = {0};
        size_t batches = bring_through(&verdicts, 1000, bad);
        cr_assert(batches > 2 && batches < 45, "row %lld took %zu", (long long)bad, batches);
        cr_assert_eq(verdicts.suspect_count, 0);
        publish_verdicts_finish(&verdicts);
    }
}

Test(publish_verdicts, innocent_rows_between_suspects_go_with_them_and_those_behind_do_not)
{
    struct publish_verdicts verdicts = {0};
    const int64_t seqs[] = {1, 2, 3, 4, 5, 6, 7};
    for (int64_t seq = 1; seq <= 5; seq += 2) {
        cr_assert(publish_suspects_add(&verdicts, seq, NULL));
    }
    publish_suspects_refused(&verdicts, 4);
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs, 7), 3, "1 and 3 are suspects");
    publish_suspects_refused(&verdicts, 6);
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs, 7), 5, "6 and 7 are not suspected");
    cr_assert(publish_suspects_add(&verdicts, 5, NULL));
    cr_assert_eq(publish_suspects_cut(&verdicts, seqs, 7), 1, "a row that is to be judged alone");
    publish_verdicts_finish(&verdicts);
}

Test(publish_verdicts, a_row_that_was_published_clears_itself_and_not_those_before_it)
{
    struct publish_verdicts verdicts = {0};
    publish_suspects_clear(&verdicts, 9);
    publish_suspects_clear_upto(&verdicts, 9);
    for (int64_t seq = 1; seq <= 5; seq++) {
        cr_assert(publish_suspects_add(&verdicts, seq, NULL));
    }
    publish_suspects_clear(&verdicts, 5);
    publish_suspects_clear(&verdicts, 100);
    cr_assert_eq(verdicts.suspect_count, 4);
    cr_assert(publish_suspects_has(&verdicts, 1) && publish_suspects_has(&verdicts, 4));
    publish_suspects_clear_upto(&verdicts, 2);
    cr_assert(!publish_suspects_has(&verdicts, 2) && publish_suspects_has(&verdicts, 3));
    publish_suspects_clear_upto(&verdicts, 50);
    cr_assert_eq(verdicts.suspect_count, 0);
    publish_verdicts_finish(&verdicts);
}

Test(publish_verdicts, many_suspects_in_any_order_stay_sorted)
{
    struct publish_verdicts verdicts = {0};
    for (int64_t i = 0; i < 1000; i++) {
        cr_assert(publish_suspects_add(&verdicts, (i * 379) % 1000, NULL));
    }
    cr_assert_eq(verdicts.suspect_count, 1000);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_eq(verdicts.suspects[i], (int64_t)i);
    }
    publish_verdicts_finish(&verdicts);
}
