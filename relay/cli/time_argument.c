// SPDX-License-Identifier: Apache-2.0
//
// See time_argument.h. A date is tried first; what does not begin with four digits and '-' is a length of time.
#include "relay/cli/time_argument.h"

#include <ctype.h>
#include <string.h>

// Exactly `digits` digits; moves *at behind them. -1: not so.
static int take_number(const char **at, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)(*at)[i])) {
            return -1;
        }
        value = value * 10 + ((*at)[i] - '0');
    }
    *at += digits;
    return value;
}

static bool take(const char **at, char c)
{
    if (**at != c) {
        return false;
    }
    (*at)++;
    return true;
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

// Days since 1970-01-01 of the proleptic Gregorian calendar.
static int64_t day_number(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool parse_clock(const char **at, int64_t *us)
{
    int hour = take_number(at, 2);
    if (hour < 0 || hour > 23 || !take(at, ':')) {
        return false;
    }
    int minute = take_number(at, 2), second = 0;
    if (minute < 0 || minute > 59) {
        return false;
    }
    if (take(at, ':')) {
        second = take_number(at, 2);
        if (second < 0 || second > 59) {
            return false;
        }
    }
    int64_t fraction = 0;
    if (take(at, '.')) {
        int64_t unit = 100000;
        if (!isdigit((unsigned char)**at)) {
            return false;
        }
        for (; isdigit((unsigned char)**at); (*at)++, unit /= 10) {
            fraction += unit * (**at - '0');
        }
    }
    *us = ((hour * 60LL + minute) * 60 + second) * 1000000 + fraction;
    return true;
}

static bool parse_offset(const char **at, int64_t *us)
{
    *us = 0;
    if (**at == '\0' || take(at, 'Z') || take(at, 'z')) {
        return true;
    }
    int sign = **at == '+' ? 1 : **at == '-' ? -1 : 0;
    if (sign == 0) {
        return false;
    }
    (*at)++;
    int hours = take_number(at, 2);
    take(at, ':');
    int minutes = take_number(at, 2);
    *us = sign * (hours * 60LL + minutes) * 60000000;
    return hours >= 0 && hours <= 23 && minutes >= 0 && minutes <= 59;
}

static bool parse_date(const char *at, struct wall_time *time)
{
    int year = take_number(&at, 4);
    if (year < 1 || !take(&at, '-')) {
        return false;
    }
    int month = take_number(&at, 2);
    if (month < 1 || month > 12 || !take(&at, '-')) {
        return false;
    }
    int day = take_number(&at, 2);
    if (day < 1 || day > days_in(year, month)) {
        return false;
    }
    int64_t clock_us = 0, offset_us = 0;
    if (*at != '\0' &&
        (!(take(&at, 'T') || take(&at, 't') || take(&at, ' ')) || !parse_clock(&at, &clock_us) ||
            !parse_offset(&at, &offset_us))) {
        return false;
    }
    time->us = day_number(year, month, day) * 86400000000 + clock_us - offset_us;
    return *at == '\0';
}

// The unit's seconds; moves *at behind its name. 0: no unit.
static int64_t take_unit(const char **at)
{
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = {{"seconds", 1}, {"second", 1}, {"sec", 1}, {"s", 1}, {"minutes", 60}, {"minute", 60}, {"min", 60},
        {"m", 60}, {"hours", 3600}, {"hour", 3600}, {"h", 3600}, {"days", 86400}, {"day", 86400}, {"d", 86400},
        {"weeks", 604800}, {"week", 604800}, {"w", 604800}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t length = strlen(units[i].name);
        if (strncmp(*at, units[i].name, length) == 0 && !isalpha((unsigned char)(*at)[length])) {
            *at += length;
            return units[i].seconds;
        }
    }
    return 0;
}

static void skip_blanks(const char **at)
{
    while (**at == ' ') {
        (*at)++;
    }
}

#define LONGEST_AGO (100LL * 366 * 86400) // seconds

static bool parse_ago(const char *at, struct wall_time now, struct wall_time *time)
{
    int64_t seconds = 0;
    if (!isdigit((unsigned char)*at)) {
        return false;
    }
    while (isdigit((unsigned char)*at)) {
        int64_t value = 0;
        for (; isdigit((unsigned char)*at); at++) {
            value = value * 10 + (*at - '0');
            if (value > LONGEST_AGO) {
                return false;
            }
        }
        skip_blanks(&at);
        int64_t unit = take_unit(&at);
        if (unit == 0) {
            return false;
        }
        if (value > LONGEST_AGO / unit) {
            return false;
        }
        seconds += value * unit;
        skip_blanks(&at);
    }
    if (strcmp(at, "ago") == 0) {
        at += 3;
    }
    if (*at != '\0' || seconds > LONGEST_AGO) {
        return false;
    }
    time->us = now.us - seconds * 1000000;
    return true;
}

bool time_argument_parse(const char *text, struct wall_time now, struct wall_time *time, struct relay_error *error)
{
    if (parse_date(text, time) || parse_ago(text, now, time)) {
        return true;
    }
    return error_set(error, RELAY_ERROR_USAGE,
        "\"%.60s\" is no time: a date like 2026-03-01T12:34:56Z, or how long ago like 2h, 3d or 1h30m", text);
}
