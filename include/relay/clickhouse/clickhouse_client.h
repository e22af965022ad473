// SPDX-License-Identifier: Apache-2.0
//
// ClickHouse over its HTTP interface: queries that return a few rows, and INSERTs of one prepared body. A client is a
// list of endpoints (replicas of one shard) with a circuit breaker and a pool of kept-alive connections each. It never
// repeats a request by itself, neither here nor in libcurl: whoever calls knows what may be repeated. Every request has
// a deadline, a query_id and ends early when the relay stops. Success is: status 200, no X-ClickHouse-Exception-Code,
// for an INSERT an empty body; and an empty body has ClickHouse's headers, where the server sends any. User and
// password travel in headers only and appear in no URL, log or error. All functions may be called from any thread at
// the same time; strings and bodies are borrowed during the call only.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_CLIENT_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_CLIENT_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_error.h"
#include "relay/clickhouse/clickhouse_result.h"
#include "relay/clickhouse/clickhouse_text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define CLICKHOUSE_ANY_ENDPOINT  (-1)
#define CLICKHOUSE_QUERY_ID_ROOM 352 // the longest name their partitions: insert_query_id.h
#define CLICKHOUSE_REFUSAL_ROOM  280

struct clickhouse_client;

// Borrows the context for the client's life; its metrics, board and stop may be NULL (check, migrate, tests).
// Connects to nothing. Errors: CONFIG (a bad URL), NO_MEMORY, SYSTEM.
struct clickhouse_client *clickhouse_client_new(const struct relay_context *context, struct relay_error *error);
void clickhouse_client_free(struct clickhouse_client *client); // no call may be under way; accepts NULL
// New limits of the endpoints' breakers (reload).
void clickhouse_client_limit(struct clickhouse_client *client, const struct config_breaker *limits);

size_t clickhouse_client_endpoints(const struct clickhouse_client *client);
const char *clickhouse_client_url(const struct clickhouse_client *client,
    int endpoint); // for logs; owned by the client
// The sticky endpoint, which requests to any go to first; another one; and the next, if it is still this.
int clickhouse_client_preferred(const struct clickhouse_client *client);
void clickhouse_client_prefer(struct clickhouse_client *client, int endpoint);
void clickhouse_client_leave(struct clickhouse_client *client, int endpoint);

// For a question: a server that does not answer is left for another one after this.
#define CLICKHOUSE_QUESTION_LIMIT DURATION_S(30)
// For questions about the rows that a table has, which take the longer the slower the server is: that, or [clickhouse]
// request_timeout if it is longer.
struct duration clickhouse_client_question_limit(const struct clickhouse_client *client);

struct clickhouse_setting {
    const char *name;
    const char *value;
};

// What a request may say beyond its statement. {0} with endpoint = CLICKHOUSE_ANY_ENDPOINT is a good start.
struct clickhouse_request {
    int endpoint; // index to pin to, or CLICKHOUSE_ANY_ENDPOINT: the sticky one if healthy, else the next healthy
    const char *query_id; // unique for each attempt; NULL: one is made
    struct duration
        timeout;         // of the whole request; <= 0: [clickhouse] request_timeout. Stop's drain deadline cuts it too
    bool while_stopping; // do not end at the stop but at its drain deadline (the last inserts, kills)
    bool waits;          // the statement waits for others: that it takes too long says nothing about the endpoint
    bool inserts;        // a query that is an INSERT ... SELECT: it gets the settings of clickhouse_insert()
    bool body_is_lz4;    // of an INSERT: the pieces are one LZ4 frame already
    bool fresh_connection;                     // a retry: never over a kept connection
    const struct clickhouse_setting *settings; // only those that the server knows are sent
    size_t setting_count;
    size_t max_response; // bytes; 0: 16 MiB. More is an error (PROTOCOL)
};

// What became of a request; filled on success and failure.
struct clickhouse_outcome {
    enum clickhouse_failure failure;
    int exception_code; // 0: none
    bool in_view;       // the exception comes from a materialized view: the table has got the block before
    int http_status;    // 0: none
    int endpoint;       // -1: none was chosen
    bool wants_quorum;  // of an INSERT: acknowledged only when several replicas have it (insert_quorum)
    bool body_sent;     // at least one byte of the request left us
    char query_id[CLICKHOUSE_QUERY_ID_ROOM];
    struct duration elapsed;
    uint64_t bytes_sent; // of the body, as on the wire
    // The version that it was sent to, as it was known then; 0: nothing was.
    int server_major, server_minor;
    // Of BAD_ROW: the server's words, which may quote the row; for dead letters only.
    char refusal[CLICKHOUSE_REFUSAL_ROOM];
};

// Of a failure: the server has nothing of the request yet to start. A body that is too large for a proxy does not come
// to its end, and without that no block of rows is whole.
bool clickhouse_outcome_is_answered(const struct clickhouse_outcome *outcome);

// Runs a statement and takes its rows as text cells (TabSeparated, unescaped). The statement must not name a FORMAT.
// *result is the caller's (clickhouse_result_free); statements without rows give an empty one. result may be NULL.
// Errors: BREAKER_OPEN, STOPPED, CLICKHOUSE_UNREACHABLE (not sent), CLICKHOUSE_* by the exception code; a cut or a
// timeout is CLICKHOUSE_UNKNOWN. A caller whose statement only reads may treat UNKNOWN as retriable. outcome may be
// NULL.
bool clickhouse_query(struct clickhouse_client *client, const struct clickhouse_request *request, const char *statement,
    struct clickhouse_result **result, struct clickhouse_outcome *outcome, struct relay_error *error);

// Sends `statement` (in the URL) with the body: the bytes of the pieces one after another, compressed on the fly into
// one LZ4 frame where the config and the server allow it (a frame, by request->body_is_lz4, is unpacked on the fly
// where the server does not take it), chunked. Nothing of the body is copied as a whole. true: the server has
// acknowledged. false: outcome->failure says what may be done; error is as for clickhouse_query. async_insert=0 and the
// settings that keep one INSERT one block are always sent (see clickhouse_client.c); more by request->settings,
// insert_deduplication_token among them.
bool clickhouse_insert(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *statement, const struct iovec *body, size_t body_count, struct clickhouse_outcome *outcome,
    struct relay_error *error);

// GET /ping: is somebody there? Counts for the breaker.
bool clickhouse_ping(struct clickhouse_client *client, int endpoint, struct duration timeout,
    struct relay_error *error);
// Pings each endpoint whose last answer was none, as far as its breaker lets it: where the requests go to another one
// meanwhile, nobody else would find out that it is back.
void clickhouse_ask_endpoints_down(struct clickhouse_client *client, struct duration timeout);
// Pings each endpoint that no request was answered by, or failed at, for so long.
void clickhouse_ask_silent_endpoints(struct clickhouse_client *client, struct duration silence,
    struct duration timeout);
bool clickhouse_client_answers(const struct clickhouse_client *client);   // one of them did when last asked
bool clickhouse_client_held_back(const struct clickhouse_client *client); // no endpoint's breaker is closed
// KILL QUERY for every query whose id begins with prefix, on that endpoint, and waits until none is left or the
// timeout. *left (may be NULL): how many still run. true: none is left.
bool clickhouse_kill_query(struct clickhouse_client *client, int endpoint, const char *prefix, struct duration timeout,
    size_t *left, struct relay_error *error);
// The same for the queries of these ids, together. true: none is left.
bool clickhouse_kill_queries(struct clickhouse_client *client, int endpoint, const char *const *ids, size_t count,
    struct duration timeout, struct relay_error *error);

// What an endpoint is. Read at first contact, and again before the next request after one that failed without an answer
// of the server, after a setting was refused as unknown, and when its clock comes with another version.
struct clickhouse_server {
    char version[32];
    int major, minor;
    char host_name[128];
    char server_uuid[40];        // "" where the server has no serverUUID()
    struct duration clock_ahead; // the server's wall clock minus ours, when read
    struct duration clock_doubt; // the true value is within +- this (half of the round trip)
    bool has_input_function;     // INSERT ... SELECT ... FROM input(...): 19.10 and later
    bool has_deduplication_token;
    bool has_quorum; // our profile has insert_quorum: rows are seen before enough replicas have them
    bool says_who;   // its answers came with headers that only ClickHouse sends
};
// Copies. Contacts the endpoint if that has not happened yet. Errors as clickhouse_query.
bool clickhouse_server_info(struct clickhouse_client *client, int endpoint, struct duration timeout,
    struct clickhouse_server *server, struct relay_error *error);
// What is known of it, which may be old, without asking. false: nothing is yet.
bool clickhouse_server_known(struct clickhouse_client *client, int endpoint, struct clickhouse_server *server);
// It may be another version by now, and nothing has told: it is asked anew before the next request that it gets.
void clickhouse_server_doubt(struct clickhouse_client *client, int endpoint);
// A server's clock, measured once. Our wall clock may be set meanwhile: only `ahead` knows of it.
struct clickhouse_clock {
    struct mono_time at;   // when the answer came
    int64_t us;            // microseconds since 1970 there, at that moment
    struct duration doubt; // the true value is within +- this (half of the round trip)
    struct duration ahead; // of our wall clock
};
// Measures it anew (for deadlines in server time), and clock_ahead and clock_doubt with it.
bool clickhouse_server_clock(struct clickhouse_client *client, int endpoint, struct duration timeout,
    struct clickhouse_clock *measured, struct relay_error *error);
// Whether the server knows the setting (false where it was not contacted yet).
bool clickhouse_knows_setting(struct clickhouse_client *client, int endpoint, const char *name);
// The endpoint's breaker lets a request through now (or is due for a trial).
bool clickhouse_endpoint_usable(struct clickhouse_client *client, int endpoint);

#endif
