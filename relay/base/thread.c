// SPDX-License-Identifier: Apache-2.0
#include "relay/base/thread.h"

#include <assert.h>
#include <string.h>
#include <time.h>

bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *argument), void *argument,
    struct relay_error *error)
{
    assert(strlen(name) < 16);
    int failure = pthread_create(thread, NULL, run, argument);
    if (failure != 0) {
        return error_set_detail(error, RELAY_ERROR_SYSTEM, failure, "the thread \"%s\" cannot be started: %s", name,
            strerror(failure));
    }
    pthread_setname_np(*thread, name);
    return true;
}

bool thread_join_until(pthread_t thread, const struct clock *clock, struct mono_time deadline)
{
    struct duration left = mono_left(clock_mono(clock), deadline);
    // The caller's clock says how long, the system's says until when: a fake clock does not move while we wait.
#ifdef __SANITIZE_THREAD__
    // ThreadSanitizer does not know pthread_clockjoin_np: it would take a joined thread for a leaked one.
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    struct mono_time until = mono_add((struct mono_time){(int64_t)at.tv_sec * 1000000000 + at.tv_nsec}, left);
    at = (struct timespec){.tv_sec = until.ns / 1000000000, .tv_nsec = until.ns % 1000000000};
    return pthread_timedjoin_np(thread, NULL, &at) == 0;
#else
    struct mono_time until = mono_add(clock_mono(clock_system()), left);
    struct timespec at = {.tv_sec = until.ns / 1000000000, .tv_nsec = until.ns % 1000000000};
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &at) == 0;
#endif
}
