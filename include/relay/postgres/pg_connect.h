// SPDX-License-Identifier: Apache-2.0
//
// What pg_connect.c (making a connection) and pg_connection.c (using it) share; no other file includes this.
#ifndef RELAY_POSTGRES_PG_CONNECT_H
#define RELAY_POSTGRES_PG_CONNECT_H

#include "relay/postgres/pg_connection.h"

struct pg_connection {
    const struct relay_context *context;
    PGconn *libpq;
    bool broken; // no call but pg_close() is left
    char address[160];
    char sqlstate[6];
    char **prepared; // names
    size_t prepared_count;
};

// Waits for the events on the socket. false: the deadline, or the stop's own, has passed.
bool pg_wait(const struct relay_context *context, int socket, short events, struct mono_time deadline);
// Turns libpq's text of several lines into one, in place.
void pg_one_line(char *text);
enum relay_error_code pg_error_code(const char *sqlstate);

#endif
