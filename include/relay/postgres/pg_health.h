// SPDX-License-Identifier: Apache-2.0
//
// Asks check_outbox_health(), which is of the schema, by the limits of [health]. Nothing is kept here; any thread.
#ifndef RELAY_POSTGRES_PG_HEALTH_H
#define RELAY_POSTGRES_PG_HEALTH_H

#include "relay/postgres/pg_connection.h"

// The GRANT (SQL of type text) that lets numbers_gone_back(), of file 020, read the sequence of the table `outbox` (SQL
// of type oid): without it the function answers as if all was well. NULL: nothing is missing, or there is no such
// function.
#define PG_NUMBERS_GRANT(outbox)                                                                                       \
    "(SELECT format('GRANT SELECT ON SEQUENCE %s TO %I', s.oid::regclass, pg_get_userbyid(p.proowner))"                \
    " FROM outbox_relay.outboxes o JOIN pg_attribute a ON a.attrelid = o.outbox::oid AND a.attname = o.seq_column"     \
    " JOIN pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')"            \
    " AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass"                                    \
    " JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'"                                                          \
    " JOIN pg_proc p ON p.oid = to_regprocedure('outbox_relay.numbers_gone_back(regclass)')"                           \
    " WHERE o.outbox::oid = " outbox " AND NOT has_sequence_privilege(p.proowner, s.oid, 'SELECT') LIMIT 1)"

#define PG_NUMBERS_UNKNOWN "whether numbers have gone back cannot be told: "

// One row, as text: health_status, message, unpublished_count, oldest_age_seconds, and what else degrades the outbox,
// with what to do, or NULL. outbox: the table's name, $1 in `also`, which is more columns (SQL, each with its comma) or
// "". Errors: as pg_query(); PROTOCOL.
PGresult *pg_health_ask(struct pg_connection *connection, const char *outbox, const struct config_health *limits,
    const char *also, struct mono_time deadline, struct relay_error *error);

#endif
