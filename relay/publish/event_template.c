// SPDX-License-Identifier: Apache-2.0
//
// A template is a list of pieces: literal text, which takes in {prefix} and the escapes at compile time, or a column.
#include "relay/publish/event_template.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALLOWED                                                                                                        \
    "allowed are {prefix}, {event_type}, {event_type:N}, {aggregate_type}, {aggregate_id}, and {{ }} for braces"

enum piece_kind { PIECE_LITERAL, PIECE_TYPE, PIECE_TYPE_PART, PIECE_AGGREGATE_TYPE, PIECE_AGGREGATE_ID };

static const char *const piece_columns[] = {"", "event_type", "event_type", "aggregate_type", "aggregate_id"};

struct piece {
    enum piece_kind kind;
    unsigned part;          // of PIECE_TYPE_PART, from 1
    size_t literal, length; // of PIECE_LITERAL: where in the template's text
};

struct event_template {
    char *text; // all literals
    size_t text_length;
    struct piece *pieces;
    size_t count;
};

// What stands between braces: one of the columns, or {prefix} as a PIECE_LITERAL of no length.
static bool parse_name(const char *name, size_t length, struct piece *piece)
{
    static const struct {
        const char *name;
        enum piece_kind kind;
    } names[] = {{"prefix", PIECE_LITERAL}, {"event_type", PIECE_TYPE}, {"aggregate_type", PIECE_AGGREGATE_TYPE},
        {"aggregate_id", PIECE_AGGREGATE_ID}};
    *piece = (struct piece){0};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i].name) == length && memcmp(names[i].name, name, length) == 0) {
            piece->kind = names[i].kind;
            return true;
        }
    }
    static const char with_part[] = "event_type:";
    size_t head = sizeof(with_part) - 1;
    if (length <= head || length > head + 2 || memcmp(name, with_part, head) != 0 || name[head] == '0') {
        return false;
    }
    for (size_t i = head; i < length; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        piece->part = piece->part * 10 + (unsigned)(name[i] - '0');
    }
    piece->kind = PIECE_TYPE_PART;
    return true;
}

static void add_literal(struct event_template *template, const char *text, size_t length)
{
    struct piece *last = template->count ? &template->pieces[template->count - 1] : NULL;
    if (!last || last->kind != PIECE_LITERAL) {
        last = &template->pieces[template->count++];
        *last = (struct piece){.kind = PIECE_LITERAL, .literal = template->text_length};
    }
    memcpy(template->text + template->text_length, text, length);
    template->text_length += length;
    last->length += length;
}

// *at stands on a brace. Errors: CONFIG.
static bool compile_brace(struct event_template *template, const char *text, const char **at, const char *prefix,
    struct relay_error *error)
{
    const char *brace = *at;
    size_t position = (size_t)(brace - text) + 1;
    if (brace[1] == brace[0]) {
        add_literal(template, brace, 1);
        *at += 2;
        return true;
    }
    if (*brace == '}') {
        return error_set(error, RELAY_ERROR_CONFIG, "} at character %zu closes nothing; " ALLOWED, position);
    }
    const char *end = brace + 1 + strcspn(brace + 1, "{}");
    struct piece piece;
    if (*end != '}') {
        return error_set(error, RELAY_ERROR_CONFIG, "{ at character %zu is not closed; " ALLOWED, position);
    }
    if (!parse_name(brace + 1, (size_t)(end - brace) - 1, &piece)) {
        int shown = end - brace + 1 > 40 ? 40 : (int)(end - brace + 1);
        return error_set(error, RELAY_ERROR_CONFIG, "%.*s at character %zu is unknown; " ALLOWED, shown, brace,
            position);
    }
    if (piece.kind == PIECE_LITERAL) {
        add_literal(template, prefix, strlen(prefix));
    } else {
        template->pieces[template->count++] = piece;
    }
    *at = end + 1;
    return true;
}

static bool compile(struct event_template *template, const char *text, const char *prefix, struct relay_error *error)
{
    if (*text == '\0') {
        return error_set(error, RELAY_ERROR_CONFIG, "the template is empty; " ALLOWED);
    }
    for (const char *at = text; *at;) {
        size_t plain = strcspn(at, "{}");
        if (plain > 0) {
            add_literal(template, at, plain);
            at += plain;
        } else if (!compile_brace(template, text, &at, prefix, error)) {
            return false;
        }
    }
    return true;
}

struct event_template *event_template_new(const char *text, const char *prefix, struct relay_error *error)
{
    // Each piece takes at least one byte of text; only {prefix}, 8 bytes, may become longer than it is written.
    size_t length = strlen(text);
    struct event_template *template = calloc(1, sizeof(*template));
    if (!template) {
        goto no_memory;
    }
    template->pieces = calloc(length + 1, sizeof(*template->pieces));
    template->text = malloc(length + (length / 8 + 1) * strlen(prefix) + 1);
    if (!template->pieces || !template->text) {
        goto no_memory;
    }
    if (!compile(template, text, prefix, error)) {
        event_template_free(template);
        return NULL;
    }
    return template;

no_memory:
    event_template_free(template);
    error_no_memory(error, "compiling a template");
    return NULL;
}

void event_template_free(struct event_template *template)
{
    if (template) {
        free(template->text);
        free(template->pieces);
        free(template);
    }
}

bool event_template_check(const char *text, struct relay_error *error)
{
    struct event_template *template = event_template_new(text, "", error);
    event_template_free(template);
    return template != NULL;
}

// The N-th part of text between dots; length 0: there is none.
static struct text_view dotted_part(struct text_view text, unsigned part)
{
    const char *at = text.at, *end = text.at + text.length;
    for (;;) {
        const char *dot = at < end ? memchr(at, '.', (size_t)(end - at)) : NULL;
        if (--part == 0) {
            return (struct text_view){at, (size_t)((dot ? dot : end) - at)};
        }
        if (!dot) {
            return (struct text_view){end, 0};
        }
        at = dot + 1;
    }
}

static enum template_result piece_text(const struct event_template *template, const struct piece *piece,
    const struct outbox_row *row, struct text_view *out, unsigned *part)
{
    switch (piece->kind) {
    case PIECE_LITERAL: *out = (struct text_view){template->text + piece->literal, piece->length}; return TEMPLATE_OK;
    case PIECE_TYPE:
    case PIECE_TYPE_PART: *out = row->type; break;
    case PIECE_AGGREGATE_TYPE: *out = row->aggregate_type; break;
    case PIECE_AGGREGATE_ID: *out = row->key; break;
    }
    if (!out->at) {
        return TEMPLATE_NULL;
    }
    if (piece->kind == PIECE_TYPE_PART) {
        *out = dotted_part(*out, piece->part);
        *part = piece->part;
        return out->length > 0 ? TEMPLATE_OK : TEMPLATE_NO_PART;
    }
    return TEMPLATE_OK;
}

enum template_result event_template_render(const struct event_template *template, const struct outbox_row *row,
    struct event_arena *arena, struct text_view *out, const char **what, unsigned *part)
{
    const char *unused_what;
    unsigned unused_part;
    what = what ? what : &unused_what;
    part = part ? part : &unused_part;
    *what = NULL;
    *part = 0;
    size_t length = 0;
    struct text_view text = {0};
    for (size_t i = 0; i < template->count; i++) {
        const struct piece *piece = &template->pieces[i];
        enum template_result result = piece_text(template, piece, row, &text, part);
        if (result != TEMPLATE_OK) {
            *what = piece_columns[piece->kind];
            return result;
        }
        if (piece->kind != PIECE_LITERAL && text.length == 0) {
            *what = piece_columns[piece->kind];
        }
        length += text.length;
    }
    if (template->count == 1) {
        *out = text; // nothing to put together
        return TEMPLATE_OK;
    }
    char *at = event_arena_alloc(arena, length);
    if (!at) {
        return TEMPLATE_NO_MEMORY;
    }
    *out = (struct text_view){at, length};
    for (size_t i = 0; i < template->count; i++) {
        piece_text(template, &template->pieces[i], row, &text, part);
        memcpy(at, text.at, text.length);
        at += text.length;
    }
    return TEMPLATE_OK;
}

// A literal's text goes through a rule of its own in SQL: a quote is written twice.
static void print_literal(FILE *out, const char *text, size_t length)
{
    fputc('\'', out);
    for (size_t i = 0; i < length; i++) {
        fputs(text[i] == '\'' ? "'" : "", out);
        fputc(text[i], out);
    }
    fputs("'::text", out);
}

// In the order of bytes, whatever the column's collation: split_part() takes no nondeterministic one.
static void print_column(FILE *out, const struct piece *piece, const struct template_columns *columns)
{
    const char *column = piece->kind == PIECE_AGGREGATE_TYPE ? columns->aggregate_type
        : piece->kind == PIECE_AGGREGATE_ID                  ? columns->aggregate_id
                                                             : columns->event_type;
    if (piece->kind == PIECE_TYPE_PART) {
        fprintf(out, "nullif(split_part(%s COLLATE pg_catalog.\"C\", '.', %u), '')", column, piece->part);
    } else {
        fprintf(out, "nullif(%s COLLATE pg_catalog.\"C\", '')", column);
    }
}

char *event_template_sql(const struct event_template *template, const struct template_columns *columns)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) {
        return NULL;
    }
    fputc('(', out);
    for (size_t i = 0; i < template->count; i++) {
        const struct piece *piece = &template->pieces[i];
        fputs(i > 0 ? " || " : "", out);
        if (piece->kind == PIECE_LITERAL) {
            print_literal(out, template->text + piece->literal, piece->length);
        } else {
            print_column(out, piece, columns);
        }
    }
    fputc(')', out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
