// SPDX-License-Identifier: Apache-2.0
//
// [postgres] dsn, taken apart, with its service file and the environment where it names no host; and the parameters of
// one connection that are made of it. Connects to nothing. A dsn that cannot be parsed is not quoted, since it may hold
// a password. Only pg_connect.c and pg_dsn.c include this. Any thread.
#ifndef RELAY_POSTGRES_PG_DSN_H
#define RELAY_POSTGRES_PG_DSN_H

#include "relay/base/error.h"

#include <libpq-fe.h>
#include <stdbool.h>

#define PG_PARAMETERS_MAX 64

// The dsn, taken apart.
struct pg_dsn {
    PQconninfoOption *given;       // what stands in it
    PQconninfoOption *whole;       // with what a service file and the environment add
    const PQconninfoOption *hosts; // where those that are tried stand: one of both
};

struct pg_parameters {
    const char *keywords[PG_PARAMETERS_MAX + 1];
    const char *values[PG_PARAMETERS_MAX + 1];
    int count;
    char application_name[64];
    char tcp_user_timeout[16];
};

// The caller calls pg_dsn_finish() also after an error. dsn: of zeros.
bool pg_dsn_take_apart(const char *text, struct pg_dsn *dsn, struct relay_error *error);
void pg_dsn_finish(struct pg_dsn *dsn);
int pg_dsn_hosts(const struct pg_dsn *dsn); // how many there are to try
// NULL: neither the dsn nor what adds to it says so.
const char *pg_dsn_value(const struct pg_dsn *dsn, const char *keyword);
// NULL: it is not given, or empty, which is the same to libpq.
const char *pg_option_value(const PQconninfoOption *options, const char *keyword);

// In place of what it was. value: borrowed; NULL: libpq's default.
void pg_parameters_set(struct pg_parameters *parameters, const char *keyword, const char *value);
void pg_parameters_add(struct pg_parameters *parameters, const PQconninfoOption *given);

#endif
