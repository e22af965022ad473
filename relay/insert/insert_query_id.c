// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_query_id.h"

#include "relay/base/fnv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 8 // of one place

static bool has(const struct insert_places *places, uint32_t place)
{
    for (size_t i = 0; i < places->count; i++) {
        if (places->items[i] == place) {
            return true;
        }
    }
    return false;
}

void insert_places_add(struct insert_places *places, const char *topic, int32_t partition)
{
    char number[16];
    snprintf(number, sizeof(number), "/%d", partition);
    uint32_t place = fnv_text(fnv_text(FNV_START, topic), number);
    if (has(places, place)) {
        return;
    }
    if (places->count == places->room) {
        size_t room = places->room ? places->room * 2 : 8;
        uint32_t *items = reallocarray(places->items, room, sizeof(*items));
        if (!items) {
            places->unknown = true;
            return;
        }
        places->items = items;
        places->room = room;
    }
    places->items[places->count++] = place;
}

void insert_places_finish(struct insert_places *places)
{
    free(places->items);
    *places = (struct insert_places){0};
}

void insert_query_id_write(char *to, size_t room, const char *prefix, const char *instance, const char *route,
    uint64_t number, const struct insert_places *places)
{
    // Routes may share a table. The dot makes it no beginning of another one's: it is killed by what it begins with.
    int length = snprintf(to, room, "%s%.12s-%08x-%llu.", prefix, instance, fnv_text(FNV_START, route),
        (unsigned long long)number);
    bool named = !places->unknown && places->count <= INSERT_QUERY_ID_PLACES;
    for (size_t i = 0; named && i < places->count && (size_t)length + DIGITS < room; i++) {
        length += snprintf(to + length, room - (size_t)length, "%08x", places->items[i]);
    }
}

enum insert_concern insert_query_id_concern(const char *id, const struct insert_places *ours)
{
    const char *dot = strrchr(id, '.');
    const char *at = dot ? dot + 1 : "";
    size_t length = strlen(at);
    if (length == 0 || length % DIGITS != 0 || strspn(at, "0123456789abcdef") != length) {
        return INSERT_CONCERN_UNKNOWN;
    }
    for (; *at; at += DIGITS) {
        char digits[DIGITS + 1] = "";
        memcpy(digits, at, DIGITS);
        if (has(ours, (uint32_t)strtoul(digits, NULL, 16))) {
            return INSERT_CONCERNS_US;
        }
    }
    return ours->unknown ? INSERT_CONCERN_UNKNOWN : INSERT_CONCERNS_OTHERS;
}
