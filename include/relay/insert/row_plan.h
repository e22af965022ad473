// SPDX-License-Identifier: Apache-2.0
//
// A route compiled against a table: which columns are filled, each from what (docs/routes.md has the syntax), and every
// finding on the way. Refuses what row_encoder_new() says. The row_encoder's; nothing changes it afterwards.
#ifndef RELAY_INSERT_ROW_PLAN_H
#define RELAY_INSERT_ROW_PLAN_H

#include "relay/config/config.h"
#include "relay/config/route_source.h"
#include "relay/insert/table_findings.h"
#include "relay/insert/table_schema.h"
#include "relay/json/json_reader.h"

#include <stdbool.h>
#include <stddef.h>

struct plan_column {
    const struct table_column *table; // the schema's
    struct route_source source;
    size_t path; // PATH: index of the value
};

struct row_plan {
    const struct table_schema *schema; // borrowed
    struct plan_column *columns;
    size_t column_count;
    struct json_paths *paths;
    enum config_tombstones tombstones;
    bool reads_headers; // some column comes from one
};

// Arguments and errors: those of row_encoder_new(). Whether it is done or not, row_plan_finish() frees what it took.
bool row_plan_compile(struct row_plan *plan, const struct config_route *route, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error);
void row_plan_finish(struct row_plan *plan); // accepts one that is {0}

// A tombstone has none of what the column reads, and the route makes a row of it.
bool row_plan_reads_value(const struct row_plan *plan, const struct route_source *source);

#endif
