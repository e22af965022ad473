// SPDX-License-Identifier: Apache-2.0
#include "relay/base/clock.h"

#include <criterion/criterion.h>
#include <limits.h>

static const char *format(int64_t us)
{
    static char text[WALL_TIME_TEXT];
    wall_time_format((struct wall_time){us}, text);
    return text;
}

Test(clock, wall_time_is_rfc3339_in_utc)
{
    cr_assert_str_eq(format(0), "1970-01-01T00:00:00.000000Z");
    cr_assert_str_eq(format(951827696123456), "2000-02-29T12:34:56.123456Z");
    cr_assert_str_eq(format(-1), "1969-12-31T23:59:59.999999Z");
    cr_assert_str_eq(format(253402300799999999), "9999-12-31T23:59:59.999999Z");
    cr_assert_str_eq(format(-62135596800000000), "0001-01-01T00:00:00.000000Z");
}

Test(clock, extreme_wall_times_fit_their_room)
{
    char text[WALL_TIME_TEXT];
    cr_assert_lt(wall_time_format((struct wall_time){INT64_MAX}, text), sizeof(text));
    cr_assert_lt(wall_time_format((struct wall_time){INT64_MIN}, text), sizeof(text));
}

Test(clock, sums_are_clamped)
{
    struct mono_time late = mono_add((struct mono_time){INT64_MAX - 5}, DURATION_S(1));
    cr_assert_eq(late.ns, INT64_MAX);
    cr_assert_eq(mono_left((struct mono_time){10}, (struct mono_time){3}).ns, 0);
    cr_assert_eq(mono_since((struct mono_time){INT64_MIN}, (struct mono_time){INT64_MAX}).ns, INT64_MIN);
}

Test(clock, poll_waits_round_up)
{
    cr_assert_eq(duration_to_poll_ms(DURATION_NS(1)), 1);
    cr_assert_eq(duration_to_poll_ms(DURATION_MS(7)), 7);
    cr_assert_eq(duration_to_poll_ms(DURATION_NS(0)), 0);
    cr_assert_eq(duration_to_poll_ms((struct duration){-5}), 0);
    cr_assert_eq(duration_to_poll_ms((struct duration){INT64_MAX}), INT_MAX);
}

Test(clock, the_fake_moves_only_when_told)
{
    struct clock_fake fake;
    clock_fake_init(&fake, (struct mono_time){100}, (struct wall_time){200});
    clock_fake_advance(&fake, DURATION_US(3));
    cr_assert_eq(clock_mono(&fake.base).ns, 3100);
    cr_assert_eq(clock_wall(&fake.base).us, 203);
}
