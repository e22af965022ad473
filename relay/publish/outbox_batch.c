// SPDX-License-Identifier: Apache-2.0
//
// See outbox_batch.h. The columns come in the order of outbox_table.c: seq, id, type, aggregate_type, key, payload,
// metadata, created_at, then the additional ones.
#include "relay/publish/outbox_batch.h"

#include "relay/publish/outbox_sql.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    COLUMN_SEQ,
    COLUMN_ID,
    COLUMN_TYPE,
    COLUMN_AGGREGATE_TYPE,
    COLUMN_KEY,
    COLUMN_PAYLOAD,
    COLUMN_METADATA,
    COLUMN_CREATED_AT,
    COLUMN_ADDITIONAL
};

// PostgreSQL counts microseconds from 2000-01-01.
#define POSTGRES_EPOCH_US INT64_C(946684800000000)

struct outbox_batch *outbox_batch_new(size_t keep_bytes, struct relay_error *error)
{
    struct outbox_batch *batch = calloc(1, sizeof(*batch));
    struct event_arena *arena = batch == NULL ? NULL : event_arena_new(keep_bytes);
    if (arena == NULL) {
        free(batch);
        error_no_memory(error, "a batch");
        return NULL;
    }
    batch->arena = arena;
    return batch;
}

void outbox_batch_reset(struct outbox_batch *batch)
{
    for (size_t i = 0; i < batch->result_count; i++) {
        PQclear(batch->results[i]);
    }
    batch->result_count = 0;
    batch->count = 0;
    batch->bytes = 0;
    batch->flight = (struct kafka_flight){0};
    event_arena_reset(batch->arena);
}

void outbox_batch_shrink(struct outbox_batch *batch)
{
    outbox_batch_reset(batch);
    event_arena_shrink(batch->arena);
}

void outbox_batch_free(struct outbox_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    outbox_batch_reset(batch);
    event_arena_free(batch->arena);
    free(batch->rows);
    free(batch->events);
    free(batch->topics);
    free(batch->slots);
    free(batch);
}

static bool grow(struct outbox_batch *batch, size_t wanted, struct relay_error *error)
{
    if (wanted <= batch->capacity) {
        return true;
    }
    size_t capacity = wanted + wanted / 4 + 64;
    struct outbox_row *rows = realloc(batch->rows, capacity * sizeof(*rows));
    batch->rows = rows != NULL ? rows : batch->rows;
    struct routed_event *events = realloc(batch->events, capacity * sizeof(*events));
    batch->events = events != NULL ? events : batch->events;
    const struct kafka_topic **topics = realloc(batch->topics, capacity * sizeof(*topics));
    batch->topics = topics != NULL ? topics : batch->topics;
    struct kafka_slot *slots = realloc(batch->slots, capacity * sizeof(*slots));
    batch->slots = slots != NULL ? slots : batch->slots;
    if (rows == NULL || events == NULL || topics == NULL || slots == NULL) {
        return error_no_memory(error, "a batch's rows");
    }
    batch->capacity = capacity;
    return true;
}

// The text of one cell in the form of its column. false: out of memory, or a value that is not of that form.
static bool read_text(struct outbox_batch *batch, const PGresult *result, int row, int column, enum column_form form,
    struct text_view *text, struct relay_error *error)
{
    *text = (struct text_view){0};
    if (form == COLUMN_ABSENT || PQgetisnull(result, row, column)) {
        return true;
    }
    const char *value = PQgetvalue(result, row, column);
    size_t length = (size_t)PQgetlength(result, row, column);
    if (form == COLUMN_UUID) {
        char *room = event_arena_alloc(batch->arena, 37);
        if (room == NULL) {
            return error_no_memory(error, "a uuid");
        }
        if (length != 16) {
            return error_set(error, RELAY_ERROR_PROTOCOL, "a uuid of %zu bytes", length);
        }
        receipt_identity_format((const uint8_t *)value, room);
        *text = (struct text_view){room, 36};
        return true;
    }
    if (form == COLUMN_JSONB) {
        if (length < 1 || value[0] != 1) {
            return error_set(error, RELAY_ERROR_PROTOCOL, "jsonb in a version that outbox-relay does not know");
        }
        value++;
        length--;
    }
    *text = (struct text_view){value, length};
    return true;
}

// Takes the NUL byte off what was printed. false: it is not there, so this is a beginning only.
static bool is_whole(struct text_view *text, enum column_form form)
{
    if (text->at == NULL || (form != COLUMN_JSONB && form != COLUMN_PRINTED)) {
        return true;
    }
    bool whole = text->length > 0 && text->at[text->length - 1] == '\0';
    text->length -= whole;
    return whole;
}

static bool all_whole(struct outbox_row *row, const enum column_form *forms)
{
    const bool whole[] = {is_whole(&row->id, forms[CONFIG_COLUMN_ID]), is_whole(&row->type, forms[CONFIG_COLUMN_TYPE]),
        is_whole(&row->aggregate_type, forms[CONFIG_COLUMN_AGGREGATE_TYPE]),
        is_whole(&row->key, forms[CONFIG_COLUMN_KEY]), is_whole(&row->payload, forms[CONFIG_COLUMN_PAYLOAD]),
        is_whole(&row->metadata, forms[CONFIG_COLUMN_METADATA])};
    return memchr(whole, false, sizeof(whole)) == NULL;
}

static void read_created_at(struct outbox_row *row, const PGresult *result, int i)
{
    row->created_at_kind = CREATED_AT_NONE;
    row->created_at_us = 0;
    if (PQgetisnull(result, i, COLUMN_CREATED_AT)) {
        return;
    }
    // The times of PostgreSQL end in 294276, microseconds since 1970 in January of 294247.
    int64_t at = pg_binary_int64(result, i, COLUMN_CREATED_AT), us;
    if (__builtin_add_overflow(at, POSTGRES_EPOCH_US, &us)) {
        row->created_at_kind = CREATED_AT_INFINITY;
    } else if (at == INT64_MIN) {
        row->created_at_kind = CREATED_AT_MINUS_INFINITY;
    } else {
        row->created_at_kind = CREATED_AT_FINITE;
        row->created_at_us = us;
    }
}

static bool read_additional(struct outbox_batch *batch, const struct outbox_table *table, size_t count, bool guarded,
    const PGresult *result, int i, struct outbox_row *row, struct relay_error *error)
{
    row->additional = NULL;
    row->additional_types = table->additional_types;
    if (count == 0) {
        return true;
    }
    struct text_view *views = event_arena_alloc(batch->arena, count * sizeof(*views));
    if (views == NULL) {
        return error_no_memory(error, "additional columns");
    }
    for (size_t k = 0; k < count; k++) {
        if (!read_text(batch, result, i, COLUMN_ADDITIONAL + (int)k, COLUMN_TEXT, &views[k], error)) {
            return false;
        }
        row->cut = row->cut || (guarded && !is_whole(&views[k], table->additional_forms[k]));
    }
    row->additional = views;
    return true;
}

static bool read_row(struct outbox_batch *batch, const struct outbox_table *table, const PGresult *result, int i,
    struct outbox_row *row, struct relay_error *error)
{
    const enum column_form *forms = table->forms;
    row->seq = pg_binary_int64(result, i, COLUMN_SEQ);
    row->payload_bytes = forms[CONFIG_COLUMN_PAYLOAD] == COLUMN_BYTES;
    read_created_at(row, result, i);
    return read_text(batch, result, i, COLUMN_ID, forms[CONFIG_COLUMN_ID], &row->id, error) &&
        read_text(batch, result, i, COLUMN_TYPE, forms[CONFIG_COLUMN_TYPE], &row->type, error) &&
        read_text(batch, result, i, COLUMN_AGGREGATE_TYPE, forms[CONFIG_COLUMN_AGGREGATE_TYPE], &row->aggregate_type,
            error) &&
        read_text(batch, result, i, COLUMN_KEY, forms[CONFIG_COLUMN_KEY], &row->key, error) &&
        read_text(batch, result, i, COLUMN_PAYLOAD, forms[CONFIG_COLUMN_PAYLOAD], &row->payload, error) &&
        read_text(batch, result, i, COLUMN_METADATA, forms[CONFIG_COLUMN_METADATA], &row->metadata, error);
}

bool outbox_batch_add(struct outbox_batch *batch, const struct outbox_table *table, size_t additional_count,
    bool guarded, PGresult *result, struct relay_error *error)
{
    assert(batch->result_count < OUTBOX_BATCH_RESULTS);
    batch->results[batch->result_count++] = result;
    int rows = PQntuples(result), above = COLUMN_ADDITIONAL + (int)additional_count;
    if (PQnfields(result) < above + guarded) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "a result of %d columns", PQnfields(result));
    }
    if (!grow(batch, batch->count + (size_t)rows, error)) {
        return false;
    }
    for (int i = 0; i < rows; i++) {
        struct outbox_row *row = &batch->rows[batch->count];
        if (!read_row(batch, table, result, i, row, error)) {
            return false;
        }
        row->cut = guarded && !all_whole(row, table->forms);
        if (!read_additional(batch, table, additional_count, guarded, result, i, row, error)) {
            return false;
        }
        row->above = guarded && !PQgetisnull(result, i, above) ? pg_binary_int64(result, i, above) : 0;
        batch->bytes += row->payload.length + row->metadata.length + row->type.length + row->key.length + 64;
        batch->count++;
    }
    return true;
}

static int by_seq(const void *a, const void *b)
{
    const struct outbox_row *left = a, *right = b;
    return left->seq < right->seq ? -1 : left->seq > right->seq;
}

void outbox_batch_sort(struct outbox_batch *batch)
{
    for (size_t i = 1; i < batch->count; i++) {
        if (batch->rows[i].seq < batch->rows[i - 1].seq) { // rarely: an index scan gives them in order
            qsort(batch->rows, batch->count, sizeof(*batch->rows), by_seq);
            return;
        }
    }
}

bool outbox_batch_route(struct outbox_batch *batch, struct event_router *router, size_t *next,
    enum publish_reason *reason, struct relay_error *error)
{
    for (; *next < batch->count; (*next)++) {
        size_t i = *next;
        if (batch->rows[i].above > 0) {
            *reason = PUBLISH_REASON_TOO_LARGE;
            return error_set(error, RELAY_ERROR_ROUTE,
                "the row, or its text, takes more than %lld bytes and is not read (the larger of [outbox] batch_bytes "
                "and %d times message.max.bytes)",
                (long long)batch->rows[i].above, OUTBOX_SQL_LARGEST);
        }
        if (batch->rows[i].cut) {
            *reason = PUBLISH_REASON_TOO_LARGE;
            return error_set(error, RELAY_ERROR_ROUTE, "the row's text is far longer than the row");
        }
        switch (event_router_route(router, &batch->rows[i], batch->arena, &batch->events[i], reason, error)) {
        case ROUTE_OK: continue;
        case ROUTE_POISON: return false;
        case ROUTE_FAILED: *reason = PUBLISH_REASON_NONE; return false;
        }
    }
    return true;
}

void outbox_batch_receipt_rows(const struct outbox_batch *batch, struct receipt_row *rows)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct outbox_row *row = &batch->rows[i];
        rows[i] = (struct receipt_row){row->seq, receipt_row_hash(row->id, row->created_at_kind, row->created_at_us)};
    }
}
