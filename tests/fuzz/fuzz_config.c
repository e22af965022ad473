// SPDX-License-Identifier: Apache-2.0
//
// What an operator may write: a file's text, and behind its first NUL byte, if any, one environment variable a line.
// Loads it as config_load() does, without touching the disk except for `_file` keys, which are made to name nothing.
#include "relay/config/config_build.h"
#include "relay/config/config_environment.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VARIABLES_MAX 16

// The lines behind the text, as an environment.
static void read_environment(struct config_source *source, char *text)
{
    char *environment[VARIABLES_MAX + 1] = {NULL};
    size_t count = 0;
    for (char *line = text; line != NULL && count < VARIABLES_MAX;) {
        char *end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        environment[count++] = line;
        line = end;
    }
    config_source_read_environment(source, environment);
}

static void judge(struct config_source *source, struct config *config)
{
    config_build(source, config);
    char *text = config_report_text(source->report);
    assert(text != NULL);
    // One line for each, and nothing that a terminal would obey.
    size_t lines = 0;
    for (const char *at = text; *at != '\0'; at++) {
        lines += *at == '\n';
        assert((unsigned char)*at >= 0x20 || *at == '\n');
    }
    assert(lines == source->report->count + (source->report->untold > 0));
    free(text);
    for (size_t i = 0; i < config->outbox_count; i++) {
        assert(config->outboxes[i].table != NULL && config->outboxes[i].columns[CONFIG_COLUMN_KEY] != NULL);
    }
    for (size_t i = 0; i < config->route_count; i++) {
        assert(config->routes[i].table != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kafka_properties *kafka;
    if (kafka == NULL) {
        kafka = kafka_properties_new(NULL);
        assert(kafka != NULL);
    }
    struct config config = {.memory = config_memory_new()};
    struct config_memory *memory = config_memory_new();
    assert(config.memory != NULL && memory != NULL);
    struct config_report report = {.memory = memory, .path = "fuzz.ini"};
    struct config_source source = {.memory = memory, .report = &report, .kafka = kafka};
    char *text = config_memory_copy(memory, (const char *)data, size);
    size_t length = strlen(text);
    config_source_read_text(&source, text, length);
    if (length < size) {
        read_environment(&source, text + length + 1);
    }
    for (size_t i = 0; i < source.setting_count; i++) {
        source.settings[i].in_file = false; // its value is then the path, which is as good a secret as any
    }
    judge(&source, &config);
    config_memory_free(memory);
    config_memory_free(config.memory);
    return 0;
}
