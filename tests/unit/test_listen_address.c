// SPDX-License-Identifier: Apache-2.0
#include "relay/config/listen_address.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(listen_address, takes_names_and_addresses)
{
    static const struct {
        const char *text, *host;
        unsigned port;
    } good[] = {
        {"127.0.0.1:8000", "127.0.0.1", 8000},
        {"localhost:0", "localhost", 0},
        {"[::1]:65535", "::1", 65535},
        {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
        {":9100", "", 9100},
        {"0.0.0.0:00080", "0.0.0.0", 80},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct listen_address address;
        cr_assert(listen_address_parse(good[i].text, &address, NULL), "%s", good[i].text);
        cr_assert_str_eq(address.host, good[i].host);
        cr_assert_eq(address.port, good[i].port);
    }
}

Test(listen_address, refuses_the_rest_and_says_what_is_expected)
{
    static const char *const bad[] = {"", "8000", "localhost", "localhost:", "localhost:65536", "localhost:-1",
        "localhost:8o", "::1:8000", "[::1]", "[::1]8000", "[]:80", "[::1", "http://localhost:80", "a b:80",
        "localhost:123456", "\x01:80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct listen_address address;
        struct relay_error error = {0};
        cr_assert_not(listen_address_parse(bad[i], &address, &error), "%s", bad[i]);
        cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
        cr_assert_not_null(strstr(error.text, "expected host:port"));
    }
    char long_host[400];
    memset(long_host, 'a', sizeof(long_host));
    snprintf(long_host + 300, 100, ":80");
    struct listen_address address;
    cr_assert_not(listen_address_parse(long_host, &address, NULL));
}
