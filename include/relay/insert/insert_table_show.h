// SPDX-License-Identifier: Apache-2.0
//
// What a table shows to the outside: its entry on the board and its metric of pauses. The consumer's thread; no I/O.
#ifndef RELAY_INSERT_INSERT_TABLE_SHOW_H
#define RELAY_INSERT_INSERT_TABLE_SHOW_H

#include "relay/insert/insert_table.h"

#include <stdbool.h>

// It was paused for that reason.
void insert_table_show_pause(struct insert_table *table, const struct relay_error *why);
// It takes rows again.
void insert_table_show_open(struct insert_table *table);
// Why its worker repeats the present job; NULL: it does not, or nothing waits for it.
void insert_table_show_trouble(struct insert_table *table, const struct relay_error *trouble);
// How long that has lasted. explained: a server that it needs is known to be away.
void insert_table_show_lasting(struct insert_table *table, bool explained, struct mono_time now);
bool insert_table_shows_paused(const struct insert_table *table); // it is, or has been in trouble for as long
// On the board: paused; all: as every other table.
void insert_table_show_paused(struct insert_table *table, bool all);

#endif
