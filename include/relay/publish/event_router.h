// SPDX-License-Identifier: Apache-2.0
//
// Makes a Kafka record out of an outbox row, by the settings of one outbox: topic, key, value, headers, timestamp,
// partition, as docs/events.md says. Does no I/O, so what it refuses (a publish_reason) it would refuse again: such a
// row is poison, not a failure. A row may not go to a topic of the relay's own, whatever its template takes from it:
// who may insert could forge receipts of another outbox there. A router owns its compiled templates and a JSON reader:
// one thread at a time; the arena may be another one for each batch. It borrows the config_outbox, which must
// outlive it.
#ifndef RELAY_PUBLISH_EVENT_ROUTER_H
#define RELAY_PUBLISH_EVENT_ROUTER_H

#include "relay/config/config.h"
#include "relay/publish/event_arena.h"
#include "relay/publish/outbox_row.h"
#include "relay/publish/publish_reason.h"

#define EVENT_TOPIC_MAX 249 // Kafka's limit on a topic's name

struct event_header {
    const char *name; // NUL-terminated
    size_t name_length;
    struct text_view value; // never NULL
};

// Lives in the row's bytes, the arena and the router, as long as all three.
struct routed_event {
    const char *topic; // NUL-terminated
    size_t topic_length;
    struct text_view key;   // NULL: the record has no key, and no order
    struct text_view value; // NULL: a tombstone
    int64_t timestamp_ms;   // 0: the time of publishing (also what librdkafka makes of 0)
    int32_t partition;      // -1: by the key
    const struct event_header *headers;
    size_t header_count;
    size_t size; // event_record_size() of it
};

enum route_result { ROUTE_OK, ROUTE_POISON, ROUTE_FAILED };

struct event_router;

// config: names the relay's own topics (receipt_topic, dead_letter_topic); NULL: none. It is not kept. Errors: CONFIG
// (a template, `additional` that does not fit `value`), NO_MEMORY.
struct event_router *event_router_new(const struct config *config, const struct config_outbox *outbox,
    struct relay_error *error);
void event_router_free(struct event_router *router); // accepts NULL
// Whether the topic is one of the relay's own.
bool event_router_owns(const struct event_router *router, const char *topic);
// ROUTE_OK: *out is filled. ROUTE_POISON: *reason, and error (ROUTE, class poison) says which column, what, and what is
// expected, for the dead letter's text. ROUTE_FAILED: NO_MEMORY; the row is not to blame.
// Never TOO_LARGE, REFUSED or a partition beyond the topic's: the caller, who knows the limits, compares out->size.
enum route_result event_router_route(struct event_router *router, const struct outbox_row *row,
    struct event_arena *arena, struct routed_event *out, enum publish_reason *reason, struct relay_error *error);

// The most that the record takes as a record batch of its own, uncompressed: never less than what librdkafka compares
// with message.max.bytes and the broker with max.message.bytes.
size_t event_record_size(const struct routed_event *event);

// Whether Kafka allows the name: 1 to 249 of [a-zA-Z0-9._-], neither "." nor "..". error (ROUTE) says what is wrong.
bool event_topic_check(const char *topic, size_t length, struct relay_error *error);

#endif
