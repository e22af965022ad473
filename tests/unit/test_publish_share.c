// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_share.h"

#include <criterion/criterion.h>

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
    cr_assert_eq(share.owned, 2, "what was given up is not counted off twice");
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
