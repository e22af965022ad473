// SPDX-License-Identifier: Apache-2.0
//
// The thread and its queues. What it does for a job: table_reading.c and table_insert.c.
#include "relay/insert/table_worker.h"

#include "relay/base/log.h"
#include "relay/base/thread.h"
#include "relay/insert/table_insert.h"
#include "relay/insert/table_reading.h"
#include "relay/insert/table_worker_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ASK_EVERY DURATION_S(5)
#define SILENCE   DURATION_S(15)
#define ASK_LIMIT DURATION_S(2) // for each endpoint: a job that comes meanwhile waits so long for all of them

static void run_job(struct table_worker *worker, struct table_job *job)
{
    struct mono_time start = clock_mono(worker->options.context->clock);
    job->verdict = TABLE_CANCELLED;
    if (!table_worker_given_up(worker, job)) {
        switch (job->kind) {
        case TABLE_JOB_OPEN: table_reading_open(worker, job); break;
        case TABLE_JOB_READ_BACK: table_reading_back(worker, job); break;
        case TABLE_JOB_INSERT: table_insert(worker, job); break;
        }
    }
    job->elapsed = mono_since(clock_mono(worker->options.context->clock), start);
}

// @locks lock held. Until there is something to do. Where nothing is, nobody would find out that a server is away.
static void wait_for_job(struct table_worker *worker)
{
    while (!worker->waiting && !worker->quit) {
        struct mono_time due = mono_add(clock_mono(worker->options.context->clock), ASK_EVERY);
        struct timespec at = {.tv_sec = due.ns / 1000000000, .tv_nsec = due.ns % 1000000000};
        if (pthread_cond_timedwait(&worker->changed, &worker->lock, &at) == ETIMEDOUT && !worker->waiting) {
            pthread_mutex_unlock(&worker->lock);
            clickhouse_ask_silent_endpoints(worker->options.client, SILENCE, ASK_LIMIT);
            pthread_mutex_lock(&worker->lock);
        }
    }
}

static void *worker_main(void *argument)
{
    struct table_worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        wait_for_job(worker);
        if (worker->quit) {
            break;
        }
        struct table_job *job = worker->waiting;
        worker->waiting = job->next;
        worker->waiting_end = worker->waiting ? worker->waiting_end : &worker->waiting;
        job->next = NULL;
        worker->present = job;
        pthread_mutex_unlock(&worker->lock);
        run_job(worker, job);
        pthread_mutex_lock(&worker->lock);
        worker->present = NULL;
        *worker->done_end = job;
        worker->done_end = &job->next;
        worker->options.wake(worker->options.wake_context);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

static void free_memory(struct table_worker *worker)
{
    if (worker) {
        table_plan_release(worker->read);
        free(worker->clocks);
        free(worker->may_run_until);
        free(worker);
    }
}

struct table_worker *table_worker_start(const struct table_worker_options *options, struct relay_error *error)
{
    struct table_worker *worker = calloc(1, sizeof(*worker));
    if (worker) {
        size_t endpoints = clickhouse_client_endpoints(options->client);
        worker->clocks = calloc(endpoints, sizeof(*worker->clocks));
        worker->may_run_until = calloc(endpoints, sizeof(*worker->may_run_until));
    }
    if (!worker || !worker->clocks || !worker->may_run_until) {
        free_memory(worker);
        error_no_memory(error, "starting a table's worker");
        return NULL;
    }
    worker->options = *options;
    worker->doubted = CLICKHOUSE_ANY_ENDPOINT;
    worker->waiting_end = &worker->waiting;
    worker->done_end = &worker->done;
    backoff_init(&worker->backoff, DURATION_MS(100), DURATION_S(10));
    for (int i = 0; i < CLICKHOUSE_FAILURES; i++) {
        worker->retries[i] = metrics_series2(options->context->metrics, METRIC_RETRIES, "clickhouse",
            clickhouse_failure_name((enum clickhouse_failure)i));
    }
    pthread_mutex_init(&worker->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    worker->running = thread_start(&worker->thread, "insert table", worker_main, worker, error);
    if (!worker->running) {
        pthread_cond_destroy(&worker->changed);
        pthread_mutex_destroy(&worker->lock);
        free_memory(worker);
        return NULL;
    }
    return worker;
}

void table_worker_submit(struct table_worker *worker, struct table_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&worker->lock);
    *worker->waiting_end = job;
    worker->waiting_end = &job->next;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

struct table_job *table_worker_take_done(struct table_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    struct table_job *job = worker->done;
    if (job) {
        worker->done = job->next;
        worker->done_end = worker->done ? worker->done_end : &worker->done;
        job->next = NULL;
    }
    pthread_mutex_unlock(&worker->lock);
    return job;
}

void table_worker_cancel(struct table_worker *worker, struct table_job *job)
{
    atomic_store(&job->cancelled, true);
    pthread_mutex_lock(&worker->lock);
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    insert_lease_nudge(worker->options.lease);
}

bool table_worker_runs_given_up(struct table_worker *worker, char *query_id, int *endpoint)
{
    pthread_mutex_lock(&worker->lock);
    bool runs = worker->running_id[0] != '\0' && atomic_load(&worker->present->cancelled);
    if (runs) {
        memcpy(query_id, worker->running_id, sizeof(worker->running_id));
        *endpoint = worker->running_endpoint;
    }
    pthread_mutex_unlock(&worker->lock);
    return runs;
}

struct clickhouse_client *table_worker_client(const struct table_worker *worker)
{
    return worker->options.client;
}

bool table_worker_trouble(struct table_worker *worker, struct relay_error *error)
{
    pthread_mutex_lock(&worker->lock);
    bool troubled = worker->troubled;
    if (troubled) {
        *error = worker->trouble;
    }
    pthread_mutex_unlock(&worker->lock);
    return troubled;
}

void table_worker_quit(struct table_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->quit = true;
    if (worker->present) {
        atomic_store(&worker->present->cancelled, true);
    }
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    insert_lease_nudge(worker->options.lease);
}

bool table_worker_join(struct table_worker *worker, struct mono_time deadline)
{
    worker->running = worker->running && !thread_join_until(worker->thread, worker->options.context->clock, deadline);
    return !worker->running;
}

static void free_jobs(struct table_job *job)
{
    while (job) {
        struct table_job *next = job->next;
        table_job_free(job);
        job = next;
    }
}

void table_worker_free(struct table_worker *worker)
{
    if (!worker) {
        return;
    }
    free_jobs(worker->waiting);
    free_jobs(worker->done);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free_memory(worker);
}
