// SPDX-License-Identifier: Apache-2.0
//
// Where a table is opened, read back and filled that not each of two scripted replicas has, or answers for.
#include "two_replicas.h"

#define NOTHING "9223372036854775807\t0\t0\toutbox-relay: end\n"

TestSuite(table_elsewhere, .init = start, .fini = finish);

// It answers everything else, so that no breaker opens.
Test(table_elsewhere, after_an_insert_that_a_replica_did_not_answer_for_long_another_one_is_next)
{
    answers(NULL, well);
    peer.config.clickhouse.request_timeout = DURATION_S(1);
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    peer.config.clickhouse.request_timeout = DURATION_S(20);
    answers(well, well);
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[1].inserts, 1);
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[1].inserts, 2, "it stays there");
}

Test(table_elsewhere, a_table_that_is_not_replicated_stays_where_an_insert_had_no_answer)
{
    answers(NULL, well);
    plan->schema->is_replicated = false;
    peer.config.clickhouse.request_timeout = DURATION_S(1);
    cr_assert_eq(insert(false), TABLE_UNCLEAR);
    peer.config.clickhouse.request_timeout = DURATION_S(20);
    answers(well, well);
    cr_assert_eq(insert(false), TABLE_DONE);
    cr_assert_eq(replicas[0].inserts, 2);
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
    "value\tString\t\t\t0\t0\n", "" /* views */, "" /* parts */, "1\n", "1700000000000000\n", "0\n", NULL};
static const char *const has_it_not[] = {"db\n", "", "", NULL};
static const char *const knows_us_not[] = {no_login, NULL};

Test(table_elsewhere, a_table_is_opened_where_it_is)
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

Test(table_elsewhere, a_table_that_is_nowhere_leaves_the_others_where_they_are)
{
    int endpoint;
    replicas[0].says = has_it_not;
    replicas[1].says = knows_us_not;
    cr_assert_eq(open_table(&endpoint), TABLE_OPERATOR);
    cr_assert_eq(asked_next(), 0);
}

Test(table_elsewhere, a_read_back_that_a_replica_refuses_asks_the_next_one_when_it_comes_again)
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

// Another one may have a Keeper that does not know of it yet.
Test(table_elsewhere, a_replica_that_answers_an_insert_in_doubt_is_read_back_first)
{
    static const char *const recovers[] = {"outbox-relay: end\n", "" /* SYNC */, NULL},
                             *const stays_without[] = {"outbox-relay: end\n", no_keeper, NULL},
                             *const asks_for_less[] = {"outbox-relay: end\n", "", timed_out, "", NULL},
                             *const other[] = {"outbox-relay: end\n", "outbox-relay: end\n", "" /* SYNC */, NULL};
    static char name[] = "t", topic[] = "topic";
    peer.config.insert.dead_letter_table = name;
    question = NOTHING;
    replicas[1].says = other;
    static const struct {
        const char *const *says;
        size_t syncs, elsewhere; // so far, at the first and at the other
    } cases[] = {{recovers, 1, 0}, {asks_for_less, 3, 0}, {stays_without, 4, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct relay_error error;
        struct table_job *job = table_job_new(TABLE_JOB_READ_BACK, NULL, &error);
        job->plan = table_plan_hold(plan);
        job->read_back.target = name;
        job->read_back.topic = topic;
        answers(no_keeper, no_keeper);
        cr_assert_eq(insert(false), TABLE_UNCLEAR);
        cr_assert_eq(asked_next(), 1, "the other tables are");
        question = NOTHING;
        replicas[0].says = cases[i].says;
        do_job(job);
        cr_assert_eq(job->verdict, TABLE_DONE, "%s", job->error.text);
        cr_assert_eq(replicas[0].syncs, cases[i].syncs);
        cr_assert_eq(replicas[1].syncs, cases[i].elsewhere, "it was asked only when the first could not answer");
        table_job_free(job);
        answers(well, no_keeper);
        cr_assert_eq(insert(false), TABLE_UNCLEAR);
        clickhouse_client_prefer(peer.client, 0);
        answers(well, well);
        cr_assert_eq(insert(false), TABLE_DONE, "back to the first");
    }
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

Test(table_elsewhere, a_read_back_that_takes_too_long_is_repeated_for_fewer_offsets)
{
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
