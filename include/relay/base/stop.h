// SPDX-License-Identifier: Apache-2.0
//
// The wish to stop, told once to all threads: a flag to look at, a descriptor to poll beside sockets, and the deadline
// until which work in flight may be finished. Raised by the lifecycle, read by every loop.
#ifndef RELAY_BASE_STOP_H
#define RELAY_BASE_STOP_H

#include "relay/base/clock.h"
#include "relay/base/error.h"

#include <stdatomic.h>
#include <stdbool.h>

struct stop {
    int fd; // readable for ever once raised (an eventfd that nobody reads)
    atomic_bool raised;
    _Atomic int64_t drain_until_ns; // monotonic; INT64_MAX before
};

bool stop_init(struct stop *stop, struct relay_error *error);
void stop_finish(struct stop *stop);
// Async-signal-safe. A second call moves the deadline only to an earlier time.
void stop_raise(struct stop *stop, struct mono_time drain_until);
bool stop_raised(const struct stop *stop);
struct mono_time stop_deadline(const struct stop *stop);
// Sleeps until `until` or the stop, whichever is first. Returns true when stopping.
bool stop_wait(const struct stop *stop, const struct clock *clock, struct mono_time until);

#endif
