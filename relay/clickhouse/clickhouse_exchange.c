// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the URL is built (query_id, settings that the server knows, for an INSERT the statement), the request
// runs on a transport of the endpoint's pool, status 200 without an exception and, for an INSERT, without a body is
// success.
//
// Failures:
// - no connection: NOT_SENT, definitely not executed;
// - an exception of the server, by header or in the body, whatever the status: judged by its code alone, even when the
//   connection broke afterwards;
// - a cut, a timeout, a status without a code from whatever stands between: OUTCOME_UNKNOWN;
// - status 200 with nothing in it, and without the headers that this server sends: something else has answered (a
//   balancer's fixed answer). OUTCOME_UNKNOWN.
// Nothing is ever repeated here. Blame falls on the endpoint for what concerns it as a whole (no connection, cuts,
// timeouts, overload), not for its refusals, nor for the time of a statement that waits for others.
#include "relay/clickhouse/clickhouse_exchange.h"

#include "relay/clickhouse/clickhouse_compression.h"
#include "relay/clickhouse/clickhouse_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RESPONSE_DEFAULT ((size_t)16 << 20)
#define MAX_RESPONSE_INSERT  ((size_t)1 << 20)
#define KEEPER_RETRIES_MOST  7 // the pauses between them are 12.7 s in all
#define KEEPER_SHARE         4 // of the time that an INSERT has: no longer may they be

// Keeps one INSERT one block, synchronous and deduplicated, whatever the server's profile says.
static const struct clickhouse_setting insert_settings[] = {
    {"async_insert", "0"}, // the server's queue acknowledges and deduplicates by other rules
    {"insert_deduplicate", "1"},
    // An INSERT of ours selects from input(), in no total order: 26.1 and 26.2, and newer servers whose profile says
    // so, ignore the token of such a statement without a word. deduplicate_insert (26.2) overrides insert_deduplicate.
    {"deduplicate_insert", "enable"},
    {"deduplicate_insert_select", "enable_even_for_bad_queries"},
    {"max_insert_block_size", "4194304"}, // rows; our blocks stay below 1 M
    {"min_insert_block_size_rows", "4194304"},
    {"min_insert_block_size_bytes", "1073741824"},
    {"max_insert_threads", "1"},
    {"input_format_parallel_parsing", "0"},
    {"max_partitions_per_insert_block", "0"}, // rows with dates far apart are ours to group, not the server's to refuse
    {"deduplicate_blocks_in_dependent_materialized_views", "1"},
    {"insert_null_as_default", "0"},
    // The server judges the types that input() is told as those of a CREATE TABLE, but by this session's settings.
    {"allow_suspicious_fixed_string_types", "1"},
    {"data_type_default_nullable", "0"},
    // A Distributed table acknowledges by default what no shard has yet. The second is the name before 23.11.
    {"distributed_foreground_insert", "1"},
    {"insert_distributed_sync", "1"},
};

// A profile's would take rows without a word: from every SELECT, that of our INSERTs, of the views behind them, and of
// read-backs, or from views whose INSERT succeeds although they have failed. "throw": else what meets a limit of the
// profile, or our own of time, ends as if it were done.
static const struct clickhouse_setting whole_settings[] = {
    {"limit", "0"},
    {"offset", "0"},
    {"additional_table_filters", "{}"},
    {"use_query_cache", "0"},
    {"max_parallel_replicas", "1"}, // other replicas may lack what this one has been brought up to
    {"materialized_views_ignore_errors", "0"},
    {"timeout_overflow_mode", "throw"},
    {"read_overflow_mode", "throw"},
    {"result_overflow_mode", "throw"},
    {"group_by_overflow_mode", "throw"},
    {"distinct_overflow_mode", "throw"},
    {"sort_overflow_mode", "throw"},
    {"set_overflow_mode", "throw"},
    {"join_overflow_mode", "throw"},
    {"transfer_overflow_mode", "throw"},
};

static bool add_setting(struct clickhouse_text *url, const char *name, const char *value)
{
    return clickhouse_text_add(url, "&%s=", name) && clickhouse_text_url(url, value, strlen(value));
}

static bool request_has(const struct clickhouse_request *request, const char *name)
{
    for (size_t i = 0; i < request->setting_count; i++) {
        if (strcmp(request->settings[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

// Of the list what the server knows and, with `unless_asked`, the request does not say itself.
static bool add_list(const struct clickhouse_exchange *exchange, struct clickhouse_text *url,
    const struct clickhouse_setting *settings, size_t count, bool unless_asked)
{
    for (size_t i = 0; i < count; i++) {
        if (!(unless_asked && request_has(exchange->request, settings[i].name)) &&
            clickhouse_endpoint_knows(exchange->endpoint, settings[i].name) &&
            !add_setting(url, settings[i].name, settings[i].value)) {
            return false;
        }
    }
    return true;
}

// How often a server may try again what Keeper does not do for an INSERT, so that it still answers in time: by itself a
// replica that has lost Keeper says so after 20 pauses of 0.1 s, 0.2 s ... 10 s, which are more than two minutes.
static int keeper_retries(struct duration left)
{
    int retries = 0;
    int64_t pause = DURATION_MS(100).ns;
    for (int64_t all = pause; retries < KEEPER_RETRIES_MOST && all <= left.ns / KEEPER_SHARE; all += pause) {
        retries++;
        pause *= 2;
    }
    return retries;
}

static bool add_keeper_retries(const struct clickhouse_exchange *exchange, struct clickhouse_text *url,
    struct duration left)
{
    static const char name[] = "insert_keeper_max_retries";
    return !clickhouse_endpoint_knows(exchange->endpoint, name) ||
        clickhouse_text_add(url, "&%s=%d", name, keeper_retries(left));
}

static bool add_settings(const struct clickhouse_exchange *exchange, struct clickhouse_text *url)
{
    const struct clickhouse_request *request = exchange->request;
    if (exchange->learns) {
        return true;
    }
    struct duration left = mono_left(clock_mono(exchange->context->clock), exchange->deadline);
    bool inserts = exchange->insert || request->inserts;
    size_t insert_count = inserts ? sizeof(insert_settings) / sizeof(insert_settings[0]) : 0;
    if (!add_list(exchange, url, whole_settings, sizeof(whole_settings) / sizeof(whole_settings[0]), true) ||
        !add_list(exchange, url, insert_settings, insert_count, true) ||
        !add_list(exchange, url, request->settings, request->setting_count, false) ||
        (inserts && !add_keeper_retries(exchange, url, left))) {
        return false;
    }
    // The server itself ends what we no longer wait for.
    if (!request_has(request, "max_execution_time") &&
        clickhouse_endpoint_knows(exchange->endpoint, "max_execution_time")) {
        return clickhouse_text_add(url, "&max_execution_time=%lld", (long long)(left.ns / 1000000000 + 1));
    }
    return true;
}

static bool build_url(const struct clickhouse_exchange *exchange, struct clickhouse_text *url)
{
    const char *base = clickhouse_endpoint_url(exchange->endpoint);
    if (!exchange->statement) {
        return clickhouse_text_add(url, "%s/ping", base);
    }
    if (!clickhouse_text_add(url, "%s/?wait_end_of_query=1&default_format=TabSeparated&query_id=", base) ||
        !clickhouse_text_url(url, exchange->outcome->query_id, strlen(exchange->outcome->query_id)) ||
        !add_settings(exchange, url)) {
        return false;
    }
    return !exchange->insert ||
        (clickhouse_text_add(url, "&query=") &&
            clickhouse_text_url(url, exchange->statement, strlen(exchange->statement)));
}

// LZ4 frames as Content-Encoding came with 21.x; 18.16 answers with an error.
static enum transport_body form_of_body(const struct clickhouse_exchange *exchange)
{
    struct clickhouse_server server;
    bool takes_lz4 = clickhouse_endpoint_server(exchange->endpoint, &server) && server.major >= 22;
    if (exchange->insert && exchange->request->body_is_lz4) {
        return takes_lz4 ? TRANSPORT_BODY_FRAME : TRANSPORT_BODY_UNPACK;
    }
    bool wanted = exchange->insert && clickhouse_compresses(&exchange->context->config->clickhouse);
    return wanted && takes_lz4 ? TRANSPORT_BODY_COMPRESS : TRANSPORT_BODY_AS_IT_IS;
}

static bool fail_unknown(struct clickhouse_exchange *exchange, struct relay_error *error, const char *what)
{
    exchange->outcome->failure = CLICKHOUSE_OUTCOME_UNKNOWN;
    return error_set(error, RELAY_ERROR_CLICKHOUSE_UNKNOWN, "%s: %s", clickhouse_endpoint_url(exchange->endpoint),
        what);
}

// A request that ended without a whole answer.
static bool judge_broken(struct clickhouse_exchange *exchange, const struct transport_answer *answer,
    struct relay_error *error)
{
    struct clickhouse_outcome *outcome = exchange->outcome;
    const char *url = clickhouse_endpoint_url(exchange->endpoint);
    bool waited = answer->end == TRANSPORT_TIMED_OUT && answer->sent && exchange->request->waits;
    exchange->blames_endpoint = !waited &&
        (answer->end == TRANSPORT_NOT_SENT || answer->end == TRANSPORT_CUT || answer->end == TRANSPORT_TIMED_OUT);
    if (!answer->sent) {
        outcome->failure = CLICKHOUSE_NOT_SENT;
        if (answer->end == TRANSPORT_STOPPED) {
            return error_set(error, RELAY_ERROR_STOPPED, "%s: the relay is stopping", url);
        }
        if (answer->end == TRANSPORT_NO_MEMORY) {
            return error_no_memory(error, "sending to ClickHouse");
        }
        return error_set(error, RELAY_ERROR_CLICKHOUSE_UNREACHABLE, "%s: %s", url, answer->problem);
    }
    if (answer->end == TRANSPORT_TOO_LARGE && !exchange->insert) {
        outcome->failure = CLICKHOUSE_OPERATOR;
        return error_set(error, RELAY_ERROR_PROTOCOL, "%s: %s", url, answer->problem);
    }
    if (answer->end == TRANSPORT_STOPPED) {
        outcome->failure = CLICKHOUSE_OUTCOME_UNKNOWN;
        return error_set_class(error, RELAY_ERROR_STOPPED, RELAY_CLASS_UNKNOWN, 0,
            "%s: the relay stopped while the request was under way", url);
    }
    return fail_unknown(exchange, error, answer->problem);
}

// A whole answer that has no exception in it and is not the 200 of a success.
static bool judge_status(struct clickhouse_exchange *exchange, const struct transport_answer *answer,
    struct relay_error *error)
{
    struct clickhouse_outcome *outcome = exchange->outcome;
    const char *url = clickhouse_endpoint_url(exchange->endpoint);
    int length = answer->body_length > 100 ? 100 : (int)answer->body_length;
    if (answer->status == 414 || answer->status == 431) {
        outcome->failure = CLICKHOUSE_OPERATOR;
        return error_set_detail(error, RELAY_ERROR_CLICKHOUSE_OPERATOR, answer->status,
            "%s: HTTP status %d: the statement, which is in the URL, is too long for what stands before ClickHouse "
            "(nginx: large_client_header_buffers)",
            url, answer->status);
    }
    if (answer->status == CLICKHOUSE_STATUS_BODY_TOO_LARGE && exchange->insert) {
        outcome->failure = CLICKHOUSE_MEMORY;
        return error_set_detail(error, RELAY_ERROR_CLICKHOUSE_RETRIABLE, answer->status,
            "%s: HTTP status %d: the INSERT is too large for what stands before ClickHouse; raise its limit (nginx: "
            "client_max_body_size; ingress-nginx: proxy-body-size), or lower [insert] batch_bytes",
            url, answer->status);
    }
    if (answer->status == 401 || answer->status == 403 || answer->status == 404 ||
        answer->status == CLICKHOUSE_STATUS_BODY_TOO_LARGE || (answer->status >= 300 && answer->status < 400)) {
        // Something that refuses before any INSERT could run: a proxy, another service, a wrong port.
        outcome->failure = CLICKHOUSE_OPERATOR;
        return error_set_detail(error, RELAY_ERROR_CLICKHOUSE_OPERATOR, answer->status,
            "%s: HTTP status %d without a ClickHouse exception; is this ClickHouse's HTTP port? It said: %.*s", url,
            answer->status, length, answer->body ? answer->body : "");
    }
    exchange->blames_endpoint = answer->status >= 500;
    char what[200];
    snprintf(what, sizeof(what), "HTTP status %d without a ClickHouse exception; it said: %.*s", answer->status, length,
        answer->body ? answer->body : "");
    return fail_unknown(exchange, error, what);
}

// An empty 200 is all that tells a success that has no rows; whoever stands between can say it, too.
static bool nobody_said(const struct clickhouse_exchange *exchange, const struct transport_answer *answer)
{
    return answer->body_length == 0 && !answer->clickhouse && clickhouse_endpoint_says_who(exchange->endpoint);
}

static bool overloaded(int code)
{
    return code == CLICKHOUSE_CODE_TOO_MANY_SIMULTANEOUS_QUERIES || code == CLICKHOUSE_CODE_NO_FREE_CONNECTION ||
        code == CLICKHOUSE_CODE_SYSTEM_ERROR || code == CLICKHOUSE_CODE_CANNOT_SCHEDULE_TASK ||
        code == CLICKHOUSE_CODE_POCO_EXCEPTION;
}

// Old servers, and what stands between, may say 200 and give an exception for rows.
static bool begins_as_exception(const struct transport_answer *answer)
{
    size_t length = answer->body_length < 200 ? answer->body_length : 200;
    return answer->body && length > 6 && memcmp(answer->body, "Code: ", 6) == 0 &&
        memmem(answer->body, length, "DB::Exception", 13) != NULL;
}

static bool judge(struct clickhouse_exchange *exchange, struct transport_answer *answer, struct relay_error *error)
{
    struct clickhouse_outcome *outcome = exchange->outcome;
    const char *message = answer->body ? answer->body : "";
    size_t message_length = answer->body_length;
    // A query's rows may look like anything: there only a status or a header makes us look for an exception, or its
    // frame.
    bool suspect = exchange->insert || answer->status != 200 || answer->exception_code != 0 ||
        begins_as_exception(answer);
    bool framed = answer->body && memmem(answer->body, answer->body_length, "\n__exception__\r\n", 16) != NULL;
    int code = suspect || framed ? clickhouse_exception_parse(message, message_length, true, &message, &message_length)
                                 : 0;
    if (answer->exception_code != 0) {
        code = answer->exception_code;
    }
    outcome->http_status = answer->status;
    outcome->exception_code = code;
    if (code != 0) {
        outcome->in_view = exchange->insert && clickhouse_exception_in_view(message, message_length);
        outcome->failure = clickhouse_error_set(error, code, message, message_length);
        if (outcome->failure == CLICKHOUSE_BAD_ROW) {
            clickhouse_exception_line(outcome->refusal, sizeof(outcome->refusal), message, message_length);
        }
        exchange->blames_endpoint = overloaded(code);
        return error_prefix(error, "%s", clickhouse_endpoint_url(exchange->endpoint));
    }
    if (answer->end != TRANSPORT_ANSWERED) {
        return judge_broken(exchange, answer, error);
    }
    if (answer->status != 200 || (exchange->insert && answer->body_length > 0)) {
        return judge_status(exchange, answer, error);
    }
    if (nobody_said(exchange, answer)) {
        exchange->blames_endpoint = true;
        return fail_unknown(exchange, error,
            "HTTP status 200, empty and without ClickHouse's headers: something else has answered");
    }
    outcome->failure = CLICKHOUSE_DONE;
    exchange->from_clickhouse = answer->clickhouse;
    return true;
}

bool clickhouse_exchange_run(struct clickhouse_exchange *exchange, struct relay_error *error)
{
    const struct relay_context *context = exchange->context;
    const struct config_clickhouse *config = &context->config->clickhouse;
    struct clickhouse_outcome *outcome = exchange->outcome;
    struct clickhouse_server server;
    struct clickhouse_text url = {0};
    bool done = false;

    outcome->failure = CLICKHOUSE_NOT_SENT;
    (void)clickhouse_endpoint_server(exchange->endpoint, &server); // another thread may have had it forgotten just now
    outcome->wants_quorum = exchange->insert && server.has_quorum;
    outcome->server_major = server.major;
    outcome->server_minor = server.minor;
    struct clickhouse_transport *transport = clickhouse_endpoint_take(exchange->endpoint, error);
    if (!transport) {
        return false;
    }
    if (!build_url(exchange, &url)) {
        error_no_memory(error, "writing a request to ClickHouse");
        clickhouse_endpoint_give(exchange->endpoint, transport, true);
        goto url_held;
    }
    size_t max_response = exchange->insert ? MAX_RESPONSE_INSERT : MAX_RESPONSE_DEFAULT;
    struct iovec statement = {.iov_base = (void *)(uintptr_t)exchange->statement,
        .iov_len = exchange->statement ? strlen(exchange->statement) : 0};
    struct transport_request request = {.url = url.at,
        .headers = exchange->headers,
        .body = exchange->insert  ? exchange->body
            : exchange->statement ? &statement
                                  : NULL,
        .body_count = exchange->insert ? exchange->body_count : 1,
        .body_form = form_of_body(exchange),
        .fresh_connection = exchange->request->fresh_connection,
        .tls = {.ca_file = config->ca_file, .cert_file = config->cert_file, .key_file = config->key_file},
        .connect_timeout = config->connect_timeout.ns > 0 ? config->connect_timeout : DURATION_S(5),
        .idle_limit = clickhouse_endpoint_idle_limit(exchange->endpoint),
        .deadline = exchange->deadline,
        .stop = context->stop,
        .while_stopping = exchange->request->while_stopping,
        .clock = context->clock,
        .max_response = exchange->request->max_response ? exchange->request->max_response : max_response};
    struct transport_answer answer;
    clickhouse_transport_run(transport, &request, &answer);
    clickhouse_endpoint_heard(exchange->endpoint, answer.keep_alive_seconds, answer.server_name);
    clickhouse_endpoint_give(exchange->endpoint, transport, answer.end == TRANSPORT_ANSWERED);

    outcome->body_sent = answer.sent;
    outcome->bytes_sent = answer.bytes_sent;
    done = judge(exchange, &answer, error);
    if (done && !exchange->insert) {
        exchange->answer = answer.body;
        exchange->answer_length = answer.body_length;
    } else {
        free(answer.body);
    }

url_held:
    clickhouse_text_finish(&url);
    return done;
}
