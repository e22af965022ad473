// SPDX-License-Identifier: Apache-2.0
//
// Tables of ClickHouse that files on record have made, that the configuration needs, and that are not there any more:
// dropped by mistake, as a rule. Only the configuration tells a mistake from a purpose. A table that no enabled route
// fills, and that is not for its dead letters, may be gone, be renamed or have been replaced. Asks the server, changes
// nothing. One thread.
#ifndef RELAY_CLI_MIGRATE_LOST_TABLES_H
#define RELAY_CLI_MIGRATE_LOST_TABLES_H

#include "relay/base/name_set.h"
#include "relay/cli/migration_plan.h"
#include "relay/cli/sql_split.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/config/context.h"

// Marks the records (`lost`) of all files that make or alter such a table, warns on stderr of each table, and adds its
// name (without the database, if it is this one) to `tables`.
bool migrate_lost_tables_mark(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct migration_files *files, struct migration_records *records, struct name_set *tables,
    struct relay_error *error);

// Whether the marked files may be run again without anybody's looking at them: they are the ones that were applied, and
// change nothing but these tables. What else they create they leave alone where it is there. Errors: CONFIG (which
// file, which line, what to do by hand).
bool migrate_lost_tables_repeatable(const struct migration_files *files, const struct migration_records *records,
    const struct name_set *tables, const char *database, struct relay_error *error);

// The table that `CREATE TABLE` or `ALTER TABLE` names, without quotes, and without the database if it is this one.
// false: another statement, or a name that has no room.
bool migrate_table_of(const struct sql_statement *statement, const char *database, char *name, size_t room,
    bool *creates);

#endif
