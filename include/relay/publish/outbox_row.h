// SPDX-License-Identifier: Apache-2.0
//
// One row of an outbox as the relay has read it: a view whose bytes belong to the batch that was read and live as long
// as that. Texts are what PostgreSQL prints, in UTF-8, not NUL-terminated. Plain data: no function, no thread of its
// own.
#ifndef RELAY_PUBLISH_OUTBOX_ROW_H
#define RELAY_PUBLISH_OUTBOX_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text_view {
    const char *at; // NULL: SQL NULL
    size_t length;
};

enum created_at_kind {
    CREATED_AT_NONE, // SQL NULL, or the table has no such column
    CREATED_AT_FINITE,
    CREATED_AT_INFINITY,
    CREATED_AT_MINUS_INFINITY,
};

struct outbox_row {
    int64_t seq;
    struct text_view id, key, type, aggregate_type, payload, metadata; // key: the aggregate's id
    bool payload_bytes; // the payload is of a bytea column: not a text, blank or JSON by what it looks like
    enum created_at_kind created_at_kind;
    int64_t created_at_us;              // of a FINITE one: microseconds since 1970-01-01T00:00:00Z, may be negative
    const struct text_view *additional; // one for each item of the config's `additional`, in its order
    const uint32_t *additional_types;   // their types' OIDs (PQftype), for the envelope; NULL: all are text
    int64_t above; // 0, or the row takes more bytes than this: NULL stands for what is large in it, or its beginning
    bool cut;      // of some column the beginning was read, since its text is far longer than the row takes
};

#endif
