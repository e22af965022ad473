// SPDX-License-Identifier: Apache-2.0
#include "relay/json/json_members.h"

#include "relay/json/json_walk.h"

#include <stdlib.h>
#include <string.h>

static struct json_member *add(struct json_members *members)
{
    if (members->count == members->room) {
        size_t room = members->room * 2;
        struct json_member *held = members->items == members->held ? members->held : NULL;
        struct json_member *items = reallocarray(held ? NULL : members->items, room, sizeof(*items));
        if (!items) {
            return NULL;
        }
        if (held) {
            memcpy(items, held, sizeof(members->held));
        }
        members->items = items;
        members->room = room;
    }
    return &members->items[members->count++];
}

// Room for the unescaped names of the object, none longer than its text.
static bool unescape(struct json_member *member, const struct json_value *object, char **names, size_t *used)
{
    member->escaped = member->name.text == NULL;
    if (!member->escaped) {
        return true;
    }
    if (!*names && !(*names = malloc(object->raw_length))) {
        return false;
    }
    json_unescape(&member->name, *names + *used);
    *used += member->name.length;
    return true;
}

static int compare(const struct json_member *a, const struct json_member *b)
{
    if (a->name.length != b->name.length) {
        return a->name.length < b->name.length ? -1 : 1;
    }
    return memcmp(a->name.text, b->name.text, a->name.length);
}

static int by_name_and_place(const void *a, const void *b)
{
    const struct json_member *const *left = a, *const *right = b;
    int order = compare(*left, *right);
    return order != 0 ? order : (*left > *right) - (*left < *right);
}

static bool mark_overridden(struct json_members *members)
{
    struct json_member *held[JSON_MEMBERS_HELD], **sorted = held;
    if (members->count > JSON_MEMBERS_HELD && !(sorted = reallocarray(NULL, members->count, sizeof(*sorted)))) {
        return false;
    }
    for (size_t i = 0; i < members->count; i++) {
        sorted[i] = &members->items[i];
    }
    qsort(sorted, members->count, sizeof(*sorted), by_name_and_place);
    for (size_t i = 1; i < members->count; i++) {
        sorted[i - 1]->overridden = compare(sorted[i - 1], sorted[i]) == 0;
    }
    if (sorted != held) {
        free(sorted);
    }
    return true;
}

bool json_members_read(struct json_members *members, const struct json_value *object)
{
    struct json_walk walk;
    struct json_value name, value;
    char *names = NULL;
    size_t used = 0;
    bool done = true, ascending = true;
    members->items = members->held;
    members->count = 0;
    members->room = JSON_MEMBERS_HELD;
    json_walk_start(&walk, object);
    while (done && json_walk_next(&walk, &name, &value)) {
        struct json_member *member = add(members);
        done = member != NULL;
        if (done) {
            *member = (struct json_member){.name = name, .value = value};
            done = unescape(member, object, &names, &used);
        }
        ascending = ascending && done && (members->count == 1 || compare(member - 1, member) < 0);
    }
    done = done && (ascending || mark_overridden(members));
    for (size_t i = 0; names && i < members->count; i++) {
        struct json_member *member = &members->items[i];
        if (member->escaped) {
            member->name.text = NULL;
            member->name.length = 0;
        }
    }
    free(names);
    return done;
}

void json_members_finish(struct json_members *members)
{
    if (members->items != members->held) {
        free(members->items);
    }
    members->items = members->held;
}
