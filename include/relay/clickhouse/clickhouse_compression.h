// SPDX-License-Identifier: Apache-2.0
//
// Whether rows are compressed for their way to ClickHouse. Over a network that pays; to a server on this machine it
// costs both sides more CPU than the bytes do.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_COMPRESSION_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_COMPRESSION_H

#include "relay/config/config.h"

#include <stdbool.h>

// [clickhouse] compression, and where that is auto: unless every url names this machine by localhost, 127.x.x.x or ::1.
// Other names are not looked up: what they stand for may change while we run.
bool clickhouse_compresses(const struct config_clickhouse *clickhouse);

#endif
