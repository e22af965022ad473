// SPDX-License-Identifier: Apache-2.0
//
// What a server is, as far as it concerns a failover. Asks only, and needs none of the session's settings. Any thread
// that may use the connection.
#ifndef RELAY_POSTGRES_PG_SERVER_H
#define RELAY_POSTGRES_PG_SERVER_H

#include "relay/postgres/pg_connection.h"

struct pg_server {
    char started[40]; // when it was, which tells two servers of one system apart
    bool recovering, takes_writes;
    uint64_t system_identifier; // a primary and its standbys have the same
    uint32_t timeline;          // of one that takes writes; 0: it has none, or does not tell
};

bool pg_server_ask(struct pg_connection *connection, struct pg_server *server, struct mono_time deadline,
    struct relay_error *error);
// Two names, or a name and a session that is older, may lead to one server.
bool pg_server_same(const struct pg_server *one, const struct pg_server *other);

#endif
