// SPDX-License-Identifier: Apache-2.0
//
// On Aurora pg_walfile_name() is "currently not supported" (0A000), and below wal_level = logical functions that read
// the position of the log are refused, too (55000). Its aurora_version() is in no catalog that an ordinary role sees:
// only a call tells.
#include "relay/postgres/pg_timeline.h"

#include <stdlib.h>
#include <string.h>

static bool is_aurora(struct pg_connection *connection, struct mono_time deadline)
{
    PGresult *result = pg_query(connection, "SELECT aurora_version() WHERE NOT pg_catalog.pg_is_in_recovery()", NULL, 0,
        false, deadline, NULL);
    bool is = result != NULL && PQntuples(result) == 1;
    PQclear(result);
    return is;
}

bool pg_timeline_find(struct pg_connection *connection, uint32_t *timeline, struct mono_time deadline,
    struct relay_error *error)
{
    PGresult *result = pg_query(connection,
        "SELECT substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)", NULL, 0, false,
        deadline, error);
    if (result != NULL) {
        *timeline = (uint32_t)strtoul(PQgetvalue(result, 0, 0), NULL, 16);
        PQclear(result);
        return true;
    }
    const char *state = pg_last_sqlstate(connection);
    bool refused = !pg_broken(connection) && (strcmp(state, "0A000") == 0 || strcmp(state, "55000") == 0);
    if (!refused || !is_aurora(connection, deadline)) {
        return error_prefix(error, "the timeline of PostgreSQL");
    }
    *timeline = 0;
    error_clear(error);
    return true;
}

bool pg_system_find(struct pg_connection *connection, uint64_t *system_identifier, struct mono_time deadline,
    struct relay_error *error)
{
    PGresult *result = pg_query(connection, "SELECT system_identifier FROM pg_catalog.pg_control_system()", NULL, 0,
        false, deadline, error);
    if (result == NULL) {
        return error_prefix(error, "the system identifier of PostgreSQL");
    }
    *system_identifier = (uint64_t)strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return true;
}
