// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_build.h"

#include "relay/config/config_checks.h"
#include "relay/config/config_value.h"

#include <stdio.h>
#include <string.h>

const struct config_setting *config_build_find(const struct config_source *source, const struct config_place *places,
    size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        const struct config_setting *setting = config_source_find(source, places[i].section, places[i].name, key);
        if (setting != NULL) {
            return setting;
        }
    }
    return NULL;
}

static bool in_range(struct config_memory *memory, const struct config_key *key, int64_t value,
    struct relay_error *error)
{
    if (value >= key->min && value <= key->max) {
        return true;
    }
    if (key->kind == CONFIG_KIND_SIZE) {
        return error_set(error, RELAY_ERROR_CONFIG, "expected %s to %s", config_format_size(memory, key->min),
            config_format_size(memory, key->max));
    }
    if (key->kind == CONFIG_KIND_DURATION) {
        return error_set(error, RELAY_ERROR_CONFIG, "expected %s to %s", config_format_duration(memory, key->min),
            config_format_duration(memory, key->max));
    }
    return error_set(error, RELAY_ERROR_CONFIG, "expected %lld to %lld", (long long)key->min, (long long)key->max);
}

static bool build_number(struct config_memory *memory, const struct config_key *key, const char *text, int64_t *target,
    struct relay_error *error)
{
    int64_t value = 0;
    bool parsed = key->kind == CONFIG_KIND_SIZE ? config_parse_size(text, &value, error)
        : key->kind == CONFIG_KIND_DURATION     ? config_parse_duration(text, &value, error)
                                                : config_parse_integer(text, &value, error);
    if (!parsed || !in_range(memory, key, value, error)) {
        return false;
    }
    if (target != NULL) {
        *target = value;
    }
    return true;
}

static bool build_list(struct config_memory *memory, const struct config_key *key, const char *text,
    struct config_list *target, struct relay_error *error)
{
    struct config_list list;
    if (key->kind == CONFIG_KIND_TOPICS && text[0] == '^') { // one expression, commas and all
        char **items = config_memory_take(memory, sizeof(*items));
        if (items == NULL) {
            return error_no_memory(error, "reading a list");
        }
        items[0] = config_memory_text(memory, text);
        list = (struct config_list){.items = items, .count = 1};
    } else if (!config_parse_list(memory, text, &list, error)) {
        return false;
    }
    for (size_t i = 0; key->check != NULL && i < list.count; i++) {
        if (!key->check(list.items[i], error)) {
            return list.count == 1 ? false : error_prefix(error, "item %zu", i + 1);
        }
    }
    if (target != NULL) {
        *target = list;
    }
    return true;
}

static bool build_text(struct config_memory *memory, const struct config_key *key, const char *text, char **target,
    struct relay_error *error)
{
    bool empty_is_fine = key->fallback != NULL && key->fallback[0] == '\0';
    if (text[0] == '\0' && !empty_is_fine && key->section != CONFIG_SECTION_HTTP) {
        return error_set(error, RELAY_ERROR_CONFIG, "is empty; expected a value, or no line at all for the default");
    }
    if (text[0] != '\0' && key->check != NULL && !key->check(text, error)) {
        return false;
    }
    if (target != NULL) {
        *target = config_memory_text(memory, text);
        if (key->check == config_check_clickhouse_table) {
            config_plain_clickhouse_table(*target);
        }
    }
    return true;
}

static bool build_word(const struct config_key *key, const char *text, int *target, struct relay_error *error)
{
    int index;
    if (!config_parse_word(text, key->words, &index, error)) {
        return false;
    }
    if (target != NULL) {
        *target = index;
    }
    return true;
}

// Reads one text by its key into target, which may be NULL (only judged). error: CONFIG, NO_MEMORY.
static bool build_value(struct config_memory *memory, const struct config_key *key, const char *text, void *target,
    struct relay_error *error)
{
    bool truth;
    double ratio;
    switch (key->kind) {
    case CONFIG_KIND_TEXT: return build_text(memory, key, text, target, error);
    case CONFIG_KIND_INTEGER:
    case CONFIG_KIND_SIZE: return build_number(memory, key, text, target, error);
    case CONFIG_KIND_DURATION:
        return build_number(memory, key, text, target == NULL ? NULL : &((struct duration *)target)->ns, error);
    case CONFIG_KIND_BOOLEAN: return config_parse_boolean(text, target == NULL ? &truth : target, error);
    case CONFIG_KIND_RATIO: return config_parse_ratio(text, target == NULL ? &ratio : target, error);
    case CONFIG_KIND_WORD: return build_word(key, text, target, error);
    case CONFIG_KIND_LIST:
    case CONFIG_KIND_TOPICS: return build_list(memory, key, text, target, error);
    case CONFIG_KIND_ADDITIONAL: {
        struct config_additional *items;
        size_t count;
        if (!config_parse_additional(memory, text, &items, &count, error)) {
            return false;
        }
        if (target != NULL) {
            struct config_publish *publish = (struct config_publish *)((char *)target -
                offsetof(struct config_publish, additional));
            publish->additional = items;
            publish->additional_count = count;
        }
        return true;
    }
    case CONFIG_KIND_COLUMNS: return true;
    }
    return error_set(error, RELAY_ERROR_BUG, "a key of no kind");
}

// A comment behind a value is the likeliest reason for one that means nothing.
static const char *comment_hint(const char *value)
{
    return strstr(value, " ;") != NULL || strstr(value, " #") != NULL ? " (a comment stands on a line of its own)" : "";
}

static void report_value(const struct config_source *source, const struct config_setting *setting,
    const struct config_key *key, const struct relay_error *error)
{
    if ((key->flags & (CONFIG_SECRET | CONFIG_DISCREET)) != 0) {
        config_source_mistake(source, setting, "%s", error->text);
    } else {
        config_source_mistake(source, setting, "\"%.60s%s\": %s%s", setting->value,
            strlen(setting->value) > 60 ? "..." : "", error->text, comment_hint(setting->value));
    }
}

// As build_value(); false only for what is to be reported. Memory that ran out is remembered.
static bool build_or_exhaust(struct config_memory *memory, const struct config_key *key, const char *text, void *target,
    struct relay_error *error)
{
    if (build_value(memory, key, text, target, error)) {
        return true;
    }
    if (error->code == RELAY_ERROR_NO_MEMORY) {
        config_memory_exhaust(memory);
        if (key->kind == CONFIG_KIND_TEXT) { // never NULL, whatever happens
            *(char **)target = config_memory_text(memory, "");
        }
        return true;
    }
    return false;
}

void config_build_key(const struct config_source *source, struct config_memory *memory, const struct config_key *key,
    const struct config_place *places, size_t count, void *target)
{
    const struct config_setting *setting = config_build_find(source, places, count, key->name);
    struct relay_error error = {0};
    if (key->fallback != NULL && !build_or_exhaust(memory, key, key->fallback, target, &error)) {
        config_report_whole(source->report, config_sections[key->section].name, key->name,
            "the built-in default %s: %s", key->fallback, error.text);
    }
    bool reported = setting != NULL && setting->in_file && setting->value[0] == '\0'; // a file that could not be read
    if (setting != NULL && !reported && !build_or_exhaust(memory, key, setting->value, target, &error)) {
        report_value(source, setting, key, &error);
    }
}

void config_build_section(const struct config_source *source, struct config_memory *memory,
    enum config_section_id section, const struct config_place *places, size_t count, void *target)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->section == section && key->kind != CONFIG_KIND_COLUMNS) {
            config_build_key(source, memory, key, places, count, (char *)target + key->offset);
        }
    }
}
