// SPDX-License-Identifier: Apache-2.0
//
// Until when the server may start an INSERT. Bytes that were sent and have no answer may lie in a buffer on the way and
// arrive when the table was asked already, so the statement has a condition by which the server refuses it once its own
// clock is past the deadline. Whoever knows the deadline knows when nothing can begin any more.
#ifndef RELAY_INSERT_INSERT_DEADLINE_H
#define RELAY_INSERT_INSERT_DEADLINE_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"

#include <stdbool.h>
#include <stdint.h>

#define INSERT_DEADLINE_LATE "outbox-relay: too late to start"
// The condition, for statements that read from input() or from a table; without a deadline until one is set.
#define INSERT_DEADLINE_GUARD "throwIf(toUnixTimestamp(now()) > 9999999999, '" INSERT_DEADLINE_LATE "') = 0"
// What the server may take longer, since its now() knows whole seconds.
#define INSERT_DEADLINE_SECOND DURATION_S(1)

// Seconds since 1970 on the server's clock, into the condition of the statement. Does nothing where there is none.
void insert_deadline_set(char *statement, int64_t seconds);
// The server has refused it by the condition: it was not executed.
bool insert_deadline_was_over(const struct clickhouse_outcome *outcome, const struct relay_error *error);
// The longest from now: an INSERT that we have stopped waiting for is not to begin.
struct duration insert_deadline_most(const struct relay_context *context);

// A server's clock as it was measured last, {0}: never. One for each endpoint and thread.
struct server_clock {
    bool known;
    struct mono_time at; // when it was
    int64_t server_us;   // this time there
    struct duration doubt;
};

// It was never measured, or too long ago.
bool server_clock_is_due(const struct server_clock *known, const struct clock *clock);
// Measures it where that is due. Errors: as clickhouse_query.
bool server_clock_measure(struct server_clock *known, const struct relay_context *context,
    struct clickhouse_client *client, int endpoint, struct relay_error *error);
// The server's clock, which was measured, as it will be at `at`, in seconds, and never later than it really is.
int64_t server_clock_seconds(const struct server_clock *known, struct mono_time at);

#endif
