// SPDX-License-Identifier: Apache-2.0
//
// Something that answers in ClickHouse's place, against the HTTP client: an INSERT that was carried out is answered by
// status 200 and nothing else, which a balancer in maintenance answers to everybody.
#include "clickhouse_peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct clickhouse_peer peer;
static const char *said;     // to what is no question of the client's own
static const char *impostor; // answers those questions, too; NULL: ClickHouse does
static bool strips;          // a proxy takes ClickHouse's headers away
static size_t asked;
static struct clickhouse_outcome outcome;
static struct relay_error error;

static const char of_clickhouse[] = HTTP_OK(0, "");
static const char nothing[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};

static void handle(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[1000];
    const char *learned = clickhouse_peer_learned(seen);
    (void)unused;
    reply->read_body = (size_t)-1;
    reply->answer = learned && impostor ? impostor : said;
    asked += !learned;
    if (learned && !impostor && strips) {
        snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(learned), learned);
        reply->answer = answer;
    } else if (learned && !impostor) {
        reply->answer = clickhouse_peer_ok(answer, sizeof(answer), learned);
    }
}

static void start(void)
{
    clickhouse_peer_start(&peer, handle, NULL, NULL);
}

static void finish(void)
{
    clickhouse_peer_finish(&peer);
}

TestSuite(clickhouse_impostor, .init = start, .fini = finish);

static bool insert(const char *answer)
{
    struct iovec body = {(void *)(uintptr_t) "rows", 4};
    said = answer;
    return clickhouse_insert(peer.client, &any, "INSERT INTO t FORMAT Native", &body, 1, &outcome, &error);
}

Test(clickhouse_impostor, its_empty_answer_is_no_acknowledgement)
{
    cr_assert(insert(of_clickhouse), "%s", error.text);
    cr_assert_not(insert(nothing));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN);
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN);
    cr_assert_not(clickhouse_query(peer.client, &any, "SELECT x", NULL, &outcome, &error), "no rows, as it says");
}

Test(clickhouse_impostor, it_gets_no_insert_once_it_is_found_out)
{
    cr_assert(insert(of_clickhouse), "%s", error.text);
    cr_assert_not(insert(nothing));
    impostor = nothing;
    size_t before = asked;
    cr_assert_not(insert(nothing));
    cr_assert_eq(outcome.failure, CLICKHOUSE_NOT_SENT);
    cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE, "%s", error.text);
    cr_assert_eq(asked, before);
    impostor = NULL;
    cr_assert(insert(of_clickhouse), "ClickHouse is back: %s", error.text);
}

Test(clickhouse_impostor, a_proxy_that_strips_headers_goes_on_working)
{
    strips = true;
    cr_assert(insert(nothing), "%s", error.text);
    cr_assert_eq(outcome.failure, CLICKHOUSE_DONE);
}

Test(clickhouse_impostor, a_proxy_that_begins_to_strip_headers_costs_one_doubt)
{
    cr_assert(insert(of_clickhouse), "%s", error.text);
    strips = true;
    cr_assert_not(insert(nothing));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN);
    cr_assert(insert(nothing), "%s", error.text);
}

Test(clickhouse_impostor, neither_the_clock_nor_what_still_runs_is_taken_from_what_is_no_number)
{
    static const char *const bodies[] = {"", "<html>\n", "1\n2\n", "-1\n", "\\N\n"};
    char answer[200];
    struct clickhouse_clock clock;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        said = clickhouse_peer_ok(answer, sizeof(answer), bodies[i]);
        cr_assert_not(clickhouse_server_clock(peer.client, 0, DURATION_S(5), &clock, &error), "%s", bodies[i]);
        cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
        cr_assert_not(clickhouse_kill_query(peer.client, 0, "x", DURATION_S(5), NULL, &error), "%s", bodies[i]);
        cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
    }
}
