// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_token.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLD_HASH 1U
#define NEW_HASH 2U
#define WORD     "-h"

// ClickHouse's default. Whoever sets insert_deduplication_version is told by the documents what that means.
static unsigned hashes_of(int major, int minor)
{
    int version = major * 100 + minor;
    return version < 2602 ? OLD_HASH : version < 2606 ? OLD_HASH | NEW_HASH : NEW_HASH;
}

unsigned insert_token_kept(struct clickhouse_client *client, int endpoint)
{
    struct clickhouse_server server;
    return clickhouse_server_known(client, endpoint, &server) ? hashes_of(server.major, server.minor)
                                                              : INSERT_TOKEN_HASHES;
}

unsigned insert_token_kept_of(struct clickhouse_client *client, const struct clickhouse_outcome *outcome)
{
    unsigned then = outcome->server_major > 0 ? hashes_of(outcome->server_major, outcome->server_minor)
                                              : INSERT_TOKEN_HASHES;
    return outcome->endpoint < 0 ? then : then & insert_token_kept(client, outcome->endpoint);
}

// The number is the process's: no name of a route, which may be long, has to keep apart what fills one table. Of a
// second block under a token that it knows ClickHouse stores nothing.
void insert_token_write(char token[INSERT_TOKEN_ROOM], const char *instance, struct clickhouse_client *client)
{
    static atomic_ullong batches;
    unsigned hashes = INSERT_TOKEN_HASHES;
    for (size_t i = 0; i < clickhouse_client_endpoints(client); i++) {
        hashes &= insert_token_kept(client, (int)i);
    }
    int length = snprintf(token, INSERT_TOKEN_ROOM, "outbox-relay-%s-%llu" WORD "%u", instance,
        atomic_fetch_add(&batches, 1), hashes);
    assert(length > 0 && length < INSERT_TOKEN_ROOM);
}

unsigned insert_token_hashes(const char *token)
{
    const char *last = strrchr(token, '-');
    bool named = last && strncmp(last, WORD, strlen(WORD)) == 0 && last[2] >= '0' && last[2] <= '3' && last[3] == '\0';
    return named ? (unsigned)(last[2] - '0') : INSERT_TOKEN_HASHES;
}
