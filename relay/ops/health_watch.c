// SPDX-License-Identifier: Apache-2.0
//
// Happy path: every few seconds the thread judges what this process sees by itself (health_conditions.c). Every
// [health] interval it tries the watch lock of each outbox on its own connection; where it holds the lock it calls
// check_outbox_health(), puts the figures on the board and into the metrics, and raises "outbox_backlog" by a window of
// results (health_judge.h). A result that would change the judgement is looked at again after a tenth of the interval.
//
// Failures:
// - PostgreSQL cannot be reached, or a statement is slower than QUERY_TIME: the connection is closed, the locks with
//   it, "watch" of the check postgres is down, and a new one is made at the next round. Outbox alerts keep their last
//   level: a backlog does not go away because it cannot be counted. The figures are taken off when the next try fails
//   too: by then another replica may watch, whose figures they would hide;
// - the schema is not migrated, or rights are missing: the outbox is degraded on the board with what to do, and told as
//   "pipeline_degraded" of "outbox NAME". A refusal that passes (the server is busy, the table locked) is only logged,
//   asked again soon, and told when the next answer is none either;
// - the server has become read-only: the session is closed, and a new one made where the dsn leads now;
// - another replica holds the lock: our own figures of that outbox are taken off; what we told before is left to it;
// - a session that is no replica's holds it: nobody would judge, so everybody does, and says who holds it;
// - the session ends between two judgements: seen at the next look, a few seconds later, and judged at once, so that
//   replicas that left Kafka and ClickHouse to the holder speak for themselves;
// - the holder freezes: its session ends at the server after a few intervals (a lease), and another replica takes over.
// Statements are waited for a sixth of MAX_SILENCE, a connection for [postgres] acquire_timeout, which the silence that
// is allowed grows by: a stuck server does not make this loop look hung.
#include "relay/ops/health_watch.h"

#include "relay/base/log.h"
#include "relay/base/thread.h"
#include "relay/ops/health_conditions.h"
#include "relay/ops/health_servers.h"
#include "relay/ops/health_unowned.h"
#include "relay/config/listen_address.h"
#include "relay/postgres/pg_connection.h"
#include "relay/postgres/pg_health.h"
#include "relay/postgres/pg_stranger.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_EVERY  DURATION_S(5)
#define QUERY_TIME  DURATION_S(10)
#define MAX_SILENCE DURATION_S(60)
#define AGAIN_MIN   DURATION_MS(500)

struct watched {
    const struct config_outbox *outbox; // of the config that the process was started with
    struct health_window window;
    bool locked;                 // by our connection
    bool elsewhere;              // another replica holds the lock, as of our last try
    struct pg_stranger stranger; // who holds it, as of then, and is none
    bool ours;                   // figures of ours are shown
    bool missed;                 // the session was lost since they were, or an answer
    bool faulty;                 // "pipeline_degraded" is raised
    char summary[768];           // of the last result
    double rows;
};

struct health_watch {
    const struct relay_context *context;
    struct alerts *alerts;
    int64_t (*lag)(const void *lag_of);
    const void *lag_of;
    struct heartbeat *heartbeat;
    pthread_t thread;

    pthread_mutex_t lock;
    struct config_health pending; // under the lock

    // owned by the thread
    struct config_health limits;
    struct health_conditions conditions;
    struct health_servers servers;
    struct health_unowned unowned;
    struct pg_connection *connection;
    struct watched *watched;
    size_t count;
};

static struct mono_time query_deadline(const struct health_watch *watch)
{
    return mono_add(clock_mono(watch->context->clock), QUERY_TIME);
}

static void show(const struct health_watch *watch, const struct watched *watched, enum status_level level,
    const char *reason)
{
    status_board_set(watch->context->board, STATUS_OUTBOX, watched->outbox->name, level, reason);
}

static void raise_fault(struct health_watch *watch, struct watched *watched, enum alert_level level, const char *why)
{
    char instance[160];
    snprintf(instance, sizeof(instance), "outbox %s", watched->outbox->name);
    alerts_raise(watch->alerts, "pipeline_degraded", instance, level, why, (double)level, false);
    watched->faulty = level != ALERT_OK;
}

// The lock

static const char lock_sql[] = "SELECT pg_try_advisory_lock($1::regclass::oid::int, 3)";

static bool try_lock(struct health_watch *watch, struct watched *watched, struct relay_error *error)
{
    watched->elsewhere = false;
    watched->stranger = (struct pg_stranger){.lock = PG_LOCK_NONE};
    PGresult *result = pg_query(watch->connection, lock_sql, &PG_TEXT(watched->outbox->table), 1, false,
        query_deadline(watch), error);
    if (result == NULL) {
        return false;
    }
    const char *got = pg_cell(result, 0, 0);
    watched->locked = got != NULL && *got == 't';
    PQclear(result);
    if (!watched->locked &&
        !pg_stranger_find(watch->connection, watched->outbox->table, "{3}", &watched->stranger, query_deadline(watch),
            error)) {
        return false;
    }
    watched->elsewhere = !watched->locked && watched->stranger.lock == PG_LOCK_NONE;
    return true;
}

// What the results mean

// Beside what the judgement says: NULL, or what somebody has to see to. While a stranger holds the lock, no replica
// leaves the judging to another.
static void tell_fault(struct health_watch *watch, struct watched *watched, const char *fault)
{
    if (watched->stranger.lock != PG_LOCK_NONE) {
        log_event(LOG_LEVEL_WARNING, "health.lock_taken", "every replica judges the outbox",
            LOG_TEXT("outbox", watched->outbox->name), LOG_TEXT("reason", watched->stranger.text));
    }
    if (fault != NULL) {
        raise_fault(watch, watched, ALERT_WARNING, fault);
    } else if (watched->faulty) {
        raise_fault(watch, watched, ALERT_OK, "its health can be judged again");
    }
}

static void take_result(struct health_watch *watch, struct watched *watched, const PGresult *result)
{
    const struct relay_context *context = watch->context;
    const char *name = watched->outbox->name;
    enum alert_level now = health_level_of(pg_cell(result, 0, 0));
    const char *message = pg_cell(result, 0, 1);
    double age = (double)pg_cell_int64(result, 0, 3);
    watched->rows = (double)pg_cell_int64(result, 0, 2);
    snprintf(watched->summary, sizeof(watched->summary), "%s", message == NULL ? "" : message);

    metric_set(metrics_series1(context->metrics, METRIC_OUTBOX_HEALTH, name), now);
    metric_set(metrics_series1(context->metrics, METRIC_OUTBOX_UNPUBLISHED_ROWS, name), watched->rows);
    metric_set(metrics_series1(context->metrics, METRIC_OUTBOX_OLDEST_AGE_SECONDS, name), age);
    status_board_number(context->board, STATUS_OUTBOX, name, "unpublished_rows", watched->rows);
    status_board_number(context->board, STATUS_OUTBOX, name, "oldest_age_seconds", age);
    status_board_text(context->board, STATUS_OUTBOX, name, "health", alert_level_name(now));
    status_board_text(context->board, STATUS_OUTBOX, name, "message", watched->summary);
    status_board_text(context->board, STATUS_OUTBOX, name, "watched_by", "this process");
    watched->ours = true;
    watched->missed = false;

    enum alert_level judged = health_window_add(&watched->window, now);
    const char *fault = watched->stranger.lock != PG_LOCK_NONE ? watched->stranger.text : pg_cell(result, 0, 4);
    const char *reason = judged != ALERT_OK ? watched->summary : fault;
    show(watch, watched, reason == NULL ? STATUS_OK : STATUS_DEGRADED, reason == NULL ? "" : reason);
    alerts_raise(watch->alerts, "outbox_backlog", name, judged, watched->summary, watched->rows, false);
    tell_fault(watch, watched, fault);
}

// Our figures would be stale from here on.
static void take_off(struct health_watch *watch, struct watched *watched, const char *watched_by)
{
    static const enum metric_id ids[] = {METRIC_OUTBOX_HEALTH, METRIC_OUTBOX_UNPUBLISHED_ROWS,
        METRIC_OUTBOX_OLDEST_AGE_SECONDS};
    static const char *const figures[] = {"unpublished_rows", "oldest_age_seconds", "health", "message"};
    const struct relay_context *context = watch->context;
    const char *name = watched->outbox->name;
    for (size_t i = 0; watched->ours && i < sizeof(ids) / sizeof(ids[0]); i++) {
        metrics_retire(context->metrics, metrics_series1(context->metrics, ids[i], name));
    }
    for (size_t i = 0; watched->ours && i < sizeof(figures) / sizeof(figures[0]); i++) {
        status_board_text(context->board, STATUS_OUTBOX, name, figures[i], NULL);
    }
    status_board_text(context->board, STATUS_OUTBOX, name, "watched_by", watched_by);
    watched->ours = false;
}

static void leave_to_another(struct health_watch *watch, struct watched *watched)
{
    take_off(watch, watched, "another replica");
    watched->window = (struct health_window){0};
    show(watch, watched, STATUS_OK, "");
    alerts_raise(watch->alerts, "outbox_backlog", watched->outbox->name, ALERT_OK, "watched by another replica", 0,
        true);
    if (watched->faulty) {
        raise_fault(watch, watched, ALERT_OK, "watched by another replica");
    }
}

// The server refuses: somebody has to fix something. true: or not, which the next answer tells.
static bool take_refusal(struct health_watch *watch, struct watched *watched, const struct relay_error *error)
{
    char reason[sizeof(error->text) + 64];
    snprintf(reason, sizeof(reason), "%s%s",
        pg_lacks_schema(watch->connection) ? "not migrated, run `outbox-relay migrate postgres`: "
                                           : "cannot be judged: ",
        error->text);
    log_event(LOG_LEVEL_WARNING, "health.refused", "an outbox cannot be judged",
        LOG_TEXT("outbox", watched->outbox->name), LOG_ERROR(error));
    if (error->class == RELAY_CLASS_RETRIABLE && !watched->missed) {
        watched->missed = true;
        return true;
    }
    take_off(watch, watched, "this process");
    show(watch, watched, STATUS_DEGRADED, reason);
    raise_fault(watch, watched, ALERT_WARNING, reason);
    return false;
}

static void disconnect(struct health_watch *watch)
{
    pg_close(watch->connection);
    watch->connection = NULL;
    health_servers_lost(&watch->servers);
    for (size_t i = 0; i < watch->count; i++) {
        watch->watched[i].locked = false;
        watch->watched[i].elsewhere = false;
    }
}

static void lose(struct health_watch *watch, const struct relay_error *error)
{
    disconnect(watch);
    for (size_t i = 0; i < watch->count; i++) {
        struct watched *watched = &watch->watched[i];
        if (watched->ours && watched->missed) {
            take_off(watch, watched, "nobody, as far as this process sees: it cannot ask PostgreSQL");
        }
        watched->missed = true;
    }
    if (error->code != RELAY_ERROR_STOPPED) {
        status_board_set(watch->context->board, STATUS_POSTGRES, "watch", STATUS_DOWN, error->text);
        log_event(LOG_LEVEL_WARNING, "health.postgres_lost", "the health of the outboxes cannot be asked for",
            LOG_ERROR(error));
    }
}

static bool connect_if_needed(struct health_watch *watch)
{
    struct relay_error error = {0};
    // Where nothing can be written any more, nobody publishes: another server has taken over, or will.
    if (watch->connection != NULL && !pg_broken(watch->connection) &&
        pg_check_writable(watch->connection, query_deadline(watch), &error)) {
        return true;
    }
    disconnect(watch);
    int64_t lease_ns = watch->limits.interval.ns * 3 + QUERY_TIME.ns;
    struct pg_options options = {.role = "health",
        .read_write = true,
        .lease = DURATION_NS(lease_ns),
        .statement_timeout = DURATION_NS(QUERY_TIME.ns - 1000000000),
        .brief = true};
    watch->connection = pg_connect(watch->context, &options, &error);
    if (watch->connection == NULL) {
        lose(watch, &error);
        return false;
    }
    status_board_set(watch->context->board, STATUS_POSTGRES, "watch", STATUS_OK, "");
    return true;
}

// false: the connection is gone. *again: another answer is wanted soon.
static bool judge_outbox(struct health_watch *watch, struct watched *watched, bool *again)
{
    struct relay_error error = {0};
    PGresult *result = NULL;
    heartbeat_beat(watch->heartbeat);
    bool asked = watched->locked || try_lock(watch, watched, &error);
    if (asked && watched->elsewhere) {
        leave_to_another(watch, watched);
        return true;
    }
    bool may_pass = false;
    if (asked &&
        (result = pg_health_ask(watch->connection, watched->outbox->table, &watch->limits, "", query_deadline(watch),
             &error)) != NULL) {
        take_result(watch, watched, result);
        PQclear(result);
    } else if (pg_broken(watch->connection)) {
        lose(watch, &error);
        return false;
    } else {
        may_pass = take_refusal(watch, watched, &error);
    }
    *again = *again || may_pass || (asked && health_window_undecided(&watched->window));
    return true;
}

// Answers to our statements are as good a proof as new connections, of which there may be none for long: without this a
// breaker that one probe has half opened would stay so.
static void report_answer(const struct health_watch *watch)
{
    struct circuit_breaker *breaker = watch->context->postgres_breaker;
    if (breaker != NULL && breaker_state_of(breaker) == BREAKER_HALF_OPEN && breaker_allow(breaker)) {
        breaker_success(breaker);
    }
}

// Another replica speaks for what all of them see: the one that watches the first outbox. Where that is not known (no
// session, a refusal) everybody speaks, lest nobody does.
static bool another_speaks(const struct health_watch *watch)
{
    return watch->count > 0 && watch->connection != NULL && !pg_broken(watch->connection) &&
        watch->watched[0].elsewhere;
}

// Returns when the outboxes are to be judged next.
static struct mono_time judge_outboxes(struct health_watch *watch)
{
    bool again_soon = false;
    if (watch->count > 0 && connect_if_needed(watch)) {
        for (size_t i = 0; i < watch->count && !stop_raised(watch->context->stop); i++) {
            if (!judge_outbox(watch, &watch->watched[i], &again_soon)) {
                break;
            }
            report_answer(watch);
        }
    }
    again_soon = again_soon || (watch->count > 0 && watch->connection == NULL);
    struct duration wait = watch->limits.interval;
    if (again_soon) {
        wait.ns = wait.ns / 10 > AGAIN_MIN.ns ? wait.ns / 10 : AGAIN_MIN.ns;
    }
    return mono_add(clock_mono(watch->context->clock), wait);
}

// Reads what has arrived, so that a session that has ended is not first seen at the next judgement, which may be far.
static bool session_ended(struct health_watch *watch)
{
    while (watch->connection != NULL && pg_take_notification(watch->connection)) {
    }
    return watch->connection != NULL && pg_broken(watch->connection);
}

// true: the session was closed, since its lease is made of the interval; a new one is due.
static bool take_reload(struct health_watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    bool same_lease = watch->limits.interval.ns == watch->pending.interval.ns;
    watch->limits = watch->pending;
    pthread_mutex_unlock(&watch->lock);
    if (!same_lease) {
        disconnect(watch);
    }
    return !same_lease;
}

static void *run(void *argument)
{
    struct health_watch *watch = argument;
    const struct relay_context *context = watch->context;
    struct mono_time judge_at = clock_mono(context->clock);
    struct mono_time look_at;
    do {
        heartbeat_beat(watch->heartbeat);
        bool due = take_reload(watch);
        if (due || mono_reached(clock_mono(context->clock), judge_at) || session_ended(watch)) {
            judge_at = judge_outboxes(watch);
        }
        if (watch->connection != NULL && !pg_broken(watch->connection)) {
            heartbeat_beat(watch->heartbeat);
            health_unowned_look(&watch->unowned, watch->connection, watch->limits.interval, another_speaks(watch));
        }
        if (watch->connection != NULL && !pg_broken(watch->connection)) {
            health_servers_look(&watch->servers, watch->connection);
        }
        int64_t lag = watch->lag == NULL ? -1 : watch->lag(watch->lag_of);
        health_conditions_judge(&watch->conditions, &watch->limits, lag, another_speaks(watch));
        struct duration every = watch->limits.interval.ns < LOOK_EVERY.ns ? watch->limits.interval : LOOK_EVERY;
        look_at = mono_add(clock_mono(context->clock), every);
    } while (!stop_wait(context->stop, context->clock, mono_before(judge_at, look_at) ? judge_at : look_at));
    disconnect(watch);
    heartbeat_end(watch->heartbeat);
    watch->heartbeat = NULL; // the slot is another loop's from now on
    return NULL;
}

// From here on: any thread.

// The same after a restart, another for each process that is fit to run beside this one.
static void name_replica(const struct config *config, char *text, size_t room)
{
    char host[65] = "";
    struct listen_address address = {.port = 0};
    gethostname(host, sizeof(host) - 1);
    if (config->http.listen[0] == '\0' || !listen_address_parse(config->http.listen, &address, NULL) ||
        address.port == 0) {
        snprintf(text, room, "%s", host);
    } else {
        snprintf(text, room, "%s:%u", host, address.port);
    }
}

struct health_watch *health_watch_start(const struct relay_context *context, struct alerts *alerts,
    int64_t (*lag)(const void *lag_of), const void *lag_of, struct relay_error *error)
{
    const struct config *config = context->config;
    struct health_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        error_no_memory(error, "the health watch");
        return NULL;
    }
    watch->context = context;
    watch->alerts = alerts;
    watch->lag = lag;
    watch->lag_of = lag_of;
    watch->limits = watch->pending = config->health;
    watch->conditions.context = context;
    watch->conditions.alerts = alerts;
    name_replica(config, watch->conditions.replica, sizeof(watch->conditions.replica));
    pthread_mutex_init(&watch->lock, NULL);
    watch->watched = calloc(config->outbox_count + 1, sizeof(*watch->watched));
    if (watch->watched == NULL) {
        error_no_memory(error, "the health watch");
        goto failed;
    }
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (config->outboxes[i].publish.enabled) {
            watch->watched[watch->count++].outbox = &config->outboxes[i];
        }
    }
    struct duration silence = DURATION_NS(MAX_SILENCE.ns + config->postgres.acquire_timeout.ns);
    watch->heartbeat = status_board_heartbeat(context->board, "health", silence, error);
    if (watch->heartbeat == NULL) {
        goto failed;
    }
    watch->servers = (struct health_servers){.context = context,
        .alerts = alerts,
        .heartbeat = watch->heartbeat,
        .replica = watch->conditions.replica};
    watch->unowned = (struct health_unowned){.context = context, .alerts = alerts};
    if (!thread_start(&watch->thread, "health", run, watch, error)) {
        goto failed;
    }
    return watch;

failed:
    health_watch_free(watch);
    return NULL;
}

bool health_watch_join(struct health_watch *watch, struct mono_time deadline)
{
    return thread_join_until(watch->thread, watch->context->clock, deadline);
}

void health_watch_free(struct health_watch *watch)
{
    if (watch != NULL) {
        heartbeat_end(watch->heartbeat);
        pthread_mutex_destroy(&watch->lock);
        free(watch->watched);
        free(watch);
    }
}

void health_watch_reload(struct health_watch *watch, const struct config *config)
{
    pthread_mutex_lock(&watch->lock);
    watch->pending = config->health;
    pthread_mutex_unlock(&watch->lock);
}
