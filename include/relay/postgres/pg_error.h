// SPDX-License-Identifier: Apache-2.0
//
// What PostgreSQL and libpq say, as errors of ours: the class by SQLSTATE (pg_connection.h), the text in one line and
// without the data of rows. Any thread. For pg_connect.c and pg_connection.c.
#ifndef RELAY_POSTGRES_PG_ERROR_H
#define RELAY_POSTGRES_PG_ERROR_H

#include "relay/base/error.h"

#include <libpq-fe.h>
#include <stdbool.h>

enum relay_error_code pg_error_code(const char *sqlstate);
// Turns libpq's text of several lines into one, in place.
void pg_one_line(char *text);
// From a failed result or, result NULL or without an SQLSTATE, from the connection. Returns false.
bool pg_error_set(struct relay_error *error, const PGconn *libpq, const PGresult *result, const char *what);

#endif
