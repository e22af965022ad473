// SPDX-License-Identifier: Apache-2.0
#include "encoder_fixture.h"
#include "relay/insert/table_period.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define HOURS(n) (INT64_C(3600000) * (n))

Test(table_period, a_partition_lasts_as_long_as_its_key_says)
{
    static const struct {
        const char *key;
        int64_t period;
    } cases[] = {
        {"", 0},
        {"toYYYYMM(at)", HOURS(24 * 28)},
        {"toStartOfMonth(day)", HOURS(24 * 28)},
        {"toYYYYMM(day)", HOURS(24 * 28)},
        {"toYear(at), tenant", HOURS(24 * 28)},
        {"toYYYYMMDD(at)", HOURS(24)},
        {"toDate(at)", HOURS(24)},
        {"toStartOfDay(at)", HOURS(24)},
        {"toStartOfInterval(at, toIntervalDay(1))", HOURS(24)},
        {"toMonday(at)", HOURS(24 * 7)},
        {"toStartOfWeek(day)", HOURS(24 * 7)},
        {"toISOWeek(at)", HOURS(24 * 7)},
        {"toStartOfHour(at)", HOURS(1)},
        {"toStartOfFifteenMinutes(at)", HOURS(1) / 60},
        {"day", HOURS(24)},
        {"`day`", HOURS(24)},
        {"(day)", HOURS(24)},
        {"tenant, day", HOURS(24)},
        {"(tenant, day)", HOURS(24)},
        {"day32, tenant", HOURS(24)},
        {"intHash32(tenant) % 7", HOURS(24 * 28)},
        {"tenant, toYYYYMM(day)", HOURS(24 * 28)},
    };
    static const char *const columns[] = {"at", "DateTime", "day", "Date", "day32", "Date32", "tenant", "String", NULL};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_schema *schema = fixture_schema(columns);
        schema->partition_key = strdup(cases[i].key);
        cr_assert_eq(table_period(schema), cases[i].period, "%s: %lld", cases[i].key, (long long)table_period(schema));
        table_schema_free(schema);
    }
}
