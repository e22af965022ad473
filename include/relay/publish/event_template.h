// SPDX-License-Identifier: Apache-2.0
//
// The templates of `topic` and `key`: literal text with {prefix}, {event_type}, {event_type:N} (its N-th part between
// dots, counted from 1), {aggregate_type} and {aggregate_id}; {{ and }} stand for braces. Compiled once, at start; a
// compiled template never changes: any thread may read it.
#ifndef RELAY_PUBLISH_EVENT_TEMPLATE_H
#define RELAY_PUBLISH_EVENT_TEMPLATE_H

#include "relay/base/error.h"
#include "relay/publish/event_arena.h"
#include "relay/publish/outbox_row.h"

struct event_template;

// Whether text is a template. Errors: CONFIG (what is wrong, at which character, what is allowed).
bool event_template_check(const char *text, struct relay_error *error);
// Copies text and prefix. Errors: CONFIG, NO_MEMORY.
struct event_template *event_template_new(const char *text, const char *prefix, struct relay_error *error);
void event_template_free(struct event_template *template); // accepts NULL

enum template_result {
    TEMPLATE_OK,      // *what is the role of a column that is empty, else NULL
    TEMPLATE_NULL,    // a column that the template names is NULL; *what is its role ("aggregate_id")
    TEMPLATE_NO_PART, // the event type has no such part, or an empty one; *part is N
    TEMPLATE_NO_MEMORY,
};
// *out: in the arena, the template or, where the template is nothing but one column, the row's own bytes; not
// NUL-terminated. what, part: for messages, may be NULL; *what is static.
enum template_result event_template_render(const struct event_template *template, const struct outbox_row *row,
    struct event_arena *arena, struct text_view *out, const char **what, unsigned *part);

// The columns that a template may name, as expressions of text in SQL.
struct template_columns {
    const char *event_type, *aggregate_type, *aggregate_id;
};
// The same made by PostgreSQL: an expression of text, NULL where a column that is named is NULL or empty, or has no
// such part. malloc'd; NULL: out of memory.
char *event_template_sql(const struct event_template *template, const struct template_columns *columns);

#endif
