// SPDX-License-Identifier: Apache-2.0
//
// See kafka_properties.h. A line of the table is "name | P | range | default | importance | description", where the
// description may begin with "Alias for `name`"; the others are headings and rules.
#include "relay/config/kafka_properties.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct property {
    const char *name;  // in text
    const char *alias; // for which property the name stands, in text; NULL: for itself
    char kind;
};

struct kafka_properties {
    char *text;
    struct property *list;
    size_t count;
};

static char *printed_table(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        return NULL;
    }
    rd_kafka_conf_properties_show(stream);
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

// The name that the description says, cut out in place.
static const char *read_alias(char *description)
{
    static const char words[] = "Alias for `";
    char *name = strstr(description, words);
    if (name == NULL) {
        return NULL;
    }
    name += sizeof(words) - 1;
    name[strcspn(name, "`")] = '\0';
    return name;
}

// Cuts the line's name out, in place. false: the line has none.
static bool read_line(char *line, struct property *property)
{
    size_t length = strcspn(line, " |");
    char *bar = strchr(line, '|');
    if (length == 0 || bar == NULL || strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789._") != length) {
        return false;
    }
    char kind = bar[1 + strspn(bar + 1, " ")];
    if (kind != 'P' && kind != 'C' && kind != '*') {
        return false;
    }
    *property = (struct property){.name = line, .alias = read_alias(bar), .kind = kind};
    line[length] = '\0';
    return true;
}

struct kafka_properties *kafka_properties_new(struct relay_error *error)
{
    struct kafka_properties *properties = calloc(1, sizeof(*properties));
    if (properties == NULL) {
        goto no_memory;
    }
    properties->text = printed_table();
    if (properties->text == NULL) {
        goto no_memory;
    }
    size_t lines = 1;
    for (const char *at = properties->text; *at != '\0'; at++) {
        lines += *at == '\n';
    }
    properties->list = calloc(lines, sizeof(*properties->list));
    if (properties->list == NULL) {
        goto no_memory;
    }
    for (char *line = properties->text, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        properties->count += read_line(line, &properties->list[properties->count]);
    }
    return properties;

no_memory:
    kafka_properties_free(properties);
    error_no_memory(error, "librdkafka's property table");
    return NULL;
}

void kafka_properties_free(struct kafka_properties *properties)
{
    if (properties != NULL) {
        free(properties->list);
        free(properties->text);
        free(properties);
    }
}

size_t kafka_properties_count(const struct kafka_properties *properties)
{
    return properties->count;
}

const char *kafka_properties_name(const struct kafka_properties *properties, size_t i)
{
    return properties->list[i].name;
}

static const struct property *find(const struct kafka_properties *properties, const char *name)
{
    for (size_t i = 0; i < properties->count; i++) {
        if (strcmp(properties->list[i].name, name) == 0) {
            return &properties->list[i];
        }
    }
    return NULL;
}

char kafka_properties_kind(const struct kafka_properties *properties, const char *name)
{
    const struct property *found = find(properties, name);
    return found == NULL ? '\0' : found->kind;
}

const char *kafka_properties_meant(const struct kafka_properties *properties, const char *name)
{
    const struct property *found = find(properties, name);
    return found == NULL || found->alias == NULL ? name : found->alias;
}

bool kafka_property_is_secret(const char *name)
{
    static const char *const parts[] = {"password", "passphrase", "secret", "jaas", ".pem", "sasl.oauthbearer.config"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strstr(name, parts[i]) != NULL) {
            return true;
        }
    }
    return false;
}
