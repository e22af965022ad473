// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_compression.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

// As libcurl gives it: a v6 address in brackets.
static bool is_this_machine(const char *host)
{
    struct in_addr v4;
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
        (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET);
}

static bool is_local(const char *url)
{
    char *host = NULL;
    CURLU *parts = curl_url();
    bool local = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK && is_this_machine(host);
    curl_free(host);
    curl_url_cleanup(parts);
    return local;
}

bool clickhouse_compresses(const struct config_clickhouse *clickhouse)
{
    if (clickhouse->compression != CONFIG_COMPRESSION_AUTO) {
        return clickhouse->compression == CONFIG_COMPRESSION_LZ4;
    }
    for (size_t i = 0; i < clickhouse->urls.count; i++) {
        if (!is_local(clickhouse->urls.items[i])) {
            return true;
        }
    }
    return false;
}
