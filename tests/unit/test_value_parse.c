// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/value_parse.h"

#include <criterion/criterion.h>
#include <string.h>

static enum value_problem integer(const char *text, bool is_signed, uint32_t width, void *bytes)
{
    return value_integer(text, strlen(text), is_signed, width, bytes);
}

Test(value_parse, integers_at_their_ends)
{
    static const struct {
        const char *text;
        bool is_signed;
        uint32_t width;
        enum value_problem problem;
        unsigned char low, high; // first and last byte
    } cases[] = {
        {"127", true, 1, VALUE_FINE, 0x7F, 0x7F},
        {"128", true, 1, VALUE_OUT_OF_RANGE, 0, 0},
        {"-128", true, 1, VALUE_FINE, 0x80, 0x80},
        {"-129", true, 1, VALUE_OUT_OF_RANGE, 0, 0},
        {"255", false, 1, VALUE_FINE, 0xFF, 0xFF},
        {"256", false, 1, VALUE_OUT_OF_RANGE, 0, 0},
        {"-1", false, 8, VALUE_OUT_OF_RANGE, 0, 0},
        {"-0", false, 8, VALUE_FINE, 0, 0},
        {"-0", false, 32, VALUE_FINE, 0, 0},
        {"18446744073709551615", false, 8, VALUE_FINE, 0xFF, 0xFF},
        {"18446744073709551616", false, 8, VALUE_OUT_OF_RANGE, 0, 0},
        {"9223372036854775807", true, 8, VALUE_FINE, 0xFF, 0x7F},
        {"9223372036854775808", true, 8, VALUE_OUT_OF_RANGE, 0, 0},
        {"-9223372036854775808", true, 8, VALUE_FINE, 0, 0x80},
        {"-9223372036854775809", true, 8, VALUE_OUT_OF_RANGE, 0, 0},
        {"170141183460469231731687303715884105727", true, 16, VALUE_FINE, 0xFF, 0x7F},
        {"-170141183460469231731687303715884105728", true, 16, VALUE_FINE, 0, 0x80},
        {"170141183460469231731687303715884105728", true, 16, VALUE_OUT_OF_RANGE, 0, 0},
        {"115792089237316195423570985008687907853269984665640564039457584007913129639935", false, 32, VALUE_FINE, 0xFF,
            0xFF},
        {"115792089237316195423570985008687907853269984665640564039457584007913129639936", false, 32,
            VALUE_OUT_OF_RANGE, 0, 0},
        {"-57896044618658097711785492504343953926634992332820282019728792003956564819968", true, 32, VALUE_FINE, 0,
            0x80},
        {"-57896044618658097711785492504343953926634992332820282019728792003956564819969", true, 32, VALUE_OUT_OF_RANGE,
            0, 0},
        {"1e2", true, 1, VALUE_FINE, 100, 100},
        {"1.50e1", true, 1, VALUE_FINE, 15, 15},
        {"2.0", true, 1, VALUE_FINE, 2, 2},
        {"0.0e-9", true, 4, VALUE_FINE, 0, 0},
        {"1.5", true, 4, VALUE_NOT_EXACT, 0, 0},
        {"1e-1", true, 4, VALUE_NOT_EXACT, 0, 0},
        {"1e99999999", true, 32, VALUE_OUT_OF_RANGE, 0, 0},
        {"1e-99999999", true, 32, VALUE_NOT_EXACT, 0, 0},
        {"", true, 4, VALUE_MALFORMED, 0, 0},
        {"007", true, 4, VALUE_MALFORMED, 0, 0},
        {"+1", true, 4, VALUE_MALFORMED, 0, 0},
        {" 1", true, 4, VALUE_MALFORMED, 0, 0},
        {"0x10", true, 4, VALUE_MALFORMED, 0, 0},
        {"1,000", true, 4, VALUE_MALFORMED, 0, 0},
        {"-", true, 4, VALUE_MALFORMED, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char bytes[32] = {0};
        enum value_problem problem = integer(cases[i].text, cases[i].is_signed, cases[i].width, bytes);
        cr_assert_eq(problem, cases[i].problem, "%s in %u: %d", cases[i].text, cases[i].width, problem);
        if (problem == VALUE_FINE) {
            cr_assert_eq(bytes[0], cases[i].low, "%s: %02x", cases[i].text, bytes[0]);
            cr_assert_eq(bytes[cases[i].width - 1], cases[i].high, "%s: %02x", cases[i].text,
                bytes[cases[i].width - 1]);
        }
    }
}

Test(value_parse, an_exponent_is_not_cut_to_what_the_zeros_before_it_take_back)
{
    enum { ZEROS = 999999 };
    static char text[ZEROS + 20] = "0.";
    unsigned char bytes[4];
    memset(text + 2, '0', ZEROS);
    strcpy(text + 2 + ZEROS, "1e1000000");
    cr_assert_eq(integer(text, true, 4, bytes), VALUE_FINE);
    cr_assert_eq(bytes[0], 1);
    strcpy(text + 2 + ZEROS, "1e10000000");
    cr_assert_eq(integer(text, true, 4, bytes), VALUE_OUT_OF_RANGE);
    cr_assert_eq(value_decimal(text, strlen(text), 9, 2, 4, bytes), VALUE_OUT_OF_RANGE);
}

Test(value_parse, a_float_is_rounded_once)
{
    static const char above_the_middle[] = "1.000000059604644775390625000000000000000001";
    float narrow = 0;
    double wide = 0;
    cr_assert_eq(value_float(above_the_middle, strlen(above_the_middle), 4, &narrow), VALUE_FINE);
    cr_assert_eq(narrow, 0x1.000002p0f);
    cr_assert_eq(value_float("0.1", 3, 8, &wide), VALUE_FINE);
    cr_assert_eq(wide, 0.1);
    cr_assert_eq(value_float("3.4e38", 6, 4, &narrow), VALUE_FINE);
    cr_assert_eq(value_float("3.5e38", 6, 4, &narrow), VALUE_OUT_OF_RANGE);
    cr_assert_eq(value_float("1e309", 5, 8, &wide), VALUE_OUT_OF_RANGE);
}

Test(value_parse, decimals_keep_every_digit)
{
    static const struct {
        const char *text;
        uint32_t precision, scale;
        enum value_problem problem;
        int64_t value;
    } cases[] = {{"1.23", 9, 2, VALUE_FINE, 123}, {"-1.2", 9, 2, VALUE_FINE, -120}, {"1.230", 9, 2, VALUE_FINE, 123},
        {"1.234", 9, 2, VALUE_NOT_EXACT, 0}, {"9999999.99", 9, 2, VALUE_FINE, 999999999},
        {"10000000", 9, 2, VALUE_OUT_OF_RANGE, 0}, {"1e6", 9, 2, VALUE_FINE, 100000000},
        {"0.01e2", 9, 2, VALUE_FINE, 100}, {"1e-3", 9, 2, VALUE_NOT_EXACT, 0}, {"0", 9, 9, VALUE_FINE, 0},
        {"0.999999999", 9, 9, VALUE_FINE, 999999999}, {"1", 9, 9, VALUE_OUT_OF_RANGE, 0},
        {"x", 9, 2, VALUE_MALFORMED, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int32_t value = 0;
        enum value_problem problem = value_decimal(cases[i].text, strlen(cases[i].text), cases[i].precision,
            cases[i].scale, 4, &value);
        cr_assert_eq(problem, cases[i].problem, "%s: %d", cases[i].text, problem);
        cr_assert_eq(value, cases[i].value, "%s: %d", cases[i].text, value);
    }
    unsigned char wide[32];
    char text[80];
    memset(text, '9', 76);
    cr_assert_eq(value_decimal(text, 76, 76, 0, 32, wide), VALUE_FINE);
    memset(text, '9', 77);
    cr_assert_eq(value_decimal(text, 77, 76, 0, 32, wide), VALUE_OUT_OF_RANGE);
}

Test(value_parse, times)
{
    static const struct {
        const char *text;
        bool good;
        int64_t seconds;
        uint32_t nanos;
    } cases[] = {
        {"1970-01-01", true, 0, 0},
        {"2026-03-01T12:34:56.123456Z", true, 1772368496, 123456000},
        {"2026-03-01 12:34:56+02:00", true, 1772361296, 0},
        {"2026-03-01T12:34:56-0530", true, 1772388296, 0},
        {"2026-03-01 12:34", true, 1772368440, 0},
        {"2026-03-01 12:34:56+00", true, 1772368496, 0},
        {"0001-01-01T00:00:00Z", true, -62135596800, 0},
        {"9999-12-31T23:59:59.9999999999z", true, 253402300799, 999999999},
        {"2024-02-29", true, 1709164800, 0},
        {"2023-02-29", false, 0, 0},
        {"1900-02-29", false, 0, 0},
        {"2000-02-29", true, 951782400, 0},
        {"1969-12-31T23:59:59.5", true, -1, 500000000},
        {"2024-13-01", false, 0, 0},
        {"2024-00-01", false, 0, 0},
        {"2024-01-32", false, 0, 0},
        {"2024-1-01", false, 0, 0},
        {"infinity", false, 0, 0},
        {"-infinity", false, 0, 0},
        {"", false, 0, 0},
        {"2024-01-01T", false, 0, 0},
        {"2024-01-01T24:00:00", false, 0, 0},
        {"2024-01-01T23:60:00", false, 0, 0},
        {"2024-01-01T23:59:60", false, 0, 0},
        {"2024-01-01T00:00:00.", false, 0, 0},
        {"2024-01-01T00:00:00Zx", false, 0, 0},
        {"2024-01-01T00:00:00+2", false, 0, 0},
        {"2024-01-01T00:00:00+02:", false, 0, 0},
        {"2024-01-01T00:00:00+99:00", false, 0, 0},
        {"10000-01-01", false, 0, 0},
        {"0000-01-01", false, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct value_time time;
        bool good = value_time_parse(cases[i].text, strlen(cases[i].text), &time);
        cr_assert_eq(good, cases[i].good, "%s", cases[i].text);
        if (good) {
            cr_assert_eq(time.seconds, cases[i].seconds, "%s: %lld", cases[i].text, (long long)time.seconds);
            cr_assert_eq(time.nanos, cases[i].nanos, "%s: %u", cases[i].text, time.nanos);
        }
    }
}

Test(value_parse, numbers_as_seconds)
{
    static const struct {
        const char *text;
        enum value_problem problem;
        int64_t seconds;
        uint32_t nanos;
    } cases[] = {
        {"1700000000", VALUE_FINE, 1700000000, 0},
        {"1700000000.000000", VALUE_FINE, 1700000000, 0},
        {"1.7e9", VALUE_FINE, 1700000000, 0},
        {"17000000001E-1", VALUE_FINE, 1700000000, 100000000},
        {"1700000000.123456789999", VALUE_FINE, 1700000000, 123456789},
        {"1700000000.0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
            VALUE_FINE, 1700000000, 0},
        {"1700000000.1234567891111111111111111111111111111111111111111111111111111111111111111111111111111111111111111",
            VALUE_FINE, 1700000000, 123456789},
        {"0.000000001", VALUE_FINE, 0, 1},
        {"1e-10", VALUE_FINE, 0, 0},
        {"1e-99999999999", VALUE_FINE, 0, 0},
        {"0e99999999999", VALUE_FINE, 0, 0},
        {"-0.0", VALUE_FINE, 0, 0},
        {"-0.5", VALUE_FINE, -1, 500000000},
        {"-1.000000001", VALUE_FINE, -2, 999999999},
        {"-86400.0", VALUE_FINE, -86400, 0},
        {"999999999999.5", VALUE_FINE, 999999999999, 500000000},
        {"1e12", VALUE_OUT_OF_RANGE, 0, 0},
        {"-1e99999999999", VALUE_OUT_OF_RANGE, 0, 0},
        {"1.", VALUE_MALFORMED, 0, 0},
        {".5", VALUE_MALFORMED, 0, 0},
        {"", VALUE_MALFORMED, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct value_time time = {0};
        enum value_problem problem = value_seconds(cases[i].text, strlen(cases[i].text), &time);
        cr_assert_eq(problem, cases[i].problem, "%s: %d", cases[i].text, problem);
        if (problem == VALUE_FINE) {
            cr_assert_eq(time.seconds, cases[i].seconds, "%s: %lld", cases[i].text, (long long)time.seconds);
            cr_assert_eq(time.nanos, cases[i].nanos, "%s: %u", cases[i].text, time.nanos);
        }
    }
}

Test(value_parse, floats_uuids_addresses)
{
    double d;
    float f;
    unsigned char bytes[16];
    cr_assert_eq(value_float("1e308", 5, 8, &d), VALUE_FINE);
    cr_assert_eq(value_float("1e309", 5, 8, &d), VALUE_OUT_OF_RANGE);
    cr_assert_eq(value_float("1e39", 4, 4, &f), VALUE_OUT_OF_RANGE);
    cr_assert_eq(value_float("-2.5", 4, 4, &f), VALUE_FINE);
    cr_assert_eq(f, -2.5f);
    cr_assert_eq(value_float("nan", 3, 8, &d), VALUE_MALFORMED);
    cr_assert(value_uuid("00112233-4455-6677-8899-AABBCCDDEEFF", 36, bytes));
    cr_assert_arr_eq(bytes, "\x77\x66\x55\x44\x33\x22\x11\x00\xff\xee\xdd\xcc\xbb\xaa\x99\x88", 16);
    cr_assert_not(value_uuid("00112233-4455-6677-8899-AABBCCDDEEFG", 36, bytes));
    cr_assert_not(value_uuid("00112233445566778899AABBCCDDEEFF", 32, bytes));
    cr_assert_not(value_uuid("0011223--4455-6677-8899-AABBCCDDEEFF", 36, bytes));
    cr_assert(value_ipv4("1.2.3.4", 7, bytes));
    cr_assert_arr_eq(bytes, "\x04\x03\x02\x01", 4);
    cr_assert_not(value_ipv4("1.2.3", 5, bytes));
    cr_assert(value_ipv6("::1", 3, bytes) && bytes[15] == 1);
    cr_assert(value_ipv6("1.2.3.4", 7, bytes) && bytes[10] == 0xFF && bytes[15] == 4);
    cr_assert_not(value_ipv6("::g", 3, bytes));
}
