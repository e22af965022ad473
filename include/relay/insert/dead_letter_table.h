// SPDX-License-Identifier: Apache-2.0
//
// What there is to know of the table that dead letters go into before the first one does. Blocks on the server; any
// thread.
#ifndef RELAY_INSERT_DEAD_LETTER_TABLE_H
#define RELAY_INSERT_DEAD_LETTER_TABLE_H

#include "relay/clickhouse/clickhouse_client.h"

#include <stdbool.h>

struct dead_letter_table {
    bool is_replicated;
    bool has_timestamp; // schemas/clickhouse/003 was applied to it
};

// table: "name" or "database.name". One that is not there has neither. Errors: as clickhouse_query.
bool dead_letter_table_read(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *table, struct dead_letter_table *found, struct relay_error *error);

#endif
