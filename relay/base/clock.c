// SPDX-License-Identifier: Apache-2.0
//
// See clock.h. The civil-date arithmetic is the proleptic Gregorian calendar that PostgreSQL and ClickHouse use too
// (days_from_civil, in the form published by Howard Hinnant); gmtime() would do, but costs ten times as much per event.
#include "relay/base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

static struct mono_time system_mono(const struct clock *self)
{
    (void)self;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (struct mono_time){(int64_t)now.tv_sec * 1000000000 + now.tv_nsec};
}

static struct wall_time system_wall(const struct clock *self)
{
    (void)self;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (struct wall_time){(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000};
}

const struct clock *clock_system(void)
{
    static const struct clock clock = {.mono_now = system_mono, .wall_now = system_wall};
    return &clock;
}

static struct mono_time fake_mono(const struct clock *self)
{
    const struct clock_fake *fake = (const struct clock_fake *)self;
    return (struct mono_time){fake->mono_ns};
}

static struct wall_time fake_wall(const struct clock *self)
{
    const struct clock_fake *fake = (const struct clock_fake *)self;
    return (struct wall_time){fake->wall_us};
}

void clock_fake_init(struct clock_fake *fake, struct mono_time mono, struct wall_time wall)
{
    fake->base.mono_now = fake_mono;
    fake->base.wall_now = fake_wall;
    fake->mono_ns = mono.ns;
    fake->wall_us = wall.us;
}

void clock_fake_advance(struct clock_fake *fake, struct duration by)
{
    fake->mono_ns += by.ns;
    fake->wall_us += by.ns / 1000;
}

struct mono_time mono_add(struct mono_time at, struct duration by)
{
    int64_t sum;
    if (__builtin_add_overflow(at.ns, by.ns, &sum)) {
        sum = by.ns > 0 ? INT64_MAX : INT64_MIN;
    }
    return (struct mono_time){sum};
}

struct duration mono_since(struct mono_time now, struct mono_time then)
{
    int64_t difference;
    if (__builtin_sub_overflow(now.ns, then.ns, &difference)) {
        difference = now.ns > then.ns ? INT64_MAX : INT64_MIN;
    }
    return (struct duration){difference};
}

struct duration mono_left(struct mono_time now, struct mono_time deadline)
{
    struct duration left = mono_since(deadline, now);
    return left.ns < 0 ? (struct duration){0} : left;
}

int duration_to_poll_ms(struct duration d)
{
    if (d.ns <= 0) {
        return 0;
    }
    int64_t ms = d.ns / 1000000 + (d.ns % 1000000 != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static char *put_digits(char *at, int64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + width;
}

size_t wall_time_format(struct wall_time at, char text[WALL_TIME_TEXT])
{
    int64_t seconds = at.us / 1000000;
    int64_t micros = at.us % 1000000;
    if (micros < 0) {
        micros += 1000000;
        seconds--;
    }
    int64_t days = seconds / 86400;
    int64_t second_of_day = seconds % 86400;
    if (second_of_day < 0) {
        second_of_day += 86400;
        days--;
    }
    days += 719468; // from 1970-01-01 to 0000-03-01
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    int64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    int64_t year = year_of_era + era * 400 + (month <= 2);

    char *end = text;
    if (year < 0 || year > 9999) {
        int used = snprintf(text, 10, "%+05lld", (long long)year);
        end += used;
    } else {
        end = put_digits(end, year, 4);
    }
    *end++ = '-';
    end = put_digits(end, month, 2);
    *end++ = '-';
    end = put_digits(end, day, 2);
    *end++ = 'T';
    end = put_digits(end, second_of_day / 3600, 2);
    *end++ = ':';
    end = put_digits(end, second_of_day / 60 % 60, 2);
    *end++ = ':';
    end = put_digits(end, second_of_day % 60, 2);
    *end++ = '.';
    end = put_digits(end, micros, 6);
    *end++ = 'Z';
    *end = '\0';
    return (size_t)(end - text);
}
