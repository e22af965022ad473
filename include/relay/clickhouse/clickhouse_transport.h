// SPDX-License-Identifier: Apache-2.0
//
// One HTTP request to one ClickHouse endpoint over libcurl: the sending, the waiting, the reading, nothing of what it
// means. A transport is one easy handle in a multi handle of its own, which keeps its connection alive between
// requests; one thread at a time. Once a request's body was read, no other connection is made for it, so libcurl can
// never send it again by itself, whole or in part.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_TRANSPORT_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_TRANSPORT_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/base/stop.h"
#include "relay/base/tls_trust.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct clickhouse_transport;

// How the body is sent. As one LZ4 frame: with Content-Encoding: lz4.
enum transport_body {
    TRANSPORT_BODY_AS_IT_IS,
    TRANSPORT_BODY_COMPRESS, // the pieces are compressed into a frame
    TRANSPORT_BODY_FRAME,    // the pieces are a frame
    TRANSPORT_BODY_UNPACK,   // the pieces are a frame; what is in it is sent
};

struct transport_request {
    const char *url;            // whole, without user and password
    const char *const *headers; // "Name: value", NULL-terminated; user and key are among them
    const struct iovec *body;   // NULL: a GET
    size_t body_count;
    enum transport_body body_form;
    bool fresh_connection;
    struct tls_files tls;
    struct duration connect_timeout;
    struct duration idle_limit; // a kept connection older than this is not used again
    struct mono_time deadline;
    const struct stop *stop; // may be NULL
    bool while_stopping;     // the stop does not end the request; its drain deadline does
    const struct clock *clock;
    size_t max_response;
};

enum transport_end {
    TRANSPORT_ANSWERED,  // a whole answer was read
    TRANSPORT_NOT_SENT,  // no connection, so nothing left us
    TRANSPORT_CUT,       // the connection broke after something had been sent
    TRANSPORT_TIMED_OUT, // the deadline passed
    TRANSPORT_STOPPED,   // the relay stops
    TRANSPORT_TOO_LARGE, // the answer is longer than max_response
    TRANSPORT_NO_MEMORY,
};

struct transport_answer {
    enum transport_end end;
    int status;             // 0: none was read
    int exception_code;     // X-ClickHouse-Exception-Code, 0: none
    int keep_alive_seconds; // of the Keep-Alive header, 0: none
    bool clickhouse;        // a header that only ClickHouse sends was seen
    char server_name[64];   // X-ClickHouse-Server-Display-Name, cut; "": none
    bool sent;              // at least one byte of the request left us
    uint64_t bytes_sent;    // of the body, on the wire
    char *body;             // malloc'd, the caller frees; NUL-terminated; NULL when empty
    size_t body_length;
    char problem[256]; // one line about an end other than ANSWERED; no secret
};

struct clickhouse_transport *clickhouse_transport_new(struct relay_error *error);
void clickhouse_transport_free(struct clickhouse_transport *transport); // closes the connection; accepts NULL
// Always fills answer.
void clickhouse_transport_run(struct clickhouse_transport *transport, const struct transport_request *request,
    struct transport_answer *answer);

#endif
