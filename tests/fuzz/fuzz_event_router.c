// SPDX-License-Identifier: Apache-2.0
//
// Any row under any template: a record or a reason, never a crash; topics are names that Kafka allows, an envelope is
// JSON. The input is a list of texts separated by 0xFF: template, event type, aggregate type, aggregate id, payload,
// metadata, additional. An empty one is NULL.
#include "relay/json/json_reader.h"
#include "relay/publish/event_router.h"
#include "relay/publish/event_template.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEMPLATE, TYPE, AGGREGATE_TYPE, AGGREGATE_ID, PAYLOAD, METADATA, ADDITIONAL, TEXTS };

static void split(const char *data, size_t size, struct text_view *texts)
{
    const char *at = data, *end = data + size;
    for (int i = 0; i < TEXTS && at < end; i++) {
        const char *stop = memchr(at, 0xFF, (size_t)(end - at));
        stop = stop ? stop : end;
        texts[i] = stop > at ? (struct text_view){at, (size_t)(stop - at)} : (struct text_view){0};
        at = stop < end ? stop + 1 : end;
    }
}

static void check_record(const struct routed_event *event, bool envelope)
{
    static struct json_paths *paths;
    static struct json_reader *reader;
    struct json_value none;
    paths = paths ? paths : json_paths_new(NULL);
    reader = reader ? reader : json_reader_new();
    assert(paths && reader && event_topic_check(event->topic, event->topic_length, NULL));
    assert(strlen(event->topic) == event->topic_length && event->size >= event->key.length + event->value.length);
    for (size_t i = 0; i < event->header_count; i++) {
        assert(event->headers[i].value.at && strlen(event->headers[i].name) == event->headers[i].name_length);
    }
    if (envelope && event->value.at) {
        enum json_result result = json_reader_read(reader, paths, event->value.at, event->value.length,
            event->value.length, &none, NULL);
        assert(result == JSON_OK || result == JSON_TOO_DEEP || result == JSON_BAD_UTF8);
    }
}

static void route(struct text_view *texts, const char *key, bool envelope, bool tombstone, bool bytes)
{
    static char topic[] = "{prefix}.{event_type:1}.events", prefix[] = "p", column[] = "c", alias[] = "alias",
                header[] = "traceparent";
    static char *headers[] = {header};
    static struct event_arena *arena;
    arena = arena ? arena : event_arena_new(1 << 20);
    struct config_additional additional = {column, envelope ? CONFIG_PLACE_ENVELOPE : CONFIG_PLACE_PARTITION, alias};
    char *key_copy = strdup(key);
    struct config_outbox outbox = {.publish = {.topic = topic,
                                       .prefix = prefix,
                                       .key = key_copy,
                                       .metadata_headers = {headers, 1},
                                       .value = envelope ? CONFIG_VALUE_ENVELOPE : CONFIG_VALUE_PAYLOAD,
                                       .tombstone_on_empty = tombstone,
                                       .additional = &additional,
                                       .additional_count = 1}};
    outbox.columns[CONFIG_COLUMN_PAYLOAD] = column;
    struct relay_error error;
    struct event_router *router = event_router_new(NULL, &outbox, &error);
    assert(arena && router);
    struct outbox_row row = {.seq = -5,
        .id = texts[AGGREGATE_ID],
        .key = texts[AGGREGATE_ID],
        .type = texts[TYPE],
        .aggregate_type = texts[AGGREGATE_TYPE],
        .payload = texts[PAYLOAD],
        .metadata = texts[METADATA],
        .payload_bytes = bytes,
        .created_at_kind = CREATED_AT_FINITE,
        .created_at_us = 1,
        .additional = &texts[ADDITIONAL]};
    uint32_t type = 1700;
    row.additional_types = &type;
    struct routed_event event;
    enum publish_reason reason;
    enum route_result result = event_router_route(router, &row, arena, &event, &reason, &error);
    assert((result == ROUTE_OK && reason == PUBLISH_REASON_NONE) ||
        (result == ROUTE_POISON && reason != PUBLISH_REASON_NONE && error.text[0] && !strchr(error.text, '\n')));
    if (result == ROUTE_OK) {
        check_record(&event, envelope);
    }
    event_router_free(router);
    event_arena_reset(arena);
    free(key_copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_view texts[TEXTS] = {0};
    if (size == 0) {
        return 0;
    }
    char *copy = malloc(size);
    assert(copy);
    memcpy(copy, data + 1, size - 1);
    split(copy, size - 1, texts);
    char *template = strndup(texts[TEMPLATE].at ? texts[TEMPLATE].at : "", texts[TEMPLATE].length);
    assert(template);
    if (event_template_check(template, NULL)) {
        route(texts, template, data[0] & 1, data[0] & 2, data[0] & 4);
    }
    free(template);
    free(copy);
    return 0;
}
