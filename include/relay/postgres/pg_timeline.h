// SPDX-License-Identifier: Apache-2.0
//
// The timeline on which the server writes. Each promotion begins a new one, which is how an old primary is told from
// its successor. Amazon Aurora has none and refuses the functions that tell it; of no other server is a refusal taken
// for that, since its old primary would not be recognised. Any thread that may use the connection.
#ifndef RELAY_POSTGRES_PG_TIMELINE_H
#define RELAY_POSTGRES_PG_TIMELINE_H

#include "relay/postgres/pg_connection.h"

// *timeline: 0 where the server has none. false: the connection's errors, or that the server refuses to tell.
bool pg_timeline_find(struct pg_connection *connection, uint32_t *timeline, struct mono_time deadline,
    struct relay_error *error);
// The system identifier, which a primary and its standbys have in common.
bool pg_system_find(struct pg_connection *connection, uint64_t *system_identifier, struct mono_time deadline,
    struct relay_error *error);

#endif
