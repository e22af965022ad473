// SPDX-License-Identifier: Apache-2.0
//
// Time, with its unit and its kind in the type: a point on the monotonic clock, a point on the wall clock, a length.
// Whoever waits or measures takes a `const struct clock *`, so that tests own the time. The real clock is
// clock_system(); clock_fake (tests) moves only when told to. All functions may be called from any thread.
#ifndef RELAY_BASE_CLOCK_H
#define RELAY_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct duration {
    int64_t ns;
};
// CLOCK_MONOTONIC (CLOCK_BOOTTIME is not used: a suspended machine loses its leases by the servers' clocks anyway).
struct mono_time {
    int64_t ns;
};
// Microseconds since 1970-01-01T00:00:00Z, as PostgreSQL and our wire format count.
struct wall_time {
    int64_t us;
};

struct clock {
    struct mono_time (*mono_now)(const struct clock *self);
    struct wall_time (*wall_now)(const struct clock *self);
};

const struct clock *clock_system(void); // static

// A clock for tests: starts at the times given, moves by clock_fake_advance only (both kinds together).
// Thread-safe; `base` must be the first member.
struct clock_fake {
    struct clock base;
    _Atomic int64_t mono_ns;
    _Atomic int64_t wall_us;
};
void clock_fake_init(struct clock_fake *fake, struct mono_time mono, struct wall_time wall);
void clock_fake_advance(struct clock_fake *fake, struct duration by);

static inline struct mono_time clock_mono(const struct clock *clock)
{
    return clock->mono_now(clock);
}
static inline struct wall_time clock_wall(const struct clock *clock)
{
    return clock->wall_now(clock);
}

#define DURATION_NS(n) ((struct duration){(int64_t)(n)})
#define DURATION_US(n) ((struct duration){(int64_t)(n)*1000})
#define DURATION_MS(n) ((struct duration){(int64_t)(n)*1000000})
#define DURATION_S(n)  ((struct duration){(int64_t)(n)*1000000000})

// Sums are clamped at the ends of int64_t, so that "now + for ever" stays for ever.
struct mono_time mono_add(struct mono_time at, struct duration by);
struct duration mono_since(struct mono_time now, struct mono_time then); // now - then; may be negative
static inline bool mono_reached(struct mono_time now, struct mono_time deadline)
{
    return now.ns >= deadline.ns;
}
static inline bool mono_before(struct mono_time a, struct mono_time b)
{
    return a.ns < b.ns;
}
// What is left until the deadline, never negative.
struct duration mono_left(struct mono_time now, struct mono_time deadline);
// For poll(2) and epoll: milliseconds rounded up, so that a wait never ends early and never spins; at most INT_MAX.
int duration_to_poll_ms(struct duration d);
static inline struct duration duration_shorter(struct duration a, struct duration b)
{
    return a.ns < b.ns ? a : b;
}
static inline double duration_seconds(struct duration d)
{
    return (double)d.ns / 1e9;
}
static inline int64_t duration_ms(struct duration d)
{
    return d.ns / 1000000;
}

// "2026-03-01T12:34:56.123456Z": RFC 3339, microseconds, UTC. Years 1 to 9999 (a sign and more digits outside).
// Returns the length without the final NUL; room of WALL_TIME_TEXT always fits.
#define WALL_TIME_TEXT 40
size_t wall_time_format(struct wall_time at, char text[WALL_TIME_TEXT]);

#endif
