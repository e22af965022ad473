// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/guarded_insert.h"

#include "relay/base/fnv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_LIMIT DURATION_S(10)

bool guarded_insert_init(struct guarded_insert *insert, const struct relay_context *context,
    struct clickhouse_client *client, const char *kind, const char *table, struct relay_error *error)
{
    struct clickhouse_server server;
    *insert = (struct guarded_insert){.context = context, .client = client};
    snprintf(insert->prefix, sizeof(insert->prefix), "outbox-relay-%s-%08x-", kind, fnv_text(FNV_START, table));
    insert->clocks = calloc(clickhouse_client_endpoints(client), sizeof(*insert->clocks));
    if (!insert->clocks) {
        return error_no_memory(error, "preparing to fill a table");
    }
    if (!clickhouse_server_info(client, CLICKHOUSE_ANY_ENDPOINT, ASK_LIMIT, &server, error)) {
        return false;
    }
    insert->has_input = server.has_input_function;
    return true;
}

void guarded_insert_finish(struct guarded_insert *insert)
{
    free(insert->clocks);
}

const char *guarded_insert_condition(const struct guarded_insert *insert)
{
    return insert->has_input ? INSERT_DEADLINE_GUARD : NULL;
}

bool guarded_insert_end(struct guarded_insert *insert, int in_doubt, struct relay_error *error)
{
    for (int i = 0; i < (int)clickhouse_client_endpoints(insert->client); i++) {
        if (!clickhouse_kill_query(insert->client, i, insert->prefix, ASK_LIMIT, NULL, error) &&
            (i == in_doubt || error->code == RELAY_ERROR_TIMEOUT)) {
            return false;
        }
    }
    return true;
}

static bool send_statement(struct guarded_insert *insert, int endpoint, const char *statement,
    struct native_block *rows, struct clickhouse_outcome *outcome, struct relay_error *error)
{
    char query_id[CLICKHOUSE_QUERY_ID_ROOM];
    size_t pieces;
    snprintf(query_id, sizeof(query_id), "%s%s-%llu", insert->prefix, insert->context->instance,
        (unsigned long long)insert->attempts++);
    // The server's own memory of blocks would silently drop one that it has had before, though its rows are gone by
    // now.
    const struct clickhouse_setting settings[] = {{"insert_deduplicate", "0"}, {"deduplicate_insert", "disable"},
        {"deduplicate_insert_select", "disable"}};
    const struct clickhouse_request request = {.endpoint = endpoint,
        .query_id = query_id,
        .settings = settings,
        .setting_count = sizeof(settings) / sizeof(settings[0])};
    const struct iovec *body = native_block_body(rows, &pieces, error);
    return body && clickhouse_insert(insert->client, &request, statement, body, pieces, outcome, error);
}

bool guarded_insert_send(struct guarded_insert *insert, int endpoint, const char *statement, struct native_block *rows,
    struct mono_time latest, struct clickhouse_outcome *outcome, struct relay_error *error)
{
    struct server_clock *known = &insert->clocks[endpoint];
    if (insert->has_input && !server_clock_measure(known, insert->context, insert->client, endpoint, error)) {
        return false;
    }
    char *copy = strdup(statement); // in which a deadline can be set once
    if (!copy) {
        return error_no_memory(error, "filling a table");
    }
    if (insert->has_input) {
        insert_deadline_set(copy, server_clock_seconds(known, latest));
    }
    bool done = send_statement(insert, endpoint, copy, rows, outcome, error);
    known->known = known->known && (done || !insert_deadline_was_over(outcome, error));
    free(copy);
    return done;
}
