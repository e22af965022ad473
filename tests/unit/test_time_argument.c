// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/time_argument.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct wall_time now = {.us = 1772368496123456}; // 2026-03-01T12:34:56.123456Z

// The time as RFC 3339, or "no".
static const char *parse(const char *text)
{
    static char out[WALL_TIME_TEXT];
    struct wall_time time;
    struct relay_error error;
    if (!time_argument_parse(text, now, &time, &error)) {
        cr_assert_eq(error.code, RELAY_ERROR_USAGE);
        return "no";
    }
    wall_time_format(time, out);
    return out;
}

Test(time_argument, dates)
{
    cr_assert_str_eq(parse("2026-03-01T12:34:56.123456Z"), "2026-03-01T12:34:56.123456Z");
    cr_assert_str_eq(parse("2026-03-01T12:34:56.5+01:30"), "2026-03-01T11:04:56.500000Z");
    cr_assert_str_eq(parse("2026-03-01 00:00-0800"), "2026-03-01T08:00:00.000000Z");
    cr_assert_str_eq(parse("2024-02-29"), "2024-02-29T00:00:00.000000Z");
    cr_assert_str_eq(parse("1969-12-31T23:59:59z"), "1969-12-31T23:59:59.000000Z");
    cr_assert_str_eq(parse("2000-03-01"), "2000-03-01T00:00:00.000000Z");
    cr_assert_str_eq(parse("2026-03-01T12:34:56.1234569Z"), "2026-03-01T12:34:56.123456Z");
}

Test(time_argument, how_long_ago)
{
    cr_assert_str_eq(parse("2h"), "2026-03-01T10:34:56.123456Z");
    cr_assert_str_eq(parse("1h30m"), "2026-03-01T11:04:56.123456Z");
    cr_assert_str_eq(parse("2 hours ago"), "2026-03-01T10:34:56.123456Z");
    cr_assert_str_eq(parse("1d 1s ago"), "2026-02-28T12:34:55.123456Z");
    cr_assert_str_eq(parse("1 week"), "2026-02-22T12:34:56.123456Z");
    cr_assert_str_eq(parse("0s"), "2026-03-01T12:34:56.123456Z");
}

Test(time_argument, what_is_no_time_is_refused)
{
    const char *const wrong[] = {"", "2026-02-29", "2026-13-01", "2026-03-01T24:00", "2026-03-01T12:60:00Z",
        "2026-03-01x", "2026-03-01T12:34:56+25:00", "2", "h", "2 fortnights", "2h later", "-2h", "yesterday",
        "99999999999s", "1000000000w", "3000000000s 2000w", "2026-03-01T", "200y"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cr_assert_str_eq(parse(wrong[i]), "no", "%s gave %s", wrong[i], parse(wrong[i]));
    }
}
