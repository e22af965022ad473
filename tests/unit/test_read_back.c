// SPDX-License-Identifier: Apache-2.0
//
// The read-back against a scripted peer: what it takes from an answer, and that nothing but a whole answer means
// "none".
#include "clickhouse_peer.h"
#include "relay/insert/read_back.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENTINEL   "9223372036854775807\t0\t0\toutbox-relay: end\n"
#define MORE       "9223372036854775807\t0\t1\toutbox-relay: end\n" // above the page
#define EDGES_NONE "0\t0\t0\toutbox-relay: end\n"

struct peer {
    struct clickhouse_peer server;
    const char *const *answers; // to the questions, in order; the last one is repeated
    size_t asked;
    size_t limited; // questions that the server itself is to give up
    size_t alone;   // that the server is to answer without others
    size_t patient; // that may take as long as request_timeout
    struct table_schema schema;
    struct table_plan plan;
};

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[4096];
    struct peer *peer = context;
    const char *body = clickhouse_peer_learned(seen);
    peer->limited += strstr(seen->target, "receive_timeout=25&max_execution_time") != NULL;
    if (!body) {
        peer->alone += strstr(seen->target, "&max_parallel_replicas=1&") != NULL;
        peer->patient += strstr(seen->target, "max_execution_time=300") != NULL;
        body = peer->answers[peer->asked];
        peer->asked += peer->answers[peer->asked + 1] != NULL;
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

static void start(struct peer *peer, const char *const *answers)
{
    static char database[] = "db", table[] = "t", letters[] = "dead";
    memset(peer, 0, sizeof(*peer));
    peer->answers = answers;
    clickhouse_peer_start(&peer->server, handle, peer, NULL);
    peer->server.config.insert.dead_letter_table = letters;
    peer->schema.database = database;
    peer->schema.table = table;
    peer->plan.schema = &peer->schema;
}

static void finish(struct peer *peer)
{
    clickhouse_peer_finish(&peer->server);
}

static bool look(struct peer *peer, struct read_back *of, struct relay_error *error)
{
    int endpoint = CLICKHOUSE_ANY_ENDPOINT;
    return read_back_offsets(&peer->server.context, peer->server.client, &peer->plan, of, &endpoint, error);
}

static bool ask(const char *const *answers, struct read_back *of, struct relay_error *error)
{
    struct peer peer;
    start(&peer, answers);
    bool done = look(&peer, of, error);
    finish(&peer);
    return done;
}

Test(read_back, rows_and_dead_letters_are_one_set)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 100};
    struct relay_error error;
    const char *answers[] = {"100\t110\t10\t\n120\t121\t1\t\n" SENTINEL, "110\t112\t2\t\n" SENTINEL, NULL};
    cr_assert(ask(answers, &of, &error), "%s", error.text);
    cr_assert_eq(of.found.count, 2);
    cr_assert_eq(of.found.items[0].after, 112);
    cr_assert(offset_ranges_contain(&of.found, 120));
    cr_assert_eq(of.through, INT64_MAX);
    cr_assert_eq(of.from, 100);
    offset_ranges_finish(&of.found);
}

// The route may have called it otherwise when they were written.
Test(read_back, dead_letters_are_looked_for_under_each_name_of_the_table)
{
    static const char *const answers[] = {SENTINEL, NULL};
    static const char *const names[][2] = {{"t", "target IN ('t', 'db.t')"}, {"db.t", "target IN ('db.t', 't')"},
        {"other.t", "target IN ('other.t')"}, {"d.t", "target IN ('d.t')"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct read_back of = {.target = names[i][0], .topic = "a", .partition = 1, .from = 100};
        struct relay_error error;
        struct peer peer;
        size_t found = 0;
        start(&peer, answers);
        cr_assert(look(&peer, &of, &error), "%s", error.text);
        for (size_t j = 0; j < http_script_requests(peer.server.http); j++) {
            const char *statement = http_script_body(peer.server.http, j, NULL);
            found += statement && strstr(statement, names[i][1]);
        }
        cr_assert_eq(found, 1, "%s", names[i][1]);
        finish(&peer);
        offset_ranges_finish(&of.found);
    }
}

Test(read_back, replicas_are_brought_up_to_date_for_rows_and_for_dead_letters)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 100};
    struct relay_error error;
    struct peer peer;
    const char *answers[] = {"", "", SENTINEL, NULL};
    start(&peer, answers);
    peer.server.config.clickhouse.request_timeout = DURATION_S(300);
    peer.schema.is_replicated = peer.plan.dead_letters.is_replicated = true;
    cr_assert(look(&peer, &of, &error), "%s", error.text);
    size_t requests = http_script_requests(peer.server.http), tables = 0, dead_letters = 0;
    for (size_t i = 0; i < requests; i++) {
        const char *statement = http_script_body(peer.server.http, i, NULL);
        tables += statement && strcmp(statement, "SYSTEM SYNC REPLICA `db`.`t` LIGHTWEIGHT") == 0;
        dead_letters += statement && strcmp(statement, "SYSTEM SYNC REPLICA `dead` LIGHTWEIGHT") == 0;
    }
    cr_assert_eq(tables, 1);
    cr_assert_eq(dead_letters, 1);
    cr_assert_eq(peer.patient, 2, "the rows and the dead letters alone");
    cr_assert_eq(peer.alone, 4, "other replicas were not brought up to date");
    cr_assert_eq(peer.limited, 2, "a replica that does not catch up is no reason to wait without an answer");
    offset_ranges_finish(&of.found);
    finish(&peer);
}

Test(read_back, without_a_committed_offset_it_begins_at_the_lowest_that_is_there)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = READ_BACK_NONE};
    struct relay_error error;
    const char *answers[] = {"3\t700\t702\toutbox-relay: end\n", "1\t650\t650\toutbox-relay: end\n",
        "700\t703\t3\t\n" SENTINEL, "650\t651\t1\t\n" SENTINEL, NULL};
    cr_assert(ask(answers, &of, &error), "%s", error.text);
    cr_assert_eq(of.from, 650);
    cr_assert_eq(of.found.count, 2);
    cr_assert_eq(of.highest, 702);
    offset_ranges_finish(&of.found);
    const char *nothing[] = {EDGES_NONE, EDGES_NONE, NULL};
    of.from = READ_BACK_NONE;
    cr_assert(ask(nothing, &of, &error), "%s", error.text);
    cr_assert_eq(of.from, READ_BACK_NONE);
    cr_assert_eq(of.found.count, 0);
    cr_assert_eq(of.highest, READ_BACK_NONE);
}

// The log is compared with it.
Test(read_back, the_highest_offset_is_that_of_the_table_not_of_the_page)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = READ_BACK_NONE};
    struct relay_error error;
    const char *all[] = {"3\t7\t9000000\toutbox-relay: end\n", EDGES_NONE, "7\t9\t2\t\n" MORE, SENTINEL, NULL};
    cr_assert(ask(all, &of, &error), "%s", error.text);
    cr_assert_eq(of.highest, 9000000, "without a committed offset the table tells it");
    const char *none[] = {SENTINEL, SENTINEL, NULL}, *some[] = {"7\t9\t2\t\n" SENTINEL, SENTINEL, NULL};
    of.from = 7;
    cr_assert(ask(none, &of, &error), "%s", error.text);
    cr_assert_eq(of.highest, READ_BACK_NONE);
    cr_assert(ask(some, &of, &error), "%s", error.text);
    cr_assert_eq(of.highest, 8);
    const char *more[] = {"7\t9\t2\t\n" MORE, SENTINEL, "3\t7\t5000000\toutbox-relay: end\n",
        "1\t6000000\t6000000\toutbox-relay: end\n", NULL};
    cr_assert(ask(more, &of, &error), "%s", error.text);
    cr_assert_eq(of.from, 7);
    cr_assert_eq(of.highest, 6000000, "asked for where the page does not reach that far");
    of.highest_known = true;
    cr_assert(ask(more, &of, &error), "%s", error.text);
    cr_assert_eq(of.highest, READ_BACK_NONE, "not asked");
    offset_ranges_finish(&of.found);
}

Test(read_back, a_page_that_is_full_says_how_far_it_reaches)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 0};
    struct relay_error error;
    const char *answers[] = {"0\t500000\t500000\t\n" SENTINEL, SENTINEL, "500000\t0\t499999\toutbox-relay: end\n",
        EDGES_NONE, NULL};
    cr_assert(ask(answers, &of, &error), "%s", error.text);
    cr_assert_eq(of.through, 500000);
    cr_assert_eq(of.highest, 499999);
    offset_ranges_finish(&of.found);
}

Test(read_back, a_page_looks_at_so_many_offsets_and_says_how_far_it_reaches_if_there_are_more)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 4000000};
    struct relay_error error;
    struct peer peer;
    const char *answers[] = {"4000000\t4000009\t9\t\n" MORE, SENTINEL, NULL};
    start(&peer, answers);
    cr_assert(look(&peer, &of, &error), "%s", error.text);
    cr_assert_eq(of.through, 5000000);
    cr_assert_eq(of.found.count, 1);
    offset_ranges_finish(&of.found);
    size_t bounded = 0;
    for (size_t i = 0; i < http_script_requests(peer.server.http); i++) {
        const char *statement = http_script_body(peer.server.http, i, NULL);
        bounded += statement && strstr(statement, "kafka_offset >= 4000000 AND kafka_offset < 5000000 ") &&
            strstr(statement, "kafka_offset >= 5000000 LIMIT 1");
    }
    cr_assert_eq(bounded, 2, "rows and dead letters");
    finish(&peer);
}

Test(read_back, a_gap_that_is_longer_than_a_page_is_passed_over_at_once)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 0};
    struct relay_error error;
    const char *answers[] = {MORE, "7\t900000000\t900000010\toutbox-relay: end\n", SENTINEL,
        "7\t900000000\t900000010\toutbox-relay: end\n", EDGES_NONE, NULL};
    cr_assert(ask(answers, &of, &error), "%s", error.text);
    cr_assert_eq(of.found.count, 0);
    cr_assert_eq(of.through, 900000000);
    cr_assert_eq(of.highest, 900000010);
    const char *both[] = {MORE, "7\t900000000\t900000010\toutbox-relay: end\n", MORE,
        "1\t700000000\t700000000\toutbox-relay: end\n", "7\t900000000\t900000010\toutbox-relay: end\n",
        "1\t700000000\t700000000\toutbox-relay: end\n", NULL};
    cr_assert(ask(both, &of, &error), "%s", error.text);
    cr_assert_eq(of.through, 700000000, "dead letters may come before the rows");
}

#define TOO_LONG "Code: 159. DB::Exception: Timeout exceeded. (TIMEOUT_EXCEEDED)\n"
#define TOO_MUCH "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)\n"

// How many of its questions end there.
static size_t asked_below(const struct peer *peer, const char *end)
{
    size_t asked = 0;
    for (size_t i = 0; i < http_script_requests(peer->server.http); i++) {
        const char *statement = http_script_body(peer->server.http, i, NULL);
        asked += statement && strstr(statement, "DISTINCT") && strstr(statement, end);
    }
    return asked;
}

Test(read_back, what_took_too_long_is_asked_for_fewer_offsets)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 4000000};
    struct relay_error error;
    struct peer peer;
    const char *answers[] = {TOO_LONG, TOO_MUCH, "4000000\t4000009\t9\t\n" MORE, TOO_LONG, SENTINEL, NULL};
    start(&peer, answers);
    peer.server.config.clickhouse.request_timeout = DURATION_S(300);
    cr_assert_not(look(&peer, &of, &error));
    cr_assert_eq(of.span, 500000);
    cr_assert_not_null(strstr(error.text, "1000000 offsets from 4000000 on"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "kafka_offset has no index"), "%s", error.text);
    peer.schema.offset_has_index = true;
    cr_assert_not(look(&peer, &of, &error));
    cr_assert_eq(asked_below(&peer, "kafka_offset < 4500000 "), 1);
    cr_assert_eq(of.span, 250000);
    cr_assert_null(strstr(error.text, "index"), "%s", error.text);
    cr_assert_not(look(&peer, &of, &error), "dead letters");
    cr_assert_eq(asked_below(&peer, "kafka_offset < 4250000 "), 2);
    cr_assert_eq(of.span, 125000);
    cr_assert(look(&peer, &of, &error), "%s", error.text);
    cr_assert_eq(peer.patient, 6);
    offset_ranges_finish(&of.found);
    finish(&peer);
}

// What a server of 23 foresees, and what limits of the user's profile end.
Test(read_back, what_goes_beyond_a_limit_of_the_server_is_asked_for_fewer_offsets)
{
    static const char *const refusals[] = {"Code: 160. DB::Exception: Estimated query execution time. (TOO_SLOW)\n",
        "Code: 158. DB::Exception: Limit for rows to read exceeded. (TOO_MANY_ROWS)\n",
        "Code: 307. DB::Exception: Limit for bytes to read exceeded. (TOO_MANY_BYTES)\n",
        "Code: 396. DB::Exception: Limit for result exceeded. (TOO_MANY_ROWS_OR_BYTES)\n",
        "Code: 191. DB::Exception: Limit for DISTINCT exceeded. (SET_SIZE_LIMIT_EXCEEDED)\n"};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 0};
        struct relay_error error;
        const char *answers[] = {refusals[i], NULL};
        cr_assert_not(ask(answers, &of, &error));
        cr_assert_eq(of.span, 500000, "%s", refusals[i]);
        cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE, "%s", error.text);
    }
}

Test(read_back, there_is_a_least_of_offsets)
{
    struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 0, .span = 12000};
    struct relay_error error;
    const char *answers[] = {TOO_LONG, NULL}, *bad[] = {"", NULL};
    cr_assert_not(ask(answers, &of, &error));
    cr_assert_eq(of.span, 10000);
    cr_assert_not(ask(answers, &of, &error));
    cr_assert_eq(of.span, 10000);
    of.span = 0;
    cr_assert_not(ask(bad, &of, &error));
    cr_assert_eq(of.span, 0, "for another reason than its size");
}

Test(read_back, what_is_not_a_whole_answer_never_means_none)
{
    static const char *const bad[] = {
        "",                                                            // nothing at all
        "100\t110\t10\t\n",                                            // the last word is missing
        "<html>Bad Gateway</html>\n",                                  // something else
        "Code: 241. DB::Exception: memory. (MEMORY_LIMIT_EXCEEDED)\n", // an exception under status 200
        "100\t110\t9\t\n" SENTINEL,                                    // a range with a hole
        "100\t110\t10\t\n105\t107\t2\t\n" SENTINEL,                    // ranges that overlap
        "0\t0\toutbox-relay: end\n",                                   // the answer to another question
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (int second = 0; second < 2; second++) {
            struct read_back of = {.target = "t", .topic = "a", .partition = 1, .from = 100};
            struct relay_error error;
            const char *answers[] = {second ? SENTINEL : bad[i], bad[i], NULL};
            cr_assert_not(ask(answers, &of, &error), "answer %zu", i);
            cr_assert_neq(error.class, RELAY_CLASS_NONE);
            offset_ranges_finish(&of.found);
        }
    }
}

static bool settle(struct peer *peer, struct clickhouse_client *client, struct duration patience,
    struct duration longest, const struct mono_time *may_run_until, struct relay_error *error)
{
    struct insert_places places = {0};
    insert_places_add(&places, "posts", 1);
    struct read_back_settling of = {.prefix = "outbox-relay-",
        .places = &places,
        .patience = patience,
        .longest = longest,
        .may_run_until = may_run_until};
    bool done = read_back_settle(&peer->server.context, client, &of, error);
    insert_places_finish(&places);
    return done;
}

// What runs, as the peer tells it: one INSERT with rows of posts/`partition`.
static void running(char *answer, size_t room, int32_t partition)
{
    struct insert_places places = {0};
    char id[CLICKHOUSE_QUERY_ID_ROOM];
    insert_places_add(&places, "posts", partition);
    insert_query_id_write(id, sizeof(id), "outbox-relay-", "i", "r", 1, &places);
    insert_places_finish(&places);
    snprintf(answer, room, "%s\noutbox-relay: end\n", id);
}

Test(read_back, settling_kills_what_runs_and_waits_until_it_is_gone)
{
    struct peer peer;
    struct relay_error error;
    struct mono_time long_ago = {0};
    char ours[CLICKHOUSE_QUERY_ID_ROOM + 40];
    running(ours, sizeof(ours), 1);
    const char *answers[] = {ours, "" /* KILL */, "1\toutbox-relay: end\n", "0\toutbox-relay: end\n", NULL};
    start(&peer, answers);
    cr_assert(settle(&peer, peer.server.client, DURATION_MS(0), DURATION_S(60), &long_ago, &error), "%s", error.text);
    cr_assert_eq(peer.asked, 3);
    finish(&peer);
    const char *falsified[] = {"", NULL};
    start(&peer, falsified);
    cr_assert_not(settle(&peer, peer.server.client, DURATION_MS(1), DURATION_S(60), &long_ago, &error));
    finish(&peer);
}

Test(read_back, settling_lets_the_inserts_of_members_that_go_on_with_other_partitions_alone)
{
    struct peer peer;
    struct relay_error error;
    struct mono_time long_ago = {0};
    char others[CLICKHOUSE_QUERY_ID_ROOM + 40];
    running(others, sizeof(others), 2);
    const char *answers[] = {others, "the question that must not come", "neither", NULL};
    start(&peer, answers);
    cr_assert(settle(&peer, peer.server.client, DURATION_MS(0), DURATION_MS(0), &long_ago, &error), "%s", error.text);
    cr_assert_eq(peer.asked, 1);
    finish(&peer);
}

Test(read_back, settling_waits_for_inserts_of_unknown_partitions_as_long_as_one_can_last)
{
    struct peer peer;
    struct relay_error error;
    struct mono_time long_ago = {0};
    const char *ends[] = {"outbox-relay-1\noutbox-relay: end\n", "1\toutbox-relay: end\n", "0\toutbox-relay: end\n",
        "a KILL that must not come", NULL};
    start(&peer, ends);
    cr_assert(settle(&peer, peer.server.client, DURATION_MS(0), DURATION_S(60), &long_ago, &error), "%s", error.text);
    finish(&peer);
    const char *stays[] = {"outbox-relay-1\noutbox-relay: end\n", "" /* KILL */, "0\toutbox-relay: end\n", NULL};
    start(&peer, stays);
    cr_assert(settle(&peer, peer.server.client, DURATION_MS(0), DURATION_MS(0), &long_ago, &error), "%s", error.text);
    finish(&peer);
}

Test(read_back, an_endpoint_that_does_not_answer_is_passed_over_only_when_nothing_can_run_there_any_more)
{
    static char gone[] = "http://127.0.0.1:1";
    struct peer peer;
    struct relay_error error;
    const char *answers[] = {"outbox-relay: end\n", NULL};
    start(&peer, answers);
    char *urls[] = {gone, peer.server.urls[0]};
    peer.server.config.clickhouse.urls = (struct config_list){.items = urls, .count = 2};
    struct clickhouse_client *client = clickhouse_client_new(&peer.server.context, &error);
    cr_assert_not_null(client, "%s", error.text);
    struct mono_time now = clock_mono(peer.server.context.clock);
    struct mono_time may_run[] = {mono_add(now, DURATION_S(60)), mono_add(now, DURATION_S(60))};
    cr_assert_not(settle(&peer, client, DURATION_MS(0), DURATION_S(60), may_run, &error));
    cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
    cr_assert_not_null(strstr(error.text, gone), "%s", error.text);
    may_run[0] = now;
    cr_assert(settle(&peer, client, DURATION_MS(0), DURATION_S(60), may_run, &error), "%s", error.text);
    clickhouse_client_free(client);
    finish(&peer);
}
