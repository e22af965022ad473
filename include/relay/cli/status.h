// SPDX-License-Identifier: Apache-2.0
//
// What `status` knows, as one JSON document of the form of GET /health, from whichever side it comes: a daemon that
// answers, or the servers themselves. So text, JSON and exit code are made in one way. Documents belong to the caller
// (json_decref). One thread.
#ifndef RELAY_CLI_STATUS_H
#define RELAY_CLI_STATUS_H

#include "relay/config/context.h"

#include <jansson.h>
#include <stdio.h>

// GET url/health. NULL: nobody answers so, and why. Adds "source": the URL.
json_t *status_from_daemon(const char *url, struct duration timeout, char *why, size_t room);
// The URL of the daemon of this configuration ([http] listen), "" if there is none or its port is not known.
void status_url(const struct config *config, char *url, size_t room);

// Asks PostgreSQL, Kafka and ClickHouse; a server that is down is part of the answer. Adds "source": "servers". NULL:
// no memory.
json_t *status_from_servers(const struct relay_context *context);

// 0 ok, 1 degraded, 2 down (or no word of ours): by the "status" of a check or of an instance.
int status_level_of_state(const json_t *state);
// 0 ok, 1 something degraded, 2 a check down (or the whole) or an outbox CRITICAL.
int status_level_of(const json_t *status);
void status_print(FILE *to, const json_t *status, bool colour);

#endif
