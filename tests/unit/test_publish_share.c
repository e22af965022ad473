// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_share.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct mono_time at(int seconds)
{
    return (struct mono_time){(int64_t)(1000 + seconds) * 1000000000};
}

Test(publish_share, an_even_share_is_rounded_up)
{
    cr_assert_eq(publish_share_even(5, 1), 5);
    cr_assert_eq(publish_share_even(5, 0), 5);
    cr_assert_eq(publish_share_even(5, 2), 3);
    cr_assert_eq(publish_share_even(4, 3), 2);
    cr_assert_eq(publish_share_even(1, 9), 1);
}

Test(publish_share, who_owns_more_gives_up_down_to_its_share)
{
    struct publish_share share;
    struct publish_sharer pipes[4] = {0};
    cr_assert(publish_share_init(&share, 4));
    for (int i = 0; i < 4; i++) {
        cr_assert(publish_share_may_try(&share, &pipes[i], at(0)));
        publish_share_note(&share, &pipes[i], true, at(0));
        pipes[i].replicas = 2;
    }
    cr_assert_not(publish_share_give_up(&share, &pipes[0], at(1)), "not right after it was taken");
    cr_assert(publish_share_give_up(&share, &pipes[0], at(4)));
    cr_assert(publish_share_give_up(&share, &pipes[1], at(4)));
    cr_assert_not(publish_share_give_up(&share, &pipes[2], at(4)));
    publish_share_note(&share, &pipes[0], false, at(4));
    cr_assert_eq(publish_share_owned(&share), 2, "what was given up is not counted off twice");
    publish_share_finish(&share);
}

Test(publish_share, one_counts_the_replicas_of_all)
{
    struct publish_share share;
    struct publish_sharer pipes[3] = {0};
    int64_t *outboxes;
    size_t count;
    cr_assert(publish_share_init(&share, 3));
    for (int i = 0; i < 3; i++) { // each once, at its first look
        cr_assert(publish_share_counts(&share, &pipes[i], 100 + i, at(0), &outboxes, &count));
        cr_assert_eq(count, (size_t)i + 1);
        int replicas[3] = {5, 6, 7};
        publish_share_counted(&share, outboxes, replicas, count);
        free(outboxes);
    }
    cr_assert(pipes[2].replicas == 5 && pipes[1].replicas == 6 && pipes[0].replicas == 7);
    int asked = 0;
    for (int i = 0; i < 3; i++) {
        bool asks = publish_share_counts(&share, &pipes[i], 100 + i, at(2), &outboxes, &count);
        asked += asks;
        cr_assert_eq(count, asks ? 3u : 0u);
        free(outboxes);
    }
    cr_assert_eq(asked, 1);
    cr_assert(publish_share_counts(&share, &pipes[1], 200, at(3), &outboxes, &count), "made anew");
    cr_assert_eq(count, 3);
    free(outboxes);
    publish_share_finish(&share);
}

Test(publish_share, a_free_one_beyond_the_share_is_left_to_others_for_a_while_and_then_kept)
{
    struct publish_share share;
    struct publish_sharer first = {0}, second = {0};
    cr_assert(publish_share_init(&share, 2));
    publish_share_note(&share, &first, true, at(0));
    publish_share_note(&share, &second, true, at(0));
    first.replicas = second.replicas = 2;
    cr_assert(publish_share_give_up(&share, &second, at(5)));
    cr_assert_not(publish_share_may_try(&share, &second, at(6)));
    cr_assert(publish_share_may_try(&share, &second, at(8)));
    publish_share_note(&share, &second, true, at(8)); // nobody wanted it
    cr_assert_not(publish_share_give_up(&share, &second, at(20)));
    cr_assert(publish_share_give_up(&share, &second, at(70)));
    publish_share_finish(&share);
}

Test(publish_share, one_asks_kafka_for_all)
{
    struct publish_share share;
    cr_assert(publish_share_init(&share, 3));
    cr_assert(publish_share_asks(&share));
    cr_assert_not(publish_share_asks(&share), "somebody does");
    cr_assert_not(publish_share_reached(&share));
    publish_share_note_reached(&share);
    cr_assert(publish_share_reached(&share));
    publish_share_finish(&share);
    cr_assert(publish_share_init(&share, 3));
    publish_share_note_reached(&share); // by a term
    cr_assert_not(publish_share_asks(&share));
    publish_share_finish(&share);
}
