// SPDX-License-Identifier: Apache-2.0
//
// From a Kafka message to one row of a native_block, by a plan compiled from a route and the table's schema. The
// encoder is the validator: what it accepts, the server stores; everything else is refused with a reason that names
// column, source and kind, quoting at most a short, printable piece of the value. It never changes a value in silence:
// no wrapping, no cutting, no rounding but a float's; only a time loses what is finer than its column. An encoder
// belongs to one thread; several blocks may be filled by turns. The syntax of `column = source` is in docs/routes.md.
#ifndef RELAY_INSERT_ROW_ENCODER_H
#define RELAY_INSERT_ROW_ENCODER_H

#include "relay/config/config.h"
#include "relay/insert/encode_reason.h"
#include "relay/clickhouse/native_block.h"
#include "relay/insert/source_message.h"
#include "relay/insert/table_findings.h"
#include "relay/insert/table_schema.h"

#include <stdbool.h>
#include <stddef.h>

struct row_encoder;

// Compiles the plan. Columns of the route that the table lacks, columns of the table that must be filled and are not,
// types that do not fit and mistakes in the syntax are all appended to findings (may be NULL); then NULL and
// CLICKHOUSE_OPERATOR. A route that fills the columns of the offsets from elsewhere is a finding against exactly once.
// Copies what it keeps, except the schema, which must outlive the encoder. Errors: CLICKHOUSE_OPERATOR, NO_MEMORY.
struct row_encoder *row_encoder_new(const struct config_route *route, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error);
void row_encoder_free(struct row_encoder *encoder); // accepts NULL

// A block with this encoder's columns; the caller frees it, before the schema.
struct native_block *row_encoder_block(const struct row_encoder *encoder, struct relay_error *error);
// The columns that are filled, in the block's order. Owned by the encoder.
const char *const *row_encoder_columns(const struct row_encoder *encoder, size_t *count);
// Some column comes from a header: messages must bring theirs.
bool row_encoder_reads_headers(const struct row_encoder *encoder);

// The route makes no row of such a message, and no dead letter: it is a tombstone.
bool row_encoder_skips(const struct row_encoder *encoder, const struct source_message *message);

// Appends the message as one row, or leaves the block as it was. false: *reason is not NONE and error (POISON, ENCODE)
// tells column and source; or *reason is NONE and error is NO_MEMORY (nothing is wrong with the message: send the
// block, retry).
bool row_encoder_add(struct row_encoder *encoder, struct native_block *block, const struct source_message *message,
    enum encode_reason *reason, struct relay_error *error);

// The INSERT statement for such a block: INSERT INTO db.table (columns) SELECT columns FROM input('structure') WHERE
// guard FORMAT Native, malloc'd. guard: an SQL condition or NULL for none. use_input false: plain INSERT ... FORMAT
// Native (servers before 19.10). Errors: NO_MEMORY.
char *row_encoder_statement(const struct row_encoder *encoder, bool use_input, const char *guard,
    struct relay_error *error);

#endif
