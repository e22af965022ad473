// SPDX-License-Identifier: Apache-2.0
//
// Which replica gets an INSERT after one has failed, against two scripted peers.
#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/table_worker.h"

#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdio.h>

// A server, and what it says to INSERTs.
struct replica {
    const char *answer;
    size_t inserts;
};

static struct replica replicas[2];
static struct http_script *second;
static struct clickhouse_peer peer;
static struct insert_lease lease;
static struct config_route route;
static struct table_view_target view = {.is_mergetree = true};
static struct table_plan *plan;
static struct table_worker *worker;
static sem_t woken;

static const char well[] = HTTP_OK(0, "");
static const char no_keeper[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 225\r\nContent-Length: 20\r\n\r\n"
                                "Code: 225. No Keeper";

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char learned[4096];
    struct replica *replica = context;
    const char *body = clickhouse_peer_learned(seen);
    replica->inserts += body == NULL;
    reply->answer = body ? clickhouse_peer_ok(learned, sizeof(learned), body) : replica->answer;
    reply->read_body = (size_t)-1;
}

static void wake(void *unused)
{
    (void)unused;
    sem_post(&woken);
}

static void start(void)
{
    static const char *const columns[] = {"value", "String", NULL};
    static char name[] = "t";
    struct relay_error error;
    sem_init(&woken, 0, 0);
    second = http_script_start(handle, &replicas[1]);
    clickhouse_peer_start(&peer, handle, &replicas[0], http_script_url(second));
    peer.context.metrics = metrics_new(&error);
    peer.context.board = status_board_new(peer.context.clock, &error);
    cr_assert(peer.context.metrics && peer.context.board);
    insert_lease_init(&lease, peer.context.clock, DURATION_S(20), wake, NULL);
    route = (struct config_route){.name = name, .table = name};
    plan = calloc(1, sizeof(*plan));
    atomic_init(&plan->references, 1);
    plan->schema = fixture_schema(columns);
    plan->statement = strdup("INSERT INTO t FORMAT Native");
    plan->dead_letter_statement = strdup("INSERT INTO d FORMAT Native");
    plan->exactly_once = true;
    plan->schema->is_replicated = true;
    struct table_worker_options options = {.context = &peer.context,
        .client = peer.client,
        .route = &route,
        .group_tag = "01234567",
        .lease = &lease,
        .wake = wake};
    worker = table_worker_start(&options, &error);
    cr_assert_not_null(worker, "%s", error.text);
}

static void finish(void)
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

TestSuite(table_insert, .init = start, .fini = finish);

// What became of an INSERT of one row, or of one dead letter.
static enum table_verdict insert(bool dead)
{
    struct relay_error error;
    struct timespec until;
    struct table_job *job = table_job_new(TABLE_JOB_INSERT, NULL, &error);
    job->plan = table_plan_hold(plan);
    if (dead) {
        struct source_message message = {.topic = "topic"};
        job->dead = dead_letter_block_new(&error);
        cr_assert(dead_letter_block_add(job->dead, "t", &message, "rejected", "", "", &error), "%s", error.text);
    } else {
        job->rows = 1;
        job->block = native_block_new(&error);
        struct native_column *column = native_block_add_column(job->block, "value", plan->schema->columns[0].type,
            &error);
        cr_assert(native_put_string(column, "x", 1));
        native_block_end_row(job->block);
    }
    table_worker_submit(worker, job);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    while (!(job = table_worker_take_done(worker))) { // woken for each trouble, too
        cr_assert_eq(sem_timedwait(&woken, &until), 0, "it never ends");
    }
    enum table_verdict verdict = job->verdict;
    table_job_free(job);
    return verdict;
}

static void answers(const char *first, const char *other)
{
    replicas[0].answer = first;
    replicas[1].answer = other;
}

Test(table_insert, after_the_table_was_asked_another_replica_gets_what_one_cannot_write)
{
    answers(no_keeper, well);
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "the table is asked before anything is sent again");
    cr_assert_eq(replicas[1].inserts, 0);
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 1, "it stays with the one that can");
    answers(well, no_keeper);
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    cr_assert_eq(insert(false), TABLE_DONE, "and comes back");
}

Test(table_insert, tables_that_are_not_replicated_stay_where_they_are)
{
    answers(no_keeper, well);
    plan->schema->is_replicated = false;
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    plan->schema->is_replicated = true;
    cr_assert_eq(insert(true), TABLE_UNCLEAR, "nor are the dead letters");
    cr_assert_eq(insert(true), TABLE_UNCLEAR);
    cr_assert_eq(replicas[1].inserts, 0);
    plan->dead_letters_replicated = true;
    cr_assert_eq(insert(true), TABLE_UNCLEAR);
    cr_assert_eq(insert(true), TABLE_DONE);
    cr_assert_eq(replicas[1].inserts, 1);
}

Test(table_insert, what_views_have_got_is_repeated_where_their_targets_are_replicated)
{
    answers(no_keeper, well);
    plan->schema->views = &view;
    plan->schema->view_count = 1;
    view.is_replicated = true;
    cr_assert_eq(insert(false), TABLE_DONE, "the same bytes under the same token");
    cr_assert_eq(replicas[0].inserts, 1);
    cr_assert_eq(replicas[1].inserts, 1);
}
