// SPDX-License-Identifier: Apache-2.0
//
// The routes: the built-in "default" first, which takes every topic that the outboxes' templates can make into
// outbox_events and which [route default] changes or switches off; then each [route NAME] in the order of the file.
#include "relay/config/config_routes.h"

#include "relay/config/config_checks.h"
#include "relay/config/config_value.h"
#include "relay/config/route_source.h"

#include <ctype.h>
#include <regex.h>
#include <string.h>

// Templates

// What one template can make, as an extended regular expression without its ends. exact: it makes one topic only.
static char *template_pattern(struct config_memory *memory, const char *template, const char *prefix, bool *exact)
{
    char *pattern = config_memory_text(memory, "");
    *exact = true;
    while (*template != '\0') {
        const char *end = *template == '{' ? strchr(template, '}') : NULL;
        if (*template == '{' && end == NULL) {
            return config_memory_text(memory, "");
        }
        if (end == NULL) {
            pattern = config_memory_format(memory, "%s%s%c", pattern, *template == '.' ? "\\" : "", *template);
            template ++;
            continue;
        }
        bool is_prefix = strncmp(template, "{prefix}", 8) == 0;
        if (is_prefix) {
            for (const char *at = prefix; *at != '\0'; at++) {
                pattern = config_memory_format(memory, "%s%s%c", pattern, *at == '.' ? "\\" : "", *at);
            }
        } else {
            // A part of an event type holds no point; everything else may.
            pattern = config_memory_format(memory, "%s%s", pattern,
                strncmp(template, "{event_type:", 12) == 0 ? "[^.]+" : ".+");
            *exact = false;
        }
        template = end + 1;
    }
    return pattern;
}

// The same text without its backslashes: the one topic of an exact pattern.
static char *unescape(struct config_memory *memory, const char *pattern)
{
    char *text = config_memory_text(memory, pattern);
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '\\') {
            *to++ = *from;
        }
    }
    if (to != text) {
        *to = '\0';
    }
    return text;
}

// The topics that the templates can make: one exact name or one ^regex$.
static char *topic_pattern(struct config_memory *memory, const struct config *config)
{
    char *all = config_memory_text(memory, "");
    char *last = all;
    bool last_exact = false;
    size_t count = 0;
    for (size_t i = 0; i < config->outbox_count; i++) {
        const struct config_publish *publish = &config->outboxes[i].publish;
        bool known = false;
        for (size_t j = 0; j < i && !known; j++) {
            const struct config_publish *other = &config->outboxes[j].publish;
            known = strcmp(publish->topic, other->topic) == 0 && strcmp(publish->prefix, other->prefix) == 0;
        }
        if (!known) {
            last = template_pattern(memory, publish->topic, publish->prefix, &last_exact);
            all = config_memory_format(memory, "%s%s%s", all, count == 0 ? "" : "|", last);
            count++;
        }
    }
    if (count == 1 && last_exact) {
        return unescape(memory, last);
    }
    return config_memory_format(memory, count == 1 ? "^%s$" : "^(%s)$", all);
}

// Columns

static bool starts_source(const char *text)
{
    return *text == '$' || *text == '\'' || strncmp(text, "header.", 7) == 0 || strncmp(text, "header[", 7) == 0 ||
        strncmp(text, "kafka.", 6) == 0;
}

// The comma that ends a column, or the end: not those within quotes or brackets.
static const char *column_end(const char *at)
{
    char quote = '\0';
    int depth = 0;
    for (; *at != '\0' && !(quote == '\0' && depth == 0 && *at == ','); at++) {
        if (quote != '\0') {
            if (*at == '\\' && at[1] != '\0') {
                at++;
            } else if (*at == quote) {
                quote = '\0';
            }
        } else if (*at == '\'' || (*at == '"' && depth > 0)) {
            quote = *at;
        } else if (*at == '[') {
            depth++;
        } else if (*at == ']' && depth > 0) {
            depth--;
        }
    }
    return at;
}

static char *trimmed(struct config_memory *memory, const char *start, const char *end)
{
    while (start < end && isblank((unsigned char)*start)) {
        start++;
    }
    while (end > start && isblank((unsigned char)end[-1])) {
        end--;
    }
    return config_memory_copy(memory, start, (size_t)(end - start));
}

// [route] columns = a = $.x, b = ...: each column goes to `add`. error CONFIG.
static bool parse_columns(struct config_memory *memory, const char *text,
    void (*add)(void *context, char *column, char *source), void *context, struct relay_error *error)
{
    for (const char *at = text, *end; *at != '\0'; at = *end == '\0' ? end : end + 1) {
        end = column_end(at);
        const char *equals = memchr(at, '=', (size_t)(end - at));
        char *column = trimmed(memory, at, equals == NULL ? end : equals);
        char *source = equals == NULL ? column : trimmed(memory, equals + 1, end);
        if (equals == NULL || column[0] == '\0') {
            return error_set(error, RELAY_ERROR_CONFIG,
                "expected column = source, column = source ...; found \"%.60s\"", column);
        }
        if (!starts_source(source)) {
            return error_set(error, RELAY_ERROR_CONFIG,
                "%.60s: expected $.path, header.NAME, kafka.FIELD or 'constant' behind its =, not \"%.60s\" "
                "(in this list blanks separate the entries of a map, commas the columns)",
                column, source);
        }
        add(context, column, source);
    }
    return true;
}

struct route_builder {
    const struct config_source *source;
    struct config *config;
    struct config_route *route;
    const struct config_setting *setting; // the one that is read
    size_t room;
};

static void add_column(void *context, char *column, char *text)
{
    struct route_builder *builder = context;
    struct config_route *route = builder->route;
    struct relay_error error = {0};
    struct route_source parsed;
    if (!route_source_parse(text, &parsed, &error)) {
        if (error.code == RELAY_ERROR_NO_MEMORY) {
            config_memory_exhaust(builder->config->memory);
            return;
        }
        bool own_line = strcmp(builder->setting->key, column) == 0;
        config_source_mistake(builder->source, builder->setting, "%s%s%s", own_line ? "" : column, own_line ? "" : ": ",
            error.text);
        return;
    }
    route_source_finish(&parsed);
    for (size_t i = 0; i < route->column_count; i++) {
        if (strcmp(route->columns[i].name, column) == 0) {
            config_source_mistake(builder->source, builder->setting, "column %.80s has two sources; expected one",
                column);
            return;
        }
    }
    if (route->column_count == builder->room) {
        size_t room = builder->room == 0 ? 16 : builder->room * 2;
        struct config_pair *grown = config_memory_take(builder->config->memory, room * sizeof(*grown));
        if (grown == NULL) {
            return;
        }
        if (route->column_count > 0) {
            memcpy(grown, route->columns, route->column_count * sizeof(*grown));
        }
        route->columns = grown;
        builder->room = room;
    }
    route->columns[route->column_count++] = (struct config_pair){
        .name = config_memory_text(builder->config->memory, column),
        .value = config_memory_text(builder->config->memory, text)};
}

static const char *route_key(const void *context, size_t i)
{
    (void)context;
    return config_keys[i].section == CONFIG_SECTION_ROUTE ? config_keys[i].name : NULL;
}

// A key whose value is told to nobody, wherever it may stand.
static bool is_secret(const struct config_source *source, const char *key)
{
    bool secret = kafka_property_is_secret(key);
    for (int section = 0; section < CONFIG_SECTIONS; section++) {
        secret = secret || config_source_is_secret(source, (enum config_section_id)section, key);
    }
    return secret;
}

// A line of a route that is no key of it: a column, unless its value is no source and its name nearly a key.
static void read_column(struct route_builder *builder)
{
    const struct config_setting *setting = builder->setting;
    struct config_memory *memory = builder->source->memory;
    bool starts = starts_source(setting->value);
    const char *near = starts ? NULL : config_nearest(setting->key, route_key, NULL, config_key_count);
    if (near != NULL) {
        config_source_mistake(builder->source, setting,
            "neither a key nor a column (expected $.path, header.NAME, kafka.FIELD or 'constant'); did you mean %s?",
            near);
        return;
    }
    if (!starts && is_secret(builder->source, setting->key)) { // of a section whose heading is missing
        config_source_mistake(builder->source, setting,
            "unknown key here; a column's value is $.path, header.NAME, kafka.FIELD or 'constant'");
        return;
    }
    add_column(builder, config_memory_text(memory, setting->key), config_memory_text(memory, setting->value));
}

static void build_columns(struct route_builder *builder)
{
    const struct config_source *source = builder->source;
    for (size_t i = 0; i < source->setting_count; i++) {
        const struct config_setting *setting = &source->settings[i];
        if (setting->section != CONFIG_SECTION_ROUTE || strcmp(setting->name, builder->route->name) != 0) {
            continue;
        }
        const struct config_key *key = config_key_find(CONFIG_SECTION_ROUTE, setting->key);
        builder->setting = setting;
        if (key == NULL) {
            read_column(builder);
        } else if (key->kind == CONFIG_KIND_COLUMNS) {
            struct relay_error error = {0};
            if (!parse_columns(source->memory, setting->value, add_column, builder, &error)) {
                config_source_mistake(source, setting, "%s", error.text);
            }
        }
    }
}

// Routes

static void judge_topics(const struct config_source *source, const struct config_route *route)
{
    const struct config_setting *setting = config_source_find(source, CONFIG_SECTION_ROUTE, route->name, "topics");
    for (size_t i = 0; setting != NULL && i < route->topics.count; i++) {
        const char *topic = route->topics.items[i];
        struct relay_error error = {0};
        if (i == 0 && route->topics.count == 1 && topic[0] == '^') {
            regex_t expression;
            int code = regcomp(&expression, topic, REG_EXTENDED | REG_NOSUB);
            char why[128];
            if (code == 0) {
                regfree(&expression);
            } else {
                regerror(code, &expression, why, sizeof(why));
                config_source_mistake(source, setting, "%.100s is no extended regular expression: %s", topic, why);
            }
        } else if (!config_check_topic(topic, &error)) {
            config_source_mistake(source, setting, "\"%.60s\": %s%s", topic, error.text,
                topic[0] == '^' ? " (an expression that starts with ^ stands alone)" : "");
        }
    }
}

static void build_route(const struct config_source *source, struct config *config, const char *name,
    struct config_route *route)
{
    const struct config_place place = {CONFIG_SECTION_ROUTE, name};
    route->name = config_memory_text(config->memory, name);
    config_build_section(source, config->memory, CONFIG_SECTION_ROUTE, &place, 1, route);
    struct route_builder builder = {.source = source, .config = config, .route = route};
    build_columns(&builder);
    bool is_default = strcmp(name, "default") == 0;
    const char *label = config_section_label(source->memory, CONFIG_SECTION_ROUTE, name);
    if (route->table == NULL) {
        if (!is_default && route->enabled && config_source_find(source, CONFIG_SECTION_ROUTE, name, "table") == NULL) {
            config_report_whole(source->report, label, "table", "is missing; expected the table that the route fills");
        }
        route->table = config_memory_text(config->memory, is_default ? "outbox_events" : "");
    }
    if (route->topics.count > 0) {
        judge_topics(source, route);
    } else if (is_default) {
        route->topics.items = config_memory_take(config->memory, sizeof(*route->topics.items));
        if (route->topics.items != NULL) {
            route->topics.items[0] = topic_pattern(config->memory, config);
            route->topics.count = 1;
        }
    } else if (route->enabled && route->topics.count == 0) {
        config_report_whole(source->report, label, "topics",
            "is missing; expected names of topics, or a regular expression that starts with ^");
    }
}

void config_build_routes(const struct config_source *source, struct config *config)
{
    size_t count = 1;
    for (size_t i = 0; i < source->heading_count; i++) {
        count += source->headings[i].section == CONFIG_SECTION_ROUTE;
    }
    config->routes = config_memory_take(config->memory, count * sizeof(*config->routes));
    if (config->routes == NULL) {
        return;
    }
    build_route(source, config, "default", &config->routes[config->route_count++]);
    for (size_t i = 0; i < source->heading_count; i++) {
        const struct config_heading *heading = &source->headings[i];
        if (heading->section == CONFIG_SECTION_ROUTE && strcmp(heading->name, "default") != 0) {
            build_route(source, config, heading->name, &config->routes[config->route_count++]);
        }
    }
}
