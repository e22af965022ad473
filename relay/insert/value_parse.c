// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/value_parse.h"

#include "relay/json/json_walk.h"

#include <arpa/inet.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIGITS    80            // 2^256 has 78
#define LAST_EXPONENT 1000000000000 // zeros that no text is long enough to make up for

// digits * 10^exponent, without zeros at either end; count 0 = the number 0.
struct decimal {
    bool negative;
    unsigned char digits[MAX_DIGITS];
    size_t count;
    long exponent;
    bool too_long; // more significant digits than any type holds
};

static bool split(const char *text, size_t length, struct decimal *number)
{
    if (!json_is_number(text, length)) {
        return false;
    }
    *number = (struct decimal){.negative = text[0] == '-'};
    const char *at = text + (number->negative ? 1 : 0), *end = text + length;
    bool fraction = false;
    long zeros = 0; // seen since the last other digit
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        number->exponent -= fraction ? 1 : 0;
        if (*at == '0') {
            zeros += number->count > 0 ? 1 : 0;
            continue;
        }
        if ((size_t)zeros + number->count + 1 > MAX_DIGITS) {
            number->too_long = true;
            zeros++; // the exponent counts it all the same
            continue;
        }
        memset(number->digits + number->count, 0, (size_t)zeros);
        number->count += (size_t)zeros;
        zeros = 0;
        number->digits[number->count++] = (unsigned char)(*at - '0');
    }
    number->exponent += zeros;
    if (at < end) {
        bool minus = at[1] == '-';
        long written = 0;
        for (at += at[1] == '-' || at[1] == '+' ? 2 : 1; at < end; at++) {
            written = written < LAST_EXPONENT ? written * 10 + (*at - '0') : written;
        }
        number->exponent += minus ? -written : written;
    }
    return true;
}

// limbs = limbs * 10 + digit; false: beyond 256 bits.
static bool push_digit(uint64_t limbs[4], unsigned digit)
{
    unsigned __int128 carry = digit;
    for (int i = 0; i < 4; i++) {
        carry += (unsigned __int128)limbs[i] * 10;
        limbs[i] = (uint64_t)carry;
        carry >>= 64;
    }
    return carry == 0;
}

// The digits followed by `zeros` zeros, as bits. false: beyond 256 bits.
static bool to_bits(const struct decimal *number, long zeros, uint64_t limbs[4])
{
    memset(limbs, 0, 4 * sizeof(limbs[0]));
    if (number->count > 0 && (long)number->count + zeros > MAX_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < number->count; i++) {
        if (!push_digit(limbs, number->digits[i])) {
            return false;
        }
    }
    for (long i = 0; number->count > 0 && i < zeros; i++) {
        if (!push_digit(limbs, 0)) {
            return false;
        }
    }
    return true;
}

// Writes the magnitude into width bytes as two's complement (or unsigned); false: it does not fit.
static bool store(uint64_t limbs[4], bool negative, bool is_signed, uint32_t width, void *bytes)
{
    uint32_t top = width * 8 - (is_signed ? 1 : 0); // the first bit that the magnitude must not have
    for (uint32_t limb = 3; limb > top / 64; limb--) {
        if (limbs[limb] != 0) {
            return false;
        }
    }
    if (top < 256 && limbs[top / 64] >> (top % 64) != 0) {
        // Only the lowest number of all has that bit, and it alone.
        bool lowest = is_signed && negative && limbs[top / 64] == (uint64_t)1 << (top % 64);
        for (uint32_t limb = 0; lowest && limb < top / 64; limb++) {
            lowest = limbs[limb] == 0;
        }
        if (!lowest) {
            return false;
        }
    }
    if (negative) {
        unsigned carry = 1;
        for (int i = 0; i < 4; i++) {
            limbs[i] = ~limbs[i] + carry;
            carry = carry && limbs[i] == 0;
        }
    }
    memcpy(bytes, limbs, width);
    return true;
}

// Up to 18 plain digits: nearly every number there is.
static bool short_integer(const char *text, size_t length, int64_t *value)
{
    bool negative = length > 0 && text[0] == '-';
    const char *at = text + (negative ? 1 : 0), *end = text + length;
    if (at == end || end - at > 18 || (*at == '0' && end - at > 1)) {
        return false;
    }
    int64_t number = 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9') {
            return false;
        }
        number = number * 10 + (*at - '0');
    }
    *value = negative ? -number : number;
    return true;
}

static bool fits(int64_t value, bool is_signed, uint32_t width)
{
    if (width >= 8) {
        return is_signed || value >= 0;
    }
    int64_t range = (int64_t)1 << (width * 8 - (is_signed ? 1 : 0));
    return value >= (is_signed ? -range : 0) && value < range;
}

enum value_problem value_integer(const char *text, size_t length, bool is_signed, uint32_t width, void *bytes)
{
    int64_t value;
    if (width <= 8 && short_integer(text, length, &value)) {
        if (!fits(value, is_signed, width)) {
            return VALUE_OUT_OF_RANGE;
        }
        memcpy(bytes, &value, width);
        return VALUE_FINE;
    }
    struct decimal number;
    uint64_t limbs[4];
    if (!split(text, length, &number)) {
        return VALUE_MALFORMED;
    }
    if (number.count > 0 && number.exponent < 0) {
        return VALUE_NOT_EXACT;
    }
    if (number.count == 0) {
        memset(bytes, 0, width);
        return VALUE_FINE;
    }
    if (number.too_long || (number.negative && !is_signed) || !to_bits(&number, number.exponent, limbs) ||
        !store(limbs, number.negative, is_signed, width, bytes)) {
        return VALUE_OUT_OF_RANGE;
    }
    return VALUE_FINE;
}

enum value_problem value_decimal(const char *text, size_t length, uint32_t precision, uint32_t scale, uint32_t width,
    void *bytes)
{
    struct decimal number;
    uint64_t limbs[4];
    if (!split(text, length, &number)) {
        return VALUE_MALFORMED;
    }
    if (number.count == 0) {
        memset(bytes, 0, width);
        return VALUE_FINE;
    }
    long shift = number.exponent + (long)scale;
    if ((long)number.count + number.exponent > (long)precision - (long)scale) {
        return VALUE_OUT_OF_RANGE; // too many digits before the point
    }
    if (number.too_long || shift < 0) {
        return VALUE_NOT_EXACT;
    }
    if (!to_bits(&number, shift, limbs) || !store(limbs, number.negative, true, width, bytes)) {
        return VALUE_OUT_OF_RANGE;
    }
    return VALUE_FINE;
}

static unsigned digit_at(const struct decimal *number, long place)
{
    return place >= 0 && place < (long)number->count ? number->digits[place] : 0;
}

enum value_problem value_seconds(const char *text, size_t length, struct value_time *time)
{
    enum { LONGEST = 12 }; // digits of the year 9999 and some
    struct decimal number;
    if (!split(text, length, &number)) {
        return VALUE_MALFORMED;
    }
    *time = (struct value_time){0};
    if (number.count == 0) {
        return VALUE_FINE;
    }
    long point = (long)number.count + number.exponent; // how many digits are before it
    if (point > LONGEST) {
        return VALUE_OUT_OF_RANGE;
    }
    for (long place = 0; place < point; place++) {
        time->seconds = time->seconds * 10 + digit_at(&number, place);
    }
    for (long place = point; place < point + 9; place++) {
        time->nanos = time->nanos * 10 + digit_at(&number, place);
    }
    if (number.negative) {
        time->seconds = -time->seconds - (time->nanos > 0 ? 1 : 0);
        time->nanos = time->nanos > 0 ? 1000000000 - time->nanos : 0;
    }
    return VALUE_FINE;
}

enum value_problem value_float(const char *text, size_t length, uint32_t width, void *bytes)
{
    char copy[512];
    if (length >= sizeof(copy) || !json_is_number(text, length)) {
        return VALUE_MALFORMED;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    // The locale is C: nobody calls setlocale. A double that is made narrow would be rounded twice.
    float narrow = width == 4 ? strtof(copy, NULL) : 0;
    double value = width == 4 ? narrow : strtod(copy, NULL);
    if (!isfinite(value)) {
        return VALUE_OUT_OF_RANGE;
    }
    memcpy(bytes, width == 4 ? (const void *)&narrow : (const void *)&value, width);
    return VALUE_FINE;
}

// The value of a hex digit plus one; 0: none.
static const unsigned char hex_values[256] = {
    ['0'] = 1,
    ['1'] = 2,
    ['2'] = 3,
    ['3'] = 4,
    ['4'] = 5,
    ['5'] = 6,
    ['6'] = 7,
    ['7'] = 8,
    ['8'] = 9,
    ['9'] = 10,
    ['a'] = 11,
    ['b'] = 12,
    ['c'] = 13,
    ['d'] = 14,
    ['e'] = 15,
    ['f'] = 16,
    ['A'] = 11,
    ['B'] = 12,
    ['C'] = 13,
    ['D'] = 14,
    ['E'] = 15,
    ['F'] = 16,
};

bool value_uuid(const char *text, size_t length, unsigned char bytes[16])
{
    if (length != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-') {
        return false;
    }
    // Where the two digits of each byte stand.
    static const unsigned char places[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
    for (int i = 0; i < 16; i++) {
        unsigned high = hex_values[(unsigned char)text[places[i]]],
                 low = hex_values[(unsigned char)text[places[i] + 1]];
        if (high == 0 || low == 0) {
            return false;
        }
        // Two UInt64, the higher half first, each little endian.
        bytes[i < 8 ? 7 - i : 23 - i] = (unsigned char)((high - 1) << 4 | (low - 1));
    }
    return true;
}

static bool copy_address(const char *text, size_t length, char copy[64])
{
    if (length == 0 || length >= 64 || memchr(text, '\0', length)) {
        return false;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    return true;
}

bool value_ipv4(const char *text, size_t length, unsigned char bytes[4])
{
    char copy[64];
    struct in_addr address;
    if (!copy_address(text, length, copy) || inet_pton(AF_INET, copy, &address) != 1) {
        return false;
    }
    uint32_t host = ntohl(address.s_addr);
    memcpy(bytes, &host, 4);
    return true;
}

bool value_ipv6(const char *text, size_t length, unsigned char bytes[16])
{
    char copy[64];
    struct in_addr four;
    if (!copy_address(text, length, copy)) {
        return false;
    }
    if (inet_pton(AF_INET, copy, &four) == 1) {
        memset(bytes, 0, 10);
        memset(bytes + 10, 0xFF, 2);
        memcpy(bytes + 12, &four, 4);
        return true;
    }
    return inet_pton(AF_INET6, copy, bytes) == 1;
}

struct cursor {
    const char *at, *end;
};

static bool take_digits(struct cursor *cursor, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++) {
        if (cursor->at >= cursor->end || *cursor->at < '0' || *cursor->at > '9') {
            return false;
        }
        *value = *value * 10 + (*cursor->at++ - '0');
    }
    return true;
}

static bool take_char(struct cursor *cursor, char c)
{
    if (cursor->at < cursor->end && *cursor->at == c) {
        cursor->at++;
        return true;
    }
    return false;
}

// Days from 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
// algorithms").
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool take_date(struct cursor *cursor, int64_t *days)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;
    if (!take_digits(cursor, 4, &year) || !take_char(cursor, '-') || !take_digits(cursor, 2, &month) ||
        !take_char(cursor, '-') || !take_digits(cursor, 2, &day) || year < 1 || month < 1 || month > 12 || day < 1) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > lengths[month - 1] + (month == 2 && leap ? 1 : 0)) {
        return false;
    }
    *days = days_of(year, month, day);
    return true;
}

static bool take_clock(struct cursor *cursor, struct value_time *time)
{
    int hour, minute, second = 0;
    if (!take_digits(cursor, 2, &hour) || !take_char(cursor, ':') || !take_digits(cursor, 2, &minute) ||
        (take_char(cursor, ':') && !take_digits(cursor, 2, &second)) || hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    time->seconds += hour * 3600 + minute * 60 + second;
    if (take_char(cursor, '.')) {
        const char *first = cursor->at;
        uint32_t unit = 100000000;
        for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++, unit /= 10) {
            time->nanos += (uint32_t)(*cursor->at - '0') * unit;
        }
        return cursor->at > first;
    }
    return true;
}

static bool take_zone(struct cursor *cursor, struct value_time *time)
{
    if (cursor->at == cursor->end || take_char(cursor, 'Z') || take_char(cursor, 'z')) {
        return true;
    }
    int sign = take_char(cursor, '+') ? 1 : take_char(cursor, '-') ? -1 : 0;
    int hours, minutes = 0;
    if (sign == 0 || !take_digits(cursor, 2, &hours)) {
        return false;
    }
    bool colon = take_char(cursor, ':');
    if ((colon || cursor->at < cursor->end) && !take_digits(cursor, 2, &minutes)) {
        return false;
    }
    time->seconds -= sign * (hours * 3600 + minutes * 60);
    return hours <= 18 && minutes <= 59;
}

bool value_time_parse(const char *text, size_t length, struct value_time *time)
{
    struct cursor cursor = {text, text + length};
    int64_t days;
    *time = (struct value_time){0};
    if (!take_date(&cursor, &days)) {
        return false;
    }
    time->seconds = days * 86400;
    if (cursor.at == cursor.end) {
        return true;
    }
    if (!take_char(&cursor, 'T') && !take_char(&cursor, 't') && !take_char(&cursor, ' ')) {
        return false;
    }
    return take_clock(&cursor, time) && take_zone(&cursor, time) && cursor.at == cursor.end;
}
