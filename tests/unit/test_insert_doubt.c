// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_doubt.h"

#include <criterion/criterion.h>

static const struct row_place row = {.topic = "nova.post.events", .partition = 3, .offset = 7};
static const struct mono_time now = {100000000000}, soon = {105000000000}, later = {110000000000};

Test(insert_doubt, attempts_under_one_token_share_a_row_and_last_as_long_as_the_longest)
{
    struct insert_doubt doubt = {0};
    insert_doubt_note(&doubt, &row, "one", later, now);
    insert_doubt_note(&doubt, &row, "one", soon, now);
    cr_assert_str_eq(doubt.row.topic, "nova.post.events");
    cr_assert_eq(doubt.row.offset, 7);
    cr_assert_eq(doubt.until.ns, later.ns);
}

Test(insert_doubt, a_row_says_nothing_of_another_insert_that_may_yet_start)
{
    struct insert_doubt doubt = {0};
    insert_doubt_note(&doubt, &row, "one", soon, now);
    insert_doubt_note(&doubt, &row, "two", later, now);
    cr_assert_str_empty(doubt.row.topic);
    insert_doubt_note(&doubt, &row, "three", later, later);
    cr_assert_str_eq(doubt.row.topic, "nova.post.events", "the others are too late by now");
}

Test(insert_doubt, dead_letters_have_no_row_that_tells)
{
    struct insert_doubt doubt = {0};
    bool begun = true;
    insert_doubt_note(&doubt, NULL, "one-dead", soon, now);
    cr_assert(insert_doubt_has_begun(&doubt, NULL, NULL, "events", NULL, &begun, NULL), "nobody is asked");
    cr_assert_not(begun);
}
