// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_newest.h"

#include <criterion/criterion.h>

Test(pg_newest, a_server_on_an_earlier_timeline_is_an_old_primary)
{
    struct pg_newest *newest = pg_newest_new(NULL);
    cr_assert_not_null(newest);
    cr_assert(pg_newest_note(newest, 7, 1));
    cr_assert(pg_newest_note(newest, 7, 3));
    cr_assert(pg_newest_note(newest, 7, 3));
    cr_assert_not(pg_newest_note(newest, 7, 2));
    cr_assert(pg_newest_note(newest, 7, 4));
    cr_assert_not(pg_newest_note(newest, 7, 3));
    pg_newest_free(newest);
}

Test(pg_newest, timelines_of_two_systems_are_not_compared)
{
    struct pg_newest *newest = pg_newest_new(NULL);
    cr_assert_not_null(newest);
    cr_assert(pg_newest_note(newest, 7, 3));
    cr_assert(pg_newest_note(newest, 8, 1)); // the database was moved
    cr_assert(pg_newest_note(newest, 8, 1));
    pg_newest_free(newest);
}

Test(pg_newest, a_server_without_timelines_is_taken)
{
    struct pg_newest *newest = pg_newest_new(NULL);
    cr_assert_not_null(newest);
    cr_assert(pg_newest_note(newest, 7, 3));
    cr_assert(pg_newest_note(newest, 7, 0));
    cr_assert_not(pg_newest_note(newest, 7, 2));
    cr_assert(pg_newest_note(NULL, 7, 1));
    pg_newest_free(newest);
    pg_newest_free(NULL);
}
