// SPDX-License-Identifier: Apache-2.0
//
// What a client keeps for one URL: the circuit breaker, the pool of idle transports, and what the server said of itself
// (version, settings, clock). Belongs to clickhouse_client, which is the only one to use it. Functions may be called
// from any thread; everything that changes is under one short lock that is never held over a request.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_ENDPOINT_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_ENDPOINT_H

#include "relay/base/circuit_breaker.h"
#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/clickhouse/clickhouse_transport.h"

struct clickhouse_endpoint;

// url: checked (http or https, a host, no user, no query) and copied. Errors: CONFIG, NO_MEMORY, SYSTEM.
struct clickhouse_endpoint *clickhouse_endpoint_new(const struct relay_context *context, const char *url,
    struct relay_error *error);
void clickhouse_endpoint_free(struct clickhouse_endpoint *endpoint);             // accepts NULL
const char *clickhouse_endpoint_url(const struct clickhouse_endpoint *endpoint); // without a slash at its end
struct circuit_breaker *clickhouse_endpoint_breaker(struct clickhouse_endpoint *endpoint);
void clickhouse_endpoint_limit(struct clickhouse_endpoint *endpoint, const struct config_breaker *limits);

// Takes an idle transport or makes one. NULL: NO_MEMORY.
struct clickhouse_transport *clickhouse_endpoint_take(struct clickhouse_endpoint *endpoint, struct relay_error *error);
// Gives it back; it is kept for the next request where `keep` and the pool has room.
void clickhouse_endpoint_give(struct clickhouse_endpoint *endpoint, struct clickhouse_transport *transport, bool keep);

// How long a kept connection may lie idle: a second below what the server said, or a careful guess.
struct duration clickhouse_endpoint_idle_limit(struct clickhouse_endpoint *endpoint);
// server_name: as the answer gives it, "" for none. A url that several servers answer under is told in the log, once.
void clickhouse_endpoint_heard(struct clickhouse_endpoint *endpoint, int keep_alive_seconds, const char *server_name);
// What happened goes to the status board: problem NULL = it answered.
void clickhouse_endpoint_report(struct clickhouse_endpoint *endpoint, const char *problem);
bool clickhouse_endpoint_reported_down(struct clickhouse_endpoint *endpoint);
bool clickhouse_endpoint_answers(struct clickhouse_endpoint *endpoint); // false before the first answer, too
// Nothing was reported for so long, and of several callers this one is to ask.
bool clickhouse_endpoint_take_silence(struct clickhouse_endpoint *endpoint, struct duration silence);

// What is known of the server. false before clickhouse_endpoint_learn (*server is zero), and after
// clickhouse_endpoint_forget or when the breaker was open (it is what was known before).
bool clickhouse_endpoint_server(struct clickhouse_endpoint *endpoint, struct clickhouse_server *server);
// Keeps version and the like, and the names of all settings (rows of name and, of some, value, sorted by name). Takes
// `settings` over.
void clickhouse_endpoint_learn(struct clickhouse_endpoint *endpoint, const struct clickhouse_server *server,
    struct clickhouse_result *settings);
void clickhouse_endpoint_learn_clock(struct clickhouse_endpoint *endpoint, struct duration ahead,
    struct duration doubt);
// It may be another version, or something else has answered: to be learnt anew before the next request. Until then
// requests under way go on with what was known.
void clickhouse_endpoint_forget(struct clickhouse_endpoint *endpoint);
// An answer without ClickHouse's headers is not the server's. false: it is known to send none, or a proxy strips them.
bool clickhouse_endpoint_says_who(struct clickhouse_endpoint *endpoint);
bool clickhouse_endpoint_knows(struct clickhouse_endpoint *endpoint, const char *setting);

#endif
