// SPDX-License-Identifier: Apache-2.0
//
// Keeps callers away from a dependency that does not answer. Closed: everything passes; `failures` in a row open it.
// Open: nothing passes for a sixteenth of `open`. Then half open: one probe at a time passes; `successes` probes in a
// row close it, one failed probe opens it again, for twice as long each time until it is closed, and at most for
// `open`: a server that restarts is met within seconds, and one that stays away is asked seldom. A probe that never
// reports is given up after `open`, so that a lost thread cannot keep the breaker half open for ever. It decides only;
// it makes no calls and never waits. Every caller that was allowed reports exactly one of breaker_success,
// breaker_failure, breaker_cancel. Only failures of the dependency count (unreachable, timeout, overload), not its
// answers to a bad request. Thread-safe: a short lock. The clock, the series and the observer must outlive the
// breaker.
#ifndef RELAY_BASE_CIRCUIT_BREAKER_H
#define RELAY_BASE_CIRCUIT_BREAKER_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/base/metrics.h"

#include <stdbool.h>
#include <stdint.h>

// The numbers are those of METRIC_BREAKER_STATE.
enum breaker_state { BREAKER_CLOSED = 0, BREAKER_HALF_OPEN = 1, BREAKER_OPEN = 2 };

struct breaker_options {
    int64_t failures;     // in a row, at least 1
    struct duration open; // the longest time, above 0
    int64_t successes;    // in a row, at least 1
};

struct circuit_breaker;

// Called after each change, outside the lock, on the thread whose report or question caused it. Two changes by two
// threads may be told in either order: ask breaker_state_of() for the present one.
typedef void breaker_observer(void *context, enum breaker_state from, enum breaker_state to);

// state (METRIC_BREAKER_STATE), trips (METRIC_BREAKER_TRIPS): series of this dependency, NULL for none.
// observer: may be NULL. Errors: NO_MEMORY, SYSTEM.
struct circuit_breaker *breaker_new(struct breaker_options options, const struct clock *clock,
    struct metric_series *state, struct metric_series *trips, breaker_observer *observer, void *context,
    struct relay_error *error);
void breaker_free(struct circuit_breaker *breaker); // accepts NULL

// true: make the call, then report. false: do not; breaker_next_probe() says when to ask again.
bool breaker_allow(struct circuit_breaker *breaker);
// The same with the error of breaker_refuse().
bool breaker_check(struct circuit_breaker *breaker, enum relay_server server, const char *name,
    struct relay_error *error);
// Sets an error (BREAKER_OPEN, retriable) that begins with the failure that keeps it open and names the dependency. The
// text stays the same until the next failure, so that logs fold it and boards do not change. Returns false.
bool breaker_refuse(struct circuit_breaker *breaker, enum relay_server server, const char *name,
    struct relay_error *error);
void breaker_success(struct circuit_breaker *breaker);
// why: the failure in words, copied; NULL: not known.
void breaker_failure(struct circuit_breaker *breaker, const char *why);
// The allowed call was not made, or was ended by our own stop: says nothing about the dependency.
void breaker_cancel(struct circuit_breaker *breaker);

enum breaker_state breaker_state_of(struct circuit_breaker *breaker);
const char *breaker_state_name(enum breaker_state state); // "closed", "half_open", "open"; static
// When breaker_allow() may next say yes: now or earlier when it would at once.
struct mono_time breaker_next_probe(struct circuit_breaker *breaker);
// New limits while running (reload). The present state and counts stay.
void breaker_set_options(struct circuit_breaker *breaker, struct breaker_options options);

#endif
