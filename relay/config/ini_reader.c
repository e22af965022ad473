// SPDX-License-Identifier: Apache-2.0
#include "relay/config/ini_reader.h"

#include "relay/base/utf8.h"

#include <stdbool.h>
#include <string.h>

struct reader {
    const struct ini_handler *handler;
    // The entry whose value may still go on; key NULL = none.
    char *key, *value;
    char *value_end;
    size_t indent;
    int line;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static char *skip_blanks(char *at)
{
    while (is_blank(*at)) {
        at++;
    }
    return at;
}

// Cuts the blanks before end; returns the new end.
static char *trim(char *start, char *end)
{
    while (end > start && is_blank(end[-1])) {
        end--;
    }
    *end = '\0';
    return end;
}

static void finish_entry(struct reader *reader)
{
    if (reader->key != NULL) {
        reader->handler->entry(reader->handler->context, reader->line, reader->key, reader->value);
        reader->key = NULL;
    }
}

// The bytes between the old end and the continuation are a line end and its indentation, so the move is always
// downwards.
static void continue_value(struct reader *reader, char *start, char *end)
{
    char *to = reader->value_end;
    if (to > reader->value) {
        *to++ = ' ';
    }
    size_t length = (size_t)(end - start);
    memmove(to, start, length);
    to[length] = '\0';
    reader->value_end = to + length;
}

static void read_section(struct reader *reader, int line, char *start, char *end)
{
    const struct ini_handler *handler = reader->handler;
    if (end[-1] != ']') {
        handler->mistake(handler->context, line,
            strchr(start, ']') == NULL ? "the ] of the section is missing"
                                       : "nothing may follow a section's ]; a comment stands on a line of its own");
        return;
    }
    char *name = skip_blanks(start + 1);
    if (trim(name, end - 1) == name) {
        handler->mistake(handler->context, line, "the section has no name");
        return;
    }
    handler->section(handler->context, line, name);
}

static void read_line(struct reader *reader, int line, char *text, char *end)
{
    char *start = skip_blanks(text);
    end = trim(start, end);
    size_t indent = (size_t)(start - text);
    if (start == end) {
        finish_entry(reader);
        return;
    }
    if (*start == ';' || *start == '#') {
        return;
    }
    if (reader->key != NULL && indent > reader->indent) {
        continue_value(reader, start, end);
        return;
    }
    finish_entry(reader);
    if (*start == '[') {
        read_section(reader, line, start, end);
        return;
    }
    char *equals = strchr(start, '=');
    if (equals == NULL || equals == start) {
        reader->handler->mistake(reader->handler->context, line,
            equals == start ? "a key is missing before the ="
                            : "expected [section], key = value, or a comment that starts with ;");
        return;
    }
    trim(start, equals);
    reader->key = start;
    reader->value = skip_blanks(equals + 1);
    reader->value_end = end < reader->value ? reader->value : end;
    reader->indent = indent;
    reader->line = line;
}

// The first byte of [at, end) that no line may hold, and why.
static const char *forbidden(const char *at, const char *end, const char **why)
{
    while (at < end) {
        unsigned char byte = (unsigned char)*at;
        if ((byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7f) {
            *why = byte == 0 ? "a NUL byte: this is no text file (UTF-16, perhaps?); save it as UTF-8"
                             : "a control character";
            return at;
        }
        size_t length = utf8_character(at, (size_t)(end - at));
        if (length == 0) {
            *why = "a byte that is not UTF-8; save the file as UTF-8";
            return at;
        }
        at += length;
    }
    return NULL;
}

void ini_read(char *text, size_t length, const struct ini_handler *handler)
{
    struct reader reader = {.handler = handler};
    char *end = text + length;
    *end = '\0';
    char *at = text;
    if (length >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) {
        at += 3;
    }
    for (int line = 1; at < end; line++) {
        char *line_end = memchr(at, '\n', (size_t)(end - at));
        char *next = line_end == NULL ? end : line_end + 1;
        line_end = line_end == NULL ? end : line_end;
        const char *why;
        if (forbidden(at, line_end, &why) != NULL) {
            finish_entry(&reader);
            handler->mistake(handler->context, line, why);
            if (memchr(at, '\0', (size_t)(line_end - at)) != NULL) {
                return; // every second byte would be one
            }
        } else {
            *line_end = '\0';
            read_line(&reader, line, at, line_end);
        }
        at = next;
    }
    finish_entry(&reader);
}
