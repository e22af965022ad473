// SPDX-License-Identifier: Apache-2.0
//
// Rows, gathered column by column, as one block of ClickHouse's Native format (FORMAT Native over HTTP, without block
// info). Values are appended to columns in the row's order; native_block_end_row() makes the row part of the block,
// native_block_cancel_row() takes back what was appended since. Memory is kept over native_block_reset(), so that a
// block in steady use allocates nothing. A block belongs to one thread at a time. It borrows its types.
#ifndef RELAY_CLICKHOUSE_NATIVE_BLOCK_H
#define RELAY_CLICKHOUSE_NATIVE_BLOCK_H

#include "relay/base/error.h"
#include "relay/clickhouse/clickhouse_type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct native_block;
struct native_column;

struct native_block *native_block_new(struct relay_error *error);
void native_block_free(struct native_block *block); // accepts NULL

// Before the first row. name is copied, type is borrowed until native_block_free. NULL: NO_MEMORY.
struct native_column *native_block_add_column(struct native_block *block, const char *name,
    const struct clickhouse_type *type, struct relay_error *error);
struct native_column *native_block_column(struct native_block *block, size_t index);

// Each of these appends to the column the value of the current row; false: out of memory (cancel the row).
// The caller passes what the column's type is made of; widths are checked by assertion, values are not.
bool native_put_fixed(struct native_column *column, const void *value, size_t width); // little endian, as on the wire
bool native_put_string(struct native_column *column, const char *value, size_t length);
bool native_put_fixed_string(struct native_column *column, const char *value, size_t length); // padded with NUL to N
// NULLABLE: native_put_null, or native_put_not_null and then the value into native_inner(column, 0).
bool native_put_null(struct native_column *column);
bool native_put_not_null(struct native_column *column);
// ARRAY: the elements into native_inner(column, 0), then native_put_array_end. MAP: keys into 0, values into 1, then
// the end.
bool native_put_array_end(struct native_column *column);
// TUPLE: one value into each native_inner(column, i).
struct native_column *native_inner(struct native_column *column, size_t index);
const struct clickhouse_type *native_column_type(const struct native_column *column);
// The type's own default: 0, '', the first enum value, NULL, [].
bool native_put_default(struct native_column *column);

// Asserts that every column has got exactly one value.
void native_block_end_row(struct native_block *block);
void native_block_cancel_row(struct native_block *block);
size_t native_block_rows(const struct native_block *block);
size_t native_block_bytes(const struct native_block *block);  // of the finished rows, as on the wire before compression
size_t native_block_memory(const struct native_block *block); // allocated
void native_block_reset(struct native_block *block);          // no rows; memory kept

// The block as pieces for clickhouse_insert: valid until the next change of the block. *count pieces, NULL: NO_MEMORY.
// The pieces belong to the block. A block of no rows gives no pieces.
const struct iovec *native_block_body(struct native_block *block, size_t *count, struct relay_error *error);

// The structure for input('...'): "`a` UInt64, `b` String" (not yet quoted as a literal). malloc'd, the caller frees.
char *native_block_structure(const struct native_block *block, struct relay_error *error);

#endif
