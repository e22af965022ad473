// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/table_worker_inside.h"

#include "relay/base/log.h"

#include <time.h>

#define RUN_MARGIN DURATION_S(1) // max_execution_time is rounded up

bool table_worker_stopping(const struct table_worker *worker)
{
    return worker->options.context->stop && stop_raised(worker->options.context->stop);
}

struct mono_time table_worker_stop_limit(const struct table_worker *worker)
{
    return worker->options.context->stop ? stop_deadline(worker->options.context->stop) : (struct mono_time){INT64_MAX};
}

bool table_worker_given_up(const struct table_worker *worker, const struct table_job *job)
{
    return atomic_load(&job->cancelled) ||
        mono_reached(clock_mono(worker->options.context->clock), table_worker_stop_limit(worker));
}

// Sleeps; ends early when the job is given up. In slices, since the stop does not tell us.
void table_worker_pause(struct table_worker *worker, const struct table_job *job, struct duration length)
{
    struct mono_time until = mono_add(clock_mono(worker->options.context->clock), length);
    pthread_mutex_lock(&worker->lock);
    while (!table_worker_given_up(worker, job) && !mono_reached(clock_mono(worker->options.context->clock), until)) {
        struct duration left = mono_left(clock_mono(worker->options.context->clock), until);
        int64_t slice = left.ns < 100000000 ? left.ns : 100000000;
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_nsec += (long)slice;
        if (at.tv_nsec >= 1000000000) {
            at.tv_sec++;
            at.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&worker->changed, &worker->lock, &at);
    }
    pthread_mutex_unlock(&worker->lock);
}

// Notes why something is repeated, for the board; NULL: it is not. The trouble of an INSERT lasts until one succeeds.
void table_worker_note(struct table_worker *worker, const struct relay_error *error, bool of_insert)
{
    if (!error && !of_insert && worker->insert_trouble) {
        return;
    }
    worker->insert_trouble = error && (of_insert || worker->insert_trouble);
    pthread_mutex_lock(&worker->lock);
    bool changed = worker->troubled != (error != NULL);
    worker->troubled = error != NULL;
    if (error) {
        worker->trouble = *error;
    }
    pthread_mutex_unlock(&worker->lock);
    if (changed) {
        worker->options.wake(worker->options.wake_context);
    }
}

void table_worker_log_retry(const struct table_worker *worker, const char *what, const struct relay_error *error)
{
    log_event(LOG_LEVEL_WARNING, "insert.retry", what, LOG_TEXT("table", worker->options.route->table),
        LOG_ERROR(error));
}

// After which the server has ended what began at `start`, by its max_execution_time.
struct mono_time table_worker_end_of_run(const struct table_worker *worker, struct mono_time start)
{
    struct duration most = worker->options.context->config->clickhouse.request_timeout;
    return mono_add(mono_add(start, most), RUN_MARGIN);
}

bool table_worker_has_in_doubt(struct table_worker *worker, bool with_present, struct mono_time *until)
{
    struct mono_time now = clock_mono(worker->options.context->clock);
    pthread_mutex_lock(&worker->lock);
    *until = worker->doubt.until;
    if (with_present && mono_before(*until, worker->running_until)) {
        *until = worker->running_until;
    }
    pthread_mutex_unlock(&worker->lock);
    return mono_before(now, *until);
}
