// SPDX-License-Identifier: Apache-2.0
//
// See config.h. Loading goes through three steps, and each does as much as it can, so that all mistakes are told at
// once: what was written (config_source), what it means (config_build), what contradicts (config_judge). The texts as
// they were written live in memory of their own, which is wiped when the loading is over.
#include "relay/config/config.h"

#include "relay/config/config_build.h"
#include "relay/config/config_checks.h"
#include "relay/config/config_environment.h"
#include "relay/config/config_judge.h"
#include "relay/config/config_kafka.h"
#include "relay/config/config_outboxes.h"
#include "relay/config/config_routes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PATH "/etc/outbox-relay/outbox-relay.ini"

// Sections that come once, as they are.
static void build_plain_sections(const struct config_source *source, struct config *config)
{
    for (int id = 0; id < CONFIG_SECTIONS; id++) {
        if (id != CONFIG_SECTION_OUTBOX && id != CONFIG_SECTION_ROUTE && id != CONFIG_SECTION_BREAKER) {
            const struct config_place place = {(enum config_section_id)id, ""};
            config_build_section(source, config->memory, place.section, &place, 1,
                (char *)config + config_sections[id].offset);
        }
    }
}

// All four take what is said for all, which has the place of the first; then what is said for each.
static void build_breakers(const struct config_source *source, struct config *config)
{
    const struct config_place place = {CONFIG_SECTION_BREAKER, ""};
    struct config_breaker own[CONFIG_DEPENDENCIES] = {0};
    struct config_breaker all[CONFIG_DEPENDENCIES] = {0};
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->section == CONFIG_SECTION_BREAKER) {
            bool shared = (key->flags & CONFIG_INHERITS) == 0;
            config_build_key(source, config->memory, key, &place, 1, (char *)(shared ? all : own) + key->offset);
        }
    }
    for (int i = 0; i < CONFIG_DEPENDENCIES; i++) {
        config->breakers[i].failures = own[i].failures != 0 ? own[i].failures : all[0].failures;
        config->breakers[i].open = own[i].open.ns != 0 ? own[i].open : all[0].open;
        config->breakers[i].successes = own[i].successes != 0 ? own[i].successes : all[0].successes;
    }
}

void config_build(const struct config_source *source, struct config *config)
{
    build_plain_sections(source, config);
    build_breakers(source, config);
    if (strcmp(config->http.listen, "none") == 0) {
        config->http.listen = config_memory_text(config->memory, "");
    }
    config_build_kafka(source, config);
    config_build_outboxes(source, config);
    config_build_routes(source, config);
    // Half a configuration cannot be judged.
    if (!config_memory_exhausted(config->memory) && !config_memory_exhausted(source->memory)) {
        config_judge(source, config);
    }
}

// What was wrong, or nothing. Fills *mistakes.
static bool finish(struct config_report *report, const struct config *config, char **mistakes,
    struct relay_error *error)
{
    if (config_memory_exhausted(report->memory) || config_memory_exhausted(config->memory)) {
        return error_no_memory(error, "reading the configuration");
    }
    if (report->count == 0) {
        return true;
    }
    if (mistakes != NULL) {
        *mistakes = config_report_text(report);
        if (*mistakes == NULL) {
            return error_no_memory(error, "the mistakes of the configuration");
        }
    }
    return error_set(error, RELAY_ERROR_CONFIG, "%zu mistake%s in the configuration%s%s",
        report->count + report->untold, report->count == 1 ? "" : "s",
        report->path[0] == '\0' ? "; no file was named, and there is no " : " ",
        report->path[0] == '\0' ? DEFAULT_PATH : report->path);
}

// A dsn, or the URL of an Alertmanager, may be one without a password in it.
static bool holds_secret(const struct config_source *source, const struct config_setting *setting)
{
    if (setting->value[0] == '\0' || !config_source_is_secret(source, setting->section, setting->key)) {
        return false;
    }
    if (strcmp(setting->key, "dsn") == 0) {
        return config_dsn_has_password(setting->value);
    }
    return strcmp(setting->key, "alertmanager_url") != 0 || strchr(setting->value, '@') != NULL;
}

static void note_exposed(const struct config_source *source, struct config *config)
{
    if (!source->file_is_open) {
        return;
    }
    config->exposed.items = config_memory_take(config->memory,
        (source->setting_count + 1) * sizeof(*config->exposed.items));
    for (size_t i = 0; config->exposed.items != NULL && i < source->setting_count; i++) {
        const struct config_setting *setting = &source->settings[i];
        if (setting->variable == NULL && !setting->in_file && holds_secret(source, setting)) {
            config->exposed.items[config->exposed.count++] = config_memory_format(config->memory, "[%s] %s",
                config_section_label(source->memory, setting->section, setting->name), setting->key);
        }
    }
}

static void read_and_build(struct config_source *source, struct config *config, const char *path)
{
    const char *named = path != NULL ? path : getenv("OUTBOX_RELAY_CONFIG");
    bool may_miss = named == NULL || named[0] == '\0';
    source->report->path = config_memory_text(source->memory, may_miss ? DEFAULT_PATH : named);
    bool read = config_source_read_file(source, may_miss);
    if (!read && source->report->count > 0) {
        return; // everything else would follow from it
    }
    if (!read) {
        source->report->path = "";
    }
    config->path = config_memory_text(config->memory, source->report->path);
    config_source_read_environment(source, environ);
    config_source_read_secrets(source);
    note_exposed(source, config);
    config_build(source, config);
}

struct config *config_load(const char *path, char **mistakes, struct relay_error *error)
{
    if (mistakes != NULL) {
        *mistakes = NULL;
    }
    struct config *loaded = NULL;
    struct kafka_properties *kafka = NULL;
    struct config *config = calloc(1, sizeof(*config));
    struct config_memory *scratch = config_memory_new();
    if (config == NULL || scratch == NULL || (config->memory = config_memory_new()) == NULL) {
        error_no_memory(error, "reading the configuration");
        goto done;
    }
    kafka = kafka_properties_new(error);
    if (kafka == NULL) {
        goto done;
    }
    struct config_report report = {.memory = scratch};
    struct config_source source = {.memory = scratch, .report = &report, .kafka = kafka};
    read_and_build(&source, config, path);
    if (finish(&report, config, mistakes, error)) {
        loaded = config;
        config = NULL;
    }
done:
    kafka_properties_free(kafka);
    config_memory_free(scratch);
    config_free(config);
    return loaded;
}

void config_free(struct config *config)
{
    if (config != NULL) {
        config_memory_free(config->memory);
        explicit_bzero(config, sizeof(*config));
        free(config);
    }
}
