// SPDX-License-Identifier: Apache-2.0
//
// Times without an offset: we read them as UTC, ClickHouse in the column's zone. Says for which columns of a route that
// differs. Pure.
#ifndef RELAY_INSERT_COLUMN_ZONE_H
#define RELAY_INSERT_COLUMN_ZONE_H

#include "relay/clickhouse/clickhouse_type.h"
#include "relay/config/route_source.h"

// The first zone in the type, or within it, that is not UTC, where the source can bring a text without an offset. NULL:
// there is none. The type's.
const char *column_zone_differs(const struct clickhouse_type *type, const struct route_source *source);

#endif
