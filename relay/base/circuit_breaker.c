// SPDX-License-Identifier: Apache-2.0
//
// See circuit_breaker.h. All state changes go through move(), which does the bookkeeping: gauge, counter, times. The
// observer is told after the lock is released, so that it may call back.
//
// Reports can come late: a call that was allowed while closed may fail after the breaker has opened. Such a report is
// ignored while open. While half open it is taken for the probe's, which at worst opens the breaker once more or counts
// one success too many: the next call corrects it.
#include "relay/base/circuit_breaker.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

// A server that restarts or fails over is back after seconds, and is not kept waiting for the whole of `open`.
#define FIRST_OPEN_SHARE 16

struct circuit_breaker {
    // never change
    const struct clock *clock;
    struct metric_series *state_series, *trips_series;
    breaker_observer *observer;
    void *context;

    pthread_mutex_t lock;
    // under the lock
    struct breaker_options options;
    enum breaker_state state;
    int64_t in_a_row;            // failures while closed, successes while half open
    bool probing;                // half open: a probe is out
    struct duration opens_for;   // when it opens next, at most options.open
    struct mono_time next_probe; // open: when the first probe may go; half open and probing: when the probe is given up
    char why[256];               // the last failure in words, "" before any
};

struct change {
    enum breaker_state from, to;
};

static struct duration first_open(struct breaker_options options)
{
    struct duration share = {.ns = options.open.ns / FIRST_OPEN_SHARE};
    return share.ns > 0 ? share : options.open;
}

// @locks held. The only place that writes `state`.
static void move(struct circuit_breaker *breaker, enum breaker_state to)
{
    assert(breaker->state != to);
    breaker->state = to;
    breaker->in_a_row = 0;
    breaker->probing = false;
    if (to == BREAKER_OPEN) {
        breaker->next_probe = mono_add(clock_mono(breaker->clock), breaker->opens_for);
        int64_t open = breaker->options.open.ns;
        breaker->opens_for.ns = breaker->opens_for.ns < open / 2 ? 2 * breaker->opens_for.ns : open;
        if (breaker->trips_series != NULL) {
            metric_add(breaker->trips_series, 1);
        }
    } else if (to == BREAKER_CLOSED) {
        breaker->opens_for = first_open(breaker->options);
    }
    if (breaker->state_series != NULL) {
        metric_set(breaker->state_series, to);
    }
}

static struct change begin(struct circuit_breaker *breaker)
{
    pthread_mutex_lock(&breaker->lock);
    return (struct change){.from = breaker->state, .to = breaker->state};
}

static void end(struct circuit_breaker *breaker, struct change change)
{
    change.to = breaker->state;
    pthread_mutex_unlock(&breaker->lock);
    if (change.from != change.to && breaker->observer != NULL) {
        breaker->observer(breaker->context, change.from, change.to);
    }
}

static void check_options(struct breaker_options options)
{
    assert(options.failures >= 1 && options.successes >= 1 && options.open.ns > 0);
    (void)options;
}

struct circuit_breaker *breaker_new(struct breaker_options options, const struct clock *clock,
    struct metric_series *state, struct metric_series *trips, breaker_observer *observer, void *context,
    struct relay_error *error)
{
    check_options(options);
    struct circuit_breaker *breaker = calloc(1, sizeof(*breaker));
    if (breaker == NULL) {
        error_no_memory(error, "a circuit breaker");
        return NULL;
    }
    breaker->options = options;
    breaker->opens_for = first_open(options);
    breaker->clock = clock;
    breaker->state_series = state;
    breaker->trips_series = trips;
    breaker->observer = observer;
    breaker->context = context;
    int failed = pthread_mutex_init(&breaker->lock, NULL);
    if (failed != 0) {
        error_set_detail(error, RELAY_ERROR_SYSTEM, failed, "a lock cannot be made");
        free(breaker);
        return NULL;
    }
    if (state != NULL) {
        metric_set(state, BREAKER_CLOSED);
    }
    return breaker;
}

void breaker_free(struct circuit_breaker *breaker)
{
    if (breaker == NULL) {
        return;
    }
    pthread_mutex_destroy(&breaker->lock);
    free(breaker);
}

bool breaker_allow(struct circuit_breaker *breaker)
{
    struct change change = begin(breaker);
    bool allowed = breaker->state == BREAKER_CLOSED;
    if (!allowed) {
        struct mono_time now = clock_mono(breaker->clock);
        bool waits = breaker->state == BREAKER_OPEN || breaker->probing;
        allowed = !waits || mono_reached(now, breaker->next_probe);
        if (allowed) {
            if (breaker->state == BREAKER_OPEN) {
                move(breaker, BREAKER_HALF_OPEN);
            }
            breaker->probing = true;
            breaker->next_probe = mono_add(now, breaker->options.open);
        }
    }
    end(breaker, change);
    return allowed;
}

bool breaker_check(struct circuit_breaker *breaker, enum relay_server server, const char *name,
    struct relay_error *error)
{
    return breaker_allow(breaker) || breaker_refuse(breaker, server, name, error);
}

bool breaker_refuse(struct circuit_breaker *breaker, enum relay_server server, const char *name,
    struct relay_error *error)
{
    char why[sizeof(breaker->why)];
    pthread_mutex_lock(&breaker->lock);
    snprintf(why, sizeof(why), "%s", breaker->why);
    pthread_mutex_unlock(&breaker->lock);
    error_set(error, RELAY_ERROR_BREAKER_OPEN, "%s%sthe circuit breaker of %s is open", why, why[0] == '\0' ? "" : "; ",
        name);
    if (error != NULL) {
        error->server = server;
    }
    return false;
}

void breaker_success(struct circuit_breaker *breaker)
{
    struct change change = begin(breaker);
    if (breaker->state == BREAKER_CLOSED) {
        breaker->in_a_row = 0;
    } else if (breaker->state == BREAKER_HALF_OPEN && breaker->probing) {
        breaker->probing = false;
        breaker->in_a_row++;
        if (breaker->in_a_row >= breaker->options.successes) {
            move(breaker, BREAKER_CLOSED);
        }
    }
    end(breaker, change);
}

void breaker_failure(struct circuit_breaker *breaker, const char *why)
{
    struct change change = begin(breaker);
    snprintf(breaker->why, sizeof(breaker->why), "%s", why == NULL ? "" : why);
    if (breaker->state == BREAKER_CLOSED) {
        breaker->in_a_row++;
        if (breaker->in_a_row >= breaker->options.failures) {
            move(breaker, BREAKER_OPEN);
        }
    } else if (breaker->state == BREAKER_HALF_OPEN && breaker->probing) {
        move(breaker, BREAKER_OPEN);
    }
    end(breaker, change);
}

void breaker_cancel(struct circuit_breaker *breaker)
{
    struct change change = begin(breaker);
    breaker->probing = false;
    end(breaker, change);
}

enum breaker_state breaker_state_of(struct circuit_breaker *breaker)
{
    pthread_mutex_lock(&breaker->lock);
    enum breaker_state state = breaker->state;
    pthread_mutex_unlock(&breaker->lock);
    return state;
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "half_open", "open"};
    return names[state];
}

struct mono_time breaker_next_probe(struct circuit_breaker *breaker)
{
    pthread_mutex_lock(&breaker->lock);
    bool waits = breaker->state == BREAKER_OPEN || (breaker->state == BREAKER_HALF_OPEN && breaker->probing);
    struct mono_time at = waits ? breaker->next_probe : clock_mono(breaker->clock);
    pthread_mutex_unlock(&breaker->lock);
    return at;
}

void breaker_set_options(struct circuit_breaker *breaker, struct breaker_options options)
{
    check_options(options);
    pthread_mutex_lock(&breaker->lock);
    breaker->options = options;
    if (breaker->state == BREAKER_CLOSED) {
        breaker->opens_for = first_open(options);
    } else if (breaker->opens_for.ns > options.open.ns) {
        breaker->opens_for = options.open;
    }
    pthread_mutex_unlock(&breaker->lock);
}
