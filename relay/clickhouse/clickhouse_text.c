// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct clickhouse_text *text, size_t more)
{
    if (text->room - text->length > more) {
        return true;
    }
    size_t room = text->room ? text->room : 128;
    while (room - text->length <= more) {
        room *= 2;
    }
    char *at = realloc(text->at, room);
    if (!at) {
        return false;
    }
    text->at = at;
    text->room = room;
    return true;
}

bool clickhouse_text_bytes(struct clickhouse_text *text, const char *bytes, size_t length)
{
    if (!make_room(text, length)) {
        return false;
    }
    memcpy(text->at + text->length, bytes, length);
    text->length += length;
    text->at[text->length] = '\0';
    return true;
}

bool clickhouse_text_add(struct clickhouse_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !make_room(text, (size_t)length)) {
        return false;
    }
    va_start(arguments, format);
    vsnprintf(text->at + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
    return true;
}

// Puts the value between two quotes, with a backslash before quote and backslash, and NUL and line ends as escapes.
static bool add_quoted(struct clickhouse_text *text, char quote, const char *value, size_t length)
{
    if (!make_room(text, length * 2 + 2)) {
        return false;
    }
    char *to = text->at + text->length;
    *to++ = quote;
    for (size_t i = 0; i < length; i++) {
        char c = value[i];
        const char *escape = c == '\0' ? "\\0" : c == '\n' ? "\\n" : c == '\r' ? "\\r" : NULL;
        if (escape) {
            *to++ = escape[0];
            *to++ = escape[1];
            continue;
        }
        if (c == quote || c == '\\') {
            *to++ = '\\';
        }
        *to++ = c;
    }
    *to++ = quote;
    *to = '\0';
    text->length = (size_t)(to - text->at);
    return true;
}

bool clickhouse_text_literal(struct clickhouse_text *text, const char *value, size_t length)
{
    return add_quoted(text, '\'', value, length);
}

bool clickhouse_text_name(struct clickhouse_text *text, const char *name)
{
    return add_quoted(text, '`', name, strlen(name));
}

bool clickhouse_text_table(struct clickhouse_text *text, const char *table)
{
    const char *dot = strchr(table, '.');
    if (!dot) {
        return clickhouse_text_name(text, table);
    }
    return add_quoted(text, '`', table, (size_t)(dot - table)) && clickhouse_text_add(text, ".") &&
        clickhouse_text_name(text, dot + 1);
}

bool clickhouse_text_spellings(struct clickhouse_text *text, const char *table, const char *database)
{
    const char *dot = strchr(table, '.');
    size_t length = database ? strlen(database) : 0;
    struct clickhouse_text other = {0};
    bool done = clickhouse_text_literal(text, table, strlen(table));
    if (!dot && length > 0) {
        done = done && clickhouse_text_add(&other, "%s.%s", database, table);
    } else if (dot && length > 0 && length == (size_t)(dot - table) && strncmp(table, database, length) == 0) {
        done = done && clickhouse_text_add(&other, "%s", dot + 1);
    }
    if (other.at) {
        done = done && clickhouse_text_add(text, ", ") && clickhouse_text_literal(text, other.at, other.length);
    }
    clickhouse_text_finish(&other);
    return done;
}

bool clickhouse_text_url(struct clickhouse_text *text, const char *value, size_t length)
{
    static const char digits[] = "0123456789ABCDEF";
    if (!make_room(text, length * 3)) {
        return false;
    }
    char *to = text->at + text->length;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)value[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
            c == '.' || c == '_' || c == '~';
        if (plain) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = '\0';
    text->length = (size_t)(to - text->at);
    return true;
}

void clickhouse_text_reset(struct clickhouse_text *text)
{
    text->length = 0;
    if (text->at) {
        text->at[0] = '\0';
    }
}

void clickhouse_text_finish(struct clickhouse_text *text)
{
    free(text->at);
    *text = (struct clickhouse_text){0};
}
