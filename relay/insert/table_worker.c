// SPDX-License-Identifier: Apache-2.0
//
// Happy path of an INSERT: wait for the lease, choose an endpoint, measure its clock (every half minute), send the rows
// with the deadline in the statement, then the dead letters the same way. Done.
//
// Failures, for each of the two parts:
// - not sent, or refused before it began (too many queries or parts): back off and send again; another replica will do;
// - "late": the server's clock says that the lease is over. The clock is measured again, the lease renewed, the INSERT
// repeated;
// - everything else may have been executed, whole or in part, or may be yet. The token would make the same bytes
//   harmless, but only as long as the server remembers it, and others may fill its window meanwhile: so the job ends
//   with a verdict, and the table is asked. A short pause first, growing, where nobody is to blame;
// - with dependent views a read-back does not show what they lack: the same bytes under the same token, to the same
//   endpoint (unless the table is replicated, so that all of them know the token), until it is clear.
// Verdicts: UNCLEAR (unknown outcome, network inside the cluster), TOO_LARGE (memory), REJECTED (data: our encoder has
// checked every value, so this is a constraint of the table, or a view), OPERATOR (schema, rights, disk; a code that is
// not in our table, thrice). The job is cancelled or the relay's drain deadline is over: CANCELLED. Read-backs and
// openings are repeated with backoff until they succeed, are cancelled, or the operator has to act (an opening only).
#include "relay/insert/table_worker.h"

#include "relay/base/fnv.h"
#include "relay/base/backoff.h"
#include "relay/base/log.h"
#include "relay/base/test_points.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOCK_AGE        DURATION_S(30)
#define SETTLE_PATIENCE  DURATION_S(3)
#define COPIES_LIMIT     DURATION_S(30)
#define LEASE_LEAST      DURATION_S(2) // an INSERT is not begun with less
#define LEASE_PATIENCE   DURATION_S(5)
#define START_MOST       DURATION_S(10) // the server starts it within this time or not at all
#define START_SECOND     DURATION_S(1)  // more, since the server's now() knows whole seconds
#define RUN_MARGIN       DURATION_S(1)  // max_execution_time is rounded up
#define STRANGE_ATTEMPTS 3
#define STOP_ATTEMPTS    2 // failures after the stop that end a job

struct server_clock {
    bool known;
    struct mono_time at; // when it was
    int64_t server_us;   // this time there
    struct duration doubt;
};

struct table_worker {
    struct table_worker_options options;
    char prefix[64];             // of query ids for this table, all members of the group; "" before the first opening
    struct server_clock *clocks; // for each endpoint
    struct mono_time *may_run_until; // the same: it may run an INSERT of ours that has no answer until then
    int endpoint;
    uint64_t next_query;
    int strange;         // failures by codes that are not in our table, in a row
    bool insert_trouble; // the last INSERT failed
    struct backoff backoff;
    struct metric_series *retries[CLICKHOUSE_FAILURES];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    // under the lock
    struct table_job *waiting, **waiting_end, *present, *done, **done_end;
    char running_id[CLICKHOUSE_QUERY_ID_ROOM]; // of the INSERT under way, "" if none
    int running_endpoint;
    struct mono_time running_until; // the server may start that INSERT until then
    struct insert_doubt doubt;      // of one that has no answer
    bool quit, ended, troubled;
    bool joined; // the joiner's
    struct relay_error trouble;
};

static bool stopping(const struct table_worker *worker)
{
    return worker->options.context->stop && stop_raised(worker->options.context->stop);
}

static struct mono_time stop_limit(const struct table_worker *worker)
{
    return worker->options.context->stop ? stop_deadline(worker->options.context->stop) : (struct mono_time){INT64_MAX};
}

static bool given_up(const struct table_worker *worker, const struct table_job *job)
{
    return atomic_load(&job->cancelled) || mono_reached(clock_mono(worker->options.context->clock), stop_limit(worker));
}

// Sleeps; ends early when the job is given up. In slices, since the stop does not tell us.
static void pause_for(struct table_worker *worker, const struct table_job *job, struct duration length)
{
    struct mono_time until = mono_add(clock_mono(worker->options.context->clock), length);
    pthread_mutex_lock(&worker->lock);
    while (!given_up(worker, job) && !mono_reached(clock_mono(worker->options.context->clock), until)) {
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
static void note_trouble(struct table_worker *worker, const struct relay_error *error, bool of_insert)
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

static void log_retry(const struct table_worker *worker, const char *what, const struct relay_error *error)
{
    log_event(LOG_LEVEL_WARNING, "insert.retry", what, LOG_TEXT("table", worker->options.route->table),
        LOG_ERROR(error));
}

// The server's clock as it is now at `at`, in seconds, and never later than it really is. false: it could not be asked.
static bool server_seconds(struct table_worker *worker, int endpoint, struct mono_time at, int64_t *seconds,
    struct relay_error *error)
{
    const struct relay_context *context = worker->options.context;
    struct server_clock *known = &worker->clocks[endpoint];
    if (!known->known || mono_reached(clock_mono(context->clock), mono_add(known->at, CLOCK_AGE))) {
        struct duration ahead, doubt;
        if (!clickhouse_server_clock(worker->options.client, endpoint, DURATION_S(10), &ahead, &doubt, error)) {
            return false;
        }
        *known = (struct server_clock){.known = true,
            .at = clock_mono(context->clock),
            .server_us = clock_wall(context->clock).us + ahead.ns / 1000,
            .doubt = doubt};
    }
    int64_t us = known->server_us + (mono_since(at, known->at).ns - known->doubt.ns) / 1000;
    *seconds = us / 1000000;
    return true;
}

// The endpoint to send to: the last good one, else the next that lets requests through.
static int choose_endpoint(struct table_worker *worker)
{
    int count = (int)clickhouse_client_endpoints(worker->options.client);
    for (int i = 0; i < count; i++) {
        int index = (worker->endpoint + i) % count;
        if (clickhouse_endpoint_usable(worker->options.client, index)) {
            return index;
        }
    }
    return worker->endpoint;
}

static void set_running(struct table_worker *worker, const char *query_id, int endpoint, struct mono_time until)
{
    pthread_mutex_lock(&worker->lock);
    snprintf(worker->running_id, sizeof(worker->running_id), "%s", query_id);
    worker->running_endpoint = endpoint;
    worker->running_until = until;
    pthread_mutex_unlock(&worker->lock);
}

// After which the server has ended what began at `start`, by its max_execution_time.
static struct mono_time end_of_run(const struct table_worker *worker, struct mono_time start)
{
    struct duration most = worker->options.context->config->clickhouse.request_timeout;
    return mono_add(mono_add(start, most), RUN_MARGIN);
}

// One part of a batch: its bytes, and what has been tried.
struct part {
    const char *statement;
    const char *token;
    const struct row_place *row; // of one of its rows; NULL: dead letters
    const struct iovec *body;
    size_t pieces;
    int endpoint;
    bool unclear; // an attempt may have been executed
    int after_stop;
};

// It has ended here; answered: and on the server. Else the server may have it yet to start, from a buffer on the way.
static void end_running(struct table_worker *worker, const struct part *part, bool answered)
{
    struct mono_time now = clock_mono(worker->options.context->clock);
    if (!answered) {
        worker->may_run_until[part->endpoint] = end_of_run(worker, worker->running_until);
    }
    pthread_mutex_lock(&worker->lock);
    worker->running_id[0] = '\0';
    if (!answered && worker->running_until.ns > 0) {
        insert_doubt_note(&worker->doubt, part->row, part->token, worker->running_until, now);
    }
    worker->running_until = (struct mono_time){0};
    pthread_mutex_unlock(&worker->lock);
}

static bool hold_lease(struct table_worker *worker, struct table_job *job, struct mono_time *end,
    struct relay_error *error)
{
    const struct relay_context *context = worker->options.context;
    for (;;) {
        struct mono_time until = mono_add(clock_mono(context->clock), LEASE_PATIENCE);
        until = mono_before(stop_limit(worker), until) ? stop_limit(worker) : until;
        if (insert_lease_hold(worker->options.lease, LEASE_LEAST, &job->cancelled, until, end)) {
            return true;
        }
        if (given_up(worker, job)) {
            return error_set(error, RELAY_ERROR_STOPPED, "the insert was given up");
        }
        error_set(error, RELAY_ERROR_KAFKA_RETRIABLE,
            "an INSERT waits for the consumer group to accept an offset commit");
        note_trouble(worker, error, true);
    }
}

// A request that we have stopped waiting for is not to begin.
static struct duration start_most(const struct relay_context *context)
{
    struct duration timeout = context->config->clickhouse.request_timeout;
    timeout = timeout.ns < LEASE_LEAST.ns ? LEASE_LEAST : timeout;
    return timeout.ns < START_MOST.ns ? timeout : START_MOST;
}

// One attempt. *outcome says what became of it.
static bool attempt(struct table_worker *worker, struct table_job *job, struct part *part,
    struct clickhouse_outcome *outcome, struct relay_error *error)
{
    const struct relay_context *context = worker->options.context;
    int64_t deadline = 0;
    struct mono_time end = {0};
    *outcome = (struct clickhouse_outcome){.failure = CLICKHOUSE_NOT_SENT, .endpoint = part->endpoint};
    if (job->plan->guarded) {
        if (!hold_lease(worker, job, &end, error)) {
            return false;
        }
        // Not later than shortly from now, so that whoever gives the partition away can wait for it.
        struct mono_time most = mono_add(clock_mono(context->clock), start_most(context));
        end = mono_before(most, end) ? most : end;
        if (!server_seconds(worker, part->endpoint, end, &deadline, error)) {
            return false;
        }
    }
    char *statement = table_plan_with_deadline(part->statement, deadline);
    if (!statement) {
        return error_no_memory(error, "sending an INSERT");
    }
    char query_id[CLICKHOUSE_QUERY_ID_ROOM];
    insert_query_id_write(query_id, sizeof(query_id), worker->prefix, context->instance, worker->options.route->name,
        worker->next_query++, &job->places);
    struct clickhouse_setting token = {"insert_deduplication_token", part->token};
    struct clickhouse_request request = {.endpoint = part->endpoint,
        .query_id = query_id,
        .while_stopping = true,
        .fresh_connection = part->unclear,
        .settings = &token,
        .setting_count = 1};
    set_running(worker, query_id, part->endpoint, end.ns > 0 ? mono_add(end, START_SECOND) : end);
    // After set_running: who cancels either sees this INSERT in table_worker_may_start, or is seen here.
    bool done = !given_up(worker, job);
    if (done) {
        done = clickhouse_insert(worker->options.client, &request, statement, part->body, part->pieces, outcome, error);
    } else {
        error_set(error, RELAY_ERROR_STOPPED, "the insert was given up");
    }
    end_running(worker, part, done || outcome->exception_code != 0 || !outcome->body_sent);
    free(statement);
    return done;
}

static bool is_late(const struct clickhouse_outcome *outcome, const struct relay_error *error)
{
    return outcome->exception_code == 395 && strstr(error->text, TABLE_PLAN_LATE) != NULL;
}

// The verdict on a part whose last attempt may have been executed.
static enum table_verdict verdict_of(struct table_worker *worker, enum clickhouse_failure failure)
{
    switch (failure) {
    case CLICKHOUSE_OPERATOR:
    case CLICKHOUSE_SCHEMA_DRIFT: return TABLE_OPERATOR;
    case CLICKHOUSE_BAD_ROW: return TABLE_REJECTED;
    case CLICKHOUSE_MEMORY: return TABLE_TOO_LARGE;
    case CLICKHOUSE_UNKNOWN_CODE: return ++worker->strange >= STRANGE_ATTEMPTS ? TABLE_OPERATOR : TABLE_UNCLEAR;
    case CLICKHOUSE_OUTCOME_UNKNOWN:
    case CLICKHOUSE_TRANSIENT:
    case CLICKHOUSE_NOT_SENT:
    case CLICKHOUSE_BACK_PRESSURE:
    case CLICKHOUSE_DONE:
    case CLICKHOUSE_FAILURES: break;
    }
    return TABLE_UNCLEAR;
}

// After a failed attempt: true = try again, after the pause that was made here; else *verdict.
static bool judge(struct table_worker *worker, struct table_job *job, struct part *part,
    const struct clickhouse_outcome *outcome, const struct relay_error *error, enum table_verdict *verdict)
{
    // A read-back sees the table, not what its views have got: only the same insert, repeated, completes those.
    bool has_views = job->plan->exactly_once && job->plan->schema->view_count > 0;
    enum clickhouse_failure failure = outcome->failure;
    bool late = is_late(outcome, error);
    metric_add(worker->retries[failure], 1);
    log_retry(worker, "an INSERT failed", error);
    note_trouble(worker, error, true);
    part->unclear = part->unclear || (failure != CLICKHOUSE_NOT_SENT && failure != CLICKHOUSE_BACK_PRESSURE && !late);
    *verdict = part->unclear ? verdict_of(worker, failure) : TABLE_CANCELLED;
    if (given_up(worker, job) || (stopping(worker) && part->after_stop++ >= STOP_ATTEMPTS)) {
        return false;
    }
    bool for_views = has_views && *verdict == TABLE_UNCLEAR;
    if (part->unclear && !for_views) {
        if (*verdict == TABLE_UNCLEAR) {
            pause_for(worker, job, backoff_next(&worker->backoff)); // what follows is a read-back and the next attempt
        }
        return false;
    }
    if (late) {
        worker->clocks[part->endpoint].known = false;
        insert_lease_revoke(worker->options.lease);
    } else if (failure == CLICKHOUSE_NOT_SENT && (!part->unclear || job->plan->schema->is_replicated)) {
        worker->endpoint = part->endpoint; // the search begins there, and passes over what is not usable
        part->endpoint = choose_endpoint(worker);
    }
    pause_for(worker, job, backoff_next(&worker->backoff));
    return !given_up(worker, job);
}

static enum table_verdict insert_part(struct table_worker *worker, struct table_job *job, const char *statement,
    struct native_block *rows, const char *token, const struct row_place *row)
{
    struct part part = {.statement = statement, .token = token, .row = row};
    struct clickhouse_outcome outcome;
    enum table_verdict verdict = TABLE_CANCELLED;
    part.body = native_block_body(rows, &part.pieces, &job->error);
    if (!part.body) {
        return TABLE_CANCELLED;
    }
    part.endpoint = choose_endpoint(worker);
    TEST_POINT(INSERT_BEFORE_INSERT);
    for (;;) {
        if (given_up(worker, job)) {
            error_set(&job->error, RELAY_ERROR_STOPPED, "the insert was given up");
            return TABLE_CANCELLED;
        }
        if (attempt(worker, job, &part, &outcome, &job->error)) {
            worker->endpoint = part.endpoint;
            worker->strange = 0;
            backoff_reset(&worker->backoff);
            note_trouble(worker, NULL, true);
            return TABLE_DONE;
        }
        if (!judge(worker, job, &part, &outcome, &job->error, &verdict)) {
            return verdict;
        }
    }
}

// Before the dead letters themselves, so that none is without its copy.
static bool copies_acknowledged(struct table_worker *worker, struct table_job *job)
{
    const struct relay_context *context = worker->options.context;
    struct mono_time until = mono_add(clock_mono(context->clock), COPIES_LIMIT);
    until = mono_before(stop_limit(worker), until) ? stop_limit(worker) : until;
    job->copied = !worker->options.copies ||
        dead_letter_topic_send(worker->options.copies, &job->copies, until, &job->cancelled, &job->error);
    if (job->copied) {
        return true;
    }
    if (given_up(worker, job)) {
        return false;
    }
    log_retry(worker, "copies of dead letters are not acknowledged", &job->error);
    note_trouble(worker, &job->error, true);
    pause_for(worker, job, backoff_next(&worker->backoff));
    return false;
}

static void insert_batch(struct table_worker *worker, struct table_job *job)
{
    char token[sizeof(job->token) + 8];
    job->verdict = TABLE_DONE;
    if (native_block_rows(job->rows) > 0) {
        job->verdict = insert_part(worker, job, job->plan->statement, job->rows, job->token, &job->row);
    }
    struct native_block *dead = job->dead ? dead_letter_block_rows(job->dead) : NULL;
    bool has_dead = job->verdict == TABLE_DONE && dead && native_block_rows(dead) > 0;
    if (has_dead && !copies_acknowledged(worker, job)) {
        job->verdict = TABLE_UNCLEAR;
    } else if (has_dead) {
        snprintf(token, sizeof(token), "%s-dead", job->token);
        job->verdict = insert_part(worker, job, job->plan->dead_letter_statement, dead, token, NULL);
        if (job->verdict == TABLE_REJECTED || job->verdict == TABLE_OPERATOR) {
            error_prefix(&job->error, "dead-letter table %s",
                worker->options.context->config->insert.dead_letter_table);
            job->verdict = TABLE_OPERATOR;
        }
    }
    if (job->verdict == TABLE_DONE) {
        TEST_POINT(INSERT_AFTER_INSERT);
    }
}

// On every endpoint. since: when the last of the partitions became ours.
static bool settle_all(struct table_worker *worker, const struct table_job *job, const struct insert_places *places,
    struct mono_time since, struct relay_error *error)
{
    size_t count = clickhouse_client_endpoints(worker->options.client);
    struct mono_time now = clock_mono(worker->options.context->clock);
    struct mono_time *until = calloc(count, sizeof(*until));
    if (!until) {
        return error_no_memory(error, "waiting for inserts under way");
    }
    struct mono_time strangers = end_of_run(worker, since);
    for (size_t i = 0; i < count; i++) {
        until[i] = mono_before(worker->may_run_until[i], strangers) ? strangers : worker->may_run_until[i];
    }
    struct read_back_settling settling = {.prefix = worker->prefix,
        .places = places,
        .patience = SETTLE_PATIENCE,
        .longest = mono_since(end_of_run(worker, now), now),
        .may_run_until = until,
        .given_up = &job->cancelled};
    bool done = read_back_settle(worker->options.context, worker->options.client, &settling, error);
    free(until);
    return done;
}

// All read-backs that wait now were asked for before this moment: one settling serves them all.
static bool settle(struct table_worker *worker, struct table_job *job, struct relay_error *error)
{
    if (job->settled) {
        return true;
    }
    struct mono_time since = job->since;
    struct insert_places places = {0};
    insert_places_add(&places, job->read_back.topic, job->read_back.partition);
    pthread_mutex_lock(&worker->lock);
    struct table_job *last = NULL;
    for (struct table_job *at = worker->waiting; at; at = at->next) {
        if (at->kind == TABLE_JOB_READ_BACK) {
            last = at;
            since = mono_before(since, at->since) ? at->since : since;
            insert_places_add(&places, at->read_back.topic, at->read_back.partition);
        }
    }
    pthread_mutex_unlock(&worker->lock);
    bool done = settle_all(worker, job, &places, since, error);
    insert_places_finish(&places);
    if (!done) {
        return false;
    }
    job->settled = true;
    pthread_mutex_lock(&worker->lock);
    for (struct table_job *at = last ? worker->waiting : NULL; at; at = at == last ? NULL : at->next) {
        at->settled = true;
    }
    pthread_mutex_unlock(&worker->lock);
    return true;
}

// Where an INSERT of ours has no answer: it has started, and settle() has seen its end, or it is outlasted, until the
// server refuses it as late.
static bool outlast_doubt(struct table_worker *worker, struct table_job *job, struct relay_error *error)
{
    const struct clock *clock = worker->options.context->clock;
    struct mono_time until;
    bool started = false;
    if (!table_worker_may_start(worker, false, &until)) {
        return true;
    }
    if (!insert_doubt_has_begun(&worker->doubt, worker->options.context, worker->options.client,
            worker->options.route->table, job->plan, &started, error)) {
        return false;
    }
    if (!started) {
        log_event(LOG_LEVEL_INFO, "insert.outlasts", "until the server refuses an INSERT that has no answer",
            LOG_REAL("seconds", duration_seconds(mono_left(clock_mono(clock), until))));
    }
    while (!started && !mono_reached(clock_mono(clock), until)) {
        if (stopping(worker) || given_up(worker, job)) {
            return error_set(error, RELAY_ERROR_STOPPED, "the read-back was given up");
        }
        pause_for(worker, job, DURATION_MS(100));
    }
    pthread_mutex_lock(&worker->lock);
    worker->doubt.until = (struct mono_time){0};
    pthread_mutex_unlock(&worker->lock);
    job->settled = false; // it may have started meanwhile
    return settle(worker, job, error);
}

static bool try_read_back(struct table_worker *worker, struct table_job *job)
{
    if (!job->plan->exactly_once || !safeguard_active(SAFEGUARD_READ_BACK)) {
        job->read_back.through = INT64_MAX;
        return true;
    }
    return settle(worker, job, &job->error) && outlast_doubt(worker, job, &job->error) &&
        read_back_offsets(worker->options.context, worker->options.client, job->plan, &job->read_back, &job->error);
}

static bool open_table(struct table_worker *worker, struct table_job *job)
{
    job->plan = table_plan_read(worker->options.context, worker->options.client, worker->options.route, &job->error);
    if (!job->plan) {
        return false;
    }
    uint32_t hash = fnv_text(fnv_text(fnv_text(FNV_START, job->plan->schema->database), "."), job->plan->schema->table);
    snprintf(worker->prefix, sizeof(worker->prefix), "outbox-relay-%.8s-%08x-", worker->options.group_tag, hash);
    return true;
}

// Repeats until it succeeds, is given up, or (openings, or a read-back that the operator must allow) needs somebody.
static void repeat(struct table_worker *worker, struct table_job *job,
    bool (*work)(struct table_worker *, struct table_job *))
{
    for (;;) {
        error_clear(&job->error);
        if (work(worker, job)) {
            job->verdict = TABLE_DONE;
            if (!worker->insert_trouble) {
                backoff_reset(&worker->backoff);
            }
            note_trouble(worker, NULL, false);
            return;
        }
        job->verdict = job->error.class == RELAY_CLASS_OPERATOR ? TABLE_OPERATOR : TABLE_CANCELLED;
        if (job->verdict == TABLE_OPERATOR || stopping(worker) || given_up(worker, job)) {
            return;
        }
        log_retry(worker, job->kind == TABLE_JOB_OPEN ? "cannot read the table's schema" : "cannot read back offsets",
            &job->error);
        note_trouble(worker, &job->error, false);
        pause_for(worker, job, backoff_next(&worker->backoff));
    }
}

static void run_job(struct table_worker *worker, struct table_job *job)
{
    struct mono_time start = clock_mono(worker->options.context->clock);
    job->verdict = TABLE_CANCELLED;
    if (!given_up(worker, job)) {
        switch (job->kind) {
        case TABLE_JOB_OPEN: repeat(worker, job, open_table); break;
        case TABLE_JOB_READ_BACK: repeat(worker, job, try_read_back); break;
        case TABLE_JOB_INSERT: insert_batch(worker, job); break;
        }
    }
    job->elapsed = mono_since(clock_mono(worker->options.context->clock), start);
}

static void *worker_main(void *argument)
{
    struct table_worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        while (!worker->waiting && !worker->quit) {
            pthread_cond_wait(&worker->changed, &worker->lock);
        }
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
    worker->ended = true;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

static void free_memory(struct table_worker *worker)
{
    if (worker) {
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
    int failed = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (failed) {
        error_set(error, RELAY_ERROR_SYSTEM, "starting a table's worker: %s", strerror(failed));
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

void table_worker_kill(struct table_worker *worker, const struct table_job *job, struct duration timeout)
{
    char query_id[CLICKHOUSE_QUERY_ID_ROOM] = "";
    pthread_mutex_lock(&worker->lock);
    int endpoint = worker->running_endpoint;
    if (worker->present == job) {
        memcpy(query_id, worker->running_id, sizeof(query_id));
    }
    pthread_mutex_unlock(&worker->lock);
    struct relay_error error;
    if (query_id[0] && !clickhouse_kill_query(worker->options.client, endpoint, query_id, timeout, NULL, &error)) {
        log_retry(worker, "cannot kill an INSERT of a partition that is no longer ours", &error);
    }
}

bool table_worker_may_start(struct table_worker *worker, bool present, struct mono_time *until)
{
    struct mono_time now = clock_mono(worker->options.context->clock);
    pthread_mutex_lock(&worker->lock);
    *until = worker->doubt.until;
    if (present && mono_before(*until, worker->running_until)) {
        *until = worker->running_until;
    }
    pthread_mutex_unlock(&worker->lock);
    return mono_before(now, *until);
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
    pthread_mutex_lock(&worker->lock);
    struct timespec at = {.tv_sec = deadline.ns / 1000000000, .tv_nsec = deadline.ns % 1000000000};
    while (!worker->ended && pthread_cond_timedwait(&worker->changed, &worker->lock, &at) != ETIMEDOUT) {
    }
    bool ended = worker->ended;
    pthread_mutex_unlock(&worker->lock);
    if (ended && !worker->joined) {
        pthread_join(worker->thread, NULL);
        worker->joined = true;
    }
    return ended;
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
