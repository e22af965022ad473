// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_compression.h"

#include <criterion/criterion.h>
#include <string.h>

static bool compresses(enum config_compression compression, const char *first, const char *second)
{
    char room[2][100], *urls[] = {room[0], room[1]};
    struct config_clickhouse clickhouse = {.urls = {.items = urls, .count = second ? 2 : 1},
        .compression = compression};
    strcpy(room[0], first);
    strcpy(room[1], second ? second : "");
    return clickhouse_compresses(&clickhouse);
}

Test(clickhouse_compression, what_is_written_holds_wherever_the_server_is)
{
    cr_assert(compresses(CONFIG_COMPRESSION_LZ4, "http://127.0.0.1:8123", NULL));
    cr_assert_not(compresses(CONFIG_COMPRESSION_NONE, "https://clickhouse:8443", NULL));
}

Test(clickhouse_compression, auto_compresses_what_leaves_this_machine)
{
    static const char *const near[] = {"http://localhost:8123", "https://LOCALHOST", "http://127.0.0.1:8123",
        "http://127.8.9.10", "http://[::1]:8123", "https://[::1]"};
    static const char *const far[] = {"http://clickhouse:8123", "http://10.0.0.1", "http://128.0.0.1", "http://[::2]:1",
        "http://localhost.example.com", "http://127.0.0.1.example.com:8123", "http://[fe80::1]:8123"};
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        cr_assert_not(compresses(CONFIG_COMPRESSION_AUTO, near[i], NULL), "%s", near[i]);
    }
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        cr_assert(compresses(CONFIG_COMPRESSION_AUTO, far[i], NULL), "%s", far[i]);
        cr_assert(compresses(CONFIG_COMPRESSION_AUTO, "http://localhost", far[i]), "one of two: %s", far[i]);
    }
    cr_assert_not(compresses(CONFIG_COMPRESSION_AUTO, "http://localhost:1", "http://127.0.0.1:2"));
}
