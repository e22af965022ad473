// SPDX-License-Identifier: Apache-2.0
//
// A scripted HTTP peer for tests: listens on a free port of 127.0.0.1 and does to each request what a handler says,
// good or bad: answer, answer garbage, cut before, within or after, hang. One thread for each connection; the handler
// is called under a lock, so it may count in plain variables. Aborts on its own mistakes (it is a test's tool).
#ifndef TESTS_SUPPORT_HTTP_SCRIPT_H
#define TESTS_SUPPORT_HTTP_SCRIPT_H

#include <stddef.h>

struct http_script;

struct http_seen {
    size_t number;       // of the request, from 0, over all connections
    size_t connection;   // number of its connection, from 0
    const char *method;  // "POST"
    const char *target;  // "/?query=..." as sent, percent-encoded
    const char *headers; // all header lines, "\r\n" between them
};

struct http_reply {
    size_t read_body;     // bytes of the request's body to read before acting; default all
    const char *answer;   // raw bytes, status line and all; NULL: nothing
    size_t answer_length; // default strlen(answer)
    enum { HTTP_KEEP, HTTP_CLOSE, HTTP_RESET, HTTP_HANG } then; // after the answer; HANG lasts until http_script_stop
};

typedef void http_script_handler(void *context, const struct http_seen *seen, struct http_reply *reply);

struct http_script *http_script_start(http_script_handler *handler, void *context);
void http_script_stop(struct http_script *script);             // closes everything and waits for its threads
const char *http_script_url(const struct http_script *script); // "http://127.0.0.1:PORT"
size_t http_script_connections(struct http_script *script);    // accepted so far
size_t http_script_requests(struct http_script *script);
// The body of the request with that number, chunks put together; valid until stop. NULL: none. length may be NULL.
const char *http_script_body(struct http_script *script, size_t number, size_t *length);
// Waits until at least `requests` were seen (a deadline of 10 s, then aborts).
void http_script_wait(struct http_script *script, size_t requests);

#define HTTP_OK(body_length, body)                                                                                     \
    "HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {}\r\nContent-Length: " #body_length "\r\n\r\n" body

#endif
