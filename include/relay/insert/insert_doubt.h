// SPDX-License-Identifier: Apache-2.0
//
// An INSERT of ours that has no answer. Its bytes may lie in a buffer on the way, and the server may start it after the
// table was asked what it has, until its deadline. A row of it in the table proves that it has started. Belongs to the
// table's worker, who also guards `until` by its lock.
#ifndef RELAY_INSERT_INSERT_DOUBT_H
#define RELAY_INSERT_INSERT_DOUBT_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/table_plan.h"

#include <stdbool.h>
#include <stdint.h>

// Where a row comes from. topic "": no row is known.
struct row_place {
    char topic[250]; // Kafka allows 249 characters
    int32_t partition;
    int64_t offset;
};

struct insert_doubt {
    // The server may start it until then; ns 0: there is none, or what runs has been awaited since.
    struct mono_time until;
    struct row_place row; // of it
    char token[104];
};

// One more without an answer, all zero at first. row: copied; NULL: of none it is known, and only time helps. The row
// tells of attempts under its own token only: where two different ones are open, none is kept.
void insert_doubt_note(struct insert_doubt *doubt, const struct row_place *row, const char *token,
    struct mono_time until, struct mono_time now);
// Asks the table. *begun: it has started; false where that cannot be known.
bool insert_doubt_has_begun(const struct insert_doubt *doubt, const struct relay_context *context,
    struct clickhouse_client *client, const char *target, const struct table_plan *plan, bool *begun,
    struct relay_error *error);

#endif
