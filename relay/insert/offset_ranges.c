// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/offset_ranges.h"

#include <assert.h>
#include <stdlib.h>

bool offset_ranges_add(struct offset_ranges *ranges, int64_t first, int64_t after)
{
    if (first >= after) {
        return true;
    }
    if (ranges->count > 0) {
        struct offset_range *last = &ranges->items[ranges->count - 1];
        assert(first >= last->first);
        if (first <= last->after) {
            last->after = after > last->after ? after : last->after;
            return true;
        }
    }
    if (ranges->count == ranges->room) {
        size_t room = ranges->room ? ranges->room * 2 : 16;
        struct offset_range *items = reallocarray(ranges->items, room, sizeof(*items));
        if (!items) {
            return false;
        }
        ranges->items = items;
        ranges->room = room;
    }
    ranges->items[ranges->count++] = (struct offset_range){first, after};
    return true;
}

bool offset_ranges_merge(struct offset_ranges *ranges, const struct offset_ranges *other)
{
    struct offset_ranges both = {0};
    size_t a = 0, b = 0;
    while (a < ranges->count || b < other->count) {
        bool mine = b == other->count || (a < ranges->count && ranges->items[a].first <= other->items[b].first);
        const struct offset_range *next = mine ? &ranges->items[a++] : &other->items[b++];
        if (!offset_ranges_add(&both, next->first, next->after)) {
            offset_ranges_finish(&both);
            return false;
        }
    }
    offset_ranges_finish(ranges);
    *ranges = both;
    return true;
}

bool offset_ranges_contain(struct offset_ranges *ranges, int64_t offset)
{
    while (ranges->cursor > 0 && offset < ranges->items[ranges->cursor - 1].after) {
        ranges->cursor--; // the partition was wound back
    }
    while (ranges->cursor < ranges->count && offset >= ranges->items[ranges->cursor].after) {
        ranges->cursor++;
    }
    return ranges->cursor < ranges->count && offset >= ranges->items[ranges->cursor].first;
}

int64_t offset_ranges_after(const struct offset_ranges *ranges)
{
    return ranges->count > 0 ? ranges->items[ranges->count - 1].after : INT64_MIN;
}

void offset_ranges_finish(struct offset_ranges *ranges)
{
    free(ranges->items);
    *ranges = (struct offset_ranges){0};
}
