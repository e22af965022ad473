// SPDX-License-Identifier: Apache-2.0
//
// Finds the addresses of a host's name on a thread of its own. getaddrinfo() knows no deadline: a nameserver that is
// away holds it for seconds, several of them for minutes. Who asked polls pg_lookup_fd() beside the rest of its work
// and may leave at any time; the thread then ends when the resolver lets go of it, and frees what is left.
#ifndef RELAY_POSTGRES_PG_LOOKUP_H
#define RELAY_POSTGRES_PG_LOOKUP_H

#include "relay/base/error.h"

struct pg_lookup;

// NULL: NO_MEMORY or SYSTEM.
struct pg_lookup *pg_lookup_start(const char *name, struct relay_error *error);
int pg_lookup_fd(const struct pg_lookup *lookup); // readable once the answer is there
// The addresses as numbers, in the order in which they are to be tried, with commas between them; the caller frees the
// text. Once, and only when the descriptor is readable. NULL: POSTGRES_UNREACHABLE (there is no such name, no
// nameserver answers), NO_MEMORY.
char *pg_lookup_take(struct pg_lookup *lookup, struct relay_error *error);
void pg_lookup_leave(struct pg_lookup *lookup);

#endif
