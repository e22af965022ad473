// SPDX-License-Identifier: Apache-2.0
//
// The plan is a list of columns, each with its source. For a message the payload is read once (only where some column
// wants a place in it), then each column takes its datum and puts it into the block. The first column that refuses
// takes the whole row back and names itself in the error. In the steady state nothing is allocated.
#include "relay/insert/row_encoder.h"

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/config/route_source.h"
#include "relay/insert/column_zone.h"
#include "relay/insert/value_encoder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan_column {
    const struct table_column *table; // the schema's
    struct route_source source;
    size_t path; // PATH: index of the value
};

struct row_encoder {
    const struct table_schema *schema;
    struct plan_column *columns;
    size_t column_count;
    const char **names; // of the columns, the schema's
    struct json_paths *paths;
    struct json_reader *reader;
    struct json_value *values;
    struct value_encoder value;
    bool reads_headers;
    enum config_tombstones tombstones;
};

// The columns of the default table. Those that are `lenient` are left out where the table does not have them.
static const struct {
    const char *column, *source;
    bool lenient;
} default_columns[] = {
    {"event_id", "header.event_id", false}, {"event_type", "header.event_type", false},
    {"aggregate_type", "header.aggregate_type", false}, {"aggregate_id", "header.aggregate_id", false},
    {"payload", "kafka.value?", false}, {"created_at", "header.created_at", false},
    {"seq", "header.seq?", true}, // publishers other than ours have none
};
// Every table that has them gets them: they are what exactly_once reads back.
static const struct {
    const char *column, *source;
    enum route_place place;
} offset_columns[] = {
    {"kafka_topic", "kafka.topic", ROUTE_TOPIC},
    {"kafka_partition", "kafka.partition", ROUTE_PARTITION},
    {"kafka_offset", "kafka.offset", ROUTE_OFFSET},
};

// While compiling.
struct compiler {
    struct row_encoder *encoder;
    struct table_findings *findings; // may be NULL
    size_t fatal;
    struct relay_error *error;
};

static bool add_finding(struct compiler *compiler, bool fatal, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool add_finding(struct compiler *compiler, bool fatal, const char *hint, const char *format, ...)
{
    char what[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    if (fatal && compiler->fatal++ == 0) {
        const struct table_schema *schema = compiler->encoder->schema;
        error_set(compiler->error, RELAY_ERROR_CLICKHOUSE_OPERATOR, "table %s.%s: %s", schema->database, schema->table,
            what);
    }
    if (!compiler->findings) {
        return true;
    }
    return table_findings_add(compiler->findings, fatal, false, what, hint) ||
        error_no_memory(compiler->error, "compiling a route");
}

static enum datum_kind datum_of(const struct route_source *source)
{
    if (source->mapped) {
        return DATUM_TEXT;
    }
    switch (source->place) {
    case ROUTE_PATH: return DATUM_JSON;
    case ROUTE_PARTITION:
    case ROUTE_OFFSET: return DATUM_INTEGER;
    case ROUTE_TIMESTAMP: return DATUM_MILLIS;
    case ROUTE_HEADER:
    case ROUTE_TOPIC:
    case ROUTE_KEY:
    case ROUTE_VALUE:
    case ROUTE_CONSTANT: break;
    }
    return DATUM_TEXT;
}

// Tries a constant text (of the source or of its map) on the column. An unfit one is a finding.
static bool try_constant(struct compiler *compiler, const struct plan_column *column, const struct route_text *text)
{
    struct native_block *block = native_block_new(compiler->error);
    struct native_column *target = block
        ? native_block_add_column(block, column->table->name, column->table->type, compiler->error)
        : NULL;
    if (!target) {
        native_block_free(block);
        return false;
    }
    struct datum datum = {.kind = DATUM_TEXT, .text = text->at, .length = text->length};
    enum encode_reason reason;
    bool done = value_encode(&compiler->encoder->value, target, &datum, &reason);
    if (!done && reason != ENCODE_NONE) {
        done = add_finding(compiler, true, "change the route", "column %s (%s) cannot take the constant '%.60s': %s",
            column->table->name, column->table->type_text, text->at, encode_reason_text(reason));
    } else if (!done) {
        error_no_memory(compiler->error, "compiling a route");
    }
    native_block_free(block);
    return done;
}

static bool check_constants(struct compiler *compiler, const struct plan_column *column)
{
    const struct route_source *source = &column->source;
    if (!source->mapped) {
        return source->place != ROUTE_CONSTANT || try_constant(compiler, column, &source->name);
    }
    for (size_t i = 0; i < source->entry_count; i++) {
        if (!try_constant(compiler, column, &source->to[i])) {
            return false;
        }
    }
    return !source->has_otherwise || try_constant(compiler, column, &source->otherwise);
}

// CREATE TABLE makes columns `name.x`, `name.y` of a Nested, unless told otherwise.
static bool is_flattened(const struct table_schema *schema, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < schema->column_count; i++) {
        if (strncmp(schema->columns[i].name, name, length) == 0 && schema->columns[i].name[length] == '.') {
            return true;
        }
    }
    return false;
}

static bool report_missing_column(struct compiler *compiler, const char *name)
{
    char hint[300];
    if (is_flattened(compiler->encoder->schema, name)) {
        return add_finding(compiler, true,
            "fill an Array(Tuple(...)) column of another name, or make the table with SET flatten_nested = 0",
            "the route fills column %s, of which the table has a column for each element (a Nested, flattened)", name);
    }
    snprintf(hint, sizeof(hint), "ALTER TABLE ... ADD COLUMN `%.100s` ..., or take it out of the route", name);
    return add_finding(compiler, true, hint, "the route fills column %s, which the table does not have", name);
}

// Whether the column can be filled at all; a finding if not. *fit tells.
static bool check_column(struct compiler *compiler, const char *name, const struct table_column *table,
    const struct route_source *source, bool *fit)
{
    *fit = false;
    if (!table) {
        return report_missing_column(compiler, name);
    }
    if (table->default_kind == TABLE_DEFAULT_MATERIALIZED || table->default_kind == TABLE_DEFAULT_ALIAS) {
        return add_finding(compiler, true, "take it out of the route", "column %s is computed by the server", name);
    }
    if (!table->type) {
        return add_finding(compiler, true, "change the column's type or take it out of the route", "column %s: %s",
            name, table->type_problem);
    }
    if (!value_fits(datum_of(source), table->type)) {
        return add_finding(compiler, true, "change the route or the column's type",
            "column %s (%s) cannot be filled from %s", name, table->type_text, source->written);
    }
    for (size_t i = 0; i < compiler->encoder->column_count; i++) {
        if (compiler->encoder->columns[i].table == table) {
            return add_finding(compiler, true, "keep one of them", "the route fills column %s twice", name);
        }
    }
    *fit = true;
    return true;
}

// Adds `name = text` to the plan, or a finding. false: out of memory.
static bool add_column(struct compiler *compiler, const char *name, const char *text)
{
    struct row_encoder *encoder = compiler->encoder;
    struct relay_error why;
    struct plan_column column = {.table = table_schema_column(encoder->schema, name)};
    if (!route_source_parse(text, &column.source, &why)) {
        return why.code != RELAY_ERROR_NO_MEMORY
            ? add_finding(compiler, true, "see docs/routes.md", "column %s: %s", name, why.text)
            : error_no_memory(compiler->error, "compiling a route");
    }
    bool fit = false;
    bool done = check_column(compiler, name, column.table, &column.source, &fit);
    if (!done || !fit) {
        route_source_finish(&column.source);
        return done;
    }
    if (column.source.place == ROUTE_PATH &&
        !json_paths_add(encoder->paths, column.source.name.at, column.source.name.length, &column.path, &why)) {
        done = why.code != RELAY_ERROR_NO_MEMORY
            ? add_finding(compiler, true, "see docs/routes.md", "column %s: %s", name, why.text)
            : error_no_memory(compiler->error, "compiling a route");
        route_source_finish(&column.source);
        return done;
    }
    struct plan_column *columns = reallocarray(encoder->columns, encoder->column_count + 1, sizeof(*columns));
    if (!columns) {
        route_source_finish(&column.source);
        return error_no_memory(compiler->error, "compiling a route");
    }
    encoder->columns = columns;
    columns[encoder->column_count++] = column;
    encoder->reads_headers = encoder->reads_headers || column.source.place == ROUTE_HEADER;
    return check_constants(compiler, &columns[encoder->column_count - 1]);
}

// NULL: nothing fills it.
static const struct plan_column *planned(const struct row_encoder *encoder, const struct table_column *column)
{
    for (size_t i = 0; i < encoder->column_count; i++) {
        if (encoder->columns[i].table == column) {
            return &encoder->columns[i];
        }
    }
    return NULL;
}

static bool add_columns(struct compiler *compiler, const struct config_route *route)
{
    const struct table_schema *schema = compiler->encoder->schema;
    for (size_t i = 0; i < route->column_count; i++) {
        if (!add_column(compiler, route->columns[i].name, route->columns[i].value)) {
            return false;
        }
    }
    for (size_t i = 0; route->column_count == 0 && i < sizeof(default_columns) / sizeof(default_columns[0]); i++) {
        bool leave_out = default_columns[i].lenient && !table_schema_column(schema, default_columns[i].column);
        if (!leave_out && !add_column(compiler, default_columns[i].column, default_columns[i].source)) {
            return false;
        }
    }
    for (size_t i = 0; schema->has_offset_columns && i < sizeof(offset_columns) / sizeof(offset_columns[0]); i++) {
        if (!planned(compiler->encoder, table_schema_column(schema, offset_columns[i].column)) &&
            !add_column(compiler, offset_columns[i].column, offset_columns[i].source)) {
            return false;
        }
    }
    return true;
}

// A route may fill these columns from elsewhere (the topic that a mirror copies, say); its rows cannot be found again.
static bool report_foreign_offsets(struct compiler *compiler)
{
    const struct table_schema *schema = compiler->encoder->schema;
    size_t count = schema->has_offset_columns && compiler->findings ? sizeof(offset_columns) / sizeof(offset_columns[0])
                                                                    : 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = offset_columns[i].column;
        const struct plan_column *column = planned(compiler->encoder, table_schema_column(schema, name));
        if (!column || (column->source.place == offset_columns[i].place && !column->source.mapped)) {
            continue;
        }
        char what[400];
        snprintf(what, sizeof(what), "the route fills column %s from %.100s%s, not from %s: rows cannot be found again",
            name, column->source.written, column->source.mapped ? " by a map" : "", offset_columns[i].source);
        if (!table_findings_add(compiler->findings, false, true, what,
                "take it out of the route; a column of another name can hold that value")) {
            return error_no_memory(compiler->error, "compiling a route");
        }
    }
    return true;
}

// Whether the route means to fill it; where it is not planned all the same, a finding has said why.
static bool is_named(const struct config_route *route, const char *column)
{
    for (size_t i = 0; i < route->column_count; i++) {
        if (strcmp(route->columns[i].name, column) == 0) {
            return true;
        }
    }
    for (size_t i = 0; route->column_count == 0 && i < sizeof(default_columns) / sizeof(default_columns[0]); i++) {
        if (strcmp(default_columns[i].column, column) == 0) {
            return true;
        }
    }
    return false;
}

// Columns of the table that nobody fills: the server puts their default there; worth a word where they have none.
static bool report_unfilled(struct compiler *compiler, const struct config_route *route)
{
    const struct table_schema *schema = compiler->encoder->schema;
    for (size_t i = 0; i < schema->column_count; i++) {
        const struct table_column *column = &schema->columns[i];
        if (column->default_kind == TABLE_DEFAULT_NONE && !planned(compiler->encoder, column) &&
            !is_named(route, column->name) &&
            !add_finding(compiler, false, "fill it in the route, or give it a DEFAULT",
                "column %s (%s) is not filled by the route and has no DEFAULT: it will be empty", column->name,
                column->type_text)) {
            return false;
        }
    }
    return true;
}

// A tombstone has none of what the column reads, and the route makes a row of it.
static bool reads_value(const struct row_encoder *encoder, const struct route_source *source)
{
    return encoder->tombstones == CONFIG_TOMBSTONES_ROW &&
        (source->place == ROUTE_PATH || source->place == ROUTE_VALUE);
}

// A missing value is stored, so the server's DEFAULT does not apply; what is stored may decide over the whole row.
static bool report_stored_defaults(struct compiler *compiler)
{
    const struct row_encoder *encoder = compiler->encoder;
    for (size_t i = 0; i < encoder->column_count; i++) {
        const struct plan_column *column = &encoder->columns[i];
        const struct table_column *table = column->table;
        if (table->type->kind == CLICKHOUSE_NULLABLE ||
            !(column->source.optional || reads_value(encoder, &column->source))) {
            continue;
        }
        const char *harm = table_schema_lives_by(encoder->schema, table) ? "by which the TTL may remove the row at once"
            : table->in_partition_key                                    ? "which chooses the row's partition"
            : table->default_kind == TABLE_DEFAULT                       ? "and not the column's DEFAULT"
                                                                         : NULL;
        if (harm &&
            !add_finding(compiler, false,
                "make the column Nullable, or fill it from what every message has (of times, kafka.timestamp)",
                "column %s (%s): where %.100s is missing, the type's default (0, '', 1970-01-01) is stored, %s",
                table->name, table->type_text, column->source.written, harm)) {
            return false;
        }
    }
    return true;
}

static bool report_zones(struct compiler *compiler)
{
    const struct row_encoder *encoder = compiler->encoder;
    for (size_t i = 0; i < encoder->column_count; i++) {
        const struct plan_column *column = &encoder->columns[i];
        const char *zone = column_zone_differs(column->table->type, &column->source);
        if (zone &&
            !add_finding(compiler, false,
                "send times with an offset; or fill a String column, from which the server computes the time",
                "column %s (%s): times without an offset from %.100s are read as UTC, not in %.60s as ClickHouse does",
                column->table->name, column->table->type_text, column->source.written, zone)) {
            return false;
        }
    }
    return true;
}

static bool allocate_working_parts(struct row_encoder *encoder)
{
    encoder->values = calloc(encoder->paths->value_count + 1, sizeof(*encoder->values));
    encoder->names = calloc(encoder->column_count + 1, sizeof(const char *));
    encoder->reader = json_reader_new();
    if (!encoder->values || !encoder->names || !encoder->reader) {
        return false;
    }
    for (size_t i = 0; i < encoder->column_count; i++) {
        encoder->names[i] = encoder->columns[i].table->name;
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
    struct compiler compiler = {.encoder = encoder, .findings = findings, .error = error};
    encoder->schema = schema;
    encoder->tombstones = route->tombstones;
    value_encoder_init(&encoder->value);
    encoder->paths = json_paths_new(error);
    if (!encoder->paths || !add_columns(&compiler, route) || !report_unfilled(&compiler, route) ||
        !report_stored_defaults(&compiler) || !report_zones(&compiler) || !report_foreign_offsets(&compiler)) {
        goto failed;
    }
    if (compiler.fatal > 0) {
        if (compiler.fatal > 1) {
            error_prefix(error, "route %s: %zu mistakes, the first", route->name, compiler.fatal);
        } else {
            error_prefix(error, "route %s", route->name);
        }
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
    for (size_t i = 0; i < encoder->column_count; i++) {
        route_source_finish(&encoder->columns[i].source);
    }
    free(encoder->columns);
    free(encoder->names);
    free(encoder->values);
    json_paths_free(encoder->paths);
    json_reader_free(encoder->reader);
    value_encoder_finish(&encoder->value);
    free(encoder);
}

struct native_block *row_encoder_block(const struct row_encoder *encoder, struct relay_error *error)
{
    struct native_block *block = native_block_new(error);
    for (size_t i = 0; block && i < encoder->column_count; i++) {
        const struct table_column *column = encoder->columns[i].table;
        if (!native_block_add_column(block, column->name, column->type, error)) {
            native_block_free(block);
            return NULL;
        }
    }
    return block;
}

const char *const *row_encoder_columns(const struct row_encoder *encoder, size_t *count)
{
    *count = encoder->column_count;
    return encoder->names;
}

bool row_encoder_skips(const struct row_encoder *encoder, const struct source_message *message)
{
    return !message->value && encoder->tombstones == CONFIG_TOMBSTONES_SKIP;
}

bool row_encoder_reads_headers(const struct row_encoder *encoder)
{
    return encoder->reads_headers;
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
    if (source->optional || (presence == IS_NULL && nullable) || (!message->value && reads_value(encoder, source))) {
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
    if (encoder->paths->value_count == 0) {
        return true;
    }
    if (!message->value) {
        memset(encoder->values, 0, encoder->paths->value_count * sizeof(*encoder->values));
        return true;
    }
    size_t room = message->value_room > message->value_length ? message->value_room : message->value_length;
    switch (json_reader_read(encoder->reader, encoder->paths, message->value, message->value_length, room,
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
    for (size_t i = 0; i < encoder->column_count; i++) {
        const struct plan_column *column = &encoder->columns[i];
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

static bool write_columns(const struct row_encoder *encoder, struct clickhouse_text *text)
{
    for (size_t i = 0; i < encoder->column_count; i++) {
        if ((i > 0 && !clickhouse_text_add(text, ", ")) ||
            !clickhouse_text_name(text, encoder->columns[i].table->name)) {
            return false;
        }
    }
    return true;
}

char *row_encoder_statement(const struct row_encoder *encoder, bool use_input, const char *guard,
    struct relay_error *error)
{
    const struct table_schema *schema = encoder->schema;
    struct clickhouse_text text = {0};
    struct native_block *block = row_encoder_block(encoder, error);
    char *structure = block ? native_block_structure(block, error) : NULL;
    bool done = structure && clickhouse_text_add(&text, "INSERT INTO ") && table_schema_add_name(&text, schema) &&
        clickhouse_text_add(&text, " (") && write_columns(encoder, &text) && clickhouse_text_add(&text, ")");
    if (done && use_input) {
        done = clickhouse_text_add(&text, " SELECT ") && write_columns(encoder, &text) &&
            clickhouse_text_add(&text, " FROM input(") &&
            clickhouse_text_literal(&text, structure, strlen(structure)) && clickhouse_text_add(&text, ")") &&
            (!guard || clickhouse_text_add(&text, " WHERE %s", guard));
    }
    done = done && clickhouse_text_add(&text, " FORMAT Native");
    free(structure);
    native_block_free(block);
    if (!done) {
        clickhouse_text_finish(&text);
        error_no_memory(error, "writing an INSERT");
        return NULL;
    }
    return text.at;
}
