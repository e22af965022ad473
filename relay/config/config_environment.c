// SPDX-License-Identifier: Apache-2.0
//
// OUTBOX_RELAY_<SECTION>_<KEY>: which key of which section a variable means. All names are compared in their form as a
// variable: upper case, everything but letters and digits as underscores. For [kafka] that is compared with each of
// librdkafka's own properties, so that names with underscores need no rule. For [outbox NAME] and [route NAME] the rest
// is cut where a key ends it: the longest key wins, and of NAMEs those of the file; a new NAME is taken in lower case.
#include "relay/config/config_environment.h"

#include "relay/config/config_value.h"

#include <ctype.h>
#include <string.h>

#define PREFIX "OUTBOX_RELAY_"

// Ours, but no settings.
static const char *const others[] = {"CONFIG", "SCHEMAS", "CACHE", "CRASH_AT", "DISABLE_SAFEGUARD"};

static char variable_character(char c)
{
    return isalnum((unsigned char)c) ? (char)toupper((unsigned char)c) : '_';
}

// Whether text[0..length) is name in its form as a variable.
static bool spells(const char *text, size_t length, const char *name)
{
    if (strlen(name) != length) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] != variable_character(name[i])) {
            return false;
        }
    }
    return true;
}

// Whether text[0..length) spells name or, for a secret, name_file.
static bool spells_key(const char *text, size_t length, const char *name, bool secret, bool *in_file)
{
    *in_file = false;
    if (spells(text, length, name)) {
        return true;
    }
    *in_file = secret && length > 5 && memcmp(text + length - 5, "_FILE", 5) == 0 && spells(text, length - 5, name);
    return *in_file;
}

static bool find_kafka(const struct config_source *source, const char *rest, struct config_setting *setting)
{
    for (size_t i = 0; i < kafka_properties_count(source->kafka); i++) {
        const char *name = kafka_properties_name(source->kafka, i);
        if (spells_key(rest, strlen(rest), name, kafka_property_is_secret(name), &setting->in_file)) {
            setting->key = name;
            return true;
        }
    }
    return false;
}

// A key that rest as a whole spells.
static bool find_plain(enum config_section_id section, const char *rest, struct config_setting *setting)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        bool fits = key->section == section ||
            (key->section == CONFIG_SECTION_PUBLISH && section == CONFIG_SECTION_OUTBOX);
        if (fits && spells_key(rest, strlen(rest), key->name, (key->flags & CONFIG_SECRET) != 0, &setting->in_file)) {
            setting->key = key->name;
            return true;
        }
    }
    return false;
}

// NAME as the file writes it, or in lower case.
static const char *known_name(const struct config_source *source, enum config_section_id section, const char *text,
    size_t length)
{
    for (size_t i = 0; i < source->heading_count; i++) {
        const struct config_heading *heading = &source->headings[i];
        if (heading->section == section && spells(text, length, heading->name)) {
            return heading->name;
        }
    }
    if (section == CONFIG_SECTION_OUTBOX && length == 7 && memcmp(text, "DEFAULT", 7) == 0) {
        return "";
    }
    char *name = config_memory_copy(source->memory, text, length);
    for (size_t i = 0; i < length && name[0] != '\0'; i++) {
        name[i] = (char)tolower((unsigned char)name[i]);
    }
    return name;
}

// <NAME>_<KEY>: cut as far left as a key allows.
static bool find_named(const struct config_source *source, enum config_section_id section, const char *rest,
    struct config_setting *setting)
{
    for (const char *cut = strchr(rest, '_'); cut != NULL; cut = strchr(cut + 1, '_')) {
        if (cut > rest && cut - rest <= 48 && find_plain(section, cut + 1, setting)) {
            setting->name = known_name(source, section, rest, (size_t)(cut - rest));
            return true;
        }
    }
    return false;
}

static bool find(const struct config_source *source, const char *text, struct config_setting *setting)
{
    for (size_t i = 0; i < CONFIG_SECTIONS; i++) {
        size_t length = strlen(config_sections[i].name);
        if (strlen(text) <= length || text[length] != '_' || !spells(text, length, config_sections[i].name)) {
            continue;
        }
        const char *rest = text + length + 1;
        setting->section = (enum config_section_id)i;
        setting->name = "";
        if (i == CONFIG_SECTION_KAFKA) {
            return find_kafka(source, rest, setting);
        }
        if (i != CONFIG_SECTION_ROUTE && find_plain(setting->section, rest, setting)) {
            return true;
        }
        return config_sections[i].named && find_named(source, setting->section, rest, setting);
    }
    return false;
}

// Kubernetes sets variables for each Service of the namespace; for one that is called outbox-relay they look like ours.
static bool is_service_link(const char *text, const char *value)
{
    size_t length = strlen(text);
    const char *port = strstr(text, "PORT_");
    return (length >= 12 && strcmp(text + length - 12, "SERVICE_HOST") == 0) || strstr(text, "SERVICE_PORT") != NULL ||
        (length >= 4 && strcmp(text + length - 4, "PORT") == 0 && strstr(value, "://") != NULL) ||
        (port != NULL && isdigit((unsigned char)port[5]));
}

struct candidates {
    struct config_memory *memory;
    const struct kafka_properties *kafka; // behind our own keys
};

static const char *candidate(const void *context, size_t i)
{
    const struct candidates *candidates = context;
    bool own = i < config_key_count;
    char *name = config_memory_format(candidates->memory, "%s_%s",
        config_sections[own ? config_keys[i].section : CONFIG_SECTION_KAFKA].name,
        own ? config_keys[i].name : kafka_properties_name(candidates->kafka, i - config_key_count));
    for (char *at = name; *at != '\0'; at++) {
        *at = variable_character(*at);
    }
    return name;
}

static void read_variable(struct config_source *source, const char *variable, char *value)
{
    if (*variable == '\0') {
        return; // the copy found no memory, which ends the loading
    }
    const char *text = variable + strlen(PREFIX);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(text, others[i]) == 0) {
            return;
        }
    }
    struct config_setting setting = {.variable = variable, .value = value};
    if (find(source, text, &setting)) {
        if (!setting.in_file && config_source_is_secret(source, setting.section, setting.key)) {
            config_cut_line_end(value, strlen(value)); // as of a secret in a file: what made the variable put it there
        }
        config_source_add(source, setting);
    } else if (!is_service_link(text, value)) {
        struct candidates candidates = {.memory = source->memory, .kafka = source->kafka};
        const char *near = config_nearest(text, candidate, &candidates,
            config_key_count + kafka_properties_count(source->kafka));
        config_report_variable(source->report, variable, "sets no known key; %s" PREFIX "%s%s",
            near == NULL ? "expected " : "did you mean ", near == NULL ? "<SECTION>_<KEY>" : near,
            near == NULL ? "" : "?");
    }
}

void config_source_read_environment(struct config_source *source, char *const *environment)
{
    for (; *environment != NULL; environment++) {
        const char *equals = strchr(*environment, '=');
        if (equals != NULL && strncmp(*environment, PREFIX, strlen(PREFIX)) == 0) {
            read_variable(source, config_memory_copy(source->memory, *environment, (size_t)(equals - *environment)),
                config_memory_text(source->memory, equals + 1));
        }
    }
}
