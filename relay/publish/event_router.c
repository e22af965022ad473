// SPDX-License-Identifier: Apache-2.0
//
// One row: partition, topic, key, value, headers, timestamp, in this order, and the first thing that is wrong decides.
// What each rule means for consumers is in docs/events.md. Metadata and, for an envelope, the payload are read by the
// JSON reader, which costs less than a microsecond; nothing is allocated but from the arena.
#include "relay/publish/event_router.h"

#include "relay/base/clock.h"
#include "relay/base/name_set.h"
#include "relay/base/utf8.h"
#include "relay/json/json_reader.h"
#include "relay/publish/event_envelope.h"
#include "relay/publish/event_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const own_headers[] = {"event_id", "event_type", "aggregate_type", "aggregate_id", "created_at",
    "seq"};
#define OWN_HEADERS (sizeof(own_headers) / sizeof(own_headers[0]))

#define RECORD_OVERHEAD (61 + 36) // a batch's header; the most that lengths, deltas and counts of a record take
#define HEADER_OVERHEAD 10        // the most that the two lengths of a header take

// RFC 3339 has years of four digits; PostgreSQL's first year after Christ is 1.
#define CREATED_AT_FIRST (-62135596800LL * 1000000)
#define CREATED_AT_LAST  (253402300800LL * 1000000 - 1)

struct event_router {
    const struct config_outbox *outbox;
    const struct config_publish *publish;
    struct event_template *topic, *key;
    struct name_set own_topics; // the relay's, of all outboxes
    struct json_reader *reader;
    struct json_paths *metadata_paths, *no_paths;
    size_t *metadata_values; // for each of metadata_headers, its place in values
    struct json_value *values;
    size_t max_headers;
};

// --- set up ---

static bool check_header_name(const struct config_publish *publish, const char *name, size_t metadata,
    size_t additional, struct relay_error *error)
{
    for (size_t i = 0; i < OWN_HEADERS; i++) {
        if (strcmp(own_headers[i], name) == 0) {
            return error_set(error, RELAY_ERROR_CONFIG, "the header %s is the relay's own; give it another name", name);
        }
    }
    for (size_t i = 0; i < metadata; i++) {
        if (strcmp(publish->metadata_headers.items[i], name) == 0) {
            return error_set(error, RELAY_ERROR_CONFIG, "two headers are called %s", name);
        }
    }
    for (size_t i = 0; i < additional; i++) {
        const struct config_additional *other = &publish->additional[i];
        if (other->placement == CONFIG_PLACE_HEADER && strcmp(other->alias, name) == 0) {
            return error_set(error, RELAY_ERROR_CONFIG, "two headers are called %s", name);
        }
    }
    return *name != '\0' || error_set(error, RELAY_ERROR_CONFIG, "a header without a name");
}

static bool check_member_name(const struct config_publish *publish, size_t index, struct relay_error *error)
{
    const char *name = publish->additional[index].alias;
    if (publish->value != CONFIG_VALUE_ENVELOPE) {
        return error_set(error, RELAY_ERROR_CONFIG, "additional: %s:envelope needs value = envelope",
            publish->additional[index].column);
    }
    if (event_envelope_has(name)) {
        return error_set(error, RELAY_ERROR_CONFIG,
            "additional: the envelope's member %s is the relay's own; give it another name", name);
    }
    for (size_t i = 0; i < index; i++) {
        if (publish->additional[i].placement == CONFIG_PLACE_ENVELOPE &&
            strcmp(publish->additional[i].alias, name) == 0) {
            return error_set(error, RELAY_ERROR_CONFIG, "additional: two members of the envelope are called %s", name);
        }
    }
    return true;
}

static bool check_additional(const struct config_publish *publish, struct relay_error *error)
{
    size_t partitions = 0;
    for (size_t i = 0; i < publish->additional_count; i++) {
        switch (publish->additional[i].placement) {
        case CONFIG_PLACE_HEADER:
            if (!check_header_name(publish, publish->additional[i].alias, publish->metadata_headers.count, i, error)) {
                return error_prefix(error, "additional");
            }
            break;
        case CONFIG_PLACE_ENVELOPE:
            if (!check_member_name(publish, i, error)) {
                return false;
            }
            break;
        case CONFIG_PLACE_PARTITION:
            if (++partitions > 1) {
                return error_set(error, RELAY_ERROR_CONFIG, "additional: two columns that name the partition");
            }
            break;
        }
    }
    return true;
}

// `$["name"]`, whatever stands in name.
static bool add_metadata_path(struct event_router *router, size_t index, const char *name, struct relay_error *error)
{
    char *path = malloc(2 * strlen(name) + 6);
    if (!path) {
        return error_no_memory(error, "compiling metadata_headers");
    }
    char *at = stpcpy(path, "$[\"");
    for (; *name; name++) {
        if (*name == '"' || *name == '\\') {
            *at++ = '\\';
        }
        *at++ = *name;
    }
    at = stpcpy(at, "\"]");
    bool added = json_paths_add(router->metadata_paths, path, (size_t)(at - path), &router->metadata_values[index],
        error);
    free(path);
    return added || error_prefix(error, "metadata_headers");
}

static bool set_up_metadata(struct event_router *router, struct relay_error *error)
{
    const struct config_list *names = &router->publish->metadata_headers;
    router->metadata_values = calloc(names->count + 1, sizeof(*router->metadata_values));
    router->values = calloc(names->count + 1, sizeof(*router->values));
    if (!router->metadata_values || !router->values) {
        return error_no_memory(error, "compiling metadata_headers");
    }
    for (size_t i = 0; i < names->count; i++) {
        if (!check_header_name(router->publish, names->items[i], i, 0, error)) {
            return error_prefix(error, "metadata_headers");
        }
        if (!add_metadata_path(router, i, names->items[i], error)) {
            return false;
        }
    }
    return true;
}

static bool add_own_topics(struct event_router *router, const struct config *config, struct relay_error *error)
{
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (!name_set_add(&router->own_topics, config->outboxes[i].publish.receipt_topic, error)) {
            return false;
        }
    }
    const char *letters = config->insert.dead_letter_topic;
    return letters[0] == '\0' || name_set_add(&router->own_topics, letters, error);
}

struct event_router *event_router_new(const struct config *config, const struct config_outbox *outbox,
    struct relay_error *error)
{
    const struct config_publish *publish = &outbox->publish;
    struct event_router *router = calloc(1, sizeof(*router));
    if (!router) {
        error_no_memory(error, "making a router");
        return NULL;
    }
    router->outbox = outbox;
    router->publish = publish;
    router->max_headers = OWN_HEADERS + publish->metadata_headers.count + publish->additional_count;
    router->topic = event_template_new(publish->topic, publish->prefix, error);
    if (!router->topic) {
        error_prefix(error, "topic");
        goto failed;
    }
    router->key = event_template_new(publish->key, publish->prefix, error);
    if (!router->key) {
        error_prefix(error, "key");
        goto failed;
    }
    router->metadata_paths = json_paths_new(error);
    router->no_paths = router->metadata_paths ? json_paths_new(error) : NULL;
    if (!router->no_paths) {
        goto failed;
    }
    router->reader = json_reader_new();
    if (!router->reader) {
        error_no_memory(error, "making a JSON reader");
        goto failed;
    }
    if (!set_up_metadata(router, error) || !check_additional(publish, error) ||
        (config != NULL && !add_own_topics(router, config, error))) {
        goto failed;
    }
    return router;

failed:
    event_router_free(router);
    return NULL;
}

bool event_router_owns(const struct event_router *router, const char *topic)
{
    return name_set_has(&router->own_topics, topic);
}

void event_router_free(struct event_router *router)
{
    if (router) {
        event_template_free(router->topic);
        event_template_free(router->key);
        name_set_finish(&router->own_topics);
        json_paths_free(router->metadata_paths);
        json_paths_free(router->no_paths);
        json_reader_free(router->reader);
        free(router->metadata_values);
        free(router->values);
        free(router);
    }
}

// --- one row ---

// What the steps below work on.
struct routing {
    struct event_router *router;
    const struct outbox_row *row;
    struct event_arena *arena;
    struct routed_event *out;
    struct event_header *headers;
    enum publish_reason *reason;
    struct relay_error *error;
    struct text_view created_at; // RFC 3339; NULL where it has none
};

static enum route_result no_memory(struct routing *routing)
{
    error_no_memory(routing->error, "making a record");
    return ROUTE_FAILED;
}

static enum route_result poison(struct routing *routing, enum publish_reason reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum route_result poison(struct routing *routing, enum publish_reason reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_set_v(routing->error, RELAY_ERROR_ROUTE, format, arguments);
    va_end(arguments);
    *routing->reason = reason;
    return ROUTE_POISON;
}

// The beginning of a text from outside, for a message.
#define SHOWN 64
static const char *shown(struct text_view text, char out[SHOWN + 4])
{
    char whole[SHOWN + 1];
    size_t length = text.length;
    if (length > SHOWN) {
        length = SHOWN;
        while (length > 0 && ((unsigned char)text.at[length] & 0xC0) == 0x80) {
            length--; // not in the middle of a character
        }
    }
    memcpy(whole, text.at, length);
    whole[length] = '\0';
    size_t used = utf8_clean(out, SHOWN + 1, whole);
    if (text.length > SHOWN) {
        memcpy(out + used, "...", 4);
    }
    return out;
}

// The integer in a column's text; false: it is none, or below 0, or above what Kafka's partitions can be.
static bool parse_partition(struct text_view text, int32_t *partition)
{
    int64_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        value = value * 10 + (text.at[i] - '0');
        if (value > INT32_MAX) {
            return false;
        }
    }
    *partition = (int32_t)value;
    return text.length > 0;
}

static enum route_result make_partition(struct routing *routing)
{
    const struct config_publish *publish = routing->router->publish;
    routing->out->partition = -1;
    for (size_t i = 0; i < publish->additional_count; i++) {
        struct text_view text;
        if (publish->additional[i].placement != CONFIG_PLACE_PARTITION || !(text = routing->row->additional[i]).at) {
            continue;
        }
        if (!parse_partition(text, &routing->out->partition)) {
            char excerpt[SHOWN + 4];
            return poison(routing, PUBLISH_REASON_BAD_PARTITION,
                "column %s is '%s'; a partition is an integer from 0 on", publish->additional[i].column,
                shown(text, excerpt));
        }
    }
    return ROUTE_OK;
}

static bool topic_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
        c == '-';
}

bool event_topic_check(const char *topic, size_t length, struct relay_error *error)
{
    struct text_view view = {topic, length};
    char excerpt[SHOWN + 4];
    for (size_t i = 0; i < length; i++) {
        if (topic_character(topic[i])) {
            continue;
        }
        struct text_view bad = {topic + i, utf8_character(topic + i, length - i)};
        bad.length = bad.length ? bad.length : 1;
        char character[SHOWN + 4];
        return error_set(error, RELAY_ERROR_ROUTE,
            "topic '%s' has '%s' at byte %zu; Kafka allows letters a-z and A-Z, digits, '.', '_' and '-'",
            shown(view, excerpt), shown(bad, character), i + 1);
    }
    if (length == 0 || length > EVENT_TOPIC_MAX) {
        return error_set(error, RELAY_ERROR_ROUTE, "topic '%s' has %zu characters; Kafka allows 1 to %d",
            shown(view, excerpt), length, EVENT_TOPIC_MAX);
    }
    if (length <= 2 && topic[0] == '.' && topic[length - 1] == '.') {
        return error_set(error, RELAY_ERROR_ROUTE, "topic '%s' is a name that Kafka does not allow",
            shown(view, excerpt));
    }
    return true;
}

// Why a template gave nothing, as poison with a sentence.
static enum route_result template_poison(struct routing *routing, enum publish_reason reason, const char *setting,
    const char *template, enum template_result result, const char *what, unsigned part)
{
    char excerpt[SHOWN + 4];
    if (result == TEMPLATE_NO_PART) {
        return poison(routing, reason, "event_type '%s' has no part %u between dots, or an empty one; %s = %s needs it",
            shown(routing->row->type, excerpt), part, setting, template);
    }
    return poison(routing, reason, "%s is %s; %s = %s needs it", what, result == TEMPLATE_NULL ? "NULL" : "empty",
        setting, template);
}

static enum route_result make_topic(struct routing *routing)
{
    const char *written = routing->router->publish->topic, *what;
    struct text_view topic;
    unsigned part;
    enum template_result result = event_template_render(routing->router->topic, routing->row, routing->arena, &topic,
        &what, &part);
    if (result == TEMPLATE_NO_MEMORY) {
        return no_memory(routing);
    }
    if (result != TEMPLATE_OK || what) {
        return template_poison(routing, result == TEMPLATE_NULL ? PUBLISH_REASON_NULL_TYPE : PUBLISH_REASON_BAD_TOPIC,
            "topic", written, result, what, part);
    }
    if (!event_topic_check(topic.at, topic.length, routing->error)) {
        *routing->reason = PUBLISH_REASON_BAD_TOPIC;
        return ROUTE_POISON;
    }
    char *name = event_arena_alloc(routing->arena, topic.length + 1);
    if (!name) {
        return no_memory(routing);
    }
    memcpy(name, topic.at, topic.length);
    name[topic.length] = '\0';
    if (event_router_owns(routing->router, name)) {
        return poison(routing, PUBLISH_REASON_BAD_TOPIC,
            "topic '%s' is the relay's own (receipt_topic or dead_letter_topic), and no event may go there", name);
    }
    routing->out->topic = name;
    routing->out->topic_length = topic.length;
    return ROUTE_OK;
}

static enum route_result make_key(struct routing *routing)
{
    const char *what;
    unsigned part;
    enum template_result result = event_template_render(routing->router->key, routing->row, routing->arena,
        &routing->out->key, &what, &part);
    switch (result) {
    case TEMPLATE_OK: return ROUTE_OK;
    case TEMPLATE_NULL: routing->out->key = (struct text_view){0}; return ROUTE_OK;
    case TEMPLATE_NO_MEMORY: return no_memory(routing);
    case TEMPLATE_NO_PART: break;
    }
    return template_poison(routing, PUBLISH_REASON_BAD_KEY, "key", routing->router->publish->key, result, what, part);
}

// What tombstone_on_empty takes for empty: SQL NULL, JSON null, or only blanks (in a column that is not JSON). Of bytes
// only SQL NULL: a Protobuf message may have no bytes, or look like blanks, and deletes nothing.
static bool is_empty(const struct outbox_row *row)
{
    static const char blanks[] = " \t\r\n";
    struct text_view text = row->payload;
    if (row->payload_bytes) {
        return !text.at;
    }
    size_t first = 0, last = text.length;
    while (first < last && memchr(blanks, text.at[first], 4)) {
        first++;
    }
    while (last > first && memchr(blanks, text.at[last - 1], 4)) {
        last--;
    }
    return first == last || (last - first == 4 && memcmp(text.at + first, "null", 4) == 0);
}

static enum route_result make_envelope(struct routing *routing)
{
    struct event_router *router = routing->router;
    struct text_view payload = routing->row->payload;
    const char *why;
    if (payload.at) {
        enum json_result result = json_reader_read(router->reader, router->no_paths, payload.at, payload.length,
            payload.length, router->values, &why);
        if (payload.length > JSON_READER_KEEPS) {
            json_reader_trim(router->reader);
        }
        switch (result) {
        case JSON_OK: break;
        case JSON_NO_MEMORY: return no_memory(routing);
        case JSON_BAD:
        case JSON_BAD_UTF8:
        case JSON_TOO_DEEP:
            return poison(routing, PUBLISH_REASON_BAD_PAYLOAD,
                "column %s, %zu bytes: %s; an envelope needs JSON of at most %d levels",
                router->outbox->columns[CONFIG_COLUMN_PAYLOAD], payload.length, why, JSON_MAX_DEPTH);
        }
    }
    return event_envelope_make(router->publish, routing->row, routing->created_at, routing->arena, &routing->out->value)
        ? ROUTE_OK
        : no_memory(routing);
}

static enum route_result make_value(struct routing *routing)
{
    const struct config_publish *publish = routing->router->publish;
    struct text_view payload = routing->row->payload;
    if (publish->tombstone_on_empty && is_empty(routing->row)) {
        routing->out->value = (struct text_view){0};
        if (!routing->out->key.at) {
            return poison(routing, PUBLISH_REASON_NO_KEY,
                "the payload is empty and the key NULL: a tombstone needs a key; key = %s", publish->key);
        }
        return ROUTE_OK;
    }
    if (publish->value == CONFIG_VALUE_ENVELOPE) {
        return make_envelope(routing);
    }
    // SQL NULL without tombstone_on_empty: not a tombstone, which would delete; and JSON, as every other value. Of a
    // bytea no bytes, since `null` is nothing that Protobuf or Avro could read.
    routing->out->value = payload.at  ? payload
        : routing->row->payload_bytes ? (struct text_view){"", 0}
                                      : (struct text_view){"null", 4};
    return ROUTE_OK;
}

static bool make_created_at(struct routing *routing)
{
    const struct outbox_row *row = routing->row;
    int64_t us = row->created_at_us;
    bool finite = row->created_at_kind == CREATED_AT_FINITE;
    routing->out->timestamp_ms = finite && us >= 1000 ? us / 1000 : 0;
    if (!finite || us < CREATED_AT_FIRST || us > CREATED_AT_LAST) {
        return true;
    }
    char *text = event_arena_alloc(routing->arena, WALL_TIME_TEXT);
    if (!text) {
        return false;
    }
    routing->created_at = (struct text_view){text, wall_time_format((struct wall_time){us}, text)};
    return true;
}

static void add_header(struct routing *routing, const char *name, struct text_view value)
{
    if (value.at) {
        routing->headers[routing->out->header_count++] = (struct event_header){name, strlen(name), value};
    }
}

static bool add_seq(struct routing *routing)
{
    char *text = event_arena_alloc(routing->arena, 24);
    if (!text) {
        return false;
    }
    char digits[24], *at = digits + sizeof(digits);
    uint64_t rest = routing->row->seq < 0 ? -(uint64_t)routing->row->seq : (uint64_t)routing->row->seq;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (routing->row->seq < 0) {
        *--at = '-';
    }
    size_t length = (size_t)(digits + sizeof(digits) - at);
    memcpy(text, at, length);
    add_header(routing, "seq", (struct text_view){text, length});
    return true;
}

// Metadata that is no JSON object has no members, and a member that is null no header: neither stops an event.
static bool add_metadata(struct routing *routing)
{
    struct event_router *router = routing->router;
    const struct config_list *names = &router->publish->metadata_headers;
    struct text_view metadata = routing->row->metadata;
    if (names->count == 0 || !metadata.at) {
        return true;
    }
    enum json_result result = json_reader_read(router->reader, router->metadata_paths, metadata.at, metadata.length,
        metadata.length, router->values, NULL);
    if (result == JSON_NO_MEMORY) {
        return false;
    }
    for (size_t i = 0; result == JSON_OK && i < names->count; i++) {
        const struct json_value *value = &router->values[router->metadata_values[i]];
        if (value->kind == JSON_KIND_MISSING || value->kind == JSON_KIND_NULL) {
            continue;
        }
        char *copy = event_arena_alloc(routing->arena, value->length); // the reader's memory is good for one document
        if (!copy) {
            return false;
        }
        memcpy(copy, value->text, value->length);
        add_header(routing, names->items[i], (struct text_view){copy, value->length});
    }
    if (metadata.length > JSON_READER_KEEPS) {
        json_reader_trim(router->reader);
    }
    return true;
}

static bool make_headers(struct routing *routing)
{
    const struct outbox_row *row = routing->row;
    const struct config_publish *publish = routing->router->publish;
    routing->headers = event_arena_alloc(routing->arena, routing->router->max_headers * sizeof(*routing->headers));
    if (!routing->headers) {
        return false;
    }
    routing->out->headers = routing->headers;
    add_header(routing, "event_id", row->id);
    add_header(routing, "event_type", row->type);
    add_header(routing, "aggregate_type", row->aggregate_type);
    add_header(routing, "aggregate_id", row->key);
    add_header(routing, "created_at", routing->created_at);
    if (!add_seq(routing) || !add_metadata(routing)) {
        return false;
    }
    for (size_t i = 0; i < publish->additional_count; i++) {
        if (publish->additional[i].placement == CONFIG_PLACE_HEADER) {
            add_header(routing, publish->additional[i].alias, row->additional[i]);
        }
    }
    return true;
}

enum route_result event_router_route(struct event_router *router, const struct outbox_row *row,
    struct event_arena *arena, struct routed_event *out, enum publish_reason *reason, struct relay_error *error)
{
    struct routing routing =
        {.router = router, .row = row, .arena = arena, .out = out, .reason = reason, .error = error};
    *out = (struct routed_event){0};
    *reason = PUBLISH_REASON_NONE;
    if (!make_created_at(&routing)) {
        return no_memory(&routing);
    }
    static enum route_result (*const steps[])(struct routing *) = {make_partition, make_topic, make_key, make_value};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        enum route_result result = steps[i](&routing);
        if (result != ROUTE_OK) {
            return result;
        }
    }
    if (!make_headers(&routing)) {
        return no_memory(&routing);
    }
    out->size = event_record_size(out);
    return ROUTE_OK;
}

size_t event_record_size(const struct routed_event *event)
{
    size_t size = RECORD_OVERHEAD + event->key.length + event->value.length;
    for (size_t i = 0; i < event->header_count; i++) {
        size += HEADER_OVERHEAD + event->headers[i].name_length + event->headers[i].value.length;
    }
    return size;
}
