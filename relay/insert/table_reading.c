// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the table is read, or, for a read-back, what still runs on the endpoints has ended and the offsets are
// read. Failures: it is tried again, with growing pauses, until it succeeds or is given up; where an operator has to
// act, the job ends with that verdict. Of several servers, one that lacks the table is passed over.
#include "relay/insert/table_reading.h"

#include "relay/base/fnv.h"
#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/insert/table_worker_inside.h"
#include "relay/insert/view_repeat.h"

#include <stdio.h>
#include <stdlib.h>

#define SETTLE_PATIENCE DURATION_S(3)

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
    struct mono_time strangers = table_worker_end_of_run(worker, since);
    for (size_t i = 0; i < count; i++) {
        until[i] = mono_before(worker->may_run_until[i], strangers) ? strangers : worker->may_run_until[i];
    }
    struct read_back_settling settling = {.prefix = worker->prefix,
        .places = places,
        .patience = SETTLE_PATIENCE,
        .longest = mono_since(table_worker_end_of_run(worker, now), now),
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

// Until the INSERT in doubt has started, or the server refuses it as late.
static bool await_start(struct table_worker *worker, const struct table_job *job, struct mono_time until,
    struct relay_error *error)
{
    const struct clock *clock = worker->options.context->clock;
    bool started = false;
    if (!insert_doubt_has_begun(&worker->doubt, worker->options.context, worker->options.client,
            worker->options.route->table, job->plan, &started, error)) {
        return false;
    }
    if (!started) {
        log_event(LOG_LEVEL_INFO, "insert.outlasts",
            "waiting until the server's deadline ends an INSERT that has no answer",
            LOG_REAL("seconds", duration_seconds(mono_left(clock_mono(clock), until))));
    }
    while (!started && !mono_reached(clock_mono(clock), until)) {
        if (table_worker_stopping(worker) || table_worker_given_up(worker, job)) {
            return error_set(error, RELAY_ERROR_STOPPED, "the read-back was given up");
        }
        table_worker_pause(worker, job, DURATION_MS(100));
    }
    return true;
}

// Where an INSERT of ours has no answer. It may have started behind any settling before its deadline, of this job or of
// another one, however long ago that was over: the doubt ends with a settling after it.
static bool outlast_doubt(struct table_worker *worker, struct table_job *job, struct relay_error *error)
{
    pthread_mutex_lock(&worker->lock);
    struct mono_time until = worker->doubt.until;
    pthread_mutex_unlock(&worker->lock);
    if (until.ns == 0) {
        return true;
    }
    if (mono_before(clock_mono(worker->options.context->clock), until) && !await_start(worker, job, until, error)) {
        return false;
    }
    job->settled = false;
    if (!settle(worker, job, error)) {
        return false;
    }
    pthread_mutex_lock(&worker->lock);
    worker->doubt.until = (struct mono_time){0};
    pthread_mutex_unlock(&worker->lock);
    return true;
}

// An INSERT for views: as every other, under the lease only.
struct repetition {
    struct table_worker *worker;
    const struct table_job *job;
    const char *query_id, *token;
};

static bool begin_repetition(void *context, int endpoint, int64_t *deadline, struct relay_error *error)
{
    const struct repetition *this = context;
    struct mono_time end = {0};
    if (this->job->plan->guarded) {
        if (!table_worker_hold_deadline(this->worker, this->job, endpoint, &end, error)) {
            return false;
        }
        int64_t latest = table_worker_deadline(this->worker, endpoint, &end);
        *deadline = latest < *deadline ? latest : *deadline;
    }
    table_worker_set_running(this->worker, this->query_id, endpoint, end);
    if (table_worker_given_up(this->worker, this->job)) {
        table_worker_end_running(this->worker, NULL, this->token, true);
        return error_set(error, RELAY_ERROR_STOPPED, "the read-back was given up");
    }
    return true;
}

static void end_repetition(void *context, bool answered, bool late)
{
    const struct repetition *this = context;
    if (late) {
        this->worker->clocks[this->worker->running_endpoint].known = false;
    }
    table_worker_end_running(this->worker, NULL, this->token, answered);
}

// From the first endpoint that has the table and lets us in; what follows goes there, too, and for the other tables.
static struct table_plan *read_plan(struct table_worker *worker, struct relay_error *error)
{
    const struct table_worker_options *with = &worker->options;
    int count = (int)clickhouse_client_endpoints(with->client), first = clickhouse_client_preferred(with->client);
    struct table_plan *plan = table_plan_read(with->context, with->client, CLICKHOUSE_ANY_ENDPOINT, with->route, error);
    bool lacks = !plan && clickhouse_error_lacks(error);
    for (int i = 1; lacks && !plan && i < count; i++) {
        struct relay_error other;
        int endpoint = (first + i) % count;
        if (!clickhouse_endpoint_usable(with->client, endpoint)) {
            continue;
        }
        plan = table_plan_read(with->context, with->client, endpoint, with->route, &other);
        if (plan) {
            clickhouse_client_prefer(with->client, endpoint);
            log_event(LOG_LEVEL_WARNING, "insert.replica_lacks",
                "a ClickHouse server answers and lacks the table, or refuses the login; another one is used",
                LOG_TEXT("table", with->route->table), LOG_TEXT("used", clickhouse_client_url(with->client, endpoint)),
                LOG_ERROR(error));
        }
    }
    return plan;
}

static bool repeat_for_views(struct table_worker *worker, struct table_job *job, const struct table_plan *plan,
    int endpoint)
{
    char query_id[CLICKHOUSE_QUERY_ID_ROOM];
    struct insert_places places = {0};
    struct view_note note;
    struct repetition repetition = {worker, job, query_id, note.token};
    struct view_repeat repeat = {.note = &note,
        .topic = job->read_back.topic,
        .partition = job->read_back.partition,
        .endpoint = endpoint,
        .found = job->read_back.has_noted,
        .query_id = query_id,
        .timeout = worker->options.context->config->clickhouse.request_timeout,
        .begin = begin_repetition,
        .end = end_repetition,
        .context = &repetition};
    bool done = true;
    if (view_note_parse(job->owed, &note, &job->error)) {
        insert_places_add(&places, repeat.topic, repeat.partition);
        insert_query_id_write(query_id, sizeof(query_id), worker->prefix, worker->options.context->instance,
            worker->options.route->name, worker->next_query++, &places);
        insert_places_finish(&places);
        done = view_repeat(worker->options.client, plan, &repeat, &job->error);
    } else {
        snprintf(repeat.why, sizeof(repeat.why), "%.190s", job->error.text);
        repeat.result = VIEW_REPEAT_CANNOT;
    }
    if (done && repeat.result == VIEW_REPEAT_CANNOT) {
        job->views_behind = true;
        log_event(LOG_LEVEL_ERROR, "insert.views_behind",
            "views may lack rows that the table has: an INSERT is not done in all of them and cannot be repeated",
            LOG_TEXT("table", worker->options.route->table), LOG_TEXT("why", repeat.why), LOG_TEXT("note", job->owed));
    } else if (done && repeat.result == VIEW_REPEAT_DONE) {
        log_event(LOG_LEVEL_INFO, "insert.views_completed", "an INSERT that lost its sender was repeated for the views",
            LOG_TEXT("table", worker->options.route->table), LOG_TEXT("token", note.token));
    }
    view_note_finish(&note);
    return done;
}

// Views that a former owner's INSERT, or one that we gave up, may have left behind. Without views nothing is behind.
// Nor do the rows prove that the noted INSERT was executed: an owner since then may have inserted them without note and
// token. The sender may have seen a view that was made after we read the table, so "no views" is asked for anew.
static bool complete_views(struct table_worker *worker, struct table_job *job, int endpoint)
{
    if (!job->owed || !safeguard_active(SAFEGUARD_VIEW_NOTES)) {
        return true;
    }
    bool anew = job->plan->schema->view_count == 0;
    struct table_plan *plan = anew ? read_plan(worker, &job->error) : table_plan_hold(job->plan);
    bool done = plan && (plan->schema->view_count == 0 || repeat_for_views(worker, job, plan, endpoint));
    table_plan_release(plan);
    return done;
}

// Who has answered an INSERT in doubt is asked first: it sees what it has stored. Another one may not: SYSTEM SYNC
// REPLICA asks the Keeper node that it is connected to, and that may lag. After a failure, and the pause that it makes,
// any is asked; where it lacks the table or refuses us, another one.
static bool read_offsets(struct table_worker *worker, struct table_job *job, int *endpoint)
{
    struct clickhouse_client *client = worker->options.client;
    struct view_note note = {0};
    struct relay_error broken; // complete_views() says so
    *endpoint = worker->doubted;
    int asked = *endpoint != CLICKHOUSE_ANY_ENDPOINT ? *endpoint : clickhouse_client_preferred(client);
    bool noted = job->owed && view_note_parse(job->owed, &note, &broken);
    job->read_back.span = worker->read_back_span;
    job->read_back.note = noted ? &note : NULL;
    bool done = read_back_offsets(worker->options.context, client, job->plan, &job->read_back, endpoint, &job->error);
    job->read_back.note = NULL;
    view_note_finish(&note);
    bool smaller = job->error.detail != 0 && job->read_back.span != worker->read_back_span; // it answers: asked again
    worker->read_back_span = job->read_back.span;
    if (!done && !smaller) {
        worker->doubted = CLICKHOUSE_ANY_ENDPOINT;
    }
    if (!done && clickhouse_error_lacks(&job->error)) {
        clickhouse_client_leave(client, asked);
    }
    return done;
}

static bool try_read_back(struct table_worker *worker, struct table_job *job)
{
    if (!job->plan->exactly_once || !safeguard_active(SAFEGUARD_READ_BACK)) {
        job->read_back.through = INT64_MAX;
        return true;
    }
    int endpoint;
    return settle(worker, job, &job->error) && outlast_doubt(worker, job, &job->error) &&
        read_offsets(worker, job, &endpoint) && complete_views(worker, job, endpoint);
}

static bool open_table(struct table_worker *worker, struct table_job *job)
{
    clickhouse_ask_endpoints_down(worker->options.client, DURATION_S(5));
    job->plan = read_plan(worker, &job->error);
    if (!job->plan) {
        return false;
    }
    table_plan_release(worker->read);
    worker->read = table_plan_hold(job->plan);
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
            table_worker_note(worker, job, NULL);
            return;
        }
        job->verdict = job->error.class == RELAY_CLASS_OPERATOR ? TABLE_OPERATOR : TABLE_CANCELLED;
        if (job->verdict == TABLE_OPERATOR || table_worker_stopping(worker) || table_worker_given_up(worker, job)) {
            return;
        }
        table_worker_log_retry(worker,
            job->kind == TABLE_JOB_OPEN ? "cannot read the table's schema" : "a read-back failed", &job->error);
        table_worker_note(worker, job, &job->error);
        table_worker_pause(worker, job, backoff_next(&worker->backoff));
    }
}

void table_reading_open(struct table_worker *worker, struct table_job *job)
{
    repeat(worker, job, open_table);
}

void table_reading_back(struct table_worker *worker, struct table_job *job)
{
    repeat(worker, job, try_read_back);
}
