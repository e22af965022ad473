// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_timestamp.h"

#include <criterion/criterion.h>

static struct clock_fake fake;
static const struct relay_context context = {.clock = &fake.base};
static struct untimely_topic topics[2] = {{.name = "earlier"}, {.name = "later"}};
static struct publish_pipe pipe = {.context = &context, .untimely = topics, .untimely_count = 2};
static char texts[4][16] = {"later", "missing", "earlier", "forbidden"};
static char *names[4];

static size_t due(void)
{
    for (size_t i = 0; i < 4; i++) {
        names[i] = texts[i];
    }
    return publish_timestamp_due(&pipe, names, 4);
}

static void begin(void)
{
    clock_fake_init(&fake, (struct mono_time){0}, (struct wall_time){0});
    topics[0].refused_at = clock_mono(&fake.base);
    clock_fake_advance(&fake, DURATION_S(3));
    topics[1].refused_at = clock_mono(&fake.base);
}

Test(publish_timestamp, others_are_always_tried, .init = begin)
{
    cr_assert_eq(due(), 2);
    cr_assert_str_eq(names[0], "missing");
    cr_assert_str_eq(names[1], "forbidden");
}

Test(publish_timestamp, one_at_a_time_the_one_that_was_refused_first, .init = begin)
{
    clock_fake_advance(&fake, DURATION_S(60));
    cr_assert_eq(due(), 3);
    cr_assert_str_eq(names[2], "earlier");
    topics[0].refused_at = clock_mono(&fake.base);
    cr_assert_eq(due(), 3);
    cr_assert_str_eq(names[2], "later");
}

Test(publish_timestamp, one_that_was_just_refused_rests, .init = begin)
{
    clock_fake_advance(&fake, DURATION_S(8)); // 11 s and 8 s
    cr_assert_eq(due(), 3);
    topics[0].refused_at = clock_mono(&fake.base);
    cr_assert_eq(due(), 2);
}
