// SPDX-License-Identifier: Apache-2.0
//
// [http] listen: "host:port", "[v6]:port", ":port" for every address; port 0 lets the kernel choose. Pure text: no
// look-ups.
#ifndef RELAY_CONFIG_LISTEN_ADDRESS_H
#define RELAY_CONFIG_LISTEN_ADDRESS_H

#include "relay/base/error.h"

#include <stdint.h>

struct listen_address {
    char host[256]; // without brackets; "" is every address
    uint16_t port;
};

// Errors: CONFIG, with what is wrong and what is expected.
bool listen_address_parse(const char *text, struct listen_address *address, struct relay_error *error);

#endif
