// SPDX-License-Identifier: Apache-2.0
//
// Messages that cannot become rows, gathered as one block for the dead-letter table: the bytes they were, and why. The
// columns are those of schemas/clickhouse/002, and that of 003 where the table has it. A block belongs to one thread at
// a time; everything is copied.
#ifndef RELAY_INSERT_DEAD_LETTER_BLOCK_H
#define RELAY_INSERT_DEAD_LETTER_BLOCK_H

#include "relay/base/error.h"
#include "relay/clickhouse/native_block.h"
#include "relay/insert/source_message.h"

#include <stdbool.h>
#include <stddef.h>

struct dead_letter_block;

#define DEAD_LETTER_TIMESTAMP "kafka_timestamp" // the column of schemas/clickhouse/003

// has_timestamp: the table has that column. NULL: NO_MEMORY.
struct dead_letter_block *dead_letter_block_new(bool has_timestamp, struct relay_error *error);
void dead_letter_block_free(struct dead_letter_block *block); // accepts NULL

// target: the table the message was meant for. reason: a word of encode_reason.h. code: ClickHouse's exception code as
// text, or "". false: NO_MEMORY, the block is as it was.
bool dead_letter_block_add(struct dead_letter_block *block, const char *target, const struct source_message *message,
    const char *reason, const char *code, const char *text, struct relay_error *error);
struct native_block *dead_letter_block_rows(struct dead_letter_block *block); // for its body, size, reset

// The INSERT for such a block into `table` ("name" or "database.name"), as row_encoder_statement(). malloc'd. NULL:
// NO_MEMORY.
char *dead_letter_statement(struct dead_letter_block *block, const char *table, bool use_input, const char *guard,
    struct relay_error *error);

#endif
