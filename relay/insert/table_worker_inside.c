// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/table_worker_inside.h"

#include "relay/base/log.h"

#include <stdio.h>
#include <time.h>

#define RUN_MARGIN     DURATION_S(1) // max_execution_time is rounded up
#define LEASE_LEAST    DURATION_S(2) // an INSERT is not begun with less
#define LEASE_PATIENCE DURATION_S(5)

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

// Notes why the job is repeated, for the board; NULL: it is not. The trouble of an INSERT lasts until one succeeds;
// that of a read-back ends with it, also where it repeats an INSERT for views.
void table_worker_note(struct table_worker *worker, const struct table_job *job, const struct relay_error *error)
{
    bool of_insert = job->kind == TABLE_JOB_INSERT;
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

static bool hold_lease(struct table_worker *worker, const struct table_job *job, struct mono_time since,
    struct mono_time *end, struct relay_error *error)
{
    const struct relay_context *context = worker->options.context;
    for (;;) {
        struct mono_time until = mono_add(clock_mono(context->clock), LEASE_PATIENCE);
        until = mono_before(table_worker_stop_limit(worker), until) ? table_worker_stop_limit(worker) : until;
        if (insert_lease_hold(worker->options.lease, since, LEASE_LEAST, &job->cancelled, until, end)) {
            return true;
        }
        if (table_worker_given_up(worker, job)) {
            return error_set(error, RELAY_ERROR_STOPPED, "the insert was given up");
        }
        error_set(error, RELAY_ERROR_KAFKA_RETRIABLE, "%s waits for the consumer group to accept an offset commit",
            job->kind == TABLE_JOB_INSERT ? "an INSERT" : "the repetition of an earlier INSERT for views");
        table_worker_note(worker, job, error);
    }
}

// In this order: a pause of the whole machine moves neither our clock nor the lease. Between the two, or after both, it
// makes the deadline lie in the server's past; a lease from before it would make it lie in the server's future.
bool table_worker_hold_deadline(struct table_worker *worker, const struct table_job *job, int endpoint,
    struct mono_time *end, struct relay_error *error)
{
    const struct relay_context *context = worker->options.context;
    struct server_clock *known = &worker->clocks[endpoint];
    do {
        if (!server_clock_measure(known, context, worker->options.client, endpoint, error) ||
            !hold_lease(worker, job, known->at, end, error)) {
            return false;
        }
    } while (server_clock_is_due(known, context->clock)); // the lease took long
    return true;
}

int64_t table_worker_deadline(const struct table_worker *worker, int endpoint, struct mono_time *end)
{
    const struct relay_context *context = worker->options.context;
    struct mono_time most = mono_add(clock_mono(context->clock), insert_deadline_most(context));
    *end = mono_before(most, *end) ? most : *end;
    return server_clock_seconds(&worker->clocks[endpoint], *end);
}

void table_worker_set_running(struct table_worker *worker, const char *query_id, int endpoint, struct mono_time end)
{
    pthread_mutex_lock(&worker->lock);
    snprintf(worker->running_id, sizeof(worker->running_id), "%s", query_id);
    worker->running_endpoint = endpoint;
    worker->running_until = end.ns > 0 ? mono_add(end, INSERT_DEADLINE_SECOND) : end;
    pthread_mutex_unlock(&worker->lock);
}

void table_worker_end_running(struct table_worker *worker, const struct row_place *row, const char *token,
    bool answered)
{
    struct mono_time now = clock_mono(worker->options.context->clock);
    if (!answered) {
        worker->may_run_until[worker->running_endpoint] = table_worker_end_of_run(worker, worker->running_until);
    }
    pthread_mutex_lock(&worker->lock);
    worker->running_id[0] = '\0';
    if (!answered && worker->running_until.ns > 0) {
        insert_doubt_note(&worker->doubt, row, token, worker->running_until, now);
    }
    worker->running_until = (struct mono_time){0};
    pthread_mutex_unlock(&worker->lock);
}

bool table_worker_has_in_doubt(struct table_worker *worker, struct mono_time *until)
{
    struct mono_time now = clock_mono(worker->options.context->clock);
    pthread_mutex_lock(&worker->lock);
    *until = worker->doubt.until;
    bool given_up = worker->present && atomic_load(&worker->present->cancelled);
    if (given_up && mono_before(*until, worker->running_until)) {
        *until = worker->running_until;
    }
    pthread_mutex_unlock(&worker->lock);
    return mono_before(now, *until);
}
