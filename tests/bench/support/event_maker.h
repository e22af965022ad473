// SPDX-License-Identifier: Apache-2.0
//
// Events for benchmarks, made from a number: the same number gives the same event in the outbox table (fill_outbox), in
// Kafka (produce_events) and in memory, byte for byte, so that a reference moves exactly what the relay moves. The
// payload is in the form in which PostgreSQL prints jsonb. Text comes from a list of words, so that it compresses about
// as real text does. No I/O; a made event owns its buffers and is filled again and again; one thread at a time.
#ifndef EVENT_MAKER_H
#define EVENT_MAKER_H

#include <stddef.h>
#include <stdint.h>

#define EVENT_HEADERS 7

struct event_shape {
    size_t payload_bytes; // of the JSON text; below 440 it has 4 members, from there on 13
    unsigned aggregates;  // how many different keys
    unsigned topics;      // how many different first parts of the event type
    int64_t epoch_us;     // created_at of event 0, in microseconds since 1970; each event is one later
};

struct made_event {
    uint64_t number;
    char id[37], aggregate_id[37], correlation_id[37];
    char event_type[32], created_at[32], seq[24];
    int64_t created_us;
    unsigned topic; // 0 .. topics - 1
    char *payload;  // NUL-terminated, with room behind it that may be read
    size_t payload_length, payload_room;
};

extern const char event_aggregate_type[];

void made_event_init(struct made_event *event, const struct event_shape *shape); // aborts when out of memory
void made_event_finish(struct made_event *event);
void made_event_fill(struct made_event *event, const struct event_shape *shape, uint64_t number);

// "<prefix>.<first part of the event type>.events", as the relay's default template makes it.
void event_topic_name(const char *prefix, unsigned topic, char *out, size_t room);
// The names of the headers and the event's values for them, in the relay's order. The texts belong to the event.
void made_event_headers(const struct made_event *event, const char *names[EVENT_HEADERS],
    const char *values[EVENT_HEADERS]);
// The shape that options of the command line describe (bench_program.h): --payload, --aggregates, --topics, --epoch.
struct event_shape event_shape_of_options(int argc, char **argv);

#endif
