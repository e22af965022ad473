// SPDX-License-Identifier: Apache-2.0
//
// The outboxes: [outbox] is "default", each [outbox NAME] inherits from it, and both from [publish]. With no section at
// all there is the default one; with [outbox NAME] sections only, just those.
#include "relay/config/config_outboxes.h"

#include <string.h>
#include <strings.h>

static const char *const default_columns[2][CONFIG_COLUMN_ROLES] = {
    [CONFIG_LAYOUT_NATIVE] = {[CONFIG_COLUMN_ID] = "id",
        [CONFIG_COLUMN_SEQ] = "seq",
        [CONFIG_COLUMN_KEY] = "aggregate_id",
        [CONFIG_COLUMN_TYPE] = "event_type",
        [CONFIG_COLUMN_AGGREGATE_TYPE] = "aggregate_type",
        [CONFIG_COLUMN_PAYLOAD] = "payload",
        [CONFIG_COLUMN_METADATA] = "metadata",
        [CONFIG_COLUMN_CREATED_AT] = "created_at"},
    [CONFIG_LAYOUT_DEBEZIUM] = {[CONFIG_COLUMN_ID] = "id",
        [CONFIG_COLUMN_SEQ] = "seq",
        [CONFIG_COLUMN_KEY] = "aggregateid",
        [CONFIG_COLUMN_TYPE] = "type",
        [CONFIG_COLUMN_AGGREGATE_TYPE] = "aggregatetype",
        [CONFIG_COLUMN_PAYLOAD] = "payload",
        [CONFIG_COLUMN_METADATA] = "",
        [CONFIG_COLUMN_CREATED_AT] = ""},
};

bool config_column_may_miss(enum config_column_role role)
{
    return role == CONFIG_COLUMN_AGGREGATE_TYPE || role == CONFIG_COLUMN_METADATA || role == CONFIG_COLUMN_CREATED_AT;
}

const char *config_column_key(enum config_column_role role)
{
    static const char *const keys[] = {[CONFIG_COLUMN_ID] = "column.id",
        [CONFIG_COLUMN_SEQ] = "column.seq",
        [CONFIG_COLUMN_KEY] = "column.key",
        [CONFIG_COLUMN_TYPE] = "column.type",
        [CONFIG_COLUMN_AGGREGATE_TYPE] = "column.aggregate_type",
        [CONFIG_COLUMN_PAYLOAD] = "column.payload",
        [CONFIG_COLUMN_METADATA] = "column.metadata",
        [CONFIG_COLUMN_CREATED_AT] = "column.created_at"};
    _Static_assert(sizeof(keys) / sizeof(keys[0]) == CONFIG_COLUMN_ROLES, "a key for each role");
    return keys[role];
}

const char *config_column_default(enum config_layout layout, enum config_column_role role)
{
    return default_columns[layout][role];
}

static void build_columns(const struct config_source *source, struct config *config, const struct config_place *places,
    size_t count, struct config_outbox *outbox)
{
    for (int role = 0; role < CONFIG_COLUMN_ROLES; role++) {
        const struct config_setting *setting = config_build_find(source, places, count,
            config_column_key((enum config_column_role)role));
        if (setting != NULL && strcmp(setting->value, "none") == 0) {
            if (!config_column_may_miss((enum config_column_role)role)) {
                config_source_mistake(source, setting, "every outbox needs this column; expected its name");
            }
            outbox->columns[role] = config_memory_text(config->memory, "");
        } else if (outbox->columns[role] == NULL) {
            outbox->columns[role] = config_memory_text(config->memory,
                config_column_default(outbox->layout, (enum config_column_role)role));
        }
    }
}

static void build_outbox(const struct config_source *source, struct config *config, const char *name,
    struct config_outbox *outbox)
{
    // The last place is the whole way for keys of [publish], and harmless for those of the outbox, which it does not
    // have.
    const struct config_place places[] = {{CONFIG_SECTION_OUTBOX, name}, {CONFIG_SECTION_OUTBOX, ""},
        {CONFIG_SECTION_PUBLISH, ""}};
    outbox->name = config_memory_text(config->memory, name[0] == '\0' ? "default" : name);
    config_build_section(source, config->memory, CONFIG_SECTION_OUTBOX, places, 2, outbox);
    config_build_section(source, config->memory, CONFIG_SECTION_PUBLISH, places, 3, &outbox->publish);
    build_columns(source, config, places, 2, outbox);
}

// Two relays of one process on one table would fight for its locks.
static void judge_tables(const struct config_source *source, const struct config *config)
{
    for (size_t i = 0; i < config->outbox_count; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct config_outbox *one = &config->outboxes[j], *other = &config->outboxes[i];
            if (strcmp(one->table, other->table) == 0) {
                config_report_whole(source->report,
                    config_section_label(source->memory, CONFIG_SECTION_OUTBOX, other->name), "table",
                    "%.140s is also the table of outbox %s; expected one of its own", other->table, one->name);
            }
        }
    }
}

void config_build_outboxes(const struct config_source *source, struct config *config)
{
    size_t count = 0;
    for (size_t i = 0; i < source->heading_count; i++) {
        count += source->headings[i].section == CONFIG_SECTION_OUTBOX;
    }
    config->outboxes = config_memory_take(config->memory, (count == 0 ? 1 : count) * sizeof(*config->outboxes));
    if (config->outboxes == NULL) {
        return;
    }
    if (count == 0) {
        build_outbox(source, config, "", &config->outboxes[config->outbox_count++]);
    }
    for (size_t i = 0; i < source->heading_count; i++) {
        if (source->headings[i].section == CONFIG_SECTION_OUTBOX) {
            build_outbox(source, config, source->headings[i].name, &config->outboxes[config->outbox_count++]);
        }
    }
    config->publish.enabled = false;
    for (size_t i = 0; i < config->outbox_count; i++) {
        config->publish.enabled |= config->outboxes[i].publish.enabled;
    }
    judge_tables(source, config);
}
