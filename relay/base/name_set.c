// SPDX-License-Identifier: Apache-2.0
#include "relay/base/name_set.h"

#include "relay/base/fnv.h"

#include <stdlib.h>
#include <string.h>

void name_set_finish(struct name_set *set)
{
    for (size_t i = 0; i < set->room; i++) {
        free(set->slots[i]);
    }
    free(set->slots);
    *set = (struct name_set){0};
}

// The name's slot, or a free one. room: a power of two, and never full.
static char **slot_of(char **slots, size_t room, const char *name)
{
    size_t at = fnv_text(FNV_START, name) & (room - 1);
    while (slots[at] != NULL && strcmp(slots[at], name) != 0) {
        at = (at + 1) & (room - 1);
    }
    return &slots[at];
}

static bool grow(struct name_set *set)
{
    size_t room = set->room == 0 ? 16 : set->room * 2;
    char **slots = calloc(room, sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < set->room; i++) {
        if (set->slots[i] != NULL) {
            *slot_of(slots, room, set->slots[i]) = set->slots[i];
        }
    }
    free(set->slots);
    set->slots = slots;
    set->room = room;
    return true;
}

bool name_set_has(const struct name_set *set, const char *name)
{
    return set->room > 0 && *slot_of(set->slots, set->room, name) != NULL;
}

bool name_set_add(struct name_set *set, const char *name, struct relay_error *error)
{
    if (name_set_has(set, name)) {
        return true;
    }
    char *copy = strdup(name);
    if (copy == NULL || (set->count * 2 >= set->room && !grow(set))) {
        free(copy);
        return error_no_memory(error, "a name");
    }
    *slot_of(set->slots, set->room, copy) = copy;
    set->count++;
    return true;
}
