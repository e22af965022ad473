// SPDX-License-Identifier: Apache-2.0
#include "relay/base/stop.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool stop_init(struct stop *stop, struct relay_error *error)
{
    stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop->fd < 0) {
        return error_set(error, RELAY_ERROR_SYSTEM, "eventfd: %s", strerror(errno));
    }
    atomic_init(&stop->raised, false);
    atomic_init(&stop->drain_until_ns, INT64_MAX);
    return true;
}

void stop_finish(struct stop *stop)
{
    if (stop->fd >= 0) {
        close(stop->fd);
        stop->fd = -1;
    }
}

void stop_raise(struct stop *stop, struct mono_time drain_until)
{
    int64_t before = atomic_load(&stop->drain_until_ns);
    while (drain_until.ns < before && !atomic_compare_exchange_weak(&stop->drain_until_ns, &before, drain_until.ns)) {
    }
    if (!atomic_exchange(&stop->raised, true)) {
        int saved = errno;
        uint64_t one = 1;
        ssize_t written = write(stop->fd, &one, sizeof(one));
        (void)written; // cannot fail: the counter is 0
        errno = saved;
    }
}

bool stop_raised(const struct stop *stop)
{
    return atomic_load(&stop->raised);
}

struct mono_time stop_deadline(const struct stop *stop)
{
    return (struct mono_time){atomic_load(&stop->drain_until_ns)};
}

bool stop_wait(const struct stop *stop, const struct clock *clock, struct mono_time until)
{
    while (!stop_raised(stop)) {
        struct duration left = mono_left(clock_mono(clock), until);
        if (left.ns == 0) {
            return false;
        }
        struct pollfd fd = {.fd = stop->fd, .events = POLLIN};
        if (poll(&fd, 1, duration_to_poll_ms(left)) < 0 && errno != EINTR) {
            return stop_raised(stop);
        }
    }
    return true;
}
