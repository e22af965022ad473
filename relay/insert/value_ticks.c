// SPDX-License-Identifier: Apache-2.0
//
// A number counts units, as in ClickHouse, unless it has a point or an exponent: what writes one of these (PostgreSQL's
// extract(epoch ...), Jackson, Python's time()) means seconds. For numbers in strings ClickHouse has two rules: that of
// date_time_input_format = basic, where everything that lies before the year 2300 as seconds is seconds, and that of
// best_effort (its default from 26.5 on), where 9 and 10 digits are seconds, 13, 16 and 19 are milli-, micro- and
// nanoseconds, and 4, 8 and 14 are a year, a date and a time. The rule here agrees with at least one of the two; where
// it would make seconds of what best_effort takes for a date, nothing is guessed.
#include "relay/insert/value_ticks.h"

#include <stdlib.h>
#include <string.h>

#define DATE_LAST        65535         // 2149-06-06
#define DATE32_FIRST     (-25567)      // 1900-01-01
#define DATE32_LAST      120529        // 2299-12-31
#define DATETIME_LAST    4294967295    // 2106-02-07 06:28:15
#define DATETIME64_FIRST (-2208988800) // 1900-01-01 00:00:00
#define DATETIME64_LAST  10413791999   // 2299-12-31 23:59:59
#define SHORTEST_SECONDS 10000         // with a point, in a string: 2026.05 and 12.30 are something else

static int64_t power_of_ten(uint32_t exponent)
{
    int64_t power = 1;
    while (exponent-- > 0) {
        power *= 10;
    }
    return power;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

bool value_is_time(const struct clickhouse_type *type)
{
    return type->kind == CLICKHOUSE_DATE || type->kind == CLICKHOUSE_DATE32 || type->kind == CLICKHOUSE_DATETIME ||
        type->kind == CLICKHOUSE_DATETIME64;
}

static enum encode_reason judge(const struct clickhouse_type *type, int64_t ticks)
{
    int64_t first = 0, last = DATETIME_LAST;
    if (type->kind == CLICKHOUSE_DATE) {
        last = DATE_LAST;
    } else if (type->kind == CLICKHOUSE_DATE32) {
        first = DATE32_FIRST;
        last = DATE32_LAST;
    } else if (type->kind == CLICKHOUSE_DATETIME64) {
        first = DATETIME64_FIRST;
        last = DATETIME64_LAST;
        ticks = floor_divide(ticks, power_of_ten(type->scale));
    }
    return ticks < first || ticks > last ? ENCODE_DATE_RANGE : ENCODE_NONE;
}

enum encode_reason value_ticks_of_time(const struct clickhouse_type *type, const struct value_time *time,
    int64_t *ticks)
{
    if (type->kind == CLICKHOUSE_DATE || type->kind == CLICKHOUSE_DATE32) {
        *ticks = floor_divide(time->seconds, 86400);
    } else if (type->kind == CLICKHOUSE_DATETIME) {
        *ticks = time->seconds;
    } else if (__builtin_mul_overflow(time->seconds, power_of_ten(type->scale), ticks) ||
        __builtin_add_overflow(*ticks, (int64_t)time->nanos / power_of_ten(9 - type->scale), ticks)) {
        return ENCODE_DATE_RANGE;
    }
    return judge(type, *ticks);
}

enum encode_reason value_ticks_of_millis(const struct clickhouse_type *type, int64_t millis, int64_t *ticks)
{
    struct value_time time = {.seconds = floor_divide(millis, 1000)};
    time.nanos = (uint32_t)(millis - time.seconds * 1000) * 1000000;
    return value_ticks_of_time(type, &time, ticks);
}

// YYYY, YYYYMMDD, YYYYMMDDhhmmss of a year that a column can hold.
static bool may_be_date(const char *text, size_t length)
{
    char year[5] = "", month[3] = "01", day[3] = "01";
    if (length != 4 && length != 8 && length != 14) {
        return false;
    }
    memcpy(year, text, 4);
    if (length > 4) {
        memcpy(month, text + 4, 2);
        memcpy(day, text + 6, 2);
    }
    return strcmp(year, "1900") >= 0 && strcmp(year, "2300") < 0 && strcmp(month, "01") >= 0 &&
        strcmp(month, "12") <= 0 && strcmp(day, "01") >= 0 && strcmp(day, "31") <= 0;
}

// A whole number in a string, in the unit that ClickHouse sees in it.
static enum encode_reason ticks_of_digits(const struct clickhouse_type *type, int64_t number, size_t digits,
    int64_t *ticks)
{
    uint32_t scale = number >= -DATETIME64_LAST && number <= DATETIME64_LAST ? 0
        : digits == 13                                                       ? 3
        : digits == 16                                                       ? 6
        : digits == 19                                                       ? 9
                                                                             : type->scale;
    if (scale > type->scale) {
        *ticks = floor_divide(number, power_of_ten(scale - type->scale));
    } else if (__builtin_mul_overflow(number, power_of_ten(type->scale - scale), ticks)) {
        return ENCODE_DATE_RANGE;
    }
    return judge(type, *ticks);
}

static enum encode_reason ticks_of_seconds(const struct clickhouse_type *type, const char *text, size_t length,
    bool in_string, int64_t *ticks)
{
    struct value_time time;
    if (value_seconds(text, length, &time) != VALUE_FINE) {
        return ENCODE_DATE_RANGE;
    }
    if (in_string && llabs(time.seconds) < SHORTEST_SECONDS) {
        return ENCODE_BAD_DATE;
    }
    return value_ticks_of_time(type, &time, ticks);
}

static bool is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '.' || text[i] == 'e' || text[i] == 'E') {
            return false;
        }
    }
    return true;
}

enum encode_reason value_ticks(const struct clickhouse_type *type, const char *text, size_t length, bool in_string,
    int64_t *ticks)
{
    struct value_time time;
    int64_t number;
    enum value_problem problem = value_integer(text, length, true, 8, &number);
    if (problem == VALUE_MALFORMED) {
        return value_time_parse(text, length, &time) ? value_ticks_of_time(type, &time, ticks) : ENCODE_BAD_DATE;
    }
    if (!is_plain(text, length)) {
        return ticks_of_seconds(type, text, length, in_string, ticks);
    }
    if (problem != VALUE_FINE) {
        return ENCODE_DATE_RANGE;
    }
    if (in_string && may_be_date(text, length)) {
        return ENCODE_BAD_DATE;
    }
    if (in_string && type->kind == CLICKHOUSE_DATETIME64) {
        return ticks_of_digits(type, number, length - (text[0] == '-' ? 1 : 0), ticks);
    }
    *ticks = number;
    return judge(type, number);
}
