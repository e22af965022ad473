// SPDX-License-Identifier: Apache-2.0
//
// One request to one endpoint and the judgement of its answer: below endpoint choice and breaker, above HTTP. It builds
// the URL with the settings that the server knows and turns the answer into failure, error and blame. Internal to the
// client; a struct exchange belongs to the call that makes it.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_EXCHANGE_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_EXCHANGE_H

#include "relay/clickhouse/clickhouse_client.h"
#include "relay/clickhouse/clickhouse_endpoint.h"

struct clickhouse_exchange {
    const struct relay_context *context;
    const char *const *headers; // user, key, database
    const struct clickhouse_request *request;
    struct clickhouse_endpoint *endpoint;
    const char *statement; // NULL: GET /ping
    bool insert;           // the statement goes into the URL, the body is sent; else the statement is the body
    bool learns;           // a question that has no settings with it, since it is to find out which ones are known
    const struct iovec *body;
    size_t body_count;
    struct mono_time deadline;
    struct clickhouse_outcome *outcome; // query_id is set by the caller
    // results
    char *answer; // of a query that was done: malloc'd, the caller's
    size_t answer_length;
    bool from_clickhouse; // what was done: the answer had headers that only ClickHouse sends
    bool blames_endpoint; // the failure says something about the endpoint as a whole: the breaker counts it
};

bool clickhouse_exchange_run(struct clickhouse_exchange *exchange, struct relay_error *error);

#endif
