// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_server.h"

#include "relay/postgres/pg_timeline.h"

#include <stdio.h>
#include <string.h>

bool pg_server_ask(struct pg_connection *connection, struct pg_server *server, struct mono_time deadline,
    struct relay_error *error)
{
    *server = (struct pg_server){.recovering = false};
    PGresult *result = pg_query(connection,
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only'), "
        "pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())",
        NULL, 0, false, deadline, error);
    if (result == NULL) {
        return false;
    }
    server->recovering = pg_cell_true(result, 0, 0);
    server->takes_writes = !server->recovering && strcmp(pg_cell(result, 0, 1), "off") == 0;
    snprintf(server->started, sizeof(server->started), "%s", pg_cell(result, 0, 2));
    PQclear(result);
    struct relay_error ignored; // who publishes from it tells that
    if (server->takes_writes && !pg_timeline_find(connection, &server->timeline, deadline, &ignored)) {
        server->timeline = 0;
    }
    return pg_system_find(connection, &server->system_identifier, deadline, error);
}

bool pg_server_same(const struct pg_server *one, const struct pg_server *other)
{
    return one->system_identifier == other->system_identifier && strcmp(one->started, other->started) == 0;
}
