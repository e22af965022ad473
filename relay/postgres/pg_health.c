// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_health.h"

#include <inttypes.h>
#include <stdio.h>

// An age as PostgreSQL reads it; NULL where it is not judged.
static const char *age_text(struct duration age, char text[40])
{
    snprintf(text, 40, "%" PRId64 " milliseconds", age.ns / 1000000);
    return age.ns > 0 ? text : NULL;
}

static const char fault[] = "'" PG_NUMBERS_UNKNOWN "as the table''s owner: ' || " PG_NUMBERS_GRANT("$1::regclass::oid");

PGresult *pg_health_ask(struct pg_connection *connection, const char *outbox, const struct config_health *limits,
    const char *also, struct mono_time deadline, struct relay_error *error)
{
    char sql[2048], rows[2][24], ages[2][40];
    snprintf(sql, sizeof(sql),
        "SELECT h.health_status, h.message, h.unpublished_count, h.oldest_age_seconds, %s%s FROM "
        "outbox_relay.check_outbox_health($1::regclass, $2::bigint, $3::bigint, $4::interval, $5::interval) h",
        fault, also);
    snprintf(rows[0], sizeof(rows[0]), "%" PRId64, limits->warning_rows);
    snprintf(rows[1], sizeof(rows[1]), "%" PRId64, limits->critical_rows);
    const struct pg_value values[] = {PG_TEXT(outbox), PG_TEXT(rows[0]), PG_TEXT(rows[1]),
        PG_TEXT(age_text(limits->warning_age, ages[0])), PG_TEXT(age_text(limits->critical_age, ages[1]))};
    PGresult *result = pg_query(connection, sql, values, 5, false, deadline, error);
    if (result != NULL && PQntuples(result) != 1) {
        error_set(error, RELAY_ERROR_PROTOCOL, "check_outbox_health() returned %d rows", PQntuples(result));
        PQclear(result);
        result = NULL;
    }
    return result;
}
