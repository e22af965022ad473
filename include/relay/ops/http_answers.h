// SPDX-License-Identifier: Apache-2.0
//
// What the HTTP server says: one function for each page, from snapshots (board, metrics, alerts); none waits for
// anything but short locks. No socket is touched here, so that the answers can be tested without one.
#ifndef RELAY_OPS_HTTP_ANSWERS_H
#define RELAY_OPS_HTTP_ANSWERS_H

#include "relay/config/context.h"
#include "relay/ops/alerts.h"

#include <stddef.h>

struct http_answer {
    unsigned status;
    const char *content_type; // static
    const char *policy;       // static Content-Security-Policy
    char *body;               // NULL: out of memory (status is 503 then)
    size_t length;
    bool is_static; // body is not to be freed
};

struct http_answers {
    const struct relay_context *context;
    struct alerts *alerts;       // may be NULL
    struct mono_time started_at; // of the process, for the uptime
};

// path: "/health", "/live", "/ready", "/metrics", "/"; anything else is answered by 404. The caller frees the body
// unless it is static.
struct http_answer http_answer_get(const struct http_answers *answers, const char *path);
struct http_answer http_answer_error(unsigned status, const char *sentence); // {"error": sentence}

#endif
