// SPDX-License-Identifier: Apache-2.0
//
// A server that is upgraded, or goes back to an older version, while a client knows what it was: what it is asked anew
// after, and that no request has a setting that it does not know.
#include "clickhouse_peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define NEWER   "24.8.1.1"
#define OLDER   "21.8.1.1"
#define SETTING "&materialized_views_ignore_errors=0"

static struct clickhouse_peer peer;
static const char *version; // of the server, now; the older one does not know the setting
static const char *beside;  // another server behind the same address tells the clock; NULL: it is one server
static int cuts;            // so many of the next requests that are no questions of the client's own get no answer
static char target[8192];   // of the last such request
static struct relay_error error;

static void handle(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[4096], told[64];
    const char *body = clickhouse_peer_learned(seen);
    bool older = strcmp(version, OLDER) == 0;
    (void)unused;
    reply->read_body = (size_t)-1;
    if (!body) {
        snprintf(target, sizeof(target), "%s", seen->target);
        if (cuts > 0) {
            cuts--;
            reply->then = HTTP_RESET;
            return;
        }
    }
    if (older && strstr(seen->target, SETTING)) {
        reply->answer = "HTTP/1.1 404 Oops\r\nX-ClickHouse-Exception-Code: 115\r\nContent-Length: 26\r\n\r\n"
                        "Code: 115. Unknown setting";
        return;
    }
    if (strstr(seen->target, "-learn-version")) {
        snprintf(told, sizeof(told), "%s\thost\n", version);
        body = told;
    } else if (older && strstr(seen->target, "-learn-settings")) {
        body = "async_insert\ninsert_deduplicate\nmax_execution_time\n";
    } else if (!body && !strstr(seen->target, "INSERT")) {
        snprintf(told, sizeof(told), "1700000000000000\t%s\n", beside ? beside : version); // its clock
        body = told;
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body ? body : "");
}

static bool insert(struct clickhouse_outcome *outcome)
{
    static const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct iovec body = {(void *)(uintptr_t) "rows", 4};
    return clickhouse_insert(peer.client, &any, "INSERT INTO t FORMAT Native", &body, 1, outcome, &error);
}

static void start(void)
{
    struct clickhouse_outcome outcome;
    clickhouse_peer_start(&peer, handle, NULL, NULL);
    version = NEWER;
    cr_assert(insert(&outcome), "%s", error.text);
    cr_assert_not_null(strstr(target, SETTING));
}

static void finish(void)
{
    clickhouse_peer_finish(&peer);
}

TestSuite(clickhouse_version, .init = start, .fini = finish);

Test(clickhouse_version, a_setting_that_is_refused_as_unknown_is_sent_once)
{
    struct clickhouse_outcome outcome;
    version = OLDER;
    cr_assert_not(insert(&outcome));
    cr_assert_eq(outcome.exception_code, 115);
    cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR, "a view, or another server behind a table, may have said so");
    cr_assert(insert(&outcome), "%s", error.text);
    cr_assert_null(strstr(target, SETTING));
    cr_assert_not_null(strstr(target, "&async_insert=0"), "the others are sent");
}

// One failure, which is fewer than a breaker takes to open.
Test(clickhouse_version, a_server_that_was_away_is_asked_what_it_is)
{
    struct clickhouse_outcome outcome;
    cuts = 1;
    cr_assert_not(insert(&outcome));
    version = OLDER;
    cr_assert(insert(&outcome), "%s", error.text);
    cr_assert_null(strstr(target, SETTING));
    cuts = 2; // libcurl repeats one that has no body
    cr_assert_not(clickhouse_ping(peer.client, 0, DURATION_S(5), &error));
    version = NEWER;
    cr_assert(insert(&outcome), "%s", error.text);
    cr_assert_not_null(strstr(target, SETTING), "what the older one did not know is sent again");
}

Test(clickhouse_version, a_restart_between_two_requests_is_seen_with_the_clock)
{
    struct clickhouse_outcome outcome;
    struct clickhouse_clock clock;
    version = OLDER;
    cr_assert_not(insert(&outcome));
    cr_assert(insert(&outcome), "%s", error.text);
    version = NEWER;
    cr_assert(insert(&outcome), "%s", error.text);
    cr_assert_null(strstr(target, SETTING), "nothing has told yet");
    cr_assert(clickhouse_server_clock(peer.client, 0, DURATION_S(5), &clock, &error), "%s", error.text);
    cr_assert(insert(&outcome), "%s", error.text);
    cr_assert_not_null(strstr(target, SETTING));
}

// As behind a load balancer during a rolling upgrade.
Test(clickhouse_version, one_that_tells_two_versions_is_there)
{
    struct clickhouse_server server;
    beside = OLDER;
    cr_assert(clickhouse_server_info(peer.client, 0, DURATION_S(5), &server, &error), "%s", error.text);
    cr_assert_str_eq(server.version, NEWER);
}
