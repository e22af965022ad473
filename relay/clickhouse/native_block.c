// SPDX-License-Identifier: Apache-2.0
//
// The wire: varint columns, varint rows, then for each column its name and type (varint length, bytes) and its data.
// Data of a fixed type: the values one after another; String: varint length and bytes; Nullable: a byte for each row (1
// = NULL), then the inner data, which has a default in place of a NULL; Array: the running end offsets as UInt64, then
// the inner data; Map: as Array(Tuple(key, value)); Tuple: the elements' data one after another. The layout is stable
// and the same on all versions (ClickHouse: src/Formats/NativeWriter.cpp with revision 0). After each row the lengths
// of all buffers are noted; a row that fails midway is taken back by cutting them there.
#include "relay/clickhouse/native_block.h"

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/clickhouse/native_buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct native_column {
    const struct clickhouse_type *type;
    char *header; // top-level columns: name and type as on the wire
    size_t header_length;
    char *structure;           // "`name` Type"
    struct native_buffer data; // values, lengths and bytes, null map, or array offsets
    uint64_t count, marked_count;
    struct native_column *inner;
    size_t inner_count;
};

struct native_block {
    struct native_column **columns;
    size_t column_count;
    size_t rows, bytes;
    struct iovec *pieces;
    size_t piece_room;
    char head[24]; // columns and rows
};

static inline size_t write_varint(char *to, uint64_t value)
{
    size_t length = 0;
    while (value >= 0x80) {
        to[length++] = (char)(value | 0x80);
        value >>= 7;
    }
    to[length++] = (char)value;
    return length;
}

struct native_block *native_block_new(struct relay_error *error)
{
    struct native_block *block = calloc(1, sizeof(*block));
    if (!block) {
        error_no_memory(error, "making a block");
    }
    return block;
}

static void finish_column(struct native_column *column)
{
    for (size_t i = 0; i < column->inner_count; i++) {
        finish_column(&column->inner[i]);
    }
    free(column->inner);
    native_buffer_free(&column->data);
    free(column->header);
    free(column->structure);
}

void native_block_free(struct native_block *block)
{
    if (!block) {
        return;
    }
    for (size_t i = 0; i < block->column_count; i++) {
        finish_column(block->columns[i]);
        free(block->columns[i]);
    }
    free(block->columns);
    free(block->pieces);
    free(block);
}

static bool init_column(struct native_column *column, const struct clickhouse_type *type)
{
    *column = (struct native_column){.type = type};
    if (type->inner_count > 0) {
        column->inner = calloc(type->inner_count, sizeof(*column->inner));
        if (!column->inner) {
            return false;
        }
    }
    for (size_t i = 0; i < type->inner_count; i++) {
        column->inner_count++; // first, so that finish_column sees what a failed one holds
        if (!init_column(&column->inner[i], type->inner[i])) {
            return false;
        }
    }
    return true;
}

static bool make_header(struct native_column *column, const char *name)
{
    struct clickhouse_text structure = {0};
    char *wire = clickhouse_type_wire(column->type);
    if (!wire) {
        return false;
    }
    size_t name_length = strlen(name), wire_length = strlen(wire);
    column->header = malloc(name_length + wire_length + 20);
    bool done = column->header && clickhouse_text_name(&structure, name) &&
        clickhouse_text_add(&structure, " %s", wire);
    if (done) {
        size_t at = write_varint(column->header, name_length);
        memcpy(column->header + at, name, name_length);
        at += name_length;
        at += write_varint(column->header + at, wire_length);
        memcpy(column->header + at, wire, wire_length);
        column->header_length = at + wire_length;
        column->structure = structure.at;
    } else {
        clickhouse_text_finish(&structure);
    }
    free(wire);
    return done;
}

struct native_column *native_block_add_column(struct native_block *block, const char *name,
    const struct clickhouse_type *type, struct relay_error *error)
{
    assert(block->rows == 0);
    struct native_column *column = calloc(1, sizeof(*column));
    struct native_column **columns = reallocarray(block->columns, block->column_count + 1,
        sizeof(struct native_column *));
    if (columns) {
        block->columns = columns;
    }
    if (!column || !columns || !init_column(column, type) || !make_header(column, name)) {
        if (column) {
            finish_column(column);
            free(column);
        }
        error_no_memory(error, "making a block");
        return NULL;
    }
    columns[block->column_count++] = column;
    return column;
}

struct native_column *native_block_column(struct native_block *block, size_t index)
{
    assert(index < block->column_count);
    return block->columns[index];
}

struct native_column *native_inner(struct native_column *column, size_t index)
{
    assert(index < column->inner_count);
    return &column->inner[index];
}

const struct clickhouse_type *native_column_type(const struct native_column *column)
{
    return column->type;
}

bool native_put_fixed(struct native_column *column, const void *value, size_t width)
{
    assert(width == column->type->width && column->inner_count == 0);
    if (!native_buffer_reserve(&column->data, width)) {
        return false;
    }
    memcpy(column->data.at + column->data.length, value, width);
    column->data.length += width;
    column->count++;
    return true;
}

bool native_put_string(struct native_column *column, const char *value, size_t length)
{
    assert(column->type->kind == CLICKHOUSE_STRING || column->type->kind == CLICKHOUSE_JSON);
    if (!native_buffer_reserve(&column->data, length + 10)) {
        return false;
    }
    char *to = column->data.at + column->data.length;
    size_t head = write_varint(to, length);
    if (length > 0) {
        memcpy(to + head, value, length);
    }
    column->data.length += head + length;
    column->count++;
    return true;
}

bool native_put_fixed_string(struct native_column *column, const char *value, size_t length)
{
    size_t width = column->type->width;
    assert(column->type->kind == CLICKHOUSE_FIXED_STRING && length <= width);
    if (!native_buffer_reserve(&column->data, width)) {
        return false;
    }
    char *to = column->data.at + column->data.length;
    if (length > 0) {
        memcpy(to, value, length);
    }
    memset(to + length, 0, width - length);
    column->data.length += width;
    column->count++;
    return true;
}

static bool put_null_flag(struct native_column *column, char flag)
{
    assert(column->type->kind == CLICKHOUSE_NULLABLE);
    if (!native_buffer_reserve(&column->data, 1)) {
        return false;
    }
    column->data.at[column->data.length++] = flag;
    column->count++;
    return true;
}

bool native_put_null(struct native_column *column)
{
    return put_null_flag(column, 1) && native_put_default(&column->inner[0]);
}

bool native_put_not_null(struct native_column *column)
{
    return put_null_flag(column, 0);
}

// A tuple counts by its elements.
static uint64_t column_rows(const struct native_column *column)
{
    while (column->type->kind == CLICKHOUSE_TUPLE) {
        column = &column->inner[0];
    }
    return column->count;
}

bool native_put_array_end(struct native_column *column)
{
    assert(column->type->kind == CLICKHOUSE_ARRAY || column->type->kind == CLICKHOUSE_MAP);
    uint64_t end = column_rows(&column->inner[0]);
    assert(column->inner_count == 1 || column_rows(&column->inner[1]) == end);
    if (!native_buffer_reserve(&column->data, sizeof(end))) {
        return false;
    }
    memcpy(column->data.at + column->data.length, &end, sizeof(end));
    column->data.length += sizeof(end);
    column->count++;
    return true;
}

static bool put_default_enum(struct native_column *column)
{
    int16_t lowest = INT16_MAX;
    for (size_t i = 0; i < column->type->enum_count; i++) {
        lowest = column->type->enums[i].value < lowest ? column->type->enums[i].value : lowest;
    }
    return native_put_fixed(column, &lowest, column->type->width); // little endian: the low byte comes first
}

bool native_put_default(struct native_column *column)
{
    static const char zero[32] = {0};
    static const int32_t date32_default = -25567; // 1900-01-01, where the type begins, as the server has it
    switch (column->type->kind) {
    case CLICKHOUSE_STRING: return native_put_string(column, "", 0);
    case CLICKHOUSE_JSON: return native_put_string(column, "{}", 2);
    case CLICKHOUSE_FIXED_STRING: return native_put_fixed_string(column, "", 0);
    case CLICKHOUSE_ENUM: return put_default_enum(column);
    case CLICKHOUSE_DATE32: return native_put_fixed(column, &date32_default, sizeof(date32_default));
    case CLICKHOUSE_NULLABLE: return native_put_null(column);
    case CLICKHOUSE_ARRAY:
    case CLICKHOUSE_MAP: return native_put_array_end(column);
    case CLICKHOUSE_TUPLE:
        for (size_t i = 0; i < column->inner_count; i++) {
            if (!native_put_default(&column->inner[i])) {
                return false;
            }
        }
        return true;
    case CLICKHOUSE_INT:
    case CLICKHOUSE_UINT:
    case CLICKHOUSE_FLOAT:
    case CLICKHOUSE_BOOL:
    case CLICKHOUSE_UUID:
    case CLICKHOUSE_DATE:
    case CLICKHOUSE_DATETIME:
    case CLICKHOUSE_DATETIME64:
    case CLICKHOUSE_DECIMAL:
    case CLICKHOUSE_IPV4:
    case CLICKHOUSE_IPV6: break;
    }
    return native_put_fixed(column, zero, column->type->width);
}

static size_t mark_column(struct native_column *column)
{
    column->data.marked = column->data.length;
    column->marked_count = column->count;
    size_t bytes = column->data.length;
    for (size_t i = 0; i < column->inner_count; i++) {
        bytes += mark_column(&column->inner[i]);
    }
    return bytes;
}

static void cut_column(struct native_column *column)
{
    column->data.length = column->data.marked;
    column->count = column->marked_count;
    for (size_t i = 0; i < column->inner_count; i++) {
        cut_column(&column->inner[i]);
    }
}

void native_block_end_row(struct native_block *block)
{
    block->rows++;
    size_t bytes = 0;
    for (size_t i = 0; i < block->column_count; i++) {
        assert(column_rows(block->columns[i]) == block->rows);
        bytes += mark_column(block->columns[i]);
    }
    block->bytes = bytes;
}

void native_block_cancel_row(struct native_block *block)
{
    for (size_t i = 0; i < block->column_count; i++) {
        cut_column(block->columns[i]);
    }
}

size_t native_block_rows(const struct native_block *block)
{
    return block->rows;
}

size_t native_block_bytes(const struct native_block *block)
{
    return block->bytes;
}

static size_t column_memory(const struct native_column *column)
{
    size_t memory = column->data.room;
    for (size_t i = 0; i < column->inner_count; i++) {
        memory += column_memory(&column->inner[i]);
    }
    return memory;
}

size_t native_block_memory(const struct native_block *block)
{
    size_t memory = 0;
    for (size_t i = 0; i < block->column_count; i++) {
        memory += column_memory(block->columns[i]);
    }
    return memory;
}

static void reset_column(struct native_column *column)
{
    column->data.length = column->data.marked = 0;
    column->count = column->marked_count = 0;
    for (size_t i = 0; i < column->inner_count; i++) {
        reset_column(&column->inner[i]);
    }
}

void native_block_reset(struct native_block *block)
{
    for (size_t i = 0; i < block->column_count; i++) {
        reset_column(block->columns[i]);
    }
    block->rows = block->bytes = 0;
}

static size_t count_buffers(const struct native_column *column)
{
    size_t count = 1;
    for (size_t i = 0; i < column->inner_count; i++) {
        count += count_buffers(&column->inner[i]);
    }
    return count;
}

static void add_pieces(const struct native_column *column, struct iovec *pieces, size_t *used)
{
    if (column->data.marked > 0) {
        pieces[(*used)++] = (struct iovec){.iov_base = column->data.at, .iov_len = column->data.marked};
    }
    for (size_t i = 0; i < column->inner_count; i++) {
        add_pieces(&column->inner[i], pieces, used);
    }
}

const struct iovec *native_block_body(struct native_block *block, size_t *count, struct relay_error *error)
{
    size_t room = 1;
    for (size_t i = 0; i < block->column_count; i++) {
        room += 1 + count_buffers(block->columns[i]);
    }
    if (room > block->piece_room) {
        struct iovec *pieces = reallocarray(block->pieces, room, sizeof(*pieces));
        if (!pieces) {
            error_no_memory(error, "sending a block");
            return NULL;
        }
        block->pieces = pieces;
        block->piece_room = room;
    }
    *count = 0;
    if (block->rows == 0) {
        return block->pieces;
    }
    size_t head = write_varint(block->head, block->column_count);
    head += write_varint(block->head + head, block->rows);
    block->pieces[(*count)++] = (struct iovec){.iov_base = block->head, .iov_len = head};
    for (size_t i = 0; i < block->column_count; i++) {
        struct native_column *column = block->columns[i];
        block->pieces[(*count)++] = (struct iovec){.iov_base = column->header, .iov_len = column->header_length};
        add_pieces(column, block->pieces, count);
    }
    return block->pieces;
}

char *native_block_structure(const struct native_block *block, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    for (size_t i = 0; i < block->column_count; i++) {
        if (!clickhouse_text_add(&text, "%s%s", i > 0 ? ", " : "", block->columns[i]->structure)) {
            clickhouse_text_finish(&text);
            error_no_memory(error, "describing a block");
            return NULL;
        }
    }
    return text.at;
}
