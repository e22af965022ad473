// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_limit.h"

#include <stdint.h>

#define MOST_ROWS   900000 // one INSERT has to stay one block
#define MOST_BYTES  ((size_t)240 << 20)
#define LONG_SHARE  2              // of request_timeout: longer than that
#define LONG        DURATION_S(10) // or than this, since what stands between may give up before request_timeout
#define QUICK_SHARE 2              // of what is too long: twice the rows still take less than that
#define SMALL_ROWS  1000           // fewer rows and bytes would save no time
#define SMALL_BYTES ((size_t)1 << 20)

void insert_limit_init(struct insert_limit *limit)
{
    *limit = (struct insert_limit){.rejected = SIZE_MAX, .slow = SIZE_MAX};
}

size_t insert_limit_rows(const struct insert_limit *limit, const struct relay_context *context)
{
    size_t rows = (size_t)context->config->insert.batch_rows;
    rows = rows > 0 && rows < MOST_ROWS ? rows : MOST_ROWS;
    rows = limit->slow < rows ? limit->slow : rows;
    return limit->rejected < rows ? limit->rejected : rows;
}

size_t insert_limit_bytes(const struct relay_context *context)
{
    size_t bytes = (size_t)context->config->insert.batch_bytes;
    return bytes > 0 && bytes < MOST_BYTES ? bytes : MOST_BYTES;
}

static struct duration too_long(const struct relay_context *context)
{
    return duration_shorter(DURATION_NS(context->config->clickhouse.request_timeout.ns / LONG_SHARE), LONG);
}

bool insert_limit_took_too_long(const struct relay_context *context, struct duration took)
{
    return took.ns > 0 && took.ns >= too_long(context).ns;
}

bool insert_limit_too_slow(struct insert_limit *limit, size_t rows, size_t bytes)
{
    if (rows < 2 || (rows < 2 * SMALL_ROWS && bytes < 2 * SMALL_BYTES)) {
        return false;
    }
    limit->slow = rows / 2;
    return true;
}

static size_t twice(size_t rows)
{
    return rows < MOST_ROWS ? rows * 2 : SIZE_MAX;
}

void insert_limit_stored(struct insert_limit *limit, const struct relay_context *context, size_t rows,
    struct duration took)
{
    limit->rejected = twice(limit->rejected);
    // A small one that was quick says nothing of a large one.
    if (rows >= limit->slow / 2 && took.ns < too_long(context).ns / QUICK_SHARE) {
        limit->slow = twice(limit->slow);
    }
}
