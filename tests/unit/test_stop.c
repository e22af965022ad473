// SPDX-License-Identifier: Apache-2.0
#include "relay/base/stop.h"

#include <criterion/criterion.h>
#include <poll.h>

Test(stop, is_seen_by_flag_and_descriptor_for_ever)
{
    struct stop stop;
    cr_assert(stop_init(&stop, NULL));
    struct pollfd fd = {.fd = stop.fd, .events = POLLIN};
    cr_assert_eq(poll(&fd, 1, 0), 0);
    cr_assert_not(stop_raised(&stop));
    stop_raise(&stop, (struct mono_time){500});
    cr_assert(stop_raised(&stop));
    cr_assert_eq(poll(&fd, 1, 0), 1);
    cr_assert_eq(poll(&fd, 1, 0), 1);
    cr_assert(stop_wait(&stop, clock_system(), (struct mono_time){INT64_MAX}));
    stop_finish(&stop);
}

Test(stop, the_deadline_only_moves_earlier)
{
    struct stop stop;
    cr_assert(stop_init(&stop, NULL));
    stop_raise(&stop, (struct mono_time){500});
    stop_raise(&stop, (struct mono_time){900});
    cr_assert_eq(stop_deadline(&stop).ns, 500);
    stop_raise(&stop, (struct mono_time){100});
    cr_assert_eq(stop_deadline(&stop).ns, 100);
    stop_finish(&stop);
}

Test(stop, waiting_ends_at_its_own_deadline)
{
    struct stop stop;
    cr_assert(stop_init(&stop, NULL));
    cr_assert_not(stop_wait(&stop, clock_system(), mono_add(clock_mono(clock_system()), DURATION_MS(2))));
    stop_finish(&stop);
}
