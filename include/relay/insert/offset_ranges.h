// SPDX-License-Identifier: Apache-2.0
//
// Which offsets of one Kafka partition a table already holds, as sorted ranges: the answer of a read-back. Offsets are
// asked for in ascending order, as Kafka delivers them, which makes a look-up a comparison. Start with {0}; owned by
// its user, one thread.
#ifndef RELAY_INSERT_OFFSET_RANGES_H
#define RELAY_INSERT_OFFSET_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct offset_range {
    int64_t first, after; // first <= offset < after
};

struct offset_ranges {
    struct offset_range *items; // ascending, neither overlapping nor touching
    size_t count, room;
    size_t cursor; // the range where the last look-up ended
};

// first must not lie below the first of the last range added. false: out of memory.
bool offset_ranges_add(struct offset_ranges *ranges, int64_t first, int64_t after);
// Makes `ranges` the union of both. false: out of memory, `ranges` is as before.
bool offset_ranges_merge(struct offset_ranges *ranges, const struct offset_ranges *other);
bool offset_ranges_contain(struct offset_ranges *ranges, int64_t offset);
// Behind the highest offset, INT64_MIN when empty.
int64_t offset_ranges_after(const struct offset_ranges *ranges);
void offset_ranges_finish(struct offset_ranges *ranges); // empty, memory freed

#endif
