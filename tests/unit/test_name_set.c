// SPDX-License-Identifier: Apache-2.0
#include "relay/base/name_set.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(name_set, thousands_of_names_are_found_and_no_other)
{
    struct name_set set = {0};
    char name[32];
    cr_assert_not(name_set_has(&set, "name 1"));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) {
            snprintf(name, sizeof(name), "name %d", i);
            cr_assert(name_set_add(&set, name, NULL));
        }
        cr_assert_eq(set.count, 5000);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "name %d", i);
        cr_assert(name_set_has(&set, name));
        snprintf(name, sizeof(name), "other %d", i);
        cr_assert_not(name_set_has(&set, name));
    }
    name_set_finish(&set);
    cr_assert_not(name_set_has(&set, "name 1"));
}
