// SPDX-License-Identifier: Apache-2.0
//
// Questions about what a table has, whose answers decide what is sent: an answer that is empty, cut or something else
// than what was asked for must not pass as "none", and several of them must come from one server. Each statement ends
// with TABLE_QUESTION_LAST as a row, or as the last column, of its own. Functions block on the server, with deadlines;
// one thread for each `struct table_question`.
#ifndef RELAY_INSERT_TABLE_QUESTION_H
#define RELAY_INSERT_TABLE_QUESTION_H

#include "relay/clickhouse/clickhouse_client.h"

#include <stdbool.h>
#include <stddef.h>

#define TABLE_QUESTION_LAST "'outbox-relay: end'" // an SQL literal

// Who answers. The first answer chooses the endpoint; the others must come from the same one, since another replica may
// not have what the first was brought up to.
struct table_question {
    struct clickhouse_client *client;
    int endpoint; // CLICKHOUSE_ANY_ENDPOINT until the first answer
};

// No answer out of a cache, and none that is cut without an error, whatever the user's profile says. result may be
// NULL; it is the caller's. It may take clickhouse_client_question_limit(). Errors: as clickhouse_query.
bool table_question_ask(struct table_question *question, const char *statement, struct clickhouse_result **result,
    struct relay_error *error);
// The replica has what the others have committed. `name`: quoted. Errors: as clickhouse_query.
bool table_question_sync(struct table_question *question, const char *name, struct relay_error *error);

// The answer has the shape and the last word, in its last column, of what was asked. Error: PROTOCOL, RETRIABLE.
bool table_question_whole(const struct clickhouse_result *result, size_t columns, struct relay_error *error);
bool table_question_is_last(const char *cell); // accepts NULL

#endif
