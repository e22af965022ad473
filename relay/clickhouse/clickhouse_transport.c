// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the easy handle is set up anew for each request (its connection stays in the multi handle), added to the
// multi handle and driven with curl_multi_poll, which also watches the stop's descriptor, until libcurl says it is
// done.
//
// Failures, and what may be said afterwards:
// - no connection (refused, no such host, TLS, connect timeout): nothing was sent, TRANSPORT_NOT_SENT;
// - the connection breaks, or the deadline passes, after something was sent: CUT or TIMED_OUT; the server may go on
//   with what it has got, so only the caller can find out what happened. A kept connection that the server closed just
//   then looks the same. libcurl would like to send again on a new connection. Before 8.7 it also does so where the
//   body was read and TLS has not taken all of it yet, which counts as nothing sent: without a rewind, so the second
//   request has no body, and ClickHouse takes it as an INSERT of no rows. So once the body was read, no connection is
//   made for the request any more;
// - the server answers before it has read the whole body (wrong password, too large): the answer counts, even if the
//   sending then breaks;
// - the relay stops, or the answer is too long: the request is dropped by closing its connection.
#include "relay/clickhouse/clickhouse_transport.h"

#include "relay/base/http_request.h"
#include "relay/base/tls_trust.h"
#include "relay/clickhouse/lz4_stream.h"
#include "relay/clickhouse/lz4_unpack.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct clickhouse_transport {
    CURLM *multi;
    CURL *easy;
    struct lz4_stream *lz4; // made at first use
    // of the request under way
    const struct transport_request *request;
    struct transport_answer *answer;
    struct lz4_unpack *unpack; // NULL: the body is not unpacked
    size_t piece, offset, body_room;
    bool body_read; // at least its beginning
    bool broken;    // its connection, after that
    bool too_large, no_memory;
    char detail[CURL_ERROR_SIZE]; // what libcurl says beside its code
};

struct clickhouse_transport *clickhouse_transport_new(struct relay_error *error)
{
    struct clickhouse_transport *transport = calloc(1, sizeof(*transport));
    if (!transport) {
        goto failed;
    }
    transport->multi = curl_multi_init();
    transport->easy = curl_easy_init();
    if (!transport->multi || !transport->easy) {
        goto failed;
    }
    curl_multi_setopt(transport->multi, CURLMOPT_MAXCONNECTS, 1L);
    return transport;

failed:
    clickhouse_transport_free(transport);
    error_no_memory(error, "preparing a connection to ClickHouse");
    return NULL;
}

void clickhouse_transport_free(struct clickhouse_transport *transport)
{
    if (transport) {
        curl_easy_cleanup(transport->easy);
        curl_multi_cleanup(transport->multi);
        lz4_stream_free(transport->lz4);
        free(transport);
    }
}

static size_t read_plain(struct clickhouse_transport *transport, char *buffer, size_t room)
{
    const struct transport_request *request = transport->request;
    size_t filled = 0;
    while (filled < room && transport->piece < request->body_count) {
        const struct iovec *piece = &request->body[transport->piece];
        size_t take = piece->iov_len - transport->offset;
        take = take < room - filled ? take : room - filled;
        memcpy(buffer + filled, (const char *)piece->iov_base + transport->offset, take);
        filled += take;
        transport->offset += take;
        if (transport->offset == piece->iov_len) {
            transport->piece++;
            transport->offset = 0;
        }
    }
    return filled;
}

static size_t on_read(char *buffer, size_t size, size_t count, void *context)
{
    struct clickhouse_transport *transport = context;
    ssize_t filled;
    transport->body_read = true;
    switch (transport->request->body_form) {
    case TRANSPORT_BODY_COMPRESS: filled = lz4_stream_read(transport->lz4, buffer, size * count); break;
    case TRANSPORT_BODY_UNPACK: filled = lz4_unpack_read(transport->unpack, buffer, size * count); break;
    case TRANSPORT_BODY_AS_IT_IS:
    case TRANSPORT_BODY_FRAME:
    default: filled = (ssize_t)read_plain(transport, buffer, size * count); break;
    }
    if (filled < 0) {
        transport->no_memory = true;
        return CURL_READFUNC_ABORT;
    }
    transport->answer->bytes_sent += (uint64_t)filled;
    return (size_t)filled;
}

// Each new connection of the request. A second start finds no kept one: there is one at most, and it has just broken.
static int on_socket(void *context, curl_socket_t socket, curlsocktype purpose)
{
    (void)socket, (void)purpose;
    struct clickhouse_transport *transport = context;
    transport->broken = transport->body_read;
    return transport->broken ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct clickhouse_transport *transport = context;
    struct transport_answer *answer = transport->answer;
    size_t length = size * count;
    if (answer->body_length + length > transport->request->max_response) {
        transport->too_large = true;
        return 0;
    }
    if (answer->body_length + length + 1 > transport->body_room) {
        size_t room = transport->body_room ? transport->body_room * 2 : 4096;
        while (room < answer->body_length + length + 1) {
            room *= 2;
        }
        char *body = realloc(answer->body, room);
        if (!body) {
            transport->no_memory = true;
            return 0;
        }
        answer->body = body;
        transport->body_room = room;
    }
    memcpy(answer->body + answer->body_length, bytes, length);
    answer->body_length += length;
    answer->body[answer->body_length] = '\0';
    return length;
}

// The header's value as a number, if it is that header.
static bool header_number(const char *line, size_t length, const char *name, const char *before, int *number)
{
    size_t name_length = strlen(name);
    char value[64];
    if (length <= name_length || strncasecmp(line, name, name_length) != 0) {
        return false;
    }
    size_t take = length - name_length < sizeof(value) - 1 ? length - name_length : sizeof(value) - 1;
    memcpy(value, line + name_length, take);
    value[take] = '\0';
    const char *digits = before ? strcasestr(value, before) : value;
    if (digits) {
        *number = (int)strtol(digits + (before ? strlen(before) : 0), NULL, 10);
    }
    return true;
}

static void header_text(const char *line, size_t length, const char *name, char *value, size_t room)
{
    size_t from = strlen(name);
    if (length <= from || strncasecmp(line, name, from) != 0) {
        return;
    }
    while (from < length && isspace((unsigned char)line[from])) {
        from++;
    }
    while (length > from && isspace((unsigned char)line[length - 1])) {
        length--;
    }
    snprintf(value, room, "%.*s", (int)(length - from), line + from);
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct clickhouse_transport *transport = context;
    struct transport_answer *answer = transport->answer;
    size_t length = size * count;
    if (header_number(line, length, "X-ClickHouse-Exception-Code:", NULL, &answer->exception_code) ||
        (length > 13 && strncasecmp(line, "X-ClickHouse-", 13) == 0)) {
        answer->clickhouse = true;
    }
    header_number(line, length, "Keep-Alive:", "timeout=", &answer->keep_alive_seconds);
    header_text(line, length, "X-ClickHouse-Server-Display-Name:", answer->server_name, sizeof(answer->server_name));
    return length;
}

static bool open_body(struct clickhouse_transport *transport)
{
    const struct transport_request *request = transport->request;
    if (request->body_form == TRANSPORT_BODY_UNPACK) {
        transport->unpack = lz4_unpack_new(request->body, request->body_count);
        return transport->unpack != NULL;
    }
    if (request->body_form == TRANSPORT_BODY_COMPRESS) {
        if (!transport->lz4 && !(transport->lz4 = lz4_stream_new(NULL))) {
            return false;
        }
        lz4_stream_start(transport->lz4, request->body, request->body_count);
    }
    return true;
}

static bool set_body(struct clickhouse_transport *transport, struct curl_slist **headers)
{
    const struct transport_request *request = transport->request;
    CURL *easy = transport->easy;
    if (!request->body) {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        return true;
    }
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, transport);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    if (!open_body(transport)) {
        return false;
    }
    // Chunked: a cut body is then an error for the server on every version that knows chunks, whatever the length said.
    static const char *const plain[] = {"Transfer-Encoding: chunked", "Content-Type: application/octet-stream",
        "Expect:"};
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        struct curl_slist *longer = curl_slist_append(*headers, plain[i]);
        if (!longer) {
            return false;
        }
        *headers = longer;
    }
    if (request->body_form == TRANSPORT_BODY_COMPRESS || request->body_form == TRANSPORT_BODY_FRAME) {
        struct curl_slist *longer = curl_slist_append(*headers, "Content-Encoding: lz4");
        if (!longer) {
            return false;
        }
        *headers = longer;
    }
    return true;
}

static bool set_up(struct clickhouse_transport *transport, struct curl_slist **headers)
{
    const struct transport_request *request = transport->request;
    CURL *easy = transport->easy;
    curl_easy_reset(easy); // keeps the connection
    for (const char *const *header = request->headers; header && *header; header++) {
        struct curl_slist *longer = curl_slist_append(*headers, *header);
        if (!longer) {
            return false;
        }
        *headers = longer;
    }
    if (!set_body(transport, headers) || curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK) {
        return false;
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    http_request_common(easy);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // credentials go to the endpoint and to nobody the environment names
    tls_trust(easy, &request->tls);
    transport->detail[0] = '\0';
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transport->detail);
    long connect_ms = (long)duration_to_poll_ms(request->connect_timeout);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms > 0 ? connect_ms : 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 15L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
    long idle = (long)(request->idle_limit.ns / 1000000000);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, idle > 0 ? idle : 1L);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, transport);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, request->fresh_connection ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transport);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transport);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 128L * 1024);
    return true;
}

static void set_problem(struct transport_answer *answer, enum transport_end end, const char *problem)
{
    answer->end = end;
    snprintf(answer->problem, sizeof(answer->problem), "%s", problem);
}

// Whether the server may have got something of the request.
static bool was_sent(const struct clickhouse_transport *transport)
{
    long request_size = 0;
    curl_easy_getinfo(transport->easy, CURLINFO_REQUEST_SIZE, &request_size);
    return request_size > 0 || transport->body_read;
}

// What libcurl's verdict means, given what was sent and read.
static void judge(struct clickhouse_transport *transport, CURLcode code)
{
    struct transport_answer *answer = transport->answer;
    long status = 0;
    curl_easy_getinfo(transport->easy, CURLINFO_RESPONSE_CODE, &status);
    answer->status = (int)status;
    answer->sent = was_sent(transport);
    if (code == CURLE_OK) {
        answer->end = TRANSPORT_ANSWERED;
    } else if (transport->no_memory || code == CURLE_OUT_OF_MEMORY) {
        set_problem(answer, TRANSPORT_NO_MEMORY, "out of memory");
    } else if (transport->too_large) {
        set_problem(answer, TRANSPORT_TOO_LARGE, "the answer is longer than allowed");
    } else {
        // An empty server name on a kept connection, a reset, a cut answer, a refused connection ...
        char problem[sizeof(answer->problem)];
        snprintf(problem, sizeof(problem), "%s%s",
            transport->broken ? "the connection broke within the request" : curl_easy_strerror(code),
            tls_trust_advice(transport->easy, code, transport->detail));
        set_problem(answer, answer->sent ? TRANSPORT_CUT : TRANSPORT_NOT_SENT, problem);
    }
}

static struct mono_time end_of_wait(const struct transport_request *request)
{
    struct mono_time until = request->deadline;
    if (request->stop && mono_before(stop_deadline(request->stop), until)) {
        until = stop_deadline(request->stop);
    }
    return until;
}

// Drives the request to its end. true: libcurl has ended it, *code is its verdict; else answer->end is set.
static bool drive(struct clickhouse_transport *transport, CURLcode *code)
{
    const struct transport_request *request = transport->request;
    for (;;) {
        int running = 0, left = 0;
        if (curl_multi_perform(transport->multi, &running) != CURLM_OK) {
            *code = CURLE_OUT_OF_MEMORY;
            return true;
        }
        for (CURLMsg *message; (message = curl_multi_info_read(transport->multi, &left));) {
            if (message->msg == CURLMSG_DONE) {
                *code = message->data.result;
                return true;
            }
        }
        bool stopping = request->stop && stop_raised(request->stop);
        if (stopping && !request->while_stopping) {
            set_problem(transport->answer, TRANSPORT_STOPPED, "the relay is stopping");
            return false;
        }
        struct duration wait = mono_left(clock_mono(request->clock), end_of_wait(request));
        if (wait.ns == 0) {
            set_problem(transport->answer, TRANSPORT_TIMED_OUT, "no answer before the deadline");
            return false;
        }
        struct curl_waitfd extra = {.fd = request->stop ? request->stop->fd : -1, .events = CURL_WAIT_POLLIN};
        bool watch = request->stop && !stopping;
        int wait_ms = duration_to_poll_ms(wait);
        curl_multi_poll(transport->multi, &extra, watch ? 1 : 0, wait_ms < 1000 ? wait_ms : 1000, NULL);
    }
}

void clickhouse_transport_run(struct clickhouse_transport *transport, const struct transport_request *request,
    struct transport_answer *answer)
{
    struct curl_slist *headers = NULL;
    *answer = (struct transport_answer){0};
    transport->request = request;
    transport->answer = answer;
    transport->piece = transport->offset = transport->body_room = 0;
    transport->body_read = transport->broken = transport->too_large = transport->no_memory = false;

    if (!set_up(transport, &headers) || curl_multi_add_handle(transport->multi, transport->easy) != CURLM_OK) {
        set_problem(answer, TRANSPORT_NO_MEMORY, "out of memory");
        goto headers_held;
    }
    CURLcode code = CURLE_OK;
    if (drive(transport, &code)) {
        judge(transport, code);
    } else {
        answer->sent = was_sent(transport);
    }
    // Removing an unfinished request closes its connection.
    curl_multi_remove_handle(transport->multi, transport->easy);

headers_held:
    curl_slist_free_all(headers);
    lz4_unpack_free(transport->unpack);
    transport->unpack = NULL;
    transport->request = NULL;
    transport->answer = NULL;
}
