// SPDX-License-Identifier: Apache-2.0
//
// Asks check_outbox_health(), which is of the schema, by the limits of [health]. Nothing is kept here; any thread.
#ifndef RELAY_POSTGRES_PG_HEALTH_H
#define RELAY_POSTGRES_PG_HEALTH_H

#include "relay/postgres/pg_connection.h"

// One row, as text: health_status, message, unpublished_count, oldest_age_seconds. outbox: the table's name, $1 in
// `also`, which is more columns (SQL, each with its comma) or "". Errors: as pg_query(); PROTOCOL.
PGresult *pg_health_ask(struct pg_connection *connection, const char *outbox, const struct config_health *limits,
    const char *also, struct mono_time deadline, struct relay_error *error);

#endif
