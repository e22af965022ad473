// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_verdicts.h"

#include <criterion/criterion.h>
#include <stdio.h>
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

Test(publish_verdicts, a_topic_is_parked_once_and_from_its_lowest_row_on)
{
    struct publish_verdicts verdicts = {0};
    cr_assert_null(publish_verdicts_parking(&verdicts, "late"));
    struct publish_verdict verdict = {.action = VERDICT_PARK, .topic = "late"};
    const int64_t seqs[] = {8, 7, 9};
    for (size_t i = 0; i < 3; i++) {
        verdict.seq = seqs[i];
        cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    }
    cr_assert_eq(verdicts.count, 1);
    cr_assert_eq(publish_verdicts_parking(&verdicts, "late")->seq, 7);
    cr_assert_null(publish_verdicts_parking(&verdicts, "other"));
    snprintf(verdict.topic, sizeof(verdict.topic), "other");
    verdict.seq = 11;
    cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    verdict = (struct publish_verdict){.seq = 12, .action = VERDICT_DEAD_LETTER};
    cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    cr_assert_eq(verdicts.count, 3);
    cr_assert(publish_suspects_add(&verdicts, 12, NULL));
    publish_verdicts_clear_rows(&verdicts);
    cr_assert_eq(verdicts.count, 2, "the dead letter is judged again");
    cr_assert(publish_suspects_has(&verdicts, 12));
    publish_verdicts_finish(&verdicts);
}

Test(publish_verdicts, of_thousands_each_is_found_by_its_row_and_by_its_topic)
{
    struct publish_verdicts verdicts = {0};
    struct publish_verdict verdict = {.action = VERDICT_PARK};
    for (int round = 0; round < 3; round++) { // from higher rows to lower ones
        for (int i = 0; i < 3000; i++) {
            snprintf(verdict.topic, sizeof(verdict.topic), "topic %d", i);
            verdict.seq = 3000 * (3 - round) + i;
            cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
        }
        cr_assert_eq(verdicts.count, 3000);
    }
    cr_assert_eq(publish_verdicts_parking(&verdicts, "topic 1234")->seq, 4234);
    cr_assert_null(publish_verdicts_parking(&verdicts, "topic 3000"));
    verdict = (struct publish_verdict){.seq = 4234, .action = VERDICT_HOLD};
    cr_assert(publish_verdicts_add(&verdicts, &verdict, NULL));
    cr_assert_eq(verdicts.count, 3000, "it replaces the one on this row");
    cr_assert_null(publish_verdicts_parking(&verdicts, "topic 1234"));
    publish_verdicts_clear_rows(&verdicts);
    cr_assert_eq(verdicts.count, 2999);
    cr_assert_eq(publish_verdicts_parking(&verdicts, "topic 1235")->seq, 4235);
    publish_verdicts_clear(&verdicts);
    cr_assert_null(publish_verdicts_parking(&verdicts, "topic 1235"));
    publish_verdicts_finish(&verdicts);
}

Test(publish_verdicts, a_type_is_kept_as_far_as_there_is_room)
{
    struct publish_verdict verdict = {.action = VERDICT_DEAD_LETTER};
    static const char type[] = {'a', '\0', 'b'}; // of a column of bytes
    publish_verdict_type(&verdict, (struct text_view){type, sizeof(type)});
    cr_assert_eq(verdict.type_length, sizeof(type));
    cr_assert_eq(memcmp(verdict.type, type, sizeof(type)), 0);
    static const char large[1000];
    publish_verdict_type(&verdict, (struct text_view){large, sizeof(large)});
    cr_assert_eq(verdict.type_length, sizeof(verdict.type));
    publish_verdict_type(&verdict, (struct text_view){NULL, 0});
    cr_assert_eq(verdict.type_length, 0);
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
