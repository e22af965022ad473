// SPDX-License-Identifier: Apache-2.0
//
// A target table as the server describes it: columns, engine, keys, deduplication windows, the views that hang on it.
// Read at start, by `check`, and again every few minutes or after an error that smells of a change; a fingerprint tells
// whether anything changed. Says whether the table can be filled exactly once and, if not, the ALTER that fixes it.
// A schema never changes after its reading: any thread may read it. It owns its memory.
#ifndef RELAY_INSERT_TABLE_SCHEMA_H
#define RELAY_INSERT_TABLE_SCHEMA_H

#include "relay/config/config.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/clickhouse/clickhouse_type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_ALL_PLACES "'all'"

enum table_default {
    TABLE_DEFAULT_NONE,
    TABLE_DEFAULT,
    TABLE_DEFAULT_MATERIALIZED,
    TABLE_DEFAULT_ALIAS,
    TABLE_DEFAULT_EPHEMERAL
};

struct table_column {
    char *name;
    char *type_text;              // as the server writes it
    struct clickhouse_type *type; // NULL: one that we cannot fill; type_problem says why
    char *type_problem;
    enum table_default default_kind;
    char *default_expression; // "" = none
    bool in_partition_key, in_sorting_key;
};

// A table that a view writes into (views of views included).
struct table_view_target {
    char *view;      // database.name of the view
    char *target;    // database.name of what it fills, "" where the user may not see the view
    char *engine;    // of the target, "" where the user may not see that
    bool has_window; // its deduplication window is above 0
    int64_t dedup_window, dedup_seconds;
    bool is_mergetree, is_replicated;
    char *newest; // as of the table
};

struct table_schema {
    char *database, *table;
    char *uuid; // "" where tables have none
    char *engine, *engine_full, *partition_key, *sorting_key;
    char *keeper_path; // replicated tables, else ""
    struct table_column *columns;
    size_t column_count;
    struct table_view_target *views;
    size_t view_count;
    bool is_mergetree, is_replicated;
    int64_t dedup_window;    // of the table itself or the server's default; 0 = off
    int64_t dedup_seconds;   // how old what it remembers may be; INT64_MAX = of any age
    bool has_offset_columns; // kafka_topic, kafka_partition, kafka_offset of fit types
    bool offset_has_index;   // a data-skipping index on kafka_offset, or it leads the sorting key
    uint64_t fingerprint;    // of everything above
    // The highest block numbers at the reading, for transform(): "['partition', ...], [number, ...]"; one for all
    // partitions (TABLE_ALL_PLACES) where the table is not replicated. NULL: we may not see them.
    char *newest;
    int endpoint; // that was read
};

// database NULL or "": [clickhouse] database. table may be "database.table". Errors: CLICKHOUSE_OPERATOR (no such
// table, no right to read system tables), as clickhouse_query otherwise.
struct table_schema *table_schema_read(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *database, const char *table, struct relay_error *error);
bool table_schema_add_name(struct clickhouse_text *text, const struct table_schema *schema); // `database`.`table`
bool table_schema_is_shared(const struct table_schema *schema); // of ClickHouse Cloud: all replicas have one storage
void table_schema_free(struct table_schema *schema);            // accepts NULL
const struct table_column *table_schema_column(const struct table_schema *schema, const char *name); // NULL: none

#endif
