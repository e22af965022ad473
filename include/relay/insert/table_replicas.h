// SPDX-License-Identifier: Apache-2.0
//
// Whether the servers of [clickhouse] url have replicas of one table, as its engine and its path in Keeper tell: tables
// that only look alike each get a part of the rows, and none can say what another one has. Blocks on the servers, with
// deadlines; any thread.
#ifndef RELAY_INSERT_TABLE_REPLICAS_H
#define RELAY_INSERT_TABLE_REPLICAS_H

#include "relay/insert/table_findings.h"
#include "relay/insert/table_schema.h"

#include <stdbool.h>

// Appends a finding, which prevents exactly once, for each endpoint that has another table than the one that the schema
// was read of. An endpoint that does not answer, or has no such table, gives none; nor does a table whose path in
// Keeper is not known. false: out of memory.
bool table_replicas_judge(struct clickhouse_client *client, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error);

#endif
