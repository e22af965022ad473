// SPDX-License-Identifier: Apache-2.0
//
// INSERTs of a command into one table, whose outcome may have to be found out later, by another run perhaps: each has a
// query id of its own under a prefix that all runs share, by which what is under way can be ended, and a deadline after
// which the server does not start it (insert_deadline.h). The server's memory of blocks is left out. One thread.
#ifndef RELAY_CLI_GUARDED_INSERT_H
#define RELAY_CLI_GUARDED_INSERT_H

#include "relay/clickhouse/clickhouse_client.h"
#include "relay/clickhouse/native_block.h"
#include "relay/config/context.h"
#include "relay/insert/insert_deadline.h"

struct guarded_insert {
    const struct relay_context *context;
    struct clickhouse_client *client;
    struct server_clock *clocks; // for each endpoint
    bool has_input;              // the server has input(), and the statement a deadline
    char prefix[64];             // of the query ids of all runs
    uint64_t attempts;
};

// Asks the server. kind: a word for the query ids. Errors: CLICKHOUSE_*, NO_MEMORY.
bool guarded_insert_init(struct guarded_insert *insert, const struct relay_context *context,
    struct clickhouse_client *client, const char *kind, const char *table, struct relay_error *error);
void guarded_insert_finish(struct guarded_insert *insert);                 // accepts one that is {0}
const char *guarded_insert_condition(const struct guarded_insert *insert); // of the statement; NULL: none

// Ends what still runs, of this run or an earlier one. Replicas that do not answer are passed over, but for in_doubt
// (-1: none). Errors: as clickhouse_kill_query().
bool guarded_insert_end(struct guarded_insert *insert, int in_doubt, struct relay_error *error);
// statement: with the condition. latest: when it may begin; if the server says that it came too late, its clock is
// measured anew the next time. Errors: as clickhouse_insert(), and those of asking for the server's clock.
bool guarded_insert_send(struct guarded_insert *insert, int endpoint, const char *statement, struct native_block *rows,
    struct mono_time latest, struct clickhouse_outcome *outcome, struct relay_error *error);

#endif
