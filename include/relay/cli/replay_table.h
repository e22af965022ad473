// SPDX-License-Identifier: Apache-2.0
//
// Whether `replay --into` may tell by the rows of a table which messages it has had. Not where rows are merged away, or
// where a TTL removes them and views have counted them: what is not found there would be counted again. Reads the
// table's description and, of a table that merges, whether it is empty. One thread.
#ifndef RELAY_CLI_REPLAY_TABLE_H
#define RELAY_CLI_REPLAY_TABLE_H

#include "relay/config/context.h"

#include <stdbool.h>

// Errors: CONFIG (it may not, and what to do), CLICKHOUSE_* (no such table), NO_MEMORY.
bool replay_table_judge(const struct relay_context *context, const char *table, struct relay_error *error);

#endif
