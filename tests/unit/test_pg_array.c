// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_array.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(pg_array, numbers_of_all_sizes_and_every_second_one)
{
    static const int64_t numbers[] = {INT64_MIN, 0, INT64_MAX, -1};
    char *text = pg_array_of_numbers(numbers, 4, 1);
    cr_assert_str_eq(text, "{-9223372036854775808,0,9223372036854775807,-1}");
    free(text);
    text = pg_array_of_numbers(numbers + 1, 2, 2);
    cr_assert_str_eq(text, "{0,-1}");
    free(text);
    text = pg_array_of_numbers(numbers, 0, 1);
    cr_assert_str_eq(text, "{}");
    free(text);
}

Test(pg_array, texts_with_what_an_array_is_written_with)
{
    static char plain[] = "shop.late.events", empty[] = "", comma[] = "a,b", braces[] = "{}", quotes[] = "say \"so\"",
                backslash[] = "back\\slash", null[] = "NULL";
    char *const texts[] = {plain, empty, comma, braces, quotes, backslash, null};
    char *text = pg_array_of_texts(texts, 7);
    cr_assert_str_eq(text, "{\"shop.late.events\",\"\",\"a,b\",\"{}\",\"say \\\"so\\\"\",\"back\\\\slash\",\"NULL\"}");
    free(text);
    text = pg_array_of_texts(texts, 0);
    cr_assert_str_eq(text, "{}");
    free(text);
}
