// SPDX-License-Identifier: Apache-2.0
//
// The text is known to be well-formed, so it is enough to find ends: of a string the next quote without a backslash
// before it, of a container its bracket at depth 0, of everything else the next comma, bracket or space.
#include "relay/json/json_walk.h"

#include <assert.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static const char *skip_spaces(const char *at, const char *end)
{
    while (at < end && is_space(*at)) {
        at++;
    }
    return at;
}

// Past the closing quote; *escaped: a backslash was seen.
static const char *skip_string(const char *at, const char *end, bool *escaped)
{
    *escaped = false;
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') {
            *escaped = true;
            at++;
        }
    }
    return at < end ? at + 1 : end;
}

static const char *skip_container(const char *at, const char *end)
{
    int depth = 0;
    while (at < end) {
        bool escaped;
        if (*at == '"') {
            at = skip_string(at, end, &escaped);
            continue;
        }
        depth += *at == '{' || *at == '[' ? 1 : *at == '}' || *at == ']' ? -1 : 0;
        at++;
        if (depth == 0) {
            break;
        }
    }
    return at;
}

static const char *read_value(const char *at, const char *end, struct json_value *value)
{
    const char *start = at;
    bool escaped = false;
    switch (*at) {
    case '"':
        value->kind = JSON_KIND_STRING;
        at = skip_string(at, end, &escaped);
        break;
    case '{':
    case '[':
        value->kind = *at == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
        at = skip_container(at, end);
        break;
    default:
        value->kind = *at == 't' ? JSON_KIND_TRUE
            : *at == 'f'         ? JSON_KIND_FALSE
            : *at == 'n'         ? JSON_KIND_NULL
                                 : JSON_KIND_NUMBER;
        while (at < end && *at != ',' && *at != ']' && *at != '}' && !is_space(*at)) {
            at++;
        }
    }
    value->raw = start;
    value->raw_length = (size_t)(at - start);
    value->text = value->kind == JSON_KIND_STRING ? (escaped ? NULL : start + 1) : start;
    value->length = value->kind == JSON_KIND_STRING ? (escaped ? 0 : value->raw_length - 2) : value->raw_length;
    return at;
}

void json_walk_start(struct json_walk *walk, const struct json_value *container)
{
    assert(container->kind == JSON_KIND_ARRAY || container->kind == JSON_KIND_OBJECT);
    walk->at = container->raw + 1;
    walk->end = container->raw + container->raw_length - 1; // before the closing bracket
    walk->object = container->kind == JSON_KIND_OBJECT;
}

bool json_walk_next(struct json_walk *walk, struct json_value *name, struct json_value *value)
{
    const char *at = skip_spaces(walk->at, walk->end);
    if (at < walk->end && *at == ',') {
        at = skip_spaces(at + 1, walk->end);
    }
    if (at >= walk->end) {
        return false;
    }
    if (walk->object) {
        at = skip_spaces(read_value(at, walk->end, name), walk->end);
        at = skip_spaces(at < walk->end ? at + 1 : at, walk->end); // the colon
        if (at >= walk->end) {
            return false;
        }
    }
    walk->at = read_value(at, walk->end, value);
    return true;
}

static unsigned hex4(const char *at)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        value = value * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static char *put_utf8(char *to, unsigned code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *to++ = (char)(0xE0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    } else {
        *to++ = (char)(0xF0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    }
    return to;
}

void json_unescape(struct json_value *value, char *scratch)
{
    if (value->kind != JSON_KIND_STRING || value->text) {
        return;
    }
    const char *at = value->raw + 1, *end = value->raw + value->raw_length - 1;
    char *to = scratch;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        char c = at[1];
        at += 2;
        if (c != 'u') {
            *to++ = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
            continue;
        }
        unsigned code = hex4(at);
        at += 4;
        if (code >= 0xD800 && code < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
            code = 0x10000 + ((code - 0xD800) << 10) + (hex4(at + 2) - 0xDC00);
            at += 6;
        }
        to = put_utf8(to, code);
    }
    value->text = scratch;
    value->length = (size_t)(to - scratch);
}

bool json_is_number(const char *text, size_t length)
{
    const char *at = text, *end = text + length;
    if (at < end && *at == '-') {
        at++;
    }
    const char *first = at;
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    if (at == first || (*first == '0' && at - first > 1)) {
        return false;
    }
    if (at < end && *at == '.') {
        first = ++at;
        while (at < end && *at >= '0' && *at <= '9') {
            at++;
        }
        if (at == first) {
            return false;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-') ? 1 : 0;
        first = at;
        while (at < end && *at >= '0' && *at <= '9') {
            at++;
        }
        if (at == first) {
            return false;
        }
    }
    return at == end;
}
