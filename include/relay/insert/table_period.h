// SPDX-License-Identifier: Apache-2.0
//
// How long a partition of a table lasts, guessed from its partition key, so that rows far apart are not sent in one
// INSERT: that would make a part of each partition. Only for keys that follow the messages' time; no I/O.
#ifndef RELAY_INSERT_TABLE_PERIOD_H
#define RELAY_INSERT_TABLE_PERIOD_H

#include "relay/insert/table_schema.h"

#include <stdint.h>

// Milliseconds; 0: the table is not partitioned.
int64_t table_period(const struct table_schema *schema);

#endif
