// SPDX-License-Identifier: Apache-2.0
#include "relay/config/listen_address.h"

#include <string.h>

static bool refuse(const char *text, const char *what, struct relay_error *error)
{
    return error_set(error, RELAY_ERROR_CONFIG,
        "listen address \"%.200s\": %s; expected host:port, [IPv6]:port or :port", text, what);
}

static bool parse_port(const char *digits, uint16_t *port)
{
    unsigned value = 0;
    size_t length = strlen(digits);
    if (length == 0 || length > 5) {
        return false;
    }
    for (; *digits != '\0'; digits++) {
        if (*digits < '0' || *digits > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(*digits - '0');
    }
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

bool listen_address_parse(const char *text, struct listen_address *address, struct relay_error *error)
{
    const char *host = text;
    const char *host_end;
    const char *colon;
    if (*text == '[') {
        host++;
        host_end = strchr(host, ']');
        if (host_end == NULL || host_end == host) {
            return refuse(text, "the brackets are empty or not closed", error);
        }
        colon = host_end + 1;
    } else {
        host_end = colon = strrchr(text, ':');
        if (colon != NULL && memchr(host, ':', (size_t)(colon - host)) != NULL) {
            return refuse(text, "an IPv6 address needs brackets", error);
        }
    }
    if (colon == NULL || *colon != ':') {
        return refuse(text, "the port is missing", error);
    }
    size_t length = (size_t)(host_end - host);
    if (length >= sizeof(address->host)) {
        return refuse(text, "the host is too long", error);
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)host[i] <= ' ' || host[i] == '/' || host[i] == 0x7f) {
            return refuse(text, "the host has a character that none can have", error);
        }
    }
    if (!parse_port(colon + 1, &address->port)) {
        return refuse(text, "the port is not a number from 0 to 65535", error);
    }
    memcpy(address->host, host, length);
    address->host[length] = '\0';
    return true;
}
