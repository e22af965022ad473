// SPDX-License-Identifier: Apache-2.0
//
// Which replica gets an INSERT after one has failed, and what is asked first where views hang on the table, against two
// scripted peers.
#include "two_replicas.h"

static char target[] = "db.v";
static struct table_view_target view = {.target = target,
    .is_mergetree = true,
    .dedup_window = 100,
    .dedup_seconds = INT64_MAX};

TestSuite(table_insert, .init = start, .fini = finish);
TestSuite(table_insert_behind_one_url, .init = start_alone, .fini = finish);

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

// The server answers that it may have it, and is another version when that has been read.
static void expect_after_upgrade(const char *before, const char *after, bool repeated)
{
    answers(well, well);
    hang_a_view_on_it(few_blocks);
    plan->schema->is_replicated = false;
    replicas[0].version = before;
    replicas[0].becomes = after;
    replicas[0].once = timed_out;
    struct table_job *job = job_of(true, false);
    do_job(job);
    cr_assert_eq(job->verdict, repeated ? TABLE_DONE : TABLE_UNCLEAR, "%s to %s: %d", before, after, job->verdict);
    cr_assert_eq(job->forgotten, !repeated);
    cr_assert_eq(replicas[0].inserts, repeated ? 2 : 1);
    table_job_free(job);
}

Test(table_insert, a_version_that_does_not_recognise_its_token_does_not_get_it_again)
{
    expect_after_upgrade("25.8.1.1", "26.8.1.1", false);
}

Test(table_insert, nor_does_an_older_version)
{
    expect_after_upgrade("26.6.1.1", "26.1.9.9", false);
}

Test(table_insert, versions_that_keep_both_hashes_recognise_tokens_of_those_before)
{
    expect_after_upgrade("26.1.1.1", "26.2.1.1", true);
}

Test(table_insert, versions_after_those_that_keep_both_hashes_recognise_their_tokens)
{
    expect_after_upgrade("26.5.9.9", "26.8.1.1", true);
}

static void ask_for_its_version(void)
{
    struct clickhouse_request request = {.endpoint = 0, .timeout = DURATION_S(20)};
    struct relay_error error;
    clickhouse_server_doubt(peer.client, 0);
    cr_assert(clickhouse_query(peer.client, &request, "SELECT 1", NULL, NULL, &error), "%s", error.text);
}

// Behind one url: another request meets the server that took its place, while the INSERT has no answer yet.
Test(table_insert, the_version_that_an_insert_was_sent_to_counts_not_only_the_one_that_is_known_when_it_failed)
{
    answers(NULL, well); // its machine is gone
    hang_a_view_on_it(few_blocks);
    plan->schema->is_replicated = false;
    peer.config.clickhouse.request_timeout = DURATION_S(2);
    replicas[0].version = "25.8.1.1";
    replicas[0].becomes = "26.8.1.1";
    ask_for_its_version();
    struct table_job *job = job_of(true, false);
    size_t requests = http_script_requests(peer.http);
    table_worker_submit(worker, job);
    http_script_wait(peer.http, requests + 1);
    replicas[0].answer = well;
    ask_for_its_version();
    await_done();
    cr_assert_eq(replicas[0].inserts, 1, "26.8 does not recognise what 25.8 has kept of its token");
    cr_assert_eq(job->verdict, TABLE_UNCLEAR, "%d", job->verdict);
    cr_assert(job->forgotten);
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

// It was made after the table had been read. The table may have the rows, so that a read-back would pass them over.
static void expect_kept(const char *answer, enum table_verdict verdict)
{
    static const char *const has_the_row[] = {a_row, NULL}, *const has_none[] = {no_rows, NULL};
    struct table_job *job = job_of(true, false);
    answers(answer, well);
    job->unnoted = &note;
    replicas[0].says = has_the_row;
    do_job(job);
    cr_assert_eq(job->verdict, verdict, "%d", job->verdict);
    cr_assert_eq(job->note, &note, "it is kept as for a view that is known");
    cr_assert_not(job->absent);
    cr_assert_eq(job->sent_to, 0);
    job->note = NULL;
    replicas[0].says = has_none;
    do_job(job);
    cr_assert(job->absent);
    table_job_free(job);
}

Test(table_insert, what_a_view_refuses_that_was_not_known_is_kept_for_it)
{
    expect_kept(in_a_view, TABLE_REJECTED);
    expect_kept(full_view, TABLE_OPERATOR);
    cr_assert_eq(replicas[0].inserts, 4, "not before the table was read anew");
    struct table_job *job = job_of(true, false);
    job->unnoted = &note;
    answers(refused, well);
    do_job(job);
    cr_assert_null(job->note, "the table itself refused the row");
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

static void engine_is(const char *engine)
{
    free(plan->schema->engine);
    plan->schema->engine = strdup(engine);
}

// As behind the one hostname of ClickHouse Cloud: who answers next need not show what another one stores.
Test(table_insert_behind_one_url, of_a_shared_engine_what_is_in_doubt_is_repeated_under_its_token)
{
    answers(well, well);
    question = few_blocks;
    engine_is("SharedMergeTree");
    replicas[0].once = timed_out;
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 2, "the same bytes under the same token");
    replicas[0].once = timed_out;
    question = many_blocks;
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "its token may be forgotten");
    replicas[0].once = timed_out;
    question = few_blocks;
    plan->exactly_once = false;
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    cr_assert_eq(replicas[0].inserts, 4);
}

Test(table_insert_behind_one_url, of_a_shared_engine_what_took_too_long_is_read_back)
{
    answers(NULL, well);
    question = few_blocks;
    engine_is("SharedMergeTree");
    peer.config.clickhouse.request_timeout = DURATION_S(2);
    cr_assert_eq(insert(false), TABLE_UNCLEAR, "so that it can be divided");
    cr_assert_eq(replicas[0].inserts, 1);
}

Test(table_insert_behind_one_url, of_other_engines_what_is_in_doubt_is_read_back)
{
    static const char *const engines[] = {"MergeTree", "ReplicatedMergeTree"};
    answers(well, well);
    question = few_blocks;
    for (size_t i = 0; i < 2; i++) {
        engine_is(engines[i]);
        plan->schema->is_replicated = i == 1;
        replicas[0].once = timed_out;
        cr_assert_eq(insert(false), TABLE_UNCLEAR, "%s", engines[i]);
        cr_assert_eq(replicas[0].inserts, i + 1);
    }
}
