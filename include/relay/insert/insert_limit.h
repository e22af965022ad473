// SPDX-License-Identifier: Apache-2.0
//
// How many rows and bytes the next batch of a table may have: what the configuration says, less after a rejection, and
// less after an INSERT that took too long. Only batches that are yet to be filled follow it: one that is repeated under
// its token stays as it is. The consumer's thread; no I/O.
#ifndef RELAY_INSERT_INSERT_LIMIT_H
#define RELAY_INSERT_INSERT_LIMIT_H

#include "relay/base/clock.h"
#include "relay/config/context.h"

#include <stdbool.h>
#include <stddef.h>

// Rows, dead letters among them; SIZE_MAX: nothing was refused, nothing took too long.
struct insert_limit {
    size_t rejected, slow;
};

void insert_limit_init(struct insert_limit *limit);
size_t insert_limit_rows(const struct insert_limit *limit, const struct relay_context *context);
size_t insert_limit_bytes(const struct relay_context *context);

// An INSERT without a clear answer took so long that a smaller one may succeed.
bool insert_limit_took_too_long(const struct relay_context *context, struct duration took);
// So did one of so many rows and bytes. false: it is small already, so its size is not to blame.
bool insert_limit_too_slow(struct insert_limit *limit, size_t rows, size_t bytes);
// One of so many rows was stored, within that time.
void insert_limit_stored(struct insert_limit *limit, const struct relay_context *context, size_t rows,
    struct duration took);

#endif
