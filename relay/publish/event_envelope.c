// SPDX-License-Identifier: Apache-2.0
//
// Written twice by the same code: once to count the bytes, once into exactly so many.
#include "relay/publish/event_envelope.h"

#include "relay/json/json_walk.h"

#include <stdio.h>
#include <string.h>

struct sink {
    char *at; // NULL: only counting
    size_t length;
};

static void put(struct sink *sink, const char *text, size_t length)
{
    if (sink->at) {
        memcpy(sink->at + sink->length, text, length);
    }
    sink->length += length;
}

static void put_string(struct sink *sink, struct text_view text)
{
    static const char short_escapes[] = "btn?fr"; // of 0x08 to 0x0D
    put(sink, "\"", 1);
    size_t plain = 0; // start of what needs no escape
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        put(sink, text.at + plain, i - plain);
        plain = i + 1;
        char escape[7] = {'\\', (char)c};
        size_t length = 2;
        if (c >= 0x08 && c <= 0x0D && c != 0x0B) {
            escape[1] = short_escapes[c - 0x08];
        } else if (c < 0x20) {
            length = (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c);
        }
        put(sink, escape, length);
    }
    put(sink, text.at + plain, text.length - plain);
    put(sink, "\"", 1);
}

static void put_name(struct sink *sink, const char *name)
{
    put(sink, sink->length == 0 ? "{" : ",", 1);
    put_string(sink, (struct text_view){name, strlen(name)});
    put(sink, ":", 1);
}

static void put_text(struct sink *sink, const char *name, struct text_view text)
{
    put_name(sink, name);
    if (text.at) {
        put_string(sink, text);
    } else {
        put(sink, "null", 4);
    }
}

static void put_raw(struct sink *sink, const char *name, struct text_view text)
{
    put_name(sink, name);
    put(sink, text.at ? text.at : "null", text.at ? text.length : 4);
}

// OIDs of pg_type.dat, fixed for ever.
enum {
    OID_BOOL = 16,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_JSON = 114,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
    OID_NUMERIC = 1700,
    OID_JSONB = 3802
};

static void put_typed(struct sink *sink, const char *name, struct text_view text, uint32_t type)
{
    bool raw = false;
    switch (type) {
    case OID_BOOL:
        if (text.at) {
            text = text.length > 0 && text.at[0] == 't' ? (struct text_view){"true", 4}
                                                        : (struct text_view){"false", 5};
        }
        raw = true;
        break;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_FLOAT4:
    case OID_FLOAT8:
    case OID_NUMERIC:
        raw = text.at && json_is_number(text.at, text.length); // not NaN, not Infinity
        break;
    case OID_JSON:
    case OID_JSONB: raw = true; break;
    default: break;
    }
    if (raw) {
        put_raw(sink, name, text);
    } else {
        put_text(sink, name, text);
    }
}

static void put_envelope(struct sink *sink, const struct config_publish *publish, const struct outbox_row *row,
    struct text_view created_at)
{
    char seq[24];
    int digits = snprintf(seq, sizeof(seq), "%lld", (long long)row->seq);
    put_text(sink, "id", row->id);
    put_text(sink, "type", row->type);
    put_text(sink, "aggregate_type", row->aggregate_type);
    put_text(sink, "aggregate_id", row->key);
    put_text(sink, "created_at", created_at);
    put_raw(sink, "seq", (struct text_view){seq, (size_t)digits});
    for (size_t i = 0; i < publish->additional_count; i++) {
        if (publish->additional[i].placement == CONFIG_PLACE_ENVELOPE) {
            put_typed(sink, publish->additional[i].alias, row->additional[i],
                row->additional_types ? row->additional_types[i] : 0);
        }
    }
    put_raw(sink, "payload", row->payload);
    put(sink, "}", 1);
}

bool event_envelope_has(const char *name)
{
    static const char *const names[] = {"id", "type", "aggregate_type", "aggregate_id", "created_at", "seq", "payload"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

bool event_envelope_make(const struct config_publish *publish, const struct outbox_row *row,
    struct text_view created_at, struct event_arena *arena, struct text_view *out)
{
    struct sink sink = {0};
    put_envelope(&sink, publish, row, created_at);
    sink = (struct sink){.at = event_arena_alloc(arena, sink.length)};
    if (!sink.at) {
        return false;
    }
    put_envelope(&sink, publish, row, created_at);
    *out = (struct text_view){sink.at, sink.length};
    return true;
}
