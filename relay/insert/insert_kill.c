// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_kill.h"

#include "relay/base/log.h"

#include <stdlib.h>

#define LIMIT DURATION_S(2) // for all servers

struct running {
    char id[CLICKHOUSE_QUERY_ID_ROOM];
    int endpoint;
};

static size_t collect(struct insert_table *const *tables, size_t count, struct running *running)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        bool runs = table_worker_runs_given_up(tables[i]->worker, running[used].id, &running[used].endpoint);
        used += runs ? 1 : 0;
    }
    return used;
}

static void kill_on(struct clickhouse_client *client, int endpoint, const char *const *ids, size_t count,
    struct duration limit)
{
    struct relay_error error;
    if (!clickhouse_kill_queries(client, endpoint, ids, count, limit, &error)) {
        log_event(LOG_LEVEL_WARNING, "insert.retry", "cannot kill INSERTs of partitions that are no longer ours",
            LOG_TEXT("url", clickhouse_client_url(client, endpoint)), LOG_COUNT("inserts", count), LOG_ERROR(&error));
    }
}

// Those of one server; returns how many.
static size_t choose(const struct running *running, size_t all, size_t endpoint, const char **ids)
{
    size_t there = 0;
    for (size_t i = 0; i < all; i++) {
        if (running[i].endpoint == (int)endpoint) {
            ids[there++] = running[i].id;
        }
    }
    return there;
}

static void kill_all(struct clickhouse_client *client, const struct running *running, size_t all, const char **ids)
{
    size_t endpoints = clickhouse_client_endpoints(client), busy = 0;
    for (size_t i = 0; i < endpoints; i++) {
        busy += choose(running, all, i, ids) > 0;
    }
    for (size_t i = 0; i < endpoints; i++) {
        size_t there = choose(running, all, i, ids);
        if (there > 0) {
            kill_on(client, (int)i, ids, there, DURATION_NS(LIMIT.ns / (int64_t)busy));
        }
    }
}

void insert_kill_dropped(struct insert_table *const *tables, size_t count)
{
    struct running *running = calloc(count, sizeof(*running));
    const char **ids = calloc(count, sizeof(*ids));
    size_t all = running && ids ? collect(tables, count, running) : 0;
    if (all > 0) {
        kill_all(table_worker_client(tables[0]->worker), running, all, ids);
    }
    free((void *)ids);
    free(running);
}
