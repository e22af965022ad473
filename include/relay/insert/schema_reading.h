// SPDX-License-Identifier: Apache-2.0
//
// How tables are read from the system tables of one server: the questions and names that all readings share, and what a
// table remembers of inserted blocks, by its own settings or the server's defaults. One thread for each reading.
#ifndef RELAY_INSERT_SCHEMA_READING_H
#define RELAY_INSERT_SCHEMA_READING_H

#include "relay/clickhouse/clickhouse_client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct schema_reading {
    struct clickhouse_client *client;
    struct clickhouse_request request;
    struct relay_error *error;
    int64_t plain_window, replicated_window, replicated_seconds; // the server's defaults
    bool knows_replicated;                                       // those of replicated tables were asked for
};

bool schema_no_memory(const struct schema_reading *reading); // false
// Runs "<select> WHERE <database_column> = 'database' AND <table_column> = 'table' <rest>".
struct clickhouse_result *schema_ask(const struct schema_reading *reading, const char *select,
    const char *database_column, const char *database, const char *table_column, const char *table, const char *rest);
// A cell, "" for none, malloc'd. NULL: NO_MEMORY.
char *schema_copy(const struct schema_reading *reading, const struct clickhouse_result *result, size_t row,
    size_t column);
// A replicated table's path in Keeper, "" for none, malloc'd. NULL: an error.
char *schema_read_keeper_path(const struct schema_reading *reading, const char *database, const char *table);
// "db.table", "table", either part in backticks or not. database NULL or "": `standard`. Both are the caller's,
// whatever is returned.
bool schema_split_name(const struct schema_reading *reading, const char *database, const char *standard,
    const char *name, char **database_out, char **table_out);

bool schema_is_mergetree(const char *engine);
bool schema_is_replicated(const char *engine); // of a MergeTree
// The server's defaults of tables that are not replicated; before schema_read_memory().
bool schema_read_windows(struct schema_reading *reading);
// How many blocks a table of this engine remembers, and how old they may be (INT64_MAX: of any age).
bool schema_read_memory(struct schema_reading *reading, const char *engine, const char *engine_full, int64_t *window,
    int64_t *seconds);

#endif
