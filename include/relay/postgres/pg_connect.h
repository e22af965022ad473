// SPDX-License-Identifier: Apache-2.0
//
// What pg_connect.c (making a connection) and pg_connection.c (using it) share; no other file includes this.
#ifndef RELAY_POSTGRES_PG_CONNECT_H
#define RELAY_POSTGRES_PG_CONNECT_H

#include "relay/postgres/pg_connection.h"

// In a lease a session is heard of so often.
#define PG_BEATS_OF_LEASE 3

struct pg_connection {
    const struct relay_context *context;
    PGconn *libpq;
    bool broken;   // no call but pg_close() is left
    char why[256]; // it is, where nobody was told: goes on with the text that the connection is lost
    void (*tick)(void *context);
    void *tick_context;
    struct mono_time ticked;
    struct duration beat;   // of a session with a lease: it is to be heard of so often; 0: never mind
    struct mono_time heard; // when the server answered last
    bool left;              // a statement was sent, and nobody waits for its answer now
    bool taken;             // a beat has taken the answer, which pg_receive() gives out:
    PGresult *answer;       // NULL: it failed
    struct relay_error failure;
    int64_t most;            // bytes of the answer that is under way; 0: any number
    int64_t received;        // of it
    int64_t received_before; // on the TCP socket; 0: it is none
    char address[160];
    char sqlstate[6];
    char **prepared; // names
    size_t prepared_count;
};

// Waits for the events on the socket, ticking. false: the deadline, or the stop's own, has passed.
bool pg_wait(struct pg_connection *connection, short events, struct mono_time deadline);
// The same for another descriptor, also before there is a socket.
bool pg_wait_on(struct pg_connection *connection, int fd, short events, struct mono_time deadline);

#endif
