// SPDX-License-Identifier: Apache-2.0
//
// The materialized views that hang on a table, and on what those fill: a part of table_schema_read().
#ifndef RELAY_INSERT_TABLE_VIEWS_H
#define RELAY_INSERT_TABLE_VIEWS_H

#include "relay/insert/schema_reading.h"
#include "relay/insert/table_schema.h"

#include <stdbool.h>

// Into schema->views, which may have a part of them on failure, and `newest` of all. The table itself has been read.
bool table_views_read(struct schema_reading *reading, struct table_schema *schema);

#endif
