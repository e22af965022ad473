// SPDX-License-Identifier: Apache-2.0
//
// The latest timeline that this process knows of its database's system: of servers that it was connected to, and of
// what was published. A server on an earlier one is an old primary, which may take writes still. Refuses nothing:
// pg_connect() prefers other hosts to such a server. Of one system at a time, the last that was noted. Made by the
// lifecycle. Any thread.
#ifndef RELAY_POSTGRES_PG_NEWEST_H
#define RELAY_POSTGRES_PG_NEWEST_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct pg_newest;

struct pg_newest *pg_newest_new(struct relay_error *error);
void pg_newest_free(struct pg_newest *newest); // accepts NULL
// false: a later timeline of this system is known. newest: NULL, or timeline: 0 (the server has none), notes nothing.
bool pg_newest_note(struct pg_newest *newest, uint64_t system_identifier, uint32_t timeline);

#endif
