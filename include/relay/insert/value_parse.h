// SPDX-License-Identifier: Apache-2.0
//
// From text to the bytes that ClickHouse stores: numbers of any width, decimals, floats, UUIDs, times, addresses. Pure
// functions without memory of their own; bytes are little endian as on the wire. Nothing is rounded, wrapped or cut,
// except what the names say: a float takes the nearest value, a time keeps nine digits of a second.
#ifndef RELAY_INSERT_VALUE_PARSE_H
#define RELAY_INSERT_VALUE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum value_problem { VALUE_FINE, VALUE_MALFORMED, VALUE_OUT_OF_RANGE, VALUE_NOT_EXACT };

// A number by JSON's grammar ("-12", "1.0", "3e2") that is whole; width 1 to 32 bytes.
enum value_problem value_integer(const char *text, size_t length, bool is_signed, uint32_t width, void *bytes);
// times 10^scale, at most `precision` digits; width 4 to 32 bytes.
enum value_problem value_decimal(const char *text, size_t length, uint32_t precision, uint32_t scale, uint32_t width,
    void *bytes);
// The nearest float of width 4 or 8; out of range when that is infinite.
enum value_problem value_float(const char *text, size_t length, uint32_t width, void *bytes);
// 8-4-4-4-12 hex digits.
bool value_uuid(const char *text, size_t length, unsigned char bytes[16]);
bool value_ipv4(const char *text, size_t length, unsigned char bytes[4]);
bool value_ipv6(const char *text, size_t length, unsigned char bytes[16]); // an IPv4 address becomes ::ffff:a.b.c.d

struct value_time {
    int64_t seconds; // since 1970-01-01T00:00:00Z
    uint32_t nanos;
};
// A number by JSON's grammar as seconds since 1970; digits after the ninth of a second are dropped.
enum value_problem value_seconds(const char *text, size_t length, struct value_time *time);
// "YYYY-MM-DD", with "T" or " " and "hh:mm[:ss[.f...]]" and "Z", "+hh", "+hh:mm" or "+hhmm" (none: UTC). Years 1 to
// 9999.
bool value_time_parse(const char *text, size_t length, struct value_time *time);

#endif
