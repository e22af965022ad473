// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/status.h"

#include <criterion/criterion.h>

static int level_of(const char *text)
{
    json_t *status = json_loads(text, 0, NULL);
    cr_assert_not_null(status, "%s", text);
    int level = status_level_of(status);
    json_decref(status);
    return level;
}

Test(status_text, the_whole_decides)
{
    cr_assert_eq(level_of("{\"status\":\"ok\"}"), 0);
    cr_assert_eq(level_of("{\"status\":\"degraded\"}"), 1);
    cr_assert_eq(level_of("{\"status\":\"down\"}"), 2);
    cr_assert_eq(level_of("{}"), 2, "nothing that is known");
}

Test(status_text, a_check_that_is_down_is_critical_though_the_other_stage_goes_on)
{
    cr_assert_eq(level_of("{\"status\":\"degraded\",\"checks\":{\"kafka\":{\"status\":\"ok\"},"
                          "\"postgres\":{\"status\":\"down\"}}}"),
        2);
    cr_assert_eq(level_of("{\"status\":\"degraded\",\"checks\":{\"kafka\":{\"status\":\"ok\"},"
                          "\"insert\":{\"status\":\"degraded\"}}}"),
        1);
}

Test(status_text, an_outbox_that_is_critical_is_too)
{
    cr_assert_eq(level_of("{\"status\":\"degraded\",\"checks\":{\"outbox\":{\"status\":\"degraded\",\"instances\":"
                          "{\"a\":{\"figures\":{\"health\":\"OK\"}},\"b\":{\"figures\":{\"health\":\"CRITICAL\"}}}}}}"),
        2);
}
