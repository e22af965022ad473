// SPDX-License-Identifier: Apache-2.0
//
// A table's worker and two scripted replicas that it sends INSERTs to, for unit tests: what each says, what it got.
// Make a suite with start(), or start_alone() for the first of them alone, and finish(). Fails the test where they
// cannot be had.
#ifndef TESTS_SUPPORT_TWO_REPLICAS_H
#define TESTS_SUPPORT_TWO_REPLICAS_H

#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/insert_deadline.h"
#include "relay/insert/table_worker.h"

#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdio.h>

// A server, and what it says to INSERTs.
struct replica {
    const char *answer;
    const char *once; // instead, to the next one
    size_t inserts, syncs;
    const char *version;     // NULL: the usual one
    const char *becomes;     // its version after the next INSERT
    const char *const *says; // to what is no INSERT, one after the other, NULL at the end: bodies, or whole answers
};

static struct replica replicas[2];
static struct http_script *second;
static struct clickhouse_peer peer;
static struct insert_lease lease;
static struct config_route route;
static struct view_run run = {.topic = "topic", .last = 0};
static struct view_note note = {.token = "token", .rows = 1, .runs = &run, .run_count = 1};
static const char *question;  // what a server says to what is no INSERT
static const char *settings;  // what it says of its settings; NULL: the usual ones
static atomic_size_t patient; // questions that may take as long as an INSERT
static struct table_plan *plan;
static struct table_worker *worker;
static sem_t woken;

static const char well[] = HTTP_OK(0, "");
static const char no_keeper[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 225\r\nContent-Length: 20\r\n\r\n"
                                "Code: 225. No Keeper";

static const char refused[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 469\r\nContent-Length: 19\r\n\r\n"
                              "Code: 469. Refused.";
static const char in_a_view[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 675\r\nContent-Length: 98\r\n\r\n"
                                "Code: 675. DB::Exception: Invalid IPv4 value: while pushing to view db.v (id). "
                                "(CANNOT_PARSE_IPV4)";
static const char full_view[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 252\r\nContent-Length: 91\r\n\r\n"
                                "Code: 252. DB::Exception: Too many parts: while pushing to view db.v (id). "
                                "(TOO_MANY_PARTS)";
static const char full[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 252\r\nContent-Length: 58\r\n\r\n"
                           "Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)";
static const char strange[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 36\r\nContent-Length: 19\r\n\r\n"
                              "Code: 36. Strange..";
static const char unknown_status[] =
    "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 319\r\nContent-Length: 25\r\n\r\n"
    "Code: 319. Unknown status";
static const char timed_out[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 159\r\nContent-Length: 19\r\n\r\n"
                                "Code: 159. Too late";
static const char late[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 395\r\nContent-Length: 42\r\n\r\n"
                           "Code: 395. " INSERT_DEADLINE_LATE;
static const char too_large[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nnginx";
static const char no_table[] = "HTTP/1.1 404 Oops\r\nX-ClickHouse-Exception-Code: 60\r\nContent-Length: 19\r\n\r\n"
                               "Code: 60. No table.";
static const char no_login[] = "HTTP/1.1 403 Oops\r\nX-ClickHouse-Exception-Code: 516\r\nContent-Length: 20\r\n\r\n"
                               "Code: 516. No entry.";
static const char few_blocks[] = "20\t0\toutbox-relay: end\n", many_blocks[] = "80\t0\toutbox-relay: end\n";
static const char no_rows[] = "0\t0\t0\toutbox-relay: end\n", a_row[] = "1\t1\t0\toutbox-relay: end\n";

static inline void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static _Thread_local char learned[4096]; // each connection has its thread
    struct replica *replica = context;
    static _Thread_local char told[64];
    const char *body = settings && strstr(seen->target, "-learn-settings") ? settings : clickhouse_peer_learned(seen);
    bool inserts = strstr(seen->target, "INSERT") != NULL;
    if (replica->version && strstr(seen->target, "-learn-version")) {
        snprintf(told, sizeof(told), "%s\thost\n", replica->version);
        body = told;
    }
    replica->version = inserts && replica->becomes ? replica->becomes : replica->version;
    const char *said = body || inserts || !replica->says || !*replica->says ? NULL : *replica->says++;
    bool whole = said && strncmp(said, "HTTP/", 5) == 0;
    body = body || inserts ? body : said && !whole ? said : question;
    replica->inserts += inserts;
    replica->syncs += strstr(seen->target, "receive_timeout=") != NULL;
    patient += !inserts && strstr(seen->target, "max_execution_time=600") != NULL;
    reply->answer = whole ? said
        : body            ? clickhouse_peer_ok(learned, sizeof(learned), body)
        : replica->once   ? replica->once
                          : replica->answer;
    replica->once = inserts ? NULL : replica->once;
    reply->read_body = (size_t)-1;
    reply->then = reply->answer ? reply->then : HTTP_HANG;
}

static inline void wake(void *unused)
{
    (void)unused;
    sem_post(&woken);
}

static inline void start_with(bool both)
{
    static const char *const columns[] = {"value", "String", NULL};
    static char name[] = "t";
    struct relay_error error;
    sem_init(&woken, 0, 0);
    second = http_script_start(handle, &replicas[1]);
    clickhouse_peer_start(&peer, handle, &replicas[0], both ? http_script_url(second) : NULL);
    peer.context.metrics = metrics_new(&error);
    peer.context.board = status_board_new(peer.context.clock, &error);
    cr_assert(peer.context.metrics && peer.context.board);
    insert_lease_init(&lease, peer.context.clock, DURATION_S(20), wake, NULL);
    route = (struct config_route){.name = name, .table = name};
    plan = fixture_plan(columns, "INSERT INTO t FORMAT Native");
    plan->dead_letter_statement = strdup("INSERT INTO d FORMAT Native");
    plan->exactly_once = true;
    plan->schema->is_replicated = true;
    plan->schema->dedup_window = 100;
    plan->schema->dedup_seconds = INT64_MAX;
    note.sent = clock_wall(peer.context.clock).us / 1000000;
    struct table_worker_options options = {.context = &peer.context,
        .client = peer.client,
        .route = &route,
        .group_tag = "01234567",
        .lease = &lease,
        .wake = wake};
    worker = table_worker_start(&options, &error);
    cr_assert_not_null(worker, "%s", error.text);
}

static inline void start(void)
{
    start_with(true);
}

static inline void start_alone(void)
{
    start_with(false);
}

static inline void finish(void)
{
    table_worker_quit(worker);
    cr_assert(table_worker_join(worker, mono_add(clock_mono(clock_system()), DURATION_S(20))));
    table_worker_free(worker);
    plan->schema->views = NULL;
    plan->schema->view_count = 0;
    table_plan_release(plan);
    insert_lease_finish(&lease);
    clickhouse_peer_finish(&peer);
    http_script_stop(second);
    status_board_free(peer.context.board);
    metrics_free(peer.context.metrics);
    sem_destroy(&woken);
}

static inline struct table_job *job_of(bool row, bool dead)
{
    struct relay_error error;
    struct table_job *job = table_job_new(TABLE_JOB_INSERT, NULL, &error);
    job->plan = table_plan_hold(plan);
    if (dead) {
        struct source_message message = {.topic = "topic"};
        job->dead = dead_letter_block_new(true, &error);
        cr_assert(dead_letter_block_add(job->dead, "t", &message, "rejected", "", "", &error), "%s", error.text);
    }
    if (row) {
        job->rows = 1;
        job->note = plan->schema->view_count > 0 ? &note : NULL;
        job->block = native_block_new(&error);
        struct native_column *column = native_block_add_column(job->block, "value", plan->schema->columns[0].type,
            &error);
        cr_assert(native_put_string(column, "x", 1));
        native_block_end_row(job->block);
    }
    return job;
}

// Woken for each trouble, too, and for a lease.
static inline void await_waking(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    cr_assert_eq(sem_timedwait(&woken, &until), 0, "it never ends");
}

static inline void await_done(void)
{
    while (!table_worker_take_done(worker)) {
        await_waking();
    }
}

static inline void do_job(struct table_job *job)
{
    table_worker_submit(worker, job);
    await_done();
}

// It has a lease, and measures the server's clock: so it asks for a commit, and gets it.
static inline void do_guarded_job(struct table_job *job)
{
    plan->guarded = true;
    insert_lease_grant(&lease, clock_mono(peer.context.clock));
    table_worker_submit(worker, job);
    while (!insert_lease_renewal_due(&lease)) {
        cr_assert_not(table_worker_take_done(worker), "it did not ask for a commit");
        await_waking();
    }
    cr_assert_eq(replicas[0].inserts + replicas[1].inserts, 0);
    insert_lease_grant(&lease, clock_mono(peer.context.clock));
    await_done();
}

// What became of an INSERT of one row, or of one dead letter.
static inline enum table_verdict insert(bool dead)
{
    struct table_job *job = job_of(!dead, dead);
    do_job(job);
    enum table_verdict verdict = job->verdict;
    table_job_free(job);
    return verdict;
}

static inline void answers(const char *first, const char *other)
{
    replicas[0].answer = first;
    replicas[1].answer = other;
}

#endif
