// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/offset_ranges.h"

#include <criterion/criterion.h>

Test(offset_ranges, touching_ranges_become_one)
{
    struct offset_ranges ranges = {0};
    cr_assert(offset_ranges_add(&ranges, 1, 3) && offset_ranges_add(&ranges, 3, 5) && offset_ranges_add(&ranges, 7, 8));
    cr_assert(offset_ranges_add(&ranges, 9, 9), "an empty one is nothing");
    cr_assert_eq(ranges.count, 2);
    cr_assert_eq(offset_ranges_after(&ranges), 8);
    offset_ranges_finish(&ranges);
    cr_assert_eq(offset_ranges_after(&ranges), INT64_MIN);
}

Test(offset_ranges, look_ups_agree_with_a_table_in_any_order)
{
    struct offset_ranges ranges = {0};
    bool table[1000] = {false};
    uint64_t random = 42;
    for (int64_t at = 0; at < 990;) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int64_t gap = (int64_t)(random >> 60), length = (int64_t)(random >> 56 & 7);
        at += gap;
        cr_assert(offset_ranges_add(&ranges, at, at + length));
        for (int64_t i = at; i < at + length; i++) {
            table[i] = true;
        }
        at += length;
    }
    for (int64_t i = 0; i < 1000; i++) {
        cr_assert_eq(offset_ranges_contain(&ranges, i), table[i], "%d", (int)i);
    }
    for (int i = 0; i < 5000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int64_t offset = (int64_t)(random >> 33) % 1000;
        cr_assert_eq(offset_ranges_contain(&ranges, offset), table[offset]);
    }
    offset_ranges_finish(&ranges);
}

Test(offset_ranges, a_union_holds_what_either_holds)
{
    struct offset_ranges a = {0}, b = {0};
    cr_assert(offset_ranges_add(&a, 0, 5) && offset_ranges_add(&a, 10, 15) && offset_ranges_add(&a, 30, 31));
    cr_assert(offset_ranges_add(&b, 5, 7) && offset_ranges_add(&b, 8, 12) && offset_ranges_add(&b, 40, 50));
    cr_assert(offset_ranges_merge(&a, &b));
    cr_assert_eq(a.count, 4); // 0-7, 8-15, 30-31, 40-50
    for (int64_t i = 0; i < 60; i++) {
        bool expected = i < 7 || (i >= 8 && i < 15) || i == 30 || (i >= 40 && i < 50);
        cr_assert_eq(offset_ranges_contain(&a, i), expected, "%d", (int)i);
    }
    offset_ranges_finish(&a);
    offset_ranges_finish(&b);
}
