// SPDX-License-Identifier: Apache-2.0
#include "relay/base/backoff.h"

#include <criterion/criterion.h>

Test(backoff, every_wait_is_between_base_and_cap_and_at_most_three_times_the_last)
{
    struct backoff backoff;
    backoff_init_seeded(&backoff, DURATION_MS(100), DURATION_S(10), 1);
    int64_t previous = DURATION_MS(100).ns;
    bool reached_the_upper_half = false;
    for (int i = 0; i < 1000; i++) {
        int64_t wait = backoff_next(&backoff).ns;
        cr_assert_geq(wait, DURATION_MS(100).ns);
        cr_assert_leq(wait, DURATION_S(10).ns);
        cr_assert_leq(wait, previous * 3);
        reached_the_upper_half = reached_the_upper_half || wait > DURATION_S(5).ns;
        previous = wait;
    }
    cr_assert(reached_the_upper_half);
}

Test(backoff, reset_starts_near_the_base_again)
{
    struct backoff backoff;
    backoff_init_seeded(&backoff, DURATION_MS(100), DURATION_S(10), 7);
    for (int i = 0; i < 50; i++) {
        (void)backoff_next(&backoff);
    }
    backoff_reset(&backoff);
    cr_assert_leq(backoff_next(&backoff).ns, DURATION_MS(300).ns);
}

Test(backoff, the_same_seed_gives_the_same_waits_and_another_seed_others)
{
    struct backoff a, b, c;
    backoff_init_seeded(&a, DURATION_MS(1), DURATION_S(10), 42);
    backoff_init_seeded(&b, DURATION_MS(1), DURATION_S(10), 42);
    backoff_init_seeded(&c, DURATION_MS(1), DURATION_S(10), 43);
    int same = 0;
    for (int i = 0; i < 20; i++) {
        int64_t wait = backoff_next(&a).ns;
        cr_assert_eq(wait, backoff_next(&b).ns);
        same += wait == backoff_next(&c).ns;
    }
    cr_assert_lt(same, 5);
}

Test(backoff, two_relays_that_start_together_do_not_wait_alike)
{
    struct backoff a, b;
    backoff_init(&a, DURATION_MS(1), DURATION_S(3600));
    backoff_init(&b, DURATION_MS(1), DURATION_S(3600));
    cr_assert_neq(a.random, b.random);
}

Test(backoff, base_equal_to_cap_is_a_constant_and_huge_caps_do_not_overflow)
{
    struct backoff backoff;
    backoff_init_seeded(&backoff, DURATION_S(5), DURATION_S(5), 3);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(backoff_next(&backoff).ns, DURATION_S(5).ns);
    }
    backoff_init_seeded(&backoff, (struct duration){1}, (struct duration){INT64_MAX}, 3);
    for (int i = 0; i < 10000; i++) {
        cr_assert_gt(backoff_next(&backoff).ns, 0);
    }
    cr_assert_gt(backoff.previous.ns, INT64_MAX / 1000);
}
