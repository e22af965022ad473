// SPDX-License-Identifier: Apache-2.0
//
// GET /health, /live, /ready, /metrics and / (a status page), over libmicrohttpd: one thread, bounded connections,
// short timeouts, nothing read from a body. Handlers read snapshots (board, metrics, alerts) and never wait for a pipe.
// Logs "http.listening" with the field "address" (host:port, the real port where 0 was asked for).
#ifndef RELAY_OPS_HTTP_SERVER_H
#define RELAY_OPS_HTTP_SERVER_H

#include "relay/config/context.h"
#include "relay/ops/alerts.h"

struct http_server;

// alerts may be NULL. [http] listen "" is no server: returns NULL with *error NONE. Errors: CONFIG, SYSTEM (address in
// use, a name that cannot be looked up now).
struct http_server *http_server_start(const struct relay_context *context, struct alerts *alerts,
    struct relay_error *error);
void http_server_stop(struct http_server *server); // accepts NULL; closes all connections

#endif
