// SPDX-License-Identifier: Apache-2.0
//
// The rows of a query's answer as text cells, parsed from ClickHouse's TabSeparated format
// (clickhouse.com/docs/en/interfaces/formats: TabSeparated). Owns its memory; read-only after its making.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_RESULT_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_RESULT_H

#include "relay/base/error.h"

#include <stddef.h>
#include <stdint.h>

struct clickhouse_result;

// body: malloc'd, length bytes, with room for one byte more; taken over, also on failure. Errors: PROTOCOL (rows of
// different lengths, a cut last row), NO_MEMORY.
struct clickhouse_result *clickhouse_result_new(char *body, size_t length, struct relay_error *error);
void clickhouse_result_free(struct clickhouse_result *result); // accepts NULL

size_t clickhouse_result_rows(const struct clickhouse_result *result);
size_t clickhouse_result_columns(const struct clickhouse_result *result); // 0 when there are no rows
// The cell as NUL-terminated text (may hold further NULs: length); NULL = SQL NULL or no such cell. length may be NULL.
const char *clickhouse_result_text(const struct clickhouse_result *result, size_t row, size_t column, size_t *length);
// The cell as an integer; 0 for NULL and for what is not one.
int64_t clickhouse_result_int(const struct clickhouse_result *result, size_t row, size_t column);
uint64_t clickhouse_result_uint(const struct clickhouse_result *result, size_t row, size_t column);

#endif
