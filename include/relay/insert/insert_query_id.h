// SPDX-License-Identifier: Apache-2.0
//
// Query ids of INSERTs: under one prefix for each group and table, they say which member sent it and which Kafka
// partitions its rows are of. Whoever takes a partition over so tells INSERTs that concern it, whose sender has lost
// it, from those of members that go on with others. A set of places belongs to its user; start it with {0}.
#ifndef RELAY_INSERT_INSERT_QUERY_ID_H
#define RELAY_INSERT_INSERT_QUERY_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSERT_QUERY_ID_PLACES 32 // an id names so many partitions, or none at all

struct insert_places {
    uint32_t *items; // a hash for each topic and partition, in order of their adding
    size_t count, room;
    bool unknown; // memory was out: they may be any
};

void insert_places_add(struct insert_places *places, const char *topic, int32_t partition);
void insert_places_finish(struct insert_places *places);

enum insert_concern {
    INSERT_CONCERNS_OTHERS,
    INSERT_CONCERNS_US,
    INSERT_CONCERN_UNKNOWN, // it has too many to be named, or comes from an older version
};

// prefix + instance, route, number, the places; cut to `room`, which CLICKHOUSE_QUERY_ID_ROOM always is.
void insert_query_id_write(char *to, size_t room, const char *prefix, const char *instance, const char *route,
    uint64_t number, const struct insert_places *places);
enum insert_concern insert_query_id_concern(const char *id, const struct insert_places *ours);

#endif
