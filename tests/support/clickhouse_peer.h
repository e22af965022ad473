// SPDX-License-Identifier: Apache-2.0
//
// A client of ClickHouse and the scripted server that it talks to (http_script.h), for unit tests. Fails the test where
// it cannot be had.
#ifndef TESTS_SUPPORT_CLICKHOUSE_PEER_H
#define TESTS_SUPPORT_CLICKHOUSE_PEER_H

#include "http_script.h"
#include "relay/clickhouse/clickhouse_client.h"

struct clickhouse_peer {
    struct http_script *http;
    char *urls[2];
    struct config config;
    struct stop stop;
    struct relay_context context;
    struct clickhouse_client *client;
};

// second_url: of another endpoint, NULL: there is none. The context is the handler's.
void clickhouse_peer_start(struct clickhouse_peer *peer, http_script_handler *handler, void *context,
    const char *second_url);
void clickhouse_peer_finish(struct clickhouse_peer *peer);

// What a present server says to the client's first questions: of its version, its identity, its settings. NULL: the
// request is none of them.
const char *clickhouse_peer_learned(const struct http_seen *seen);

// A good answer with that body; returns `answer`.
const char *clickhouse_peer_ok(char *answer, size_t room, const char *body);

#endif
