// SPDX-License-Identifier: Apache-2.0
//
// From a Kafka message to one row of a native_block, by a plan compiled from a route and the table's schema. The encoder
// is the validator: what it accepts, the server stores; everything else is refused with a reason that names column,
// source and kind, quoting at most a short, printable piece of the value. It never changes a value in silence: no
// rounding, no wrapping, no cutting. An encoder belongs to one thread; several blocks may be filled by turns.
// The syntax of `column = source` is in docs/routes.md.
#ifndef RELAY_INSERT_ROW_ENCODER_H
#define RELAY_INSERT_ROW_ENCODER_H

#include "relay/config/config.h"
#include "relay/insert/native_block.h"
#include "relay/insert/source_message.h"
#include "relay/insert/table_schema.h"

#include <stdbool.h>
#include <stddef.h>

// reason, its name in metrics, dead letters and docs, sentence
#define ENCODE_REASONS(X)                                                                                              \
    X(NONE, "none", "the row was encoded")                                                                             \
    X(MISSING_HEADER, "missing_header", "a header that the route needs is not there")                                  \
    X(MISSING_PATH, "missing_path", "a member that the route needs is not in the payload")                             \
    X(MISSING_VALUE, "missing_value", "the message has no key, value or timestamp")                                    \
    X(NULL_VALUE, "null_value", "null for a column that is not Nullable")                                              \
    X(BAD_JSON, "bad_json", "the payload is not JSON")                                                                 \
    X(BAD_UTF8, "bad_utf8", "the payload is not UTF-8")                                                                \
    X(TOO_DEEP, "too_deep", "the payload is nested too deeply")                                                        \
    X(WRONG_KIND, "wrong_kind", "the value is of a kind that the column cannot take")                                  \
    X(OUT_OF_RANGE, "out_of_range", "the number is outside of the column's range")                                     \
    X(NOT_EXACT, "not_exact", "the number would lose digits in the column")                                            \
    X(BAD_NUMBER, "bad_number", "the text is not a number")                                                            \
    X(BAD_UUID, "bad_uuid", "the text is not a UUID")                                                                  \
    X(BAD_DATE, "bad_date", "the text is not a date or time")                                                          \
    X(DATE_RANGE, "date_range", "the date or time is outside of the column's range")                                   \
    X(BAD_ADDRESS, "bad_address", "the text is not an IP address")                                                     \
    X(UNKNOWN_ENUM, "unknown_enum", "the column's Enum has no such value")                                             \
    X(TOO_LONG, "too_long", "the text is longer than the column")                                                      \
    X(NOT_MAPPED, "not_mapped", "the route's map has no entry for the value")                                          \
    X(TUPLE_SHAPE, "tuple_shape", "the value does not have the tuple's elements")                                      \
    X(REJECTED, "rejected", "ClickHouse refused the row")

enum encode_reason {
#define X(id, name, text) ENCODE_##id,
    ENCODE_REASONS(X)
#undef X
    ENCODE_REASON_COUNT
};
const char *encode_reason_name(enum encode_reason reason); // static
const char *encode_reason_text(enum encode_reason reason); // static

struct row_encoder;

// Compiles the plan. Columns of the route that the table lacks, columns of the table that must be filled and are not, types
// that do not fit and mistakes in the syntax are all appended to findings (may be NULL); then NULL and CLICKHOUSE_OPERATOR.
// Copies what it keeps, except the schema, which must outlive the encoder. Errors: CLICKHOUSE_OPERATOR, NO_MEMORY.
struct row_encoder *row_encoder_new(const struct config_route *route, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error);
void row_encoder_free(struct row_encoder *encoder); // accepts NULL

// A block with this encoder's columns; the caller frees it, before the schema.
struct native_block *row_encoder_block(const struct row_encoder *encoder, struct relay_error *error);
// The columns that are filled, in the block's order. Owned by the encoder.
const char *const *row_encoder_columns(const struct row_encoder *encoder, size_t *count);

// Appends the message as one row, or leaves the block as it was. false: *reason is not NONE and error (POISON, ENCODE) tells
// column and source; or *reason is NONE and error is NO_MEMORY (nothing is wrong with the message: send the block, retry).
bool row_encoder_add(struct row_encoder *encoder, struct native_block *block, const struct source_message *message,
    enum encode_reason *reason, struct relay_error *error);

// The INSERT statement for such a block: INSERT INTO db.table (columns) SELECT columns FROM input('structure') WHERE guard
// FORMAT Native, malloc'd. guard: an SQL condition or NULL for none. use_input false: plain INSERT ... FORMAT Native
// (servers before 19.10). Errors: NO_MEMORY.
char *row_encoder_statement(const struct row_encoder *encoder, bool use_input, const char *guard,
    struct relay_error *error);

#endif
