// SPDX-License-Identifier: Apache-2.0
#include "relay/config/route_source.h"

#include "relay/json/json_paths.h"

#include <stdlib.h>
#include <string.h>

struct parser {
    const char *text, *at;
    struct relay_error *error;
};

static bool fail(const struct parser *parser, const char *what)
{
    return error_set(parser->error, RELAY_ERROR_CONFIG, "source %.100s, character %zu: %s", parser->text,
        (size_t)(parser->at - parser->text) + 1, what);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static void skip(struct parser *parser, bool commas)
{
    while (is_space(*parser->at) || (commas && *parser->at == ',')) {
        parser->at++;
    }
}

static bool keep(struct parser *parser, const char *at, size_t length, struct route_text *to)
{
    to->at = malloc(length + 1);
    if (!to->at) {
        return error_no_memory(parser->error, "reading a route");
    }
    memcpy(to->at, at, length);
    to->at[length] = '\0';
    to->length = length;
    return true;
}

// 'text', with '' or \' for a quote and \\ for a backslash.
static bool take_quoted(struct parser *parser, struct route_text *to)
{
    if (!keep(parser, parser->at, strlen(parser->at), to)) {
        return false;
    }
    size_t used = 0;
    const char *at = parser->at + 1;
    for (; *at; at++) {
        if ((*at == '\'' && at[1] == '\'') || (*at == '\\' && (at[1] == '\'' || at[1] == '\\'))) {
            at++;
        } else if (*at == '\'') {
            break;
        }
        to->at[used++] = *at;
    }
    if (*at != '\'') {
        return fail(parser, "the quote is not closed");
    }
    parser->at = at + 1;
    to->at[used] = '\0';
    to->length = used;
    return true;
}

static bool take_header(struct parser *parser, struct route_source *source)
{
    source->place = ROUTE_HEADER;
    if (strncmp(parser->at, "header[\"", 8) == 0) {
        const char *end = strstr(parser->at + 8, "\"]");
        if (!end) {
            return fail(parser, "expected header[\"NAME\"]");
        }
        const char *start = parser->at + 8;
        parser->at = end + 2;
        return keep(parser, start, (size_t)(end - start), &source->name);
    }
    parser->at += strlen("header.");
    size_t length = strcspn(parser->at, "?: \t");
    if (length == 0) {
        return fail(parser, "a header's name is missing");
    }
    parser->at += length;
    return keep(parser, parser->at - length, length, &source->name);
}

static bool take_field(struct parser *parser, struct route_source *source)
{
    static const struct {
        const char *name;
        enum route_place place;
    } fields[] = {{"topic", ROUTE_TOPIC}, {"partition", ROUTE_PARTITION}, {"offset", ROUTE_OFFSET},
        {"timestamp", ROUTE_TIMESTAMP}, {"key", ROUTE_KEY}, {"value", ROUTE_VALUE}};
    parser->at += strlen("kafka.");
    size_t length = strcspn(parser->at, "?: \t");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strlen(fields[i].name) == length && memcmp(fields[i].name, parser->at, length) == 0) {
            source->place = fields[i].place;
            parser->at += length;
            return true;
        }
    }
    return fail(parser, "expected kafka.topic, partition, offset, timestamp, key or value");
}

static bool take_place(struct parser *parser, struct route_source *source)
{
    if (*parser->at == '$') {
        source->place = ROUTE_PATH;
        size_t length = json_paths_span(parser->at, strlen(parser->at));
        parser->at += length;
        return keep(parser, parser->at - length, length, &source->name);
    }
    if (strncmp(parser->at, "header.", 7) == 0 || strncmp(parser->at, "header[", 7) == 0) {
        return take_header(parser, source);
    }
    if (strncmp(parser->at, "kafka.", 6) == 0) {
        return take_field(parser, source);
    }
    if (*parser->at == '\'') {
        source->place = ROUTE_CONSTANT;
        return take_quoted(parser, &source->name);
    }
    return fail(parser, "expected $.path, header.NAME, kafka.FIELD or 'constant'");
}

// One side of an entry.
static bool take_word(struct parser *parser, struct route_text *to)
{
    if (*parser->at == '\'') {
        return take_quoted(parser, to);
    }
    size_t length = strcspn(parser->at, "=, \t");
    if (length == 0) {
        return fail(parser, "expected from=to");
    }
    parser->at += length;
    return keep(parser, parser->at - length, length, to);
}

static bool take_entry(struct parser *parser, struct route_source *source)
{
    struct route_text *from = reallocarray(source->from, source->entry_count + 1, sizeof(*from));
    if (from) {
        source->from = from;
    }
    struct route_text *to = reallocarray(source->to, source->entry_count + 1, sizeof(*to));
    if (to) {
        source->to = to;
    }
    if (!from || !to) {
        return error_no_memory(parser->error, "reading a route");
    }
    from[source->entry_count] = to[source->entry_count] = (struct route_text){0};
    bool star = parser->at[0] == '*' && parser->at[1] == '=';
    source->entry_count++; // so that finish frees both sides, whatever fails
    if (!take_word(parser, &from[source->entry_count - 1])) {
        return false;
    }
    if (*parser->at != '=') {
        return fail(parser, "expected =");
    }
    parser->at++;
    if (!take_word(parser, &to[source->entry_count - 1])) {
        return false;
    }
    if (star) {
        if (source->has_otherwise) {
            return fail(parser, "* stands twice");
        }
        source->entry_count--;
        free(from[source->entry_count].at);
        source->otherwise = to[source->entry_count];
        source->has_otherwise = true;
    }
    return true;
}

static bool parse(struct parser *parser, struct route_source *source)
{
    skip(parser, false);
    const char *start = parser->at;
    if (!take_place(parser, source)) {
        return false;
    }
    source->written = strndup(start, (size_t)(parser->at - start));
    if (!source->written) {
        return error_no_memory(parser->error, "reading a route");
    }
    skip(parser, false);
    if (*parser->at == '?') {
        parser->at++;
        source->optional = true;
        skip(parser, false);
    }
    if (*parser->at == ':') {
        parser->at++;
        source->mapped = true;
        for (skip(parser, true); *parser->at; skip(parser, true)) {
            if (!take_entry(parser, source)) {
                return false;
            }
        }
        if (source->entry_count == 0) {
            return fail(parser, "the map is empty");
        }
    }
    return *parser->at == '\0' || fail(parser, "expected ?, : or the end");
}

bool route_source_parse(const char *text, struct route_source *source, struct relay_error *error)
{
    struct parser parser = {.text = text, .at = text, .error = error};
    *source = (struct route_source){0};
    if (parse(&parser, source)) {
        return true;
    }
    route_source_finish(source);
    return false;
}

void route_source_finish(struct route_source *source)
{
    for (size_t i = 0; i < source->entry_count; i++) {
        free(source->from[i].at);
        free(source->to[i].at);
    }
    free(source->from);
    free(source->to);
    free(source->otherwise.at);
    free(source->name.at);
    free(source->written);
    *source = (struct route_source){0};
}
