// SPDX-License-Identifier: Apache-2.0
//
// Publications of logical replication that send tables of the relay to subscribers which may not have them. Asked by
// `check`, and by `migrate` before it makes the tables. One thread.
#ifndef RELAY_CLI_PUBLICATIONS_H
#define RELAY_CLI_PUBLICATIONS_H

#include "relay/config/config.h"
#include "relay/postgres/pg_connection.h"

// Of their names; then what to do.
#define PUBLICATIONS_DANGER                                                                                            \
    "tables of the relay are in publication %s: a subscriber that lacks one of them, or its column seq, stops at the " \
    "first change there, and its replication slot keeps write-ahead log until the disk is full"
#define PUBLICATIONS_MEND                                                                                              \
    "publish tables by name, or give its subscribers the same tables and columns first (docs/operations.md, "          \
    "\"Logical "                                                                                                       \
    "replication\")"

// The names, quoted and joined by commas, malloc'd; "" when there is none. NULL: an error.
char *publications_of_relay(struct pg_connection *connection, const struct config *config, struct mono_time deadline,
    struct relay_error *error);

#endif
