// SPDX-License-Identifier: Apache-2.0
//
// How one route fills its table, as read from the server at one moment: schema, encoder, statements, and whether
// exactly once is possible. Made by the table's worker, which waits for the server; used by the consumer's thread (the
// encoder) and by batches on their way, each holding a reference. It never changes.
#ifndef RELAY_INSERT_TABLE_PLAN_H
#define RELAY_INSERT_TABLE_PLAN_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/dead_letter_table.h"
#include "relay/insert/row_encoder.h"
#include "relay/insert/table_schema.h"

#include <stdatomic.h>
#include <stdbool.h>

struct table_plan {
    struct table_schema *schema;
    struct row_encoder *encoder; // the consumer thread's alone
    bool exactly_once;           // read back, under the lease
    bool guarded;                // the statements carry a deadline
    struct dead_letter_table dead_letters;
    char *statement;
    char *dead_letter_statement;
    atomic_int references;
};

// Reads the table there (CLICKHOUSE_ANY_ENDPOINT: anywhere), compiles the route, compares the replicas, logs what
// stands against exactly once with what fixes it. Blocks on the server. Errors: CLICKHOUSE_OPERATOR (no such table, a
// route that does not fit), as clickhouse_query otherwise. The caller holds a reference.
struct table_plan *table_plan_read(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct config_route *route, struct relay_error *error);
struct table_plan *table_plan_hold(struct table_plan *plan);
void table_plan_release(struct table_plan *plan); // accepts NULL

#endif
