// SPDX-License-Identifier: Apache-2.0
//
// Starting a thread with a name, and waiting for its end no longer than until a deadline.
#ifndef RELAY_BASE_THREAD_H
#define RELAY_BASE_THREAD_H

#include "relay/base/clock.h"
#include "relay/base/error.h"

#include <pthread.h>
#include <stdbool.h>

// name: at most 15 characters, as `top -H` shows it. Errors: SYSTEM.
bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *argument), void *argument,
    struct relay_error *error);
// true: it has ended and is joined. false: it is still running at the deadline; may be called again.
bool thread_join_until(pthread_t thread, const struct clock *clock, struct mono_time deadline);

#endif
