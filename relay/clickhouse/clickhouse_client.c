// SPDX-License-Identifier: Apache-2.0
//
// Happy path of a request: choose an endpoint (the pinned one, else the sticky one, else the next whose breaker lets us
// through), learn what the server is if that is not known yet, run the exchange, report to breaker and status board.
//
// Failures: no endpoint lets us through: BREAKER_OPEN, nothing was sent. The questions that learn fail: the caller's
// own request was not sent. A failure of the endpoint itself, or one that another replica may not have, moves the
// sticky choice on, so that the next request tries that one; nothing is ever repeated here. An endpoint that gave no
// answer, refused a setting that it knew, or tells of another version with its clock, is asked anew before the next
// request. clickhouse_exchange.c tells how answers are judged.
#include "relay/clickhouse/clickhouse_client.h"

#include "relay/clickhouse/clickhouse_endpoint.h"
#include "relay/clickhouse/clickhouse_exchange.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTINGS_KNOWN "SELECT name, if(name = 'insert_quorum', value, '') FROM system.settings ORDER BY name"

struct clickhouse_client {
    const struct relay_context *context;
    struct clickhouse_endpoint **endpoints;
    size_t endpoint_count;
    char *headers[5]; // NULL-terminated: user, key, database, login by certificate
    _Atomic size_t sticky;
    _Atomic uint64_t next_query;
};

static bool is_plain_header(const char *value)
{
    return strpbrk(value, "\r\n") == NULL;
}

static bool make_headers(struct clickhouse_client *client, struct relay_error *error)
{
    const struct config_clickhouse *config = &client->context->config->clickhouse;
    static const char *const names[] = {"X-ClickHouse-User", "X-ClickHouse-Key", "X-ClickHouse-Database",
        "X-ClickHouse-SSL-Certificate-Auth"};
    // A user who is identified by a certificate has no password, and with one the server would refuse the header.
    bool by_certificate = config->cert_file && config->cert_file[0] != '\0' &&
        (!config->password || config->password[0] == '\0');
    const char *values[] = {config->user, config->password, config->database, by_certificate ? "on" : ""};
    size_t used = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!values[i] || values[i][0] == '\0') {
            continue;
        }
        if (!is_plain_header(values[i])) {
            return error_set(error, RELAY_ERROR_CONFIG,
                "[clickhouse] user, password and database must not have line ends");
        }
        if (asprintf(&client->headers[used], "%s: %s", names[i], values[i]) < 0) {
            client->headers[used] = NULL;
            return error_no_memory(error, "preparing the ClickHouse client");
        }
        used++;
    }
    return true;
}

struct clickhouse_client *clickhouse_client_new(const struct relay_context *context, struct relay_error *error)
{
    const struct config_list *urls = &context->config->clickhouse.urls;
    struct clickhouse_client *client = calloc(1, sizeof(*client));
    if (!client) {
        error_no_memory(error, "preparing the ClickHouse client");
        return NULL;
    }
    client->context = context;
    if (urls->count == 0) {
        error_set(error, RELAY_ERROR_CONFIG, "[clickhouse] url is not set");
        goto failed;
    }
    client->endpoints = calloc(urls->count, sizeof(struct clickhouse_endpoint *));
    if (!client->endpoints) {
        error_no_memory(error, "preparing the ClickHouse client");
        goto failed;
    }
    for (size_t i = 0; i < urls->count; i++) {
        client->endpoints[i] = clickhouse_endpoint_new(context, urls->items[i], error);
        if (!client->endpoints[i]) {
            goto failed;
        }
        client->endpoint_count++;
    }
    if (!make_headers(client, error)) {
        goto failed;
    }
    return client;

failed:
    clickhouse_client_free(client);
    return NULL;
}

void clickhouse_client_free(struct clickhouse_client *client)
{
    if (!client) {
        return;
    }
    for (size_t i = 0; i < client->endpoint_count; i++) {
        clickhouse_endpoint_free(client->endpoints[i]);
    }
    free(client->endpoints);
    for (size_t i = 0; client->headers[i]; i++) {
        explicit_bzero(client->headers[i], strlen(client->headers[i]));
        free(client->headers[i]);
    }
    free(client);
}

void clickhouse_client_limit(struct clickhouse_client *client, const struct config_breaker *limits)
{
    for (size_t i = 0; i < client->endpoint_count; i++) {
        clickhouse_endpoint_limit(client->endpoints[i], limits);
    }
}

size_t clickhouse_client_endpoints(const struct clickhouse_client *client)
{
    return client->endpoint_count;
}

const char *clickhouse_client_url(const struct clickhouse_client *client, int endpoint)
{
    return clickhouse_endpoint_url(client->endpoints[endpoint]);
}

int clickhouse_client_preferred(const struct clickhouse_client *client)
{
    return (int)atomic_load(&client->sticky);
}

void clickhouse_client_prefer(struct clickhouse_client *client, int endpoint)
{
    atomic_store(&client->sticky, (size_t)endpoint);
}

void clickhouse_client_leave(struct clickhouse_client *client, int endpoint)
{
    size_t index = (size_t)endpoint, expected = index;
    atomic_compare_exchange_strong(&client->sticky, &expected, (index + 1) % client->endpoint_count);
}

// A small query of our own on the same endpoint, within the deadline of what needs it. Its answer has rows.
static bool ask(const struct clickhouse_exchange *of, const char *about, const char *statement,
    struct clickhouse_result **result, struct clickhouse_outcome *outcome, bool *blames_endpoint, bool *says_who,
    struct relay_error *error)
{
    struct clickhouse_request request = {.while_stopping = of->request->while_stopping};
    *outcome = (struct clickhouse_outcome){.endpoint = of->outcome->endpoint};
    // A question under the caller's own id, marked, can be told apart in system.query_log.
    snprintf(outcome->query_id, sizeof(outcome->query_id), "%.80s-learn-%s", of->outcome->query_id, about);
    struct clickhouse_exchange exchange = {.context = of->context,
        .headers = of->headers,
        .request = &request,
        .endpoint = of->endpoint,
        .statement = statement,
        .learns = true,
        .deadline = of->deadline,
        .outcome = outcome};
    bool done = clickhouse_exchange_run(&exchange, error);
    *blames_endpoint = exchange.blames_endpoint;
    if (!done) {
        return false;
    }
    *says_who = *says_who || exchange.from_clickhouse;
    *result = exchange.answer ? clickhouse_result_new(exchange.answer, exchange.answer_length, error)
                              : clickhouse_result_new(NULL, 0, error);
    if (*result && clickhouse_result_rows(*result) == 0) {
        clickhouse_result_free(*result);
        *result = NULL;
        *blames_endpoint = true;
        error_set_class(error, RELAY_ERROR_PROTOCOL, RELAY_CLASS_RETRIABLE, 0,
            "%s: an empty answer: something else than ClickHouse has answered, or its disk is full",
            clickhouse_endpoint_url(of->endpoint));
    }
    return *result != NULL;
}

static void copy_cell(const struct clickhouse_result *result, size_t column, char *to, size_t room)
{
    const char *text = clickhouse_result_text(result, 0, column, NULL);
    snprintf(to, room, "%s", text ? text : "");
}

// What happened to a question of ours before the caller's own request: that one was not sent.
static bool learn_failed(struct clickhouse_exchange *exchange, const struct clickhouse_outcome *asked, bool blames,
    struct relay_error *error)
{
    exchange->blames_endpoint = blames;
    exchange->outcome->exception_code = asked->exception_code;
    exchange->outcome->http_status = asked->http_status;
    exchange->outcome->failure = asked->failure == CLICKHOUSE_OUTCOME_UNKNOWN || asked->failure == CLICKHOUSE_DONE
        ? CLICKHOUSE_NOT_SENT
        : asked->failure;
    if (error && error->class == RELAY_CLASS_UNKNOWN) {
        error->class = RELAY_CLASS_RETRIABLE; // the question was only read
        error->code = error->code == RELAY_ERROR_CLICKHOUSE_UNKNOWN ? RELAY_ERROR_CLICKHOUSE_UNREACHABLE : error->code;
    }
    return error_prefix(error, "asking the server what it is");
}

static bool learn(struct clickhouse_exchange *exchange, struct relay_error *error)
{
    struct clickhouse_server server = {0};
    struct clickhouse_result *result = NULL, *settings = NULL;
    struct clickhouse_outcome asked;
    bool blames = false;
    if (!ask(exchange, "version", "SELECT version(), hostName()", &result, &asked, &blames, &server.says_who, error)) {
        return learn_failed(exchange, &asked, blames, error);
    }
    copy_cell(result, 0, server.version, sizeof(server.version));
    copy_cell(result, 1, server.host_name, sizeof(server.host_name));
    clickhouse_result_free(result);
    if (sscanf(server.version, "%d.%d", &server.major, &server.minor) != 2) {
        exchange->outcome->failure = CLICKHOUSE_OPERATOR;
        return error_set(error, RELAY_ERROR_CLICKHOUSE_OPERATOR, "%s: \"%.20s\" is no version of ClickHouse",
            clickhouse_endpoint_url(exchange->endpoint), server.version);
    }
    server.has_input_function = server.major > 19 || (server.major == 19 && server.minor >= 10);
    if (server.major >= 22) {
        if (!ask(exchange, "uuid", "SELECT serverUUID()", &result, &asked, &blames, &server.says_who, error)) {
            return learn_failed(exchange, &asked, blames, error);
        }
        copy_cell(result, 0, server.server_uuid, sizeof(server.server_uuid));
        clickhouse_result_free(result);
    }
    // Said in the statement: what is sent with others is known by this list only, which a profile's limit would cut.
    const char *names = server.major >= 21 ? SETTINGS_KNOWN " SETTINGS limit=0, offset=0" : SETTINGS_KNOWN;
    if (!ask(exchange, "settings", names, &settings, &asked, &blames, &server.says_who, error)) {
        return learn_failed(exchange, &asked, blames, error);
    }
    clickhouse_endpoint_learn(exchange->endpoint, &server, settings);
    return true;
}

// The endpoint for the request, with its breaker's leave, or -1.
static int choose(struct clickhouse_client *client, int pinned, struct relay_error *error)
{
    if (pinned != CLICKHOUSE_ANY_ENDPOINT) {
        struct clickhouse_endpoint *endpoint = client->endpoints[pinned];
        return breaker_check(clickhouse_endpoint_breaker(endpoint), RELAY_SERVER_CLICKHOUSE,
                   clickhouse_endpoint_url(endpoint), error)
            ? pinned
            : -1;
    }
    size_t first = atomic_load(&client->sticky);
    for (size_t i = 0; i < client->endpoint_count; i++) {
        size_t index = (first + i) % client->endpoint_count;
        if (breaker_allow(clickhouse_endpoint_breaker(client->endpoints[index]))) {
            return (int)index;
        }
    }
    struct clickhouse_endpoint *endpoint = client->endpoints[first];
    breaker_refuse(clickhouse_endpoint_breaker(endpoint), RELAY_SERVER_CLICKHOUSE,
        client->endpoint_count > 1 ? "each ClickHouse endpoint" : clickhouse_endpoint_url(endpoint), error);
    return -1;
}

// It answers, but has lost Keeper, has no room, does not catch up: another replica may do better.
static bool better_elsewhere(const struct clickhouse_exchange *exchange)
{
    enum clickhouse_failure failure = exchange->outcome->failure;
    return failure == CLICKHOUSE_TRANSIENT || (exchange->request->waits && failure == CLICKHOUSE_OUTCOME_UNKNOWN);
}

// It is down or cut off, and may come back as another version; or it does not know a setting that it listed, and so is
// one already.
static bool may_be_another(const struct clickhouse_exchange *exchange)
{
    int code = exchange->outcome->exception_code;
    return (exchange->blames_endpoint && code == 0) || code == CLICKHOUSE_CODE_UNKNOWN_SETTING;
}

// Tells breaker, board and the sticky choice how it went, and has the endpoint asked anew where that says so.
static void settle(struct clickhouse_client *client, struct clickhouse_exchange *exchange, bool done,
    const struct relay_error *error)
{
    struct circuit_breaker *breaker = clickhouse_endpoint_breaker(exchange->endpoint);
    if (exchange->blames_endpoint) {
        breaker_failure(breaker, error->text);
        clickhouse_endpoint_report(exchange->endpoint, error->text);
    } else if (done || exchange->outcome->http_status != 0) {
        breaker_success(breaker); // it answered, be it with a refusal
        clickhouse_endpoint_report(exchange->endpoint, NULL);
    } else {
        breaker_cancel(breaker);
    }
    if (may_be_another(exchange)) {
        clickhouse_endpoint_forget(exchange->endpoint);
    }
    if (exchange->blames_endpoint || better_elsewhere(exchange)) {
        clickhouse_client_leave(client, exchange->outcome->endpoint);
    }
}

static bool run(struct clickhouse_client *client, struct clickhouse_exchange *exchange, bool learning,
    struct relay_error *error)
{
    const struct relay_context *context = client->context;
    const struct clickhouse_request *request = exchange->request;
    struct clickhouse_outcome *outcome = exchange->outcome;
    struct relay_error local;
    error = error ? error : &local;
    error_clear(error);
    *outcome = (struct clickhouse_outcome){.failure = CLICKHOUSE_NOT_SENT, .endpoint = -1};
    struct duration timeout = request->timeout.ns > 0 ? request->timeout : context->config->clickhouse.request_timeout;
    struct mono_time start = clock_mono(context->clock);
    exchange->context = context;
    exchange->headers = (const char *const *)client->headers;
    exchange->deadline = mono_add(start, timeout.ns > 0 ? timeout : DURATION_S(65));
    if (request->query_id) {
        snprintf(outcome->query_id, sizeof(outcome->query_id), "%s", request->query_id);
    } else {
        snprintf(outcome->query_id, sizeof(outcome->query_id), "outbox-relay-%.12s-q%llu", context->instance,
            (unsigned long long)atomic_fetch_add(&client->next_query, 1));
    }
    int index = choose(client, request->endpoint, error);
    if (index < 0) {
        return false;
    }
    outcome->endpoint = index;
    exchange->endpoint = client->endpoints[index];
    bool done = !learning || clickhouse_endpoint_server(exchange->endpoint, NULL) || learn(exchange, error);
    done = done && clickhouse_exchange_run(exchange, error);
    outcome->elapsed = mono_since(clock_mono(context->clock), start);
    settle(client, exchange, done, error);
    return done;
}

struct duration clickhouse_client_question_limit(const struct clickhouse_client *client)
{
    struct duration timeout = client->context->config->clickhouse.request_timeout;
    return timeout.ns > CLICKHOUSE_QUESTION_LIMIT.ns ? timeout : CLICKHOUSE_QUESTION_LIMIT;
}

bool clickhouse_outcome_is_answered(const struct clickhouse_outcome *outcome)
{
    return outcome->exception_code != 0 || outcome->http_status == CLICKHOUSE_STATUS_BODY_TOO_LARGE ||
        !outcome->body_sent;
}

bool clickhouse_query(struct clickhouse_client *client, const struct clickhouse_request *request, const char *statement,
    struct clickhouse_result **result, struct clickhouse_outcome *outcome, struct relay_error *error)
{
    struct clickhouse_outcome local;
    struct clickhouse_exchange exchange = {.request = request,
        .statement = statement,
        .outcome = outcome ? outcome : &local};
    if (!run(client, &exchange, true, error)) {
        return false;
    }
    if (!result) {
        free(exchange.answer);
        return true;
    }
    *result = clickhouse_result_new(exchange.answer, exchange.answer_length, error);
    return *result != NULL;
}

bool clickhouse_insert(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *statement, const struct iovec *body, size_t body_count, struct clickhouse_outcome *outcome,
    struct relay_error *error)
{
    struct clickhouse_outcome local;
    struct clickhouse_exchange exchange = {.request = request,
        .statement = statement,
        .body = body,
        .body_count = body_count,
        .insert = true,
        .outcome = outcome ? outcome : &local};
    return run(client, &exchange, true, error);
}

bool clickhouse_ping(struct clickhouse_client *client, int endpoint, struct duration timeout, struct relay_error *error)
{
    struct clickhouse_request request = {.endpoint = endpoint, .timeout = timeout};
    struct clickhouse_outcome outcome;
    struct clickhouse_exchange exchange = {.request = &request, .outcome = &outcome};
    if (!run(client, &exchange, false, error)) {
        return false;
    }
    bool ok = exchange.answer && strncmp(exchange.answer, "Ok.", 3) == 0;
    free(exchange.answer);
    return ok ||
        error_set(error, RELAY_ERROR_PROTOCOL, "%s: something answers /ping that is not ClickHouse",
            clickhouse_client_url(client, outcome.endpoint));
}

bool clickhouse_client_answers(const struct clickhouse_client *client)
{
    for (size_t i = 0; i < client->endpoint_count; i++) {
        if (clickhouse_endpoint_answers(client->endpoints[i])) {
            return true;
        }
    }
    return false;
}

bool clickhouse_client_held_back(const struct clickhouse_client *client)
{
    for (size_t i = 0; i < client->endpoint_count; i++) {
        if (breaker_state_of(clickhouse_endpoint_breaker(client->endpoints[i])) == BREAKER_CLOSED) {
            return false;
        }
    }
    return true;
}

void clickhouse_ask_endpoints_down(struct clickhouse_client *client, struct duration timeout)
{
    for (size_t i = 0; i < client->endpoint_count; i++) {
        if (clickhouse_endpoint_reported_down(client->endpoints[i])) {
            (void)clickhouse_ping(client, (int)i, timeout, NULL); // breaker and board are told how it went
        }
    }
}

void clickhouse_ask_silent_endpoints(struct clickhouse_client *client, struct duration silence, struct duration timeout)
{
    for (size_t i = 0; i < client->endpoint_count; i++) {
        if (clickhouse_endpoint_take_silence(client->endpoints[i], silence)) {
            (void)clickhouse_ping(client, (int)i, timeout, NULL);
        }
    }
}

// The one number that the statement asks for. An answer that is cut, empty or something else is no number. *beside (may
// be NULL): all that was answered, the caller's.
static bool ask_number(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *statement, int64_t *number, struct clickhouse_result **beside, struct relay_error *error)
{
    struct clickhouse_result *result = NULL;
    if (!clickhouse_query(client, request, statement, &result, NULL, error)) {
        return false;
    }
    const char *text = clickhouse_result_rows(result) == 1 ? clickhouse_result_text(result, 0, 0, NULL) : NULL;
    bool done = text && text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
    *number = done ? clickhouse_result_int(result, 0, 0) : 0;
    if (!done) {
        error_set_class(error, RELAY_ERROR_PROTOCOL, RELAY_CLASS_RETRIABLE, 0,
            "the answer is not the number that was asked for: something else than ClickHouse has answered, or its disk "
            "is full");
    }
    if (done && beside) {
        *beside = result;
    } else {
        clickhouse_result_free(result);
    }
    return done;
}

// One round: kills, then counts what is still there. (KILL QUERY SYNC may wait without end, so it is asynchronous.)
static bool kill_round(struct clickhouse_client *client, const struct clickhouse_request *request, const char *kill,
    const char *count, size_t *left, struct relay_error *error)
{
    int64_t running;
    if (!clickhouse_query(client, request, kill, NULL, NULL, error) ||
        !ask_number(client, request, count, &running, NULL, error)) {
        return false;
    }
    *left = (size_t)running;
    return true;
}

// Those that the condition is true for.
static bool kill_where(struct clickhouse_client *client, int endpoint, const char *where, struct duration timeout,
    size_t *left, struct relay_error *error)
{
    const struct clock *clock = client->context->clock;
    struct mono_time until = mono_add(clock_mono(clock), timeout);
    struct clickhouse_text kill = {0}, count = {0};
    size_t running = 0;
    bool done = false;
    if (!clickhouse_text_add(&kill, "KILL QUERY WHERE %s ASYNC", where) ||
        !clickhouse_text_add(&count, "SELECT count() FROM system.processes WHERE %s", where)) {
        error_no_memory(error, "killing queries of ClickHouse");
        goto texts_held;
    }
    struct duration pause = DURATION_MS(10);
    for (;;) {
        struct duration remaining = mono_left(clock_mono(clock), until);
        struct clickhouse_request request = {.endpoint = endpoint,
            .timeout = remaining.ns > 0 ? remaining : DURATION_MS(1),
            .while_stopping = true};
        if (!kill_round(client, &request, kill.at, count.at, &running, error)) {
            break;
        }
        done = running == 0;
        if (done) {
            break;
        }
        if (mono_left(clock_mono(clock), until).ns == 0) {
            error_set(error, RELAY_ERROR_TIMEOUT, "%zu queries still run after KILL QUERY", running);
            break;
        }
        struct stop never;
        if (!stop_init(&never, error)) {
            break;
        }
        stop_wait(&never, clock, mono_add(clock_mono(clock), pause));
        stop_finish(&never);
        pause = pause.ns < 200000000 ? DURATION_NS(pause.ns * 2) : pause;
    }

texts_held:
    if (left) {
        *left = running;
    }
    clickhouse_text_finish(&kill);
    clickhouse_text_finish(&count);
    return done;
}

bool clickhouse_kill_query(struct clickhouse_client *client, int endpoint, const char *prefix, struct duration timeout,
    size_t *left, struct relay_error *error)
{
    struct clickhouse_text where = {0};
    bool built = clickhouse_text_add(&where, "startsWith(query_id, ") &&
        clickhouse_text_literal(&where, prefix, strlen(prefix)) && clickhouse_text_add(&where, ")");
    bool done = built ? kill_where(client, endpoint, where.at, timeout, left, error)
                      : error_no_memory(error, "killing queries of ClickHouse");
    clickhouse_text_finish(&where);
    return done;
}

bool clickhouse_kill_queries(struct clickhouse_client *client, int endpoint, const char *const *ids, size_t count,
    struct duration timeout, struct relay_error *error)
{
    struct clickhouse_text where = {0};
    bool built = clickhouse_text_add(&where, "query_id IN (");
    for (size_t i = 0; built && i < count; i++) {
        built = clickhouse_text_add(&where, i > 0 ? "," : "") &&
            clickhouse_text_literal(&where, ids[i], strlen(ids[i]));
    }
    built = built && clickhouse_text_add(&where, ")");
    bool done = built ? kill_where(client, endpoint, where.at, timeout, NULL, error)
                      : error_no_memory(error, "killing queries of ClickHouse");
    clickhouse_text_finish(&where);
    return done;
}

// A server that was upgraded, or went back, between two requests that reached it: nothing else tells.
static void compare_version(struct clickhouse_endpoint *endpoint, const struct clickhouse_server *known,
    const struct clickhouse_result *result)
{
    char version[sizeof(known->version)];
    copy_cell(result, 1, version, sizeof(version));
    if (version[0] != '\0' && strcmp(version, known->version) != 0) {
        clickhouse_endpoint_forget(endpoint);
    }
}

bool clickhouse_server_clock(struct clickhouse_client *client, int endpoint, struct duration timeout,
    struct clickhouse_clock *measured, struct relay_error *error)
{
    struct clickhouse_request request = {.endpoint = endpoint, .timeout = timeout};
    const struct clock *clock = client->context->clock;
    struct clickhouse_outcome outcome;
    struct clickhouse_server server;
    struct clickhouse_result *answer;
    int64_t theirs;
    // The first query also learns the version, which would count as part of the trip.
    if (!clickhouse_query(client, &request, "SELECT 1", NULL, &outcome, error)) {
        return false;
    }
    struct clickhouse_endpoint *asked = client->endpoints[outcome.endpoint];
    bool fine = clickhouse_endpoint_server(asked, &server) && server.major >= 21;
    request.endpoint = outcome.endpoint;
    struct mono_time before = clock_mono(clock);
    struct wall_time wall = clock_wall(clock);
    if (!ask_number(client, &request,
            fine ? "SELECT toUnixTimestamp64Micro(now64(6)), version()"
                 : "SELECT toUInt64(now()) * 1000000 + 500000, version()",
            &theirs, &answer, error)) {
        return false;
    }
    measured->at = clock_mono(clock);
    struct duration trip = mono_since(measured->at, before);
    compare_version(asked, &server, answer);
    clickhouse_result_free(answer);
    measured->us = theirs + trip.ns / 2000;
    measured->doubt = DURATION_NS(trip.ns / 2 + (fine ? 0 : 500000000));
    measured->ahead = DURATION_US(theirs - (wall.us + trip.ns / 2000));
    clickhouse_endpoint_learn_clock(asked, measured->ahead, measured->doubt);
    return true;
}

bool clickhouse_server_info(struct clickhouse_client *client, int endpoint, struct duration timeout,
    struct clickhouse_server *server, struct relay_error *error)
{
    size_t index = endpoint == CLICKHOUSE_ANY_ENDPOINT ? atomic_load(&client->sticky) : (size_t)endpoint;
    if (clickhouse_endpoint_server(client->endpoints[index], server) && server->clock_doubt.ns > 0) {
        return true;
    }
    struct clickhouse_clock measured;
    if (!clickhouse_server_clock(client, endpoint, timeout, &measured, error)) {
        return false;
    }
    index = endpoint == CLICKHOUSE_ANY_ENDPOINT ? atomic_load(&client->sticky) : (size_t)endpoint;
    clickhouse_endpoint_server(client->endpoints[index], server); // also what is about to be asked anew
    return server->version[0] != '\0' ||
        error_set(error, RELAY_ERROR_CLICKHOUSE_UNREACHABLE, "%s went away", clickhouse_client_url(client, (int)index));
}

bool clickhouse_server_known(struct clickhouse_client *client, int endpoint, struct clickhouse_server *server)
{
    clickhouse_endpoint_server(client->endpoints[endpoint], server);
    return server->version[0] != '\0';
}

void clickhouse_server_doubt(struct clickhouse_client *client, int endpoint)
{
    clickhouse_endpoint_forget(client->endpoints[endpoint]);
}

bool clickhouse_knows_setting(struct clickhouse_client *client, int endpoint, const char *name)
{
    return clickhouse_endpoint_knows(client->endpoints[endpoint], name);
}

bool clickhouse_endpoint_usable(struct clickhouse_client *client, int endpoint)
{
    struct circuit_breaker *breaker = clickhouse_endpoint_breaker(client->endpoints[endpoint]);
    return breaker_state_of(breaker) == BREAKER_CLOSED ||
        mono_reached(clock_mono(client->context->clock), breaker_next_probe(breaker));
}
