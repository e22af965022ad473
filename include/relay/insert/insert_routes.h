// SPDX-License-Identifier: Apache-2.0
//
// Which routes take the messages of a topic: exact names, and expressions that begin with ^ (POSIX extended, as
// librdkafka subscribes by them). Read-only after its making.
#ifndef RELAY_INSERT_INSERT_ROUTES_H
#define RELAY_INSERT_INSERT_ROUTES_H

#include "relay/config/config.h"

#include <stdbool.h>
#include <stddef.h>

struct insert_routes;

// Enabled routes only. Borrows the config. Errors: CONFIG (a bad expression), NO_MEMORY.
struct insert_routes *insert_routes_new(const struct config *config, struct relay_error *error);
void insert_routes_free(struct insert_routes *routes); // accepts NULL
size_t insert_routes_count(const struct insert_routes *routes);
const struct config_route *insert_routes_at(const struct insert_routes *routes, size_t index);
// Whether that is this route's table: "t" and "database.t" are one where [clickhouse] database is that.
bool insert_routes_fills(const struct insert_routes *routes, size_t index, const char *table);
// Does this route take the topic? Of several routes to one table that all take a topic only the first does: its rows
// could not be told apart.
bool insert_routes_match(const struct insert_routes *routes, size_t index, const char *topic);
// A topic (or expression) that a route names and never gets: a route before it takes the same into the same table.
struct insert_overlap {
    const struct config_route *route, *first;
    const char *topic;
};
// Tells of each. Two different expressions that match some of the same topics are not seen.
void insert_routes_overlaps(const struct insert_routes *routes,
    void (*tell)(void *context, const struct insert_overlap *overlap), void *context);
// What to subscribe to, each once. The array is the routes'.
const char *const *insert_routes_topics(const struct insert_routes *routes, size_t *count);
// Whether the topic is what one of those stands for: the name itself, or one that the expression matches.
bool insert_routes_means(const struct insert_routes *routes, const char *subscribed, const char *topic);

#endif
