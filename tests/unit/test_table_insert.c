// SPDX-License-Identifier: Apache-2.0
//
// Which replica gets an INSERT after one has failed, and what is asked first where views hang on the table, against two
// scripted peers.
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
    size_t inserts;
    const char *const *says; // to what is no INSERT, one after the other, NULL at the end: bodies, or whole answers
};

static struct replica replicas[2];
static struct http_script *second;
static struct clickhouse_peer peer;
static struct insert_lease lease;
static struct config_route route;
static char target[] = "db.v";
static struct table_view_target view = {.target = target,
    .is_mergetree = true,
    .dedup_window = 100,
    .dedup_seconds = INT64_MAX};
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

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static _Thread_local char learned[4096]; // each connection has its thread
    struct replica *replica = context;
    const char *body = settings && strstr(seen->target, "-learn-settings") ? settings : clickhouse_peer_learned(seen);
    bool inserts = strstr(seen->target, "INSERT") != NULL;
    const char *said = body || inserts || !replica->says || !*replica->says ? NULL : *replica->says++;
    bool whole = said && strncmp(said, "HTTP/", 5) == 0;
    body = body || inserts ? body : said && !whole ? said : question;
    replica->inserts += inserts;
    patient += !inserts && strstr(seen->target, "max_execution_time=600") != NULL;
    reply->answer = whole ? said
        : body            ? clickhouse_peer_ok(learned, sizeof(learned), body)
        : replica->once   ? replica->once
                          : replica->answer;
    replica->once = inserts ? NULL : replica->once;
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

static struct table_job *job_of(bool row, bool dead)
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
static void await_waking(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    cr_assert_eq(sem_timedwait(&woken, &until), 0, "it never ends");
}

static void await_done(void)
{
    while (!table_worker_take_done(worker)) {
        await_waking();
    }
}

static void do_job(struct table_job *job)
{
    table_worker_submit(worker, job);
    await_done();
}

// It has a lease, and measures the server's clock: so it asks for a commit, and gets it.
static void do_guarded_job(struct table_job *job)
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
static enum table_verdict insert(bool dead)
{
    struct table_job *job = job_of(!dead, dead);
    do_job(job);
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

Test(table_insert, a_code_that_says_nothing_sure_is_looked_for_in_smaller_inserts)
{
    struct table_job *job = job_of(true, false);
    job->row = (struct row_place){.topic = "topic", .partition = 3, .offset = 4711};
    answers(strange, strange);
    for (size_t i = 0; i < 2; i++) {
        do_job(job);
        cr_assert_eq(job->verdict, TABLE_UNCLEAR, "it may pass");
    }
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_TOO_LARGE);
    cr_assert_not_null(strstr(job->error.text, "topic[3]@4711"), "%s", job->error.text);
    job->rows = 2;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_TOO_LARGE);
    cr_assert_null(strstr(job->error.text, "topic"), "%s", job->error.text);
    table_job_free(job);
    cr_assert_eq(insert(true), TABLE_OPERATOR, "dead letters are the relay's own");
}

// A proxy passes no INSERT on whose body it finds too large.
Test(table_insert, what_is_too_large_for_a_proxy_is_divided)
{
    struct table_job *job = job_of(true, false);
    static const char *const tells[] = {"1\n", "1700000000000000\n", NULL};
    job->row = (struct row_place){.topic = "topic", .partition = 3, .offset = 4711};
    answers(too_large, too_large);
    replicas[0].says = tells;
    do_guarded_job(job);
    cr_assert_eq(job->verdict, TABLE_TOO_LARGE);
    cr_assert_not_null(strstr(job->error.text, "topic[3]@4711"), "%s", job->error.text);
    struct mono_time until = {0};
    cr_assert_not(table_worker_has_in_doubt(worker, &until), "nothing of it can begin any more");
    job->rows = 2;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_TOO_LARGE);
    table_job_free(job);
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
    plan->dead_letters.is_replicated = true;
    cr_assert_eq(insert(true), TABLE_UNCLEAR);
    cr_assert_eq(insert(true), TABLE_DONE);
    cr_assert_eq(replicas[1].inserts, 1);
}

static void hang_a_view_on_it(const char *said)
{
    plan->schema->views = &view;
    plan->schema->view_count = 1;
    question = said;
}

Test(table_insert, what_views_have_got_is_repeated_where_their_targets_are_replicated)
{
    answers(no_keeper, well);
    hang_a_view_on_it(few_blocks);
    view.is_replicated = true;
    peer.config.clickhouse.request_timeout = DURATION_S(600);
    cr_assert_eq(insert(false), TABLE_DONE, "the same bytes under the same token");
    cr_assert_eq(patient, 0, "blocks are counted within half a minute");
    cr_assert_eq(replicas[0].inserts, 1);
    cr_assert_eq(replicas[1].inserts, 1);
}

Test(table_insert, what_may_have_been_executed_is_not_repeated_once_its_token_may_be_forgotten)
{
    answers(no_keeper, well);
    hang_a_view_on_it(many_blocks);
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    cr_assert_eq(replicas[0].inserts + replicas[1].inserts, 1);
    struct table_job *job = job_of(true, false); // one that was kept over a pause
    answers(well, well);
    job->again = table_plan_hold(plan);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR, "the view may still fail: nothing new goes past it");
    cr_assert(job->forgotten);
    cr_assert_not(job->stored || job->absent);
    cr_assert_eq(replicas[0].inserts + replicas[1].inserts, 1);
    question = few_blocks;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    cr_assert(job->stored);
    table_job_free(job);
}

// One that a view broke, sent to the first server, and kept over a pause.
static struct table_job *kept(const char *said)
{
    hang_a_view_on_it(said);
    struct table_job *job = job_of(true, false);
    job->again = table_plan_hold(plan);
    answers(well, well);
    return job;
}

Test(table_insert, the_sender_counts_what_came_since_the_table_was_read)
{
    static char newest[] = "['all',''], [7,-1]";
    struct table_job *job = kept("20\toutbox-relay: end\n"); // of each, by their numbers
    plan->schema->newest = strdup(newest);
    view.newest = newest;
    job->before = table_plan_hold(plan);
    plan->schema->dedup_seconds = view.dedup_seconds = 1000;
    note.sent -= 3600;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR, "a block that came now makes the token an hour old");
    job->seen = (struct view_seen){.blocks = 40, .changed = note.sent + 1};
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE, "none came since: it is as old as it was then");
    cr_assert_eq(replicas[0].inserts, 1);
    view.newest = NULL;
    table_job_free(job);
}

Test(table_insert, a_plain_table_may_remember_half_its_window)
{
    static const char half[] = "45\t0\toutbox-relay: end\n";
    struct table_job *job = kept(half);
    plan->schema->is_replicated = view.is_replicated = true;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    view.is_replicated = false;
    job->stored = false;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR);
    cr_assert_eq(replicas[0].inserts, 1);
    table_job_free(job);
}

Test(table_insert, a_repetition_that_comes_late_is_sent_anew)
{
    struct table_job *job = kept(few_blocks);
    replicas[0].once = late;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 2);
    table_job_free(job);
}

Test(table_insert, a_repetition_stays_where_a_target_is_not_replicated)
{
    answers(no_keeper, well);
    hang_a_view_on_it(few_blocks);
    view.is_replicated = true;
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[1].inserts, 1, "others go to the second server now");
    view.is_replicated = false;
    struct table_job *job = kept(few_blocks);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    cr_assert_eq(job->sent_to, 0);
    cr_assert_eq(replicas[1].inserts, 1);
    table_job_free(job);
}

Test(table_insert, a_refusal_says_whether_the_table_has_the_rows)
{
    answers(refused, well);
    hang_a_view_on_it(a_row);
    struct table_job *job = job_of(true, false);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_REJECTED);
    cr_assert_not(job->absent, "a view refused them");
    question = no_rows;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_REJECTED);
    cr_assert(job->absent);
    table_job_free(job);
}

Test(table_insert, what_a_view_refuses_is_not_divided_where_nobody_can_tell_what_the_table_has)
{
    answers(in_a_view, well);
    hang_a_view_on_it(a_row);
    plan->exactly_once = false;
    struct table_job *job = job_of(true, false);
    job->note = NULL;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR, "%d", job->verdict);
    answers(refused, well);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_REJECTED, "the table itself refused the row");
    table_job_free(job);
    plan->exactly_once = true;
    answers(in_a_view, well);
    question = no_rows;
    job = job_of(true, false);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_REJECTED, "it was asked: the table has none");
    cr_assert(job->absent);
    table_job_free(job);
}

// The server gives a block to the views after the table has it.
Test(table_insert, too_many_parts_of_a_view_leave_the_rows_in_the_table)
{
    answers(full_view, well);
    plan->schema->is_replicated = false;
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "it is read back, where that is all there is");
    cr_assert_eq(replicas[0].inserts, 1);
    plan->exactly_once = false;
    cr_assert_eq(insert(false), TABLE_OPERATOR, "nobody could tell what the table has: no repetition without a pause");
    cr_assert_eq(replicas[0].inserts, 2);
    plan->exactly_once = true;
    hang_a_view_on_it(many_blocks);
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "its token may be forgotten");
    cr_assert_eq(replicas[0].inserts, 3);
    answers(well, well);
    replicas[0].once = full;
    cr_assert_eq(insert(false), TABLE_DONE, "of the table itself: not executed, and simply sent again");
    cr_assert_eq(replicas[0].inserts, 5);
}

// The server shows rows that it may drop, if Keeper does not know of them.
Test(table_insert, an_insert_of_unknown_status_is_repeated_until_it_is_answered)
{
    answers(well, well);
    question = few_blocks;
    replicas[0].once = unknown_status;
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 2, "the same bytes under the same token");
    replicas[0].once = timed_out;
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "rows that are found are there to stay");
    replicas[0].once = unknown_status;
    question = many_blocks;
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "its token may be forgotten");
    question = few_blocks;
    replicas[0].once = unknown_status;
    plan->schema->is_replicated = false;
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "no Keeper is asked");
    cr_assert_eq(replicas[0].inserts, 5);
}

Test(table_insert, with_a_quorum_an_insert_is_repeated_until_it_is_answered)
{
    settings = "insert_deduplicate\t\ninsert_deduplication_token\t\ninsert_quorum\tauto\n";
    answers(well, well);
    question = few_blocks;
    replicas[0].once = timed_out;
    cr_assert_eq(insert(false), TABLE_DONE, "one replica that shows the rows is no quorum");
    cr_assert_eq(replicas[0].inserts, 2);
    replicas[0].once = timed_out;
    plan->exactly_once = false;
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    plan->exactly_once = true;
}

Test(table_insert, without_a_quorum_what_is_in_doubt_is_read_back)
{
    settings = "insert_deduplicate\t\ninsert_deduplication_token\t\ninsert_quorum\t0\n";
    answers(well, well);
    question = few_blocks;
    replicas[0].once = timed_out;
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    cr_assert_eq(replicas[0].inserts, 1);
}

Test(table_insert, rows_that_are_stored_are_not_sent_again_for_their_dead_letters)
{
    answers(well, well);
    hang_a_view_on_it(many_blocks);
    struct table_job *job = job_of(true, true);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 2);
    answers(refused, refused);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR, "the dead letters");
    cr_assert(job->stored);
    cr_assert_eq(replicas[0].inserts, 3);
    table_job_free(job);
}

Test(table_insert, a_replica_that_lacks_the_table_is_left_for_the_next)
{
    answers(no_table, well);
    cr_assert_eq(insert(false), TABLE_OPERATOR, "somebody is told");
    cr_assert_eq(replicas[1].inserts, 0, "not before the table was opened and asked");
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 1);
    answers(no_table, no_login);
    cr_assert_eq(insert(false), TABLE_OPERATOR);
    cr_assert_eq(insert(false), TABLE_OPERATOR);
    cr_assert_eq(replicas[0].inserts, 2, "it goes round");
}

Test(table_insert, a_replica_that_lacks_the_table_is_not_left_by_what_is_in_doubt_or_not_replicated)
{
    struct table_job *job = kept(few_blocks);
    view.is_replicated = true;
    answers(no_table, well);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR);
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR);
    cr_assert_eq(replicas[1].inserts, 0, "it may have been executed on the first");
    table_job_free(job);
    plan->schema->view_count = 0;
    plan->schema->is_replicated = false;
    cr_assert_eq(insert(false), TABLE_OPERATOR);
    cr_assert_eq(insert(false), TABLE_OPERATOR);
    cr_assert_eq(replicas[1].inserts, 0, "each server has rows of its own");
}

// The question about its clock comes before the INSERT.
Test(table_insert, a_replica_that_refuses_us_before_the_insert_is_passed_over_at_once)
{
    static const char *const refuses[] = {no_login, no_login, NULL};
    static const char *const tells[] = {"1\n", "1700000000000000\n", NULL};
    struct table_job *job = job_of(true, false);
    replicas[0].says = refuses;
    replicas[1].says = tells;
    answers(well, well);
    do_guarded_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 0);
    cr_assert_eq(replicas[1].inserts, 1);
    table_job_free(job);
}

// A machine that was paused has the clock and the lease of before; the server's clock went on.
Test(table_insert, a_lease_counts_only_with_a_measurement_of_the_servers_clock_from_before_it)
{
    static const char *const tells[] = {"1\n", "1700000000000000\n", NULL};
    struct table_job *job = job_of(true, false);
    replicas[0].says = tells;
    answers(well, well);
    do_guarded_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 1);
    job->stored = false;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE, "the clock need not be measured again, and the lease lasts");
    cr_assert_eq(replicas[0].inserts, 2);
    table_job_free(job);
}

static int asked_next(void)
{
    struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_outcome outcome;
    struct relay_error error;
    question = "1\n";
    cr_assert(clickhouse_query(peer.client, &any, "SELECT 1", NULL, &outcome, &error), "%s", error.text);
    return outcome.endpoint;
}

// What became of an opening, and which endpoint it is that was read.
static enum table_verdict open_table(int *endpoint)
{
    static const char *const pairs[] = {"value", "kafka.value", NULL};
    static struct config_pair room[4];
    static char name[] = "t", dead_letters[] = "d";
    struct relay_error error;
    route = fixture_route(pairs, room);
    route.name = route.table = name;
    peer.config.insert.dead_letter_table = dead_letters;
    struct table_job *job = table_job_new(TABLE_JOB_OPEN, NULL, &error);
    do_job(job);
    enum table_verdict verdict = job->verdict;
    *endpoint = job->plan ? job->plan->schema->endpoint : -1;
    table_job_free(job);
    return verdict;
}

static const char *const has_it[] = {"db\n", "", "u\tMergeTree\tMergeTree ORDER BY value\t\tvalue\n",
    "value\tString\t\t\t0\t0\n", "", "1\n", "1700000000000000\n", "0\n", NULL};
static const char *const has_it_not[] = {"db\n", "", "", NULL};
static const char *const knows_us_not[] = {no_login, NULL};

Test(table_insert, a_table_is_opened_where_it_is)
{
    static const char *const *const lacking[] = {has_it_not, knows_us_not};
    int endpoint;
    peer.config.clickhouse.request_timeout = DURATION_S(600);
    for (size_t i = 0; i < 2; i++) {
        atomic_store(&patient, 0);
        clickhouse_client_prefer(peer.client, 0);
        replicas[0].says = lacking[i];
        replicas[1].says = has_it;
        cr_assert_eq(open_table(&endpoint), TABLE_DONE);
        cr_assert_eq(endpoint, 1);
        cr_assert_eq(patient, 0, "a schema is read within half a minute");
        cr_assert_eq(asked_next(), 1, "so do the read-backs that follow");
    }
}

Test(table_insert, a_table_that_is_nowhere_leaves_the_others_where_they_are)
{
    int endpoint;
    replicas[0].says = has_it_not;
    replicas[1].says = knows_us_not;
    cr_assert_eq(open_table(&endpoint), TABLE_OPERATOR);
    cr_assert_eq(asked_next(), 0);
}

Test(table_insert, a_read_back_that_a_replica_refuses_asks_the_next_one_when_it_comes_again)
{
    static const char *const refuses[] = {"outbox-relay: end\n", no_table, NULL},
                             *const runs_nothing[] = {"outbox-relay: end\n", NULL};
    static char name[] = "t", topic[] = "topic";
    struct relay_error error;
    peer.config.insert.dead_letter_table = name;
    struct table_job *job = table_job_new(TABLE_JOB_READ_BACK, NULL, &error);
    job->plan = table_plan_hold(plan);
    job->read_back.target = name;
    job->read_back.topic = topic;
    replicas[0].says = refuses;
    replicas[1].says = runs_nothing;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_OPERATOR);
    cr_assert_eq(asked_next(), 1);
    table_job_free(job);
}

static bool asked_below(const char *end)
{
    for (size_t i = 0; i < http_script_requests(peer.http); i++) {
        const char *statement = http_script_body(peer.http, i, NULL);
        if (statement && strstr(statement, end)) {
            return true;
        }
    }
    return false;
}

Test(table_insert, a_read_back_that_takes_too_long_is_repeated_for_fewer_offsets)
{
#define NOTHING "9223372036854775807\t0\t0\toutbox-relay: end\n"
    static const char *const slow[] = {"outbox-relay: end\n", timed_out, timed_out, timed_out, NULL},
                             *const runs_nothing[] = {"outbox-relay: end\n", NULL};
    static char name[] = "t", topic[] = "topic";
    struct relay_error error;
    peer.config.insert.dead_letter_table = name;
    struct table_job *job = table_job_new(TABLE_JOB_READ_BACK, NULL, &error);
    job->plan = table_plan_hold(plan);
    job->plan->schema->is_replicated = false;
    job->read_back.target = name;
    job->read_back.topic = topic;
    replicas[0].says = slow;
    replicas[1].says = runs_nothing;
    question = NOTHING;
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE, "%s", job->error.text);
    cr_assert(asked_below("kafka_offset < 1000000 "));
    cr_assert(asked_below("kafka_offset < 125000 "));
    job->read_back.from = 3000000; // the next page
    do_job(job);
    cr_assert_eq(job->verdict, TABLE_DONE, "%s", job->error.text);
    cr_assert(asked_below("kafka_offset < 3250000 "), "the server is as slow as it was");
    cr_assert_not(asked_below("kafka_offset < 4000000 "));
    table_job_free(job);
}
