// SPDX-License-Identifier: Apache-2.0
#include "clickhouse_peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void clickhouse_peer_start(struct clickhouse_peer *peer, http_script_handler *handler, void *context,
    const char *second_url)
{
    static char database[] = "db", user[] = "someone", password[] = "s3cret";
    struct relay_error error;
    memset(peer, 0, sizeof(*peer));
    peer->http = http_script_start(handler, context);
    peer->urls[0] = strdup(http_script_url(peer->http));
    peer->urls[1] = second_url ? strdup(second_url) : NULL;
    peer->config.clickhouse = (struct config_clickhouse){.urls = {.items = peer->urls, .count = second_url ? 2 : 1},
        .database = database,
        .user = user,
        .password = password,
        .connect_timeout = DURATION_S(5),
        .request_timeout = DURATION_S(20),
        .compression = CONFIG_COMPRESSION_LZ4};
    peer->config.breakers[CONFIG_DEPENDENCY_CLICKHOUSE] = (struct config_breaker){.failures = 3,
        .open = DURATION_S(30),
        .successes = 1};
    cr_assert(stop_init(&peer->stop, &error), "%s", error.text);
    peer->context = (struct relay_context){.config = &peer->config,
        .clock = clock_system(),
        .stop = &peer->stop,
        .instance = "abc"};
    peer->client = clickhouse_client_new(&peer->context, &error);
    cr_assert_not_null(peer->client, "%s", error.text);
}

void clickhouse_peer_finish(struct clickhouse_peer *peer)
{
    clickhouse_client_free(peer->client);
    http_script_stop(peer->http);
    stop_finish(&peer->stop);
    free(peer->urls[0]);
    free(peer->urls[1]);
}

const char *clickhouse_peer_learned(const struct http_seen *seen)
{
    return strstr(seen->target, "-learn-version") ? "24.8.1.1\thost\n"
        : strstr(seen->target, "-learn-uuid")     ? "11111111-2222-3333-4444-555555555555\n"
        : strstr(seen->target, "-learn-settings")
        ? "additional_table_filters\nasync_insert\ndistributed_foreground_insert\ninsert_deduplicate\n"
          "insert_deduplication_token\ninsert_distributed_sync\ninsert_keeper_max_retries\nlimit\n"
          "materialized_views_ignore_errors\nmax_execution_time\nmax_parallel_replicas\noffset\nreceive_"
          "timeout\ntimeout_overflow_mode\n"
        : NULL;
}

const char *clickhouse_peer_ok(char *answer, size_t room, const char *body)
{
    snprintf(answer, room, "HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {}\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
        body);
    return answer;
}
