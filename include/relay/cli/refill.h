// SPDX-License-Identifier: Apache-2.0
//
// Puts single messages into a table of ClickHouse as their route says, each at most once: before anything is sent the
// table is asked which of their offsets it has, and again whenever the outcome of an INSERT is unknown. For
// `dead-letters retry` and `replay --into`. The daemon may run meanwhile, as long as it does not insert the same
// offsets at the same time: those are dead letters, or below what its group has committed. Another refill of the same
// table may not: nothing keeps it out between question and INSERT. One thread.
#ifndef RELAY_CLI_REFILL_H
#define RELAY_CLI_REFILL_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/encode_reason.h"
#include "relay/insert/source_message.h"

#define REFILL_MAX 5000 // messages in one call

enum refill_state { REFILL_WRITTEN, REFILL_PRESENT, REFILL_REFUSED, REFILL_SKIPPED };
struct refill_result {
    enum refill_state state;
    enum encode_reason reason; // of REFUSED
    char text[512];            // of REFUSED
    char code[16];             // ClickHouse's, of a REFUSED of the server, else ""
    bool views_behind;         // the row is there, or may be, by an INSERT that failed: views may lack it
    bool in_doubt;             // refill.c's own: an INSERT with it failed, and nobody has asked since
};

struct refill;

// table NULL: the route's own. Reads the table and compiles the route; that views hang on it is told. Errors:
// CLICKHOUSE_* (no such table, a route that does not fit it), CONFIG (the table has no columns of the offset, so that
// what it has cannot be known), NO_MEMORY.
struct refill *refill_open(const struct relay_context *context, struct clickhouse_client *client,
    const struct config_route *route, const char *table, struct relay_error *error);
void refill_close(struct refill *refill);              // accepts NULL
const char *refill_table(const struct refill *refill); // "database.table"

// results[i] says what became of messages[i]; all of them are in the table, SKIPPED (tombstones = skip) or REFUSED, by
// the encoder or by the server, when it returns true. What views may lack goes to stderr, here and where it fails.
// dry: only looks and encodes, WRITTEN means "would be". Errors: CLICKHOUSE_*, STOPPED, NO_MEMORY; what was written
// until then stays.
bool refill_write(struct refill *refill, const struct source_message *messages, size_t count, bool dry,
    struct refill_result *results, struct relay_error *error);

#endif
