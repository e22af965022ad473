// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/health_judge.h"

#include <criterion/criterion.h>

Test(health_judge, one_odd_result_changes_nothing)
{
    struct health_window window = {0};
    cr_assert_eq(health_window_add(&window, ALERT_CRITICAL), ALERT_OK);
    cr_assert(health_window_undecided(&window));
    cr_assert_eq(health_window_add(&window, ALERT_OK), ALERT_OK);
    cr_assert_not(health_window_undecided(&window));
    health_window_add(&window, ALERT_OK);
    for (int i = 0; i < 10; i++) { // every third one is bad
        cr_assert_eq(health_window_add(&window, i % 3 == 0 ? ALERT_CRITICAL : ALERT_OK), ALERT_OK);
    }
}

Test(health_judge, two_of_three_make_it_worse_and_two_of_three_better)
{
    struct health_window window = {0};
    health_window_add(&window, ALERT_WARNING);
    cr_assert_eq(health_window_add(&window, ALERT_CRITICAL), ALERT_WARNING); // both are at least that
    cr_assert(health_window_undecided(&window));
    cr_assert_eq(health_window_add(&window, ALERT_CRITICAL), ALERT_CRITICAL);
    cr_assert_eq(health_window_add(&window, ALERT_OK), ALERT_CRITICAL);
    cr_assert(health_window_undecided(&window));
    cr_assert_eq(health_window_add(&window, ALERT_OK), ALERT_OK);
    cr_assert_not(health_window_undecided(&window));
}

Test(health_judge, lag_is_judged_above_its_thresholds)
{
    struct config_health limits = {.warning_lag = 100, .critical_lag = 1000};
    cr_assert_eq(health_lag_level(&limits, -1), ALERT_OK);
    cr_assert_eq(health_lag_level(&limits, 100), ALERT_OK);
    cr_assert_eq(health_lag_level(&limits, 101), ALERT_WARNING);
    cr_assert_eq(health_lag_level(&limits, 1001), ALERT_CRITICAL);
    limits = (struct config_health){0};
    cr_assert_eq(health_lag_level(&limits, 1000000), ALERT_OK); // not judged
}

Test(health_judge, an_unknown_name_is_the_worst)
{
    cr_assert_eq(health_level_of("OK"), ALERT_OK);
    cr_assert_eq(health_level_of("WARNING"), ALERT_WARNING);
    cr_assert_eq(health_level_of("CRITICAL"), ALERT_CRITICAL);
    cr_assert_eq(health_level_of("FINE"), ALERT_CRITICAL);
    cr_assert_eq(health_level_of(NULL), ALERT_CRITICAL);
}
