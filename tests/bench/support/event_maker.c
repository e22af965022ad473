// SPDX-License-Identifier: Apache-2.0
//
// See event_maker.h.
#include "support/event_maker.h"

#include "support/bench_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FULL_FORM 440 // bytes of a payload from which on it has all members
#define SLACK     64  // bytes behind the payload that a JSON reader may look at

const char event_aggregate_type[] = "order";

static const char *const words[] = {"the", "order", "was", "changed", "by", "customer", "after", "delivery", "to",
    "another", "address", "and", "paid", "with", "a", "voucher", "which", "had", "been", "sent", "last", "week",
    "because", "of", "weather", "in", "northern", "mountains", "where", "nobody", "expected", "snow"};
#define WORDS (sizeof(words) / sizeof(words[0]))

static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static void make_uuid(char out[37], uint64_t seed)
{
    uint64_t a = mix(seed), b = mix(a);
    snprintf(out, 37, "%08x-%04x-4%03x-8%03x-%012llx", (unsigned)(a >> 32), (unsigned)(a >> 16 & 0xFFFF),
        (unsigned)(a & 0xFFF), (unsigned)(b >> 52), (unsigned long long)(b & 0xFFFFFFFFFFFF));
}

void made_event_init(struct made_event *event, const struct event_shape *shape)
{
    memset(event, 0, sizeof(*event));
    event->payload_room = shape->payload_bytes + 1024 + SLACK;
    event->payload = calloc(1, event->payload_room);
    if (event->payload == NULL) {
        bench_fail("out of memory");
    }
}

void made_event_finish(struct made_event *event)
{
    free(event->payload);
    event->payload = NULL;
}

// Words until `length` bytes are full. Ends in a letter, so that nothing has to be escaped.
static void fill_words(char *at, size_t length, uint64_t noise)
{
    size_t used = 0;
    while (used < length) {
        const char *word = words[noise % WORDS];
        noise = (noise >> 5) != 0 ? noise >> 5 : mix(used + length);
        for (const char *letter = word; *letter != '\0' && used < length; letter++) {
            at[used++] = *letter;
        }
        if (used < length) {
            at[used] = used + 1 == length ? 'x' : ' ';
            used++;
        }
    }
}

// The payload but its `note`: what stands before it and after it. Members are in jsonb's order, by length, then by
// bytes.
static void payload_frame(const struct made_event *event, size_t wanted, uint64_t noise, char head[512], char tail[512])
{
    if (wanted < FULL_FORM) {
        snprintf(head, 512, "{\"n\": %llu, \"at\": \"%s\", \"note\": \"", (unsigned long long)event->number,
            event->created_at);
        snprintf(tail, 512, "\", \"user\": %u}", (unsigned)(noise % 1000000));
        return;
    }
    snprintf(head, 512,
        "{\"n\": %llu, \"at\": \"%s\", \"id\": \"%s\", \"ok\": true, \"op\": \"insert\", \"meta\": {\"trace\": "
        "\"%016llx\", "
        "\"source\": \"web\", \"version\": 3}, \"note\": \"",
        (unsigned long long)event->number, event->created_at, event->id, (unsigned long long)noise);
    snprintf(tail, 512,
        "\", \"tags\": [\"red\", \"green\", \"%u\"], \"user\": %u, \"score\": %u.%u, \"amount\": \"%u.%02u\", "
        "\"address\": {\"zip\": "
        "\"%05u\", \"city\": \"Somewhere\", \"street\": \"Long Street %u\"}, \"currency\": \"EUR\"}",
        (unsigned)(noise % 50), (unsigned)(noise % 1000000), (unsigned)(noise % 100), (unsigned)(1 + noise % 9),
        (unsigned)(noise % 100000), (unsigned)(noise % 100), (unsigned)(noise % 100000), (unsigned)(noise % 200));
}

static void make_payload(struct made_event *event, size_t wanted, uint64_t noise)
{
    char head[512], tail[512];
    payload_frame(event, wanted, noise, head, tail);
    size_t before = strlen(head), after = strlen(tail);
    size_t note = wanted > before + after ? wanted - before - after : 1;
    memcpy(event->payload, head, before);
    fill_words(event->payload + before, note, noise);
    memcpy(event->payload + before + note, tail, after + 1);
    event->payload_length = before + note + after;
}

void made_event_fill(struct made_event *event, const struct event_shape *shape, uint64_t number)
{
    uint64_t noise = mix(number);
    event->number = number;
    event->created_us = shape->epoch_us + (int64_t)number;
    event->topic = (unsigned)(noise >> 8) % shape->topics;
    make_uuid(event->id, number);
    make_uuid(event->aggregate_id, 0x0A66000000000000u + noise % shape->aggregates);
    make_uuid(event->correlation_id, 0x0C02000000000000u + number / 3);
    snprintf(event->seq, sizeof(event->seq), "%llu", (unsigned long long)number + 1);
    if (event->topic == 0) {
        snprintf(event->event_type, sizeof(event->event_type), "order.created");
    } else {
        snprintf(event->event_type, sizeof(event->event_type), "order%u.created", event->topic);
    }
    time_t seconds = (time_t)(event->created_us / 1000000);
    struct tm broken;
    gmtime_r(&seconds, &broken);
    size_t used = strftime(event->created_at, sizeof(event->created_at), "%Y-%m-%dT%H:%M:%S", &broken);
    snprintf(event->created_at + used, sizeof(event->created_at) - used, ".%06dZ", (int)(event->created_us % 1000000));
    make_payload(event, shape->payload_bytes, noise);
}

void event_topic_name(const char *prefix, unsigned topic, char *out, size_t room)
{
    if (topic == 0) {
        snprintf(out, room, "%s.order.events", prefix);
    } else {
        snprintf(out, room, "%s.order%u.events", prefix, topic);
    }
}

void made_event_headers(const struct made_event *event, const char *names[EVENT_HEADERS],
    const char *values[EVENT_HEADERS])
{
    static const char *const all[EVENT_HEADERS] = {"event_id", "event_type", "aggregate_type", "aggregate_id",
        "created_at", "seq", "correlation_id"};
    const char *const theirs[EVENT_HEADERS] = {event->id, event->event_type, event_aggregate_type, event->aggregate_id,
        event->created_at, event->seq, event->correlation_id};
    memcpy(names, all, sizeof(all));
    memcpy(values, theirs, sizeof(theirs));
}

struct event_shape event_shape_of_options(int argc, char **argv)
{
    struct event_shape shape = {.payload_bytes = (size_t)bench_number(argc, argv, "--payload", 300),
        .aggregates = (unsigned)bench_number(argc, argv, "--aggregates", 10000),
        .topics = (unsigned)bench_number(argc, argv, "--topics", 1),
        .epoch_us = bench_number(argc, argv, "--epoch", 1767225600000000)};
    if (shape.aggregates == 0 || shape.topics == 0) {
        bench_fail("--aggregates and --topics must be at least 1");
    }
    return shape;
}
