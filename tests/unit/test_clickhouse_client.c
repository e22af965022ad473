// SPDX-License-Identifier: Apache-2.0
//
// The HTTP client against a scripted peer: what is success, what a failure means, what is never sent twice.
#include "clickhouse_peer.h"
#include "relay/base/log.h"
#include "relay/base/status_board.h"
#include "slow_resolver.h"

#include <criterion/criterion.h>
#include <curl/curl.h>
#include <lz4frame.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What the next request that is not one of the client's own questions gets.
struct script {
    struct http_reply reply;
    const char *learn_reply; // instead of the usual answers, for all questions
    size_t asked;            // such requests
    const char *version;     // NULL: a present one
    char target[8192];
    char headers[2048];
};

struct peer {
    struct script script;
    struct clickhouse_peer server;
};

static const char *ok(const char *body)
{
    static char answer[4096];
    return clickhouse_peer_ok(answer, sizeof(answer), body);
}

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    struct script *script = context;
    const char *learned = clickhouse_peer_learned(seen);
    if (learned) {
        static char answer[4096];
        learned = script->version && strstr(seen->target, "-learn-version") ? script->version : learned;
        reply->answer = script->learn_reply ? script->learn_reply : clickhouse_peer_ok(answer, sizeof(answer), learned);
        return;
    }
    script->asked++;
    snprintf(script->target, sizeof(script->target), "%s", seen->target);
    snprintf(script->headers, sizeof(script->headers), "%s", seen->headers);
    *reply = script->reply;
    if (reply->read_body == 0) {
        reply->read_body = (size_t)-1;
    }
}

static void start_with(struct peer *peer, const char *second_url)
{
    memset(&peer->script, 0, sizeof(peer->script));
    clickhouse_peer_start(&peer->server, handle, &peer->script, second_url);
}

static void start(struct peer *peer)
{
    start_with(peer, NULL);
}

static void finish(struct peer *peer)
{
    clickhouse_peer_finish(&peer->server);
}

static const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};

static bool insert(struct peer *peer, struct clickhouse_outcome *outcome, struct relay_error *error)
{
    struct iovec body[] = {{(void *)(uintptr_t) "hello ", 6}, {(void *)(uintptr_t) "", 0},
        {(void *)(uintptr_t) "world", 5}};
    return clickhouse_insert(peer->server.client, &any, "INSERT INTO t FORMAT Native", body, 3, outcome, error);
}

Test(clickhouse_client, a_query_gives_rows_of_text)
{
    struct peer peer;
    struct clickhouse_result *result;
    struct relay_error error;
    size_t length;
    start(&peer);
    peer.script.reply.answer = ok("1\ta\\tb\\\\\\'\n-2\t\\N\n");
    cr_assert(clickhouse_query(peer.server.client, &any, "SELECT x", &result, NULL, &error), "%s", error.text);
    cr_assert_eq(clickhouse_result_rows(result), 2);
    cr_assert_eq(clickhouse_result_columns(result), 2);
    cr_assert_str_eq(clickhouse_result_text(result, 0, 1, &length), "a\tb\\'");
    cr_assert_eq(length, 5);
    cr_assert_eq(clickhouse_result_int(result, 1, 0), -2);
    cr_assert_null(clickhouse_result_text(result, 1, 1, NULL));
    cr_assert_null(clickhouse_result_text(result, 2, 0, NULL));
    clickhouse_result_free(result);
    cr_assert_str_eq(http_script_body(peer.server.http, 3, NULL), "SELECT x");
    cr_assert_not_null(strstr(peer.script.target, "&limit=0&offset=0"));
    cr_assert_null(strstr(peer.script.target, "keeper"));
    cr_assert_not_null(strstr(http_script_body(peer.server.http, 2, NULL), "SETTINGS limit=0, offset=0"));
    cr_assert_not_null(strstr(peer.script.headers, "X-ClickHouse-User: someone"));
    cr_assert_not_null(strstr(peer.script.headers, "X-ClickHouse-Key: s3cret"));
    cr_assert_null(strstr(peer.script.target, "s3cret"));
    finish(&peer);
}

// One who is identified by a certificate has no password.
Test(clickhouse_client, with_a_certificate_and_no_password_the_certificate_is_the_login)
{
    static char none[] = "", name[] = "client.pem";
    struct peer peer;
    struct relay_error error;
    start(&peer);
    peer.script.reply.answer = ok("1\n");
    peer.server.config.clickhouse.cert_file = peer.server.config.clickhouse.key_file = name;
    for (int round = 0; round < 2; round++) {
        clickhouse_client_free(peer.server.client);
        peer.server.client = clickhouse_client_new(&peer.server.context, &error);
        cr_assert_not_null(peer.server.client, "%s", error.text);
        cr_assert(clickhouse_query(peer.server.client, &any, "SELECT 1", NULL, NULL, &error), "%s", error.text);
        cr_assert_not_null(strstr(peer.script.headers, "X-ClickHouse-User: someone"));
        cr_assert_eq(strstr(peer.script.headers, "X-ClickHouse-SSL-Certificate-Auth: on") != NULL, round == 1);
        cr_assert_eq(strstr(peer.script.headers, "X-ClickHouse-Key") != NULL, round == 0);
        peer.server.config.clickhouse.password = none;
    }
    finish(&peer);
}

Test(clickhouse_client, a_server_tries_again_at_keeper_only_while_there_is_time_for_an_answer)
{
    static const int seconds[] = {3600, 65, 12}, retries[] = {7, 7, 4}; // the first has the first contact in it
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    for (size_t i = 0; i < 3; i++) {
        peer.server.config.clickhouse.request_timeout = DURATION_S(seconds[i]);
        peer.script.reply.answer = ok("");
        cr_assert(insert(&peer, &outcome, &error), "%s", error.text);
        const char *setting = strstr(peer.script.target, "&insert_keeper_max_retries=");
        cr_assert(setting && strtol(strchr(setting, '=') + 1, NULL, 10) == retries[i], "%s", peer.script.target);
    }
    finish(&peer);
}

Test(clickhouse_client, an_insert_goes_as_one_lz4_frame_with_settings_the_server_knows)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.reply.answer = ok("");
    cr_assert(insert(&peer, &outcome, &error), "%s", error.text);
    cr_assert_eq(outcome.failure, CLICKHOUSE_DONE);
    cr_assert_not_null(strstr(peer.script.target, "async_insert=0"));
    cr_assert_null(strstr(peer.script.target, "max_insert_threads"), "the server does not know it: %s",
        peer.script.target);
    cr_assert_not_null(strstr(peer.script.target, "query=INSERT%20INTO%20t"));
    cr_assert_not_null(strstr(peer.script.target, "&limit=0&offset=0"), "else a profile's cut the rows");
    cr_assert_not_null(strstr(peer.script.target, "&materialized_views_ignore_errors=0"));
    cr_assert_not_null(strstr(peer.script.target, "&distributed_foreground_insert=1"),
        "else no shard has the rows yet");
    cr_assert_not_null(strstr(peer.script.target, "&insert_distributed_sync=1"), "its name before 23.11");
    cr_assert_not_null(strstr(peer.script.target, "&timeout_overflow_mode=throw"), "else 200, and nothing is stored");
    cr_assert_not_null(strstr(peer.script.headers, "Content-Encoding: lz4"));
    cr_assert_not_null(strstr(peer.script.headers, "Transfer-Encoding: chunked"));
    size_t length = 0;
    const char *body = http_script_body(peer.server.http, 3, &length);
    char raw[64];
    size_t raw_length = sizeof(raw), used = length;
    LZ4F_dctx *context;
    LZ4F_createDecompressionContext(&context, LZ4F_VERSION);
    cr_assert_eq(LZ4F_decompress(context, raw, &raw_length, body, &used, NULL), 0, "one whole frame");
    LZ4F_freeDecompressionContext(context);
    cr_assert_eq(used, length);
    cr_assert_eq(raw_length, 11);
    cr_assert_arr_eq(raw, "hello world", 11);
    finish(&peer);
}

static const struct clickhouse_request a_frame = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .body_is_lz4 = true};

static void insert_frame(struct peer *peer, const char *text, char *frame, size_t *length)
{
    struct relay_error error;
    *length = LZ4F_compressFrame(frame, *length, text, strlen(text), NULL);
    cr_assert_not(LZ4F_isError(*length));
    struct iovec body[] = {{frame, 5}, {frame + 5, *length - 5}};
    peer->script.reply.answer = ok("");
    cr_assert(clickhouse_insert(peer->server.client, &a_frame, "INSERT INTO t FORMAT Native", body, 2, NULL, &error),
        "%s", error.text);
}

Test(clickhouse_client, a_frame_goes_as_it_is)
{
    struct peer peer;
    char frame[256];
    size_t length = sizeof(frame), sent = 0;
    start(&peer);
    insert_frame(&peer, "hello world", frame, &length);
    cr_assert_not_null(strstr(peer.script.headers, "Content-Encoding: lz4"));
    const char *body = http_script_body(peer.server.http, 3, &sent);
    cr_assert_eq(sent, length);
    cr_assert_arr_eq(body, frame, length);
    finish(&peer);
}

Test(clickhouse_client, a_frame_is_unpacked_for_a_server_that_does_not_know_them)
{
    struct peer peer;
    char frame[256];
    size_t length = sizeof(frame), sent = 0;
    start(&peer);
    peer.script.version = "21.8.1.1\thost\n";
    insert_frame(&peer, "hello world", frame, &length);
    cr_assert_null(strstr(peer.script.headers, "Content-Encoding"));
    const char *body = http_script_body(peer.server.http, 2, &sent);
    cr_assert_eq(sent, 11);
    cr_assert_arr_eq(body, "hello world", 11);
    finish(&peer);
}

Test(clickhouse_client, an_exception_behind_status_200_is_a_failure)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.reply.answer = "HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Code: 209\r\nContent-Length: 0\r\n\r\n";
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN);
    cr_assert_eq(outcome.exception_code, 209);
    peer.script.reply.answer = ok("Code: 252, e.displayText() = DB::Exception: Too many parts\n");
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_BACK_PRESSURE);
    cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
    cr_assert_eq(error.detail, 252);
    peer.script.reply.answer = ok("what is this");
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN, "a body after an INSERT is no acknowledgement");
    finish(&peer);
}

Test(clickhouse_client, an_exception_is_judged_by_its_code_not_by_the_status)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    static const char text[] = "Code: 60. DB::Exception: Table db.t does not exist. (UNKNOWN_TABLE) (version 24.8)\n";
    char answer[512];
    snprintf(answer, sizeof(answer),
        "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 60\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text);
    peer.script.reply.answer = answer;
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR);
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    cr_assert_not_null(strstr(error.text, "does not exist"), "%s", error.text);
    finish(&peer);
}

Test(clickhouse_client, a_cut_after_the_body_is_unknown_and_nothing_is_sent_again)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.reply.answer = ok("");
    cr_assert(insert(&peer, &outcome, &error));
    for (int i = 0; i < 2; i++) {
        peer.script.reply = (struct http_reply){.then = i == 0 ? HTTP_CLOSE : HTTP_RESET};
        size_t before = peer.script.asked;
        cr_assert_not(insert(&peer, &outcome, &error));
        cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN, "%s", error.text);
        cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN);
        cr_assert(outcome.body_sent);
        cr_assert_eq(peer.script.asked, before + 1, "libcurl must not repeat over a fresh connection");
    }
    peer.script.reply = (struct http_reply){.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        .then = HTTP_CLOSE};
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN, "an answer cut within");
    finish(&peer);
}

Test(clickhouse_client, a_silent_server_ends_at_the_deadline)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.reply.then = HTTP_HANG;
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .timeout = DURATION_MS(300)};
    cr_assert_not(clickhouse_query(peer.server.client, &request, "SELECT 1", NULL, &outcome, &error));
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN);
    cr_assert_not_null(strstr(error.text, "deadline"), "%s", error.text);
    finish(&peer);
}

static void *raise_stop(void *argument)
{
    struct peer *peer = argument;
    http_script_wait(peer->server.http, 4);
    stop_raise(&peer->server.stop, clock_mono(clock_system()));
    return NULL;
}

Test(clickhouse_client, the_stop_ends_a_request_under_way)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    pthread_t thread;
    start(&peer);
    peer.script.reply.then = HTTP_HANG;
    cr_assert_eq(pthread_create(&thread, NULL, raise_stop, &peer), 0);
    cr_assert_not(insert(&peer, &outcome, &error));
    pthread_join(thread, NULL);
    cr_assert_eq(error.code, RELAY_ERROR_STOPPED);
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN, "the INSERT was under way");
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_NOT_SENT);
    finish(&peer);
}

#if LIBCURL_VERSION_NUM >= 0x075700
static void stop_the_third(void *argument)
{
    static int asked;
    struct peer *peer = argument;
    if (++asked == 3) {
        stop_raise(&peer->server.stop, mono_add(clock_mono(clock_system()), DURATION_S(60)));
    }
}

Test(clickhouse_client, a_resolver_that_hangs_outlasts_deadlines_and_the_stop_alone, .timeout = 60)
{
    struct peer peer;
    struct relay_error error;
    start_with(&peer, "http://slow.test:1");
    slow_resolver_start(stop_the_third, &peer);
    const struct duration connect_timeouts[] = {DURATION_S(50), DURATION_MS(100), DURATION_S(50)};
    for (int i = 0; i < 3; i++) {
        peer.server.config.clickhouse.connect_timeout = connect_timeouts[i];
        cr_assert_not(clickhouse_ping(peer.server.client, 1, i == 0 ? DURATION_MS(100) : DURATION_S(50), &error));
        slow_resolver_wait_asked();
        cr_assert_eq(slow_resolver_hanging(), i + 1, "%s", error.text);
    }
    cr_assert_eq(error.code, RELAY_ERROR_STOPPED, "%s", error.text);
    slow_resolver_end();
    finish(&peer);
}
#endif

Test(clickhouse_client, a_refused_connection_is_not_sent_and_the_next_replica_is_tried)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    // A port that was free a moment ago refuses.
    struct script nothing = {0};
    struct http_script *gone = http_script_start(handle, &nothing);
    char dead[64];
    snprintf(dead, sizeof(dead), "%s", http_script_url(gone));
    http_script_stop(gone);
    start_with(&peer, dead);
    peer.script.reply.answer = ok("");
    struct clickhouse_request pinned = {.endpoint = 1};
    cr_assert_not(clickhouse_query(peer.server.client, &pinned, "SELECT 1", NULL, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_NOT_SENT);
    cr_assert_eq(error.code, RELAY_ERROR_CLICKHOUSE_UNREACHABLE);
    cr_assert_not(outcome.body_sent);
    for (int i = 0; i < 2; i++) {
        cr_assert_not(clickhouse_query(peer.server.client, &pinned, "SELECT 1", NULL, &outcome, &error));
    }
    cr_assert_not(clickhouse_endpoint_usable(peer.server.client, 1), "three failures open its breaker");
    cr_assert_not(clickhouse_query(peer.server.client, &pinned, "SELECT 1", NULL, &outcome, &error));
    cr_assert_eq(error.code, RELAY_ERROR_BREAKER_OPEN);
    cr_assert(insert(&peer, &outcome, &error), "%s", error.text);
    cr_assert_eq(outcome.endpoint, 0);
    finish(&peer);
}

static const char read_only[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 242\r\nContent-Length: 25\r\n\r\n"
                                "Code: 242. It is readonly";

Test(clickhouse_client, a_replica_that_answers_but_cannot_is_left_and_not_blamed)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    struct script well = {.reply = {.answer = HTTP_OK(0, "")}};
    struct http_script *second = http_script_start(handle, &well);
    start_with(&peer, http_script_url(second));
    peer.script.reply.answer = read_only;
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_TRANSIENT);
    cr_assert_eq(outcome.endpoint, 0);
    cr_assert(clickhouse_query(peer.server.client, &any, "SELECT 1", NULL, &outcome, &error), "%s", error.text);
    cr_assert_eq(outcome.endpoint, 1, "the next request tries the next replica");
    struct clickhouse_request pinned = {.endpoint = 0};
    for (int i = 0; i < 3; i++) {
        cr_assert_not(clickhouse_query(peer.server.client, &pinned, "SELECT 1", NULL, &outcome, &error));
    }
    cr_assert(clickhouse_endpoint_usable(peer.server.client, 0), "it answers");
    finish(&peer);
    http_script_stop(second);
}

Test(clickhouse_client, a_statement_that_waits_for_others_too_long_leaves_the_replica_and_does_not_blame_it)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    struct script well = {.reply = {.answer = HTTP_OK(0, "")}};
    struct http_script *second = http_script_start(handle, &well);
    start_with(&peer, http_script_url(second));
    peer.script.reply.then = HTTP_HANG;
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .timeout = DURATION_MS(200),
        .waits = true};
    for (int i = 0; i < 3; i++) {
        cr_assert_not(clickhouse_query(peer.server.client, &request, "SYSTEM", NULL, &outcome, &error));
        cr_assert_eq(outcome.endpoint, 0);
        cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN);
        request.endpoint = 0;
    }
    cr_assert(clickhouse_endpoint_usable(peer.server.client, 0), "three failures would open its breaker");
    request.endpoint = CLICKHOUSE_ANY_ENDPOINT;
    cr_assert(clickhouse_query(peer.server.client, &request, "SYSTEM", NULL, &outcome, &error), "%s", error.text);
    cr_assert_eq(outcome.endpoint, 1);
    finish(&peer);
    http_script_stop(second);
}

// Of the only endpoint that the board has heard of.
static enum status_level level_on(struct status_board *board)
{
    size_t count;
    struct status_entry *entries = status_board_entries(board, &count);
    cr_assert_eq(count, 1);
    enum status_level level = entries[0].level;
    free(entries);
    return level;
}

Test(clickhouse_client, a_replica_that_is_back_is_found_though_no_request_goes_to_it)
{
    struct peer peer;
    struct relay_error error;
    struct script silent = {.reply = {.then = HTTP_RESET}};
    struct http_script *second = http_script_start(handle, &silent);
    start_with(&peer, http_script_url(second));
    peer.script.reply.answer = ok("");
    peer.server.context.board = status_board_new(clock_system(), &error);
    struct clickhouse_request pinned = {.endpoint = 1};
    cr_assert_not(clickhouse_query(peer.server.client, &pinned, "SELECT 1", NULL, NULL, &error));
    cr_assert_eq(level_on(peer.server.context.board), STATUS_DOWN);
    clickhouse_ask_endpoints_down(peer.server.client, DURATION_S(5));
    cr_assert_eq(level_on(peer.server.context.board), STATUS_DOWN, "it is still away");
    silent.reply = (struct http_reply){.answer = HTTP_OK(4, "Ok.\n")};
    clickhouse_ask_endpoints_down(peer.server.client, DURATION_S(5));
    cr_assert_eq(level_on(peer.server.context.board), STATUS_OK);
    size_t asked = silent.asked;
    clickhouse_ask_endpoints_down(peer.server.client, DURATION_S(5));
    cr_assert_eq(silent.asked, asked, "who answers is left alone");
    finish(&peer);
    status_board_free(peer.server.context.board);
    http_script_stop(second);
}

Test(clickhouse_client, a_server_that_is_away_is_found_though_nothing_is_asked_of_it)
{
    struct peer peer;
    struct relay_error error;
    start_with(&peer, NULL);
    peer.script.reply = (struct http_reply){.answer = HTTP_OK(4, "Ok.\n")};
    peer.server.context.board = status_board_new(clock_system(), &error);
    cr_assert(clickhouse_ping(peer.server.client, 0, DURATION_S(5), &error), "%s", error.text);
    cr_assert(clickhouse_client_answers(peer.server.client));
    peer.script.reply = (struct http_reply){.then = HTTP_RESET};
    size_t asked = peer.script.asked;
    clickhouse_ask_silent_endpoints(peer.server.client, DURATION_S(600), DURATION_S(5));
    cr_assert_eq(peer.script.asked, asked, "it was heard of just now");
    clickhouse_ask_silent_endpoints(peer.server.client, DURATION_NS(0), DURATION_S(5));
    cr_assert_eq(level_on(peer.server.context.board), STATUS_DOWN);
    cr_assert_not(clickhouse_client_answers(peer.server.client));
    finish(&peer);
    status_board_free(peer.server.context.board);
}

Test(clickhouse_client, a_huge_answer_is_refused)
{
    struct peer peer;
    struct relay_error error;
    start(&peer);
    char answer[3000];
    int head = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n");
    memset(answer + head, 'x', 2000);
    answer[head + 1999] = '\n';
    peer.script.reply.answer = answer;
    peer.script.reply.answer_length = (size_t)head + 2000;
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .max_response = 1000};
    cr_assert_not(clickhouse_query(peer.server.client, &request, "SELECT 1", NULL, NULL, &error));
    cr_assert_eq(error.code, RELAY_ERROR_PROTOCOL);
    request.max_response = 2000;
    cr_assert(clickhouse_query(peer.server.client, &request, "SELECT 1", NULL, NULL, &error), "%s", error.text);
    finish(&peer);
}

Test(clickhouse_client, garbage_is_unknown_and_a_stranger_is_named)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.reply = (struct http_reply){.answer = "\x16\x03\x01 nonsense\r\n\r\n", .then = HTTP_CLOSE};
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN);
    peer.script.reply = (struct http_reply){.answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnginx"};
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    cr_assert_not_null(strstr(error.text, "is this ClickHouse"), "%s", error.text);
    static const char *const too_long[] = {"HTTP/1.1 414 Too Large\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n"};
    for (size_t i = 0; i < 2; i++) {
        peer.script.reply = (struct http_reply){.answer = too_long[i]};
        cr_assert_not(insert(&peer, &outcome, &error));
        cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR, "%s", error.text);
        cr_assert_not_null(strstr(error.text, "the statement, which is in the URL, is too long"), "%s", error.text);
    }
    static const char body_too_large[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nnginx";
    peer.script.reply = (struct http_reply){.answer = body_too_large};
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_MEMORY, "smaller INSERTs get through: %s", error.text);
    cr_assert_not_null(strstr(error.text, "client_max_body_size"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "batch_bytes"), "%s", error.text);
    peer.script.reply = (struct http_reply){.answer = body_too_large};
    cr_assert_not(clickhouse_query(peer.server.client, &any, "SELECT 1", NULL, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR, "%s", error.text);
    peer.script.reply = (struct http_reply){.answer = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"};
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN, "a balancer may have passed the INSERT on");
    finish(&peer);
}

Test(clickhouse_client, a_refusal_before_the_body_was_read_is_heard)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.reply = (struct http_reply){.read_body = 1000,
        .then = HTTP_CLOSE,
        .answer = "HTTP/1.1 403 Forbidden\r\nX-ClickHouse-Exception-Code: 516\r\nConnection: close\r\nContent-Length: "
                  "13\r\n\r\nCode: 516. No."};
    static char large[8 << 20];
    for (size_t i = 0; i < sizeof(large); i++) {
        large[i] = (char)((i * 2654435761u) >> 13);
    }
    struct iovec body = {large, sizeof(large)};
    cr_assert_not(
        clickhouse_insert(peer.server.client, &any, "INSERT INTO t FORMAT Native", &body, 1, &outcome, &error));
    if (outcome.exception_code != 0) { // the kernel may have thrown the answer away with the connection
        cr_assert_eq(outcome.exception_code, 516);
        cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    } else {
        cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN);
    }
    finish(&peer);
}

Test(clickhouse_client, failed_questions_mean_that_the_request_was_not_sent)
{
    struct peer peer;
    struct clickhouse_outcome outcome;
    struct relay_error error;
    start(&peer);
    peer.script.learn_reply =
        "HTTP/1.1 403 Forbidden\r\nX-ClickHouse-Exception-Code: 516\r\nContent-Length: 15\r\n\r\nCode: 516. Nope.";
    cr_assert_not(insert(&peer, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR);
    cr_assert_eq(peer.script.asked, 0);
    cr_assert_null(strstr(error.text, "s3cret"));
    finish(&peer);
}

static void *talk_often(void *argument)
{
    struct peer *peer = argument;
    size_t failed = 0;
    for (int i = 0; i < 40; i++) {
        struct clickhouse_outcome outcome;
        struct relay_error error;
        bool done = i % 2 == 0 ? insert(peer, &outcome, &error)
                               : clickhouse_query(peer->server.client, &any, "SELECT 1", NULL, &outcome, &error);
        failed += !done;
    }
    return (void *)failed; // NOLINT: a count in a pointer
}

Test(clickhouse_client, many_threads_share_a_client_and_its_connections)
{
    struct peer peer;
    struct relay_error error;
    pthread_t threads[6];
    start(&peer);
    peer.script.reply.answer = ok("");
    // One request first: the scripted peer's answers to the client's own questions share their room.
    cr_assert(clickhouse_query(peer.server.client, &any, "SELECT 1", NULL, NULL, &error), "%s", error.text);
    for (size_t i = 0; i < 6; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, talk_often, &peer), 0);
    }
    for (size_t i = 0; i < 6; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_assert_null(failed);
    }
    cr_assert_eq(peer.script.asked, 6 * 40 + 1);
    cr_assert_leq(http_script_connections(peer.server.http), 6, "kept alive between requests");
    finish(&peer);
}

static size_t told;

static void count_told(void *unused, enum log_level level, const char *line)
{
    (void)unused, (void)level;
    told += strstr(line, "clickhouse.several_servers") != NULL;
}

// A query that a server of this name answers; NULL: one that says no name.
static void answered_by(struct peer *peer, const char *name)
{
    static char answer[256];
    struct relay_error error;
    snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\n%s%s%sContent-Length: 2\r\n\r\n1\n",
        name ? "x-clickhouse-server-display-name: " : "", name ? name : "", name ? "\r\n" : "");
    peer->script.reply.answer = answer;
    cr_assert(clickhouse_query(peer->server.client, &any, "SELECT 1", NULL, NULL, &error), "%s", error.text);
}

Test(clickhouse_client, servers_that_take_turns_under_one_url_are_told_once)
{
    static const struct {
        const char *name;
        size_t told;
    } steps[] = {{"one", 0}, {"one", 0}, {NULL, 0}, {"one", 0}, {"its successor", 0}, {NULL, 0}, {"the next", 0},
        {"its successor", 1}, {"the next", 1}};
    struct peer peer;
    start(&peer);
    log_set_sink(count_told, NULL);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        answered_by(&peer, steps[i].name);
        cr_assert_eq(told, steps[i].told, "step %zu", i);
    }
    log_set_sink(NULL, NULL);
    finish(&peer);
}

Test(clickhouse_client, bad_urls_are_refused)
{
    static const char *const bad[] = {"ftp://x", "http://", "http://user:pw@host", "host:8123", "http://h?a=b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *url = strdup(bad[i]);
        struct config config = {.clickhouse = {.urls = {.items = &url, .count = 1}}};
        struct relay_context context = {.config = &config, .clock = clock_system()};
        struct relay_error error;
        cr_assert_null(clickhouse_client_new(&context, &error), "%s", bad[i]);
        cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
        cr_assert_null(strstr(error.text, "pw"));
        free(url);
    }
}

Test(clickhouse_text, names_and_literals_cannot_break_out)
{
    struct clickhouse_text text = {0};
    cr_assert(clickhouse_text_name(&text, "a`b\\"));
    cr_assert(clickhouse_text_add(&text, "=%d ", 5));
    cr_assert(clickhouse_text_literal(&text, "x'\\\0y\n", 6));
    cr_assert_str_eq(text.at, "`a\\`b\\\\`=5 'x\\'\\\\\\0y\\n'");
    clickhouse_text_reset(&text);
    cr_assert(clickhouse_text_url(&text, "a b/ä", 6));
    cr_assert_str_eq(text.at, "a%20b%2F%C3%A4");
    clickhouse_text_finish(&text);
}

Test(clickhouse_result, uneven_or_cut_rows_are_refused)
{
    static const char *const bad[] = {"1\t2\n3\n", "1\t2", "1\n2\t3\n", "a\n\\"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct relay_error error;
        cr_assert_null(clickhouse_result_new(strdup(bad[i]), strlen(bad[i]), &error), "%s", bad[i]);
        cr_assert_eq(error.code, RELAY_ERROR_PROTOCOL);
    }
}
