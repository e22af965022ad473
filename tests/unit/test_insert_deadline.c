// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_deadline.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(insert_deadline, a_statement_with_the_condition_takes_it_and_no_other)
{
    char guarded[] = "INSERT INTO t SELECT a FROM input('a Int8') WHERE " INSERT_DEADLINE_GUARD " FORMAT Native";
    char plain[] = "INSERT INTO t FORMAT Native", before[sizeof(guarded)];
    memcpy(before, guarded, sizeof(guarded));
    insert_deadline_set(guarded, 0);
    insert_deadline_set(guarded, INT64_C(10000000000));
    cr_assert_str_eq(guarded, before);
    insert_deadline_set(guarded, 1774000000);
    cr_assert_str_eq(guarded,
        "INSERT INTO t SELECT a FROM input('a Int8') WHERE throwIf(toUnixTimestamp(now()) > 1774000000, "
        "'" INSERT_DEADLINE_LATE "') = 0 FORMAT Native");
    insert_deadline_set(plain, 1774000000);
    cr_assert_str_eq(plain, "INSERT INTO t FORMAT Native");
}

Test(insert_deadline, only_the_refusal_by_the_condition_says_that_it_was_over)
{
    struct relay_error error = {0};
    struct clickhouse_outcome outcome = {.exception_code = 395};
    snprintf(error.text, sizeof(error.text), "http://x: ClickHouse code 395: %s", INSERT_DEADLINE_LATE);
    cr_assert(insert_deadline_was_over(&outcome, &error));
    outcome.exception_code = 241;
    cr_assert_not(insert_deadline_was_over(&outcome, &error));
    outcome.exception_code = 395;
    snprintf(error.text, sizeof(error.text), "ClickHouse code 395: a view of the user fails");
    cr_assert_not(insert_deadline_was_over(&outcome, &error));
}
