// SPDX-License-Identifier: Apache-2.0
//
// The table says what a section's struct holds, so no key can be forgotten. Outboxes and routes are
// matched by their names. A key of [publish] that every outbox inherits is told once, as [publish].
#include "relay/config/config_compare.h"

#include "relay/config/config_kafka.h"
#include "relay/config/config_table.h"

#include <stdio.h>
#include <string.h>

struct comparison {
    config_difference *difference;
    void *context;
};

static bool same_text(const char *a, const char *b)
{
    return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = same_text(a->items[i], b->items[i]);
    }
    return same;
}

static bool same_additional(const struct config_publish *a, const struct config_publish *b)
{
    bool same = a->additional_count == b->additional_count;
    for (size_t i = 0; same && i < a->additional_count; i++) {
        same = same_text(a->additional[i].column, b->additional[i].column) &&
            a->additional[i].placement == b->additional[i].placement &&
            same_text(a->additional[i].alias, b->additional[i].alias);
    }
    return same;
}

static bool same_pairs(const struct config_pair *a, size_t a_count, const struct config_pair *b, size_t b_count)
{
    bool same = a_count == b_count;
    for (size_t i = 0; same && i < a_count; i++) {
        same = same_text(a[i].name, b[i].name) && same_text(a[i].value, b[i].value);
    }
    return same;
}

// Whether two structs of the key's section agree in it.
static bool same_value(const struct config_key *key, const void *a, const void *b)
{
    const void *x = (const char *)a + key->offset;
    const void *y = (const char *)b + key->offset;
    switch (key->kind) {
    case CONFIG_KIND_TEXT: return same_text(*(char *const *)x, *(char *const *)y);
    case CONFIG_KIND_INTEGER:
    case CONFIG_KIND_SIZE: return memcmp(x, y, sizeof(int64_t)) == 0;
    case CONFIG_KIND_DURATION: return memcmp(x, y, sizeof(struct duration)) == 0;
    case CONFIG_KIND_BOOLEAN: return memcmp(x, y, sizeof(bool)) == 0;
    case CONFIG_KIND_RATIO: return *(const double *)x <= *(const double *)y && *(const double *)x >= *(const double *)y;
    case CONFIG_KIND_WORD: return memcmp(x, y, sizeof(int)) == 0;
    case CONFIG_KIND_LIST:
    case CONFIG_KIND_TOPICS: return same_list(x, y);
    case CONFIG_KIND_ADDITIONAL: return same_additional(a, b);
    case CONFIG_KIND_COLUMNS: {
        const struct config_route *one = a, *other = b;
        return same_pairs(one->columns, one->column_count, other->columns, other->column_count);
    }
    }
    return true;
}

static void tell(const struct comparison *comparison, const char *section, const char *key, bool live)
{
    comparison->difference(comparison->context, section, key, live);
}

// unless_a, unless_b: structs of the same section; keys in which they differ were told already. May be NULL.
static void compare_section(const struct comparison *comparison, enum config_section_id section, const char *label,
    const void *a, const void *b, const void *unless_a, const void *unless_b)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->section == section && !same_value(key, a, b) &&
            (unless_a == NULL || same_value(key, unless_a, unless_b))) {
            tell(comparison, label, key->name, (key->flags & CONFIG_LIVE) != 0);
        }
    }
}

static const char *label(char room[80], const char *kind, const char *name)
{
    bool plain = strcmp(kind, "outbox") == 0 && strcmp(name, "default") == 0;
    snprintf(room, 80, plain ? "%s" : "%s %s", kind, name);
    return room;
}

static const struct config_outbox *find_outbox(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (strcmp(config->outboxes[i].name, name) == 0) {
            return &config->outboxes[i];
        }
    }
    return NULL;
}

static const struct config_route *find_route(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->route_count; i++) {
        if (strcmp(config->routes[i].name, name) == 0) {
            return &config->routes[i];
        }
    }
    return NULL;
}

static void compare_outboxes(const struct comparison *comparison, const struct config *before,
    const struct config *after)
{
    char room[80];
    for (size_t i = 0; i < before->outbox_count; i++) {
        const struct config_outbox *one = &before->outboxes[i];
        const struct config_outbox *other = find_outbox(after, one->name);
        const char *section = label(room, "outbox", one->name);
        if (other == NULL) {
            tell(comparison, section, "", false);
            continue;
        }
        compare_section(comparison, CONFIG_SECTION_OUTBOX, section, one, other, NULL, NULL);
        compare_section(comparison, CONFIG_SECTION_PUBLISH, section, &one->publish, &other->publish, &before->publish,
            &after->publish);
    }
    for (size_t i = 0; i < after->outbox_count; i++) {
        if (find_outbox(before, after->outboxes[i].name) == NULL) {
            tell(comparison, label(room, "outbox", after->outboxes[i].name), "", false);
        }
    }
}

static void compare_routes(const struct comparison *comparison, const struct config *before, const struct config *after)
{
    char room[80];
    for (size_t i = 0; i < before->route_count; i++) {
        const struct config_route *one = &before->routes[i];
        const struct config_route *other = find_route(after, one->name);
        if (other == NULL) {
            tell(comparison, label(room, "route", one->name), "", false);
        } else {
            compare_section(comparison, CONFIG_SECTION_ROUTE, label(room, "route", one->name), one, other, NULL, NULL);
        }
    }
    for (size_t i = 0; i < after->route_count; i++) {
        if (find_route(before, after->routes[i].name) == NULL) {
            tell(comparison, label(room, "route", after->routes[i].name), "", false);
        }
    }
}

// The properties of `these` that the others give otherwise, or not at all; those that both give only if `both`. By what
// a name means, as an alias may have taken its place, and told as it is written now.
static void compare_properties(const struct comparison *comparison, const struct config *these,
    const struct config *others, bool both)
{
    for (size_t i = 0; i < these->kafka_count; i++) {
        const struct config_pair *one = &these->kafka[i];
        const char *meant = config_kafka_meant(one);
        const struct config_pair *other = config_kafka_given(others, meant);
        bool counts = config_kafka_given(these, meant) == one; // of several the last
        if (counts && (other == NULL || (both && strcmp(one->value, other->value) != 0))) {
            tell(comparison, "kafka", other == NULL ? one->name : other->name, false);
        }
    }
}

void config_compare(const struct config *before, const struct config *after, config_difference *difference,
    void *context)
{
    struct comparison comparison = {.difference = difference, .context = context};
    for (int id = 0; id < CONFIG_SECTIONS; id++) {
        const struct config_section *section = &config_sections[id];
        if (id == CONFIG_SECTION_OUTBOX) {
            compare_outboxes(&comparison, before, after);
        } else if (id == CONFIG_SECTION_ROUTE) {
            compare_routes(&comparison, before, after);
        } else if (id == CONFIG_SECTION_KAFKA) {
            compare_properties(&comparison, before, after, true);
            compare_properties(&comparison, after, before, false);
        } else {
            compare_section(&comparison, (enum config_section_id)id, section->name,
                (const char *)before + section->offset, (const char *)after + section->offset, NULL, NULL);
        }
    }
}
