// SPDX-License-Identifier: Apache-2.0
//
// Ends the INSERTs that tables have given up and that still run, those for views included. Those of all tables go into
// one KILL QUERY for each server, so that many tables take no longer than one. It may fail: whoever reads the tables
// back kills what runs. On the consumer's thread, which waits for it, for seconds.
#ifndef RELAY_INSERT_INSERT_KILL_H
#define RELAY_INSERT_INSERT_KILL_H

#include "relay/insert/insert_table.h"

#include <stddef.h>

void insert_kill_dropped(struct insert_table *const *tables, size_t count);

#endif
