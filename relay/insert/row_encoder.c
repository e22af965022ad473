// SPDX-License-Identifier: Apache-2.0
//
// For a message the payload is read once (only where some column of the plan wants a place in it), then each column
// takes its datum and puts it into the block. The first column that refuses takes the whole row back and names itself
// in the error. In the steady state nothing is allocated.
#include "relay/insert/row_encoder.h"

#include "relay/insert/insert_statement.h"
#include "relay/insert/row_plan.h"
#include "relay/insert/value_encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row_encoder {
    struct row_plan plan;
    const char **names; // of the columns, the schema's
    struct json_reader *reader;
    struct json_value *values; // of the plan's paths
    struct value_encoder value;
};

static bool allocate_working_parts(struct row_encoder *encoder)
{
    encoder->values = calloc(encoder->plan.paths->value_count + 1, sizeof(*encoder->values));
    encoder->names = calloc(encoder->plan.column_count + 1, sizeof(const char *));
    encoder->reader = json_reader_new();
    if (!encoder->values || !encoder->names || !encoder->reader) {
        return false;
    }
    for (size_t i = 0; i < encoder->plan.column_count; i++) {
        encoder->names[i] = encoder->plan.columns[i].table->name;
    }
    return true;
}

struct row_encoder *row_encoder_new(const struct config_route *route, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error)
{
    struct row_encoder *encoder = calloc(1, sizeof(*encoder));
    if (!encoder) {
        error_no_memory(error, "compiling a route");
        return NULL;
    }
    value_encoder_init(&encoder->value);
    if (!row_plan_compile(&encoder->plan, route, schema, findings, error)) {
        goto failed;
    }
    if (!allocate_working_parts(encoder)) {
        error_no_memory(error, "compiling a route");
        goto failed;
    }
    return encoder;

failed:
    row_encoder_free(encoder);
    return NULL;
}

void row_encoder_free(struct row_encoder *encoder)
{
    if (!encoder) {
        return;
    }
    row_plan_finish(&encoder->plan);
    free(encoder->names);
    free(encoder->values);
    json_reader_free(encoder->reader);
    value_encoder_finish(&encoder->value);
    free(encoder);
}
struct native_block *row_encoder_block(const struct row_encoder *encoder, struct relay_error *error)
{
    struct native_block *block = native_block_new(error);
    for (size_t i = 0; block && i < encoder->plan.column_count; i++) {
        const struct table_column *column = encoder->plan.columns[i].table;
        if (!native_block_add_column(block, column->name, column->type, error)) {
            native_block_free(block);
            return NULL;
        }
    }
    return block;
}

const char *const *row_encoder_columns(const struct row_encoder *encoder, size_t *count)
{
    *count = encoder->plan.column_count;
    return encoder->names;
}

bool row_encoder_skips(const struct row_encoder *encoder, const struct source_message *message)
{
    return !message->value && encoder->plan.tombstones == CONFIG_TOMBSTONES_SKIP;
}

bool row_encoder_reads_headers(const struct row_encoder *encoder)
{
    return encoder->plan.reads_headers;
}

enum presence { PRESENT, ABSENT, IS_NULL };

static enum presence text_datum(struct datum *datum, const char *text, size_t length)
{
    *datum = (struct datum){.kind = DATUM_TEXT, .text = text, .length = length};
    return text ? PRESENT : ABSENT;
}

static enum presence take_datum(const struct row_encoder *encoder, const struct plan_column *column,
    const struct source_message *message, struct datum *datum)
{
    const struct route_source *source = &column->source;
    const struct source_header *header;
    switch (source->place) {
    case ROUTE_PATH:
        *datum = (struct datum){.kind = DATUM_JSON, .json = encoder->values[column->path]};
        return datum->json.kind == JSON_KIND_MISSING ? ABSENT : datum->json.kind == JSON_KIND_NULL ? IS_NULL : PRESENT;
    case ROUTE_HEADER:
        header = source_message_header(message, source->name.at);
        if (!header) {
            return ABSENT;
        }
        return text_datum(datum, header->value, header->length) == PRESENT ? PRESENT : IS_NULL;
    case ROUTE_TOPIC: return text_datum(datum, message->topic, strlen(message->topic));
    case ROUTE_KEY: return text_datum(datum, message->key, message->key_length);
    case ROUTE_VALUE: return text_datum(datum, message->value, message->value_length);
    case ROUTE_CONSTANT: return text_datum(datum, source->name.at, source->name.length);
    case ROUTE_PARTITION: *datum = (struct datum){.kind = DATUM_INTEGER, .integer = message->partition}; return PRESENT;
    case ROUTE_OFFSET: *datum = (struct datum){.kind = DATUM_INTEGER, .integer = message->offset}; return PRESENT;
    case ROUTE_TIMESTAMP:
        *datum = (struct datum){.kind = DATUM_MILLIS, .integer = message->timestamp_ms};
        return message->timestamp_ms < 0 ? ABSENT : PRESENT;
    }
    return ABSENT;
}

static enum encode_reason reason_for_absence(const struct route_source *source, const struct source_message *message)
{
    if (source->place == ROUTE_PATH) {
        return message->value ? ENCODE_MISSING_PATH : ENCODE_MISSING_VALUE;
    }
    return source->place == ROUTE_HEADER ? ENCODE_MISSING_HEADER : ENCODE_MISSING_VALUE;
}

// Replaces the datum by what the route's map says. false: nothing matches.
static bool apply_map(const struct route_source *source, struct datum *datum)
{
    char number[24];
    const char *text = datum->kind == DATUM_JSON ? datum->json.text : datum->text;
    size_t length = datum->kind == DATUM_JSON ? datum->json.length : datum->length;
    if (datum->kind == DATUM_INTEGER || datum->kind == DATUM_MILLIS) {
        length = (size_t)snprintf(number, sizeof(number), "%lld", (long long)datum->integer);
        text = number;
    }
    for (size_t i = 0; i < source->entry_count; i++) {
        if (source->from[i].length == length && memcmp(source->from[i].at, text, length) == 0) {
            text_datum(datum, source->to[i].at, source->to[i].length);
            return true;
        }
    }
    return source->has_otherwise && text_datum(datum, source->otherwise.at, source->otherwise.length) == PRESENT;
}

static bool put_column(struct row_encoder *encoder, const struct plan_column *column, struct native_column *target,
    const struct source_message *message, enum encode_reason *reason)
{
    const struct route_source *source = &column->source;
    struct datum datum;
    enum presence presence = take_datum(encoder, column, message, &datum);
    bool nullable = column->table->type->kind == CLICKHOUSE_NULLABLE;
    encoder->value.refused_length = 0;
    *reason = ENCODE_NONE;
    if (presence == PRESENT) {
        if (source->mapped && !apply_map(source, &datum)) {
            encoder->value.refused = datum.kind == DATUM_JSON ? datum.json.text : datum.text;
            encoder->value.refused_length = datum.kind == DATUM_JSON ? datum.json.length : datum.length;
            *reason = ENCODE_NOT_MAPPED;
            return false;
        }
        return value_encode(&encoder->value, target, &datum, reason);
    }
    if (source->optional || (presence == IS_NULL && nullable) ||
        (!message->value && row_plan_reads_value(&encoder->plan, source))) {
        return native_put_default(target); // NULL where the column can hold it
    }
    *reason = presence == IS_NULL ? ENCODE_NULL_VALUE : reason_for_absence(source, message);
    return false;
}

// At most 40 bytes of what was refused, printable ASCII only.
static void quote(const struct value_encoder *value, char *to, size_t room)
{
    size_t length = value->refused_length < 40 ? value->refused_length : 40;
    size_t used = 0;
    to[0] = '\0';
    if (value->refused_length == 0 || room < 60) {
        return;
    }
    memcpy(to, ": \"", 3);
    used = 3;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)value->refused[i];
        to[used++] = c >= 0x20 && c < 0x7F && c != '"' ? (char)c : '?';
    }
    memcpy(to + used, value->refused_length > length ? "\"..." : "\"", value->refused_length > length ? 5 : 2);
}

static bool refuse_column(const struct row_encoder *encoder, const struct plan_column *column,
    enum encode_reason reason, struct relay_error *error)
{
    char excerpt[64];
    if (reason == ENCODE_NONE) {
        return error_no_memory(error, "encoding a row");
    }
    quote(&encoder->value, excerpt, sizeof(excerpt));
    return error_set(error, RELAY_ERROR_ENCODE, "column %s (%.100s) from %.100s: %s%s", column->table->name,
        column->table->type_text, column->source.written, encode_reason_text(reason), excerpt);
}

static bool read_payload(struct row_encoder *encoder, const struct source_message *message, enum encode_reason *reason,
    struct relay_error *error)
{
    const char *why;
    if (encoder->plan.paths->value_count == 0) {
        return true;
    }
    if (!message->value) {
        memset(encoder->values, 0, encoder->plan.paths->value_count * sizeof(*encoder->values));
        return true;
    }
    size_t room = message->value_room > message->value_length ? message->value_room : message->value_length;
    switch (json_reader_read(encoder->reader, encoder->plan.paths, message->value, message->value_length, room,
        encoder->values, &why)) {
    case JSON_OK: return true;
    case JSON_NO_MEMORY: *reason = ENCODE_NONE; return error_no_memory(error, "reading a payload");
    case JSON_BAD: *reason = ENCODE_BAD_JSON; break;
    case JSON_BAD_UTF8: *reason = ENCODE_BAD_UTF8; break;
    case JSON_TOO_DEEP: *reason = ENCODE_TOO_DEEP; break;
    }
    return error_set(error, RELAY_ERROR_ENCODE, "payload of %zu bytes: %s (%.150s)", message->value_length,
        encode_reason_text(*reason), why);
}

static bool add_row(struct row_encoder *encoder, struct native_block *block, const struct source_message *message,
    enum encode_reason *reason, struct relay_error *error)
{
    *reason = ENCODE_NONE;
    if (!read_payload(encoder, message, reason, error)) {
        return false;
    }
    for (size_t i = 0; i < encoder->plan.column_count; i++) {
        const struct plan_column *column = &encoder->plan.columns[i];
        if (!put_column(encoder, column, native_block_column(block, i), message, reason)) {
            native_block_cancel_row(block);
            return refuse_column(encoder, column, *reason, error);
        }
    }
    native_block_end_row(block);
    return true;
}

// Each route has an encoder, and none of them may hold for good what one large message took: many times its size, and
// not counted by [insert] memory_limit.
bool row_encoder_add(struct row_encoder *encoder, struct native_block *block, const struct source_message *message,
    enum encode_reason *reason, struct relay_error *error)
{
    bool added = add_row(encoder, block, message, reason, error);
    if (message->value_length > JSON_READER_KEEPS) {
        json_reader_trim(encoder->reader);
        value_encoder_finish(&encoder->value);
    }
    return added;
}

char *row_encoder_statement(const struct row_encoder *encoder, bool use_input, const char *guard,
    struct relay_error *error)
{
    struct clickhouse_text table = {0};
    struct native_block *block = row_encoder_block(encoder, error);
    char *statement = NULL;
    if (block && !table_schema_add_name(&table, encoder->plan.schema)) {
        error_no_memory(error, "writing an INSERT");
    } else if (block) {
        statement = insert_statement(&table, encoder->names, encoder->plan.column_count, block, use_input, guard,
            error);
    }
    clickhouse_text_finish(&table);
    native_block_free(block);
    return statement;
}
