// SPDX-License-Identifier: Apache-2.0
//
// The INSERT of a block, of rows and of dead letters alike: guard and format of both stand here alone. Any thread.
#ifndef RELAY_INSERT_INSERT_STATEMENT_H
#define RELAY_INSERT_INSERT_STATEMENT_H

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/clickhouse/native_block.h"

// table: quoted; names: of the block's columns, in its order. use_input: through input(), whose rows the guard (NULL:
// none) is a condition of. malloc'd; NULL: NO_MEMORY.
char *insert_statement(const struct clickhouse_text *table, const char *const *names, size_t count,
    const struct native_block *block, bool use_input, const char *guard, struct relay_error *error);

#endif
