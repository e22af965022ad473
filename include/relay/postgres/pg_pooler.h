// SPDX-License-Identifier: Apache-2.0
//
// Whether a connection ends at PostgreSQL or at a pooler, before anything is set in its session: a pooler in
// transaction mode hands the sessions on to other clients, of the application too, with all that was set in them and
// every lock that was taken. It asks for process numbers and leaves the sessions as they are. The connection is the
// caller's.
#ifndef RELAY_POSTGRES_PG_POOLER_H
#define RELAY_POSTGRES_PG_POOLER_H

#include "relay/postgres/pg_connection.h"

enum pg_pooler {
    PG_POOLER_NONE,       // one round trip says so
    PG_POOLER_SESSION,    // a client keeps its session to its end
    PG_POOLER_TRANSACTION // it gets another one whenever the pooler likes
};

// connection: a raw one. options: as it was made with; behind a pooler a second one is made with them for a moment.
// patience: of each question. Errors: as of pg_connect() and pg_query(); a pooler that gives no second session, of
// which the mode is not known.
bool pg_pooler_find(struct pg_connection *connection, const struct relay_context *context,
    const struct pg_options *options, struct duration patience, enum pg_pooler *found, struct relay_error *error);

#endif
