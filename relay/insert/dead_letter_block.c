// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/dead_letter_block.h"

#include "relay/insert/insert_statement.h"

#include <stdlib.h>
#include <string.h>

// The types as sent; the server converts to those of the table (LowCardinality and the like). The last is left out
// where the table does not have it.
enum { TARGET, TOPIC, PARTITION, OFFSET, KEY, VALUE, HEADERS, REASON, CODE, TEXT, TIMESTAMP, COLUMNS };
static const struct {
    const char *name, *type;
} columns[COLUMNS] = {
    [TARGET] = {"target", "String"},
    [TOPIC] = {"kafka_topic", "String"},
    [PARTITION] = {"kafka_partition", "Int32"},
    [OFFSET] = {"kafka_offset", "Int64"},
    [KEY] = {"key", "Nullable(String)"},
    [VALUE] = {"value", "Nullable(String)"},
    [HEADERS] = {"headers", "Array(Tuple(String, Nullable(String)))"},
    [REASON] = {"reason", "String"},
    [CODE] = {"code", "String"},
    [TEXT] = {"text", "String"},
    [TIMESTAMP] = {DEAD_LETTER_TIMESTAMP, "Nullable(DateTime64(3, 'UTC'))"},
};

struct dead_letter_block {
    struct clickhouse_type *types[COLUMNS];
    struct native_block *rows;
    size_t columns;
};

struct dead_letter_block *dead_letter_block_new(bool has_timestamp, struct relay_error *error)
{
    struct dead_letter_block *block = calloc(1, sizeof(*block));
    if (!block) {
        error_no_memory(error, "making a block of dead letters");
        return NULL;
    }
    block->columns = has_timestamp ? COLUMNS : TIMESTAMP;
    block->rows = native_block_new(error);
    for (size_t i = 0; block->rows && i < block->columns; i++) {
        block->types[i] = clickhouse_type_parse(columns[i].type, strlen(columns[i].type), error);
        if (!block->types[i] || !native_block_add_column(block->rows, columns[i].name, block->types[i], error)) {
            goto failed;
        }
    }
    if (block->rows) {
        return block;
    }

failed:
    dead_letter_block_free(block);
    return NULL;
}

void dead_letter_block_free(struct dead_letter_block *block)
{
    if (!block) {
        return;
    }
    native_block_free(block->rows); // before its types
    for (size_t i = 0; i < COLUMNS; i++) {
        clickhouse_type_free(block->types[i]);
    }
    free(block);
}

struct native_block *dead_letter_block_rows(struct dead_letter_block *block)
{
    return block->rows;
}

static bool put_text(struct native_block *rows, size_t column, const char *text)
{
    return native_put_string(native_block_column(rows, column), text, strlen(text));
}

static bool put_bytes_or_null(struct native_column *column, const char *bytes, size_t length)
{
    return bytes ? native_put_not_null(column) && native_put_string(native_inner(column, 0), bytes, length)
                 : native_put_null(column);
}

static bool put_headers(struct native_column *column, const struct source_message *message)
{
    struct native_column *pair = native_inner(column, 0);
    for (size_t i = 0; i < message->header_count; i++) {
        const struct source_header *header = &message->headers[i];
        if (!native_put_string(native_inner(pair, 0), header->name, strlen(header->name)) ||
            !put_bytes_or_null(native_inner(pair, 1), header->value, header->length)) {
            return false;
        }
    }
    return native_put_array_end(column);
}

// -1: it has none.
static bool put_timestamp(const struct dead_letter_block *block, int64_t ms)
{
    if (block->columns <= TIMESTAMP) {
        return true;
    }
    struct native_column *column = native_block_column(block->rows, TIMESTAMP);
    return ms < 0 ? native_put_null(column)
                  : native_put_not_null(column) && native_put_fixed(native_inner(column, 0), &ms, sizeof(ms));
}

bool dead_letter_block_add(struct dead_letter_block *block, const char *target, const struct source_message *message,
    const char *reason, const char *code, const char *text, struct relay_error *error)
{
    struct native_block *rows = block->rows;
    if (put_text(rows, TARGET, target) && put_text(rows, TOPIC, message->topic) &&
        native_put_fixed(native_block_column(rows, PARTITION), &message->partition, sizeof(message->partition)) &&
        native_put_fixed(native_block_column(rows, OFFSET), &message->offset, sizeof(message->offset)) &&
        put_bytes_or_null(native_block_column(rows, KEY), message->key, message->key_length) &&
        put_bytes_or_null(native_block_column(rows, VALUE), message->value, message->value_length) &&
        put_headers(native_block_column(rows, HEADERS), message) && put_text(rows, REASON, reason) &&
        put_text(rows, CODE, code) && put_text(rows, TEXT, text) && put_timestamp(block, message->timestamp_ms)) {
        native_block_end_row(rows);
        return true;
    }
    native_block_cancel_row(rows);
    return error_no_memory(error, "keeping a dead letter");
}

char *dead_letter_statement(struct dead_letter_block *block, const char *table, bool use_input, const char *guard,
    struct relay_error *error)
{
    const char *names[COLUMNS];
    struct clickhouse_text quoted = {0};
    char *statement = NULL;
    for (size_t i = 0; i < COLUMNS; i++) {
        names[i] = columns[i].name;
    }
    if (!clickhouse_text_table(&quoted, table)) {
        error_no_memory(error, "writing an INSERT");
    } else {
        statement = insert_statement(&quoted, names, block->columns, block->rows, use_input, guard, error);
    }
    clickhouse_text_finish(&quoted);
    return statement;
}
