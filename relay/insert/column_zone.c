// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/column_zone.h"

#include <string.h>
#include <strings.h>

static bool is_utc(const char *zone)
{
    static const char *const names[] = {"UTC", "GMT", "UCT", "Zulu", "Universal", "Greenwich", "GMT0", "GMT+0",
        "GMT-0"};
    zone += strncasecmp(zone, "Etc/", 4) == 0 ? 4 : 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(zone, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

// Recursion is bounded by the depth of the type.
static const char *other_zone(const struct clickhouse_type *type)
{
    const char *zone = type->timezone && !is_utc(type->timezone) ? type->timezone : NULL;
    for (size_t i = 0; !zone && i < type->inner_count; i++) {
        zone = other_zone(type->inner[i]);
    }
    return zone;
}

const char *column_zone_differs(const struct clickhouse_type *type, const struct route_source *source)
{
    bool brings_text = source->place == ROUTE_PATH || source->place == ROUTE_HEADER || source->place == ROUTE_KEY ||
        source->place == ROUTE_VALUE;
    // The publish stage writes created_at with its offset.
    bool is_ours = source->place == ROUTE_HEADER && !source->mapped && strcmp(source->name.at, "created_at") == 0;
    return brings_text && !is_ours ? other_zone(type) : NULL;
}
