// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_docs.h"

#include "relay/config/config_kafka.h"
#include "relay/config/config_memory.h"
#include "relay/config/config_value.h"

#include <string.h>

#define SAMPLE_WIDTH 110

static const struct config_key *next_key(enum config_section_id section, size_t *i)
{
    while (*i < config_key_count) {
        const struct config_key *key = &config_keys[(*i)++];
        if (key->section == section) {
            return key;
        }
    }
    return NULL;
}

// Text of a cell: a bar would end it.
static void put_cell(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
}

static void put_words(FILE *out, const struct config_key *key)
{
    for (size_t i = 0; key->words[i] != NULL; i++) {
        fprintf(out, "%s`%s`", i == 0 ? "" : ", ", key->words[i]);
    }
}

static void put_default(FILE *out, const struct config_key *key)
{
    if (key->fallback == NULL) {
        fputs("see there", out);
    } else if (key->fallback[0] == '\0') {
        fputs("none", out);
    } else {
        fputc('`', out);
        put_cell(out, key->fallback);
        fputc('`', out);
    }
}

static void put_limits(FILE *out, const struct config_key *key)
{
    struct config_memory *memory = config_memory_new();
    if (memory == NULL) {
        return;
    }
    if (key->kind == CONFIG_KIND_INTEGER) {
        fprintf(out, " %lld to %lld.", (long long)key->min, (long long)key->max);
    } else if (key->kind == CONFIG_KIND_SIZE) {
        fprintf(out, " %s to %s.", config_format_size(memory, key->min), config_format_size(memory, key->max));
    } else if (key->kind == CONFIG_KIND_DURATION) {
        fprintf(out, " %s to %s.", config_format_duration(memory, key->min), config_format_duration(memory, key->max));
    } else if (key->kind == CONFIG_KIND_WORD) {
        fputs(" One of ", out);
        put_words(out, key);
        fputc('.', out);
    }
    config_memory_free(memory);
}

void config_docs_table(FILE *out, enum config_section_id section)
{
    if (section == CONFIG_SECTION_KAFKA) {
        fputs("| refused | why, and what to do |\n|---|---|\n", out);
        for (size_t i = 0; config_kafka_refused(i) != NULL; i++) {
            fprintf(out, "| `%s` | %s |\n", config_kafka_refused(i)->name, config_kafka_refused(i)->why);
        }
        return;
    }
    fputs("| key | default | meaning |\n|---|---|---|\n", out);
    size_t i = 0;
    for (const struct config_key *key; (key = next_key(section, &i)) != NULL;) {
        fprintf(out, "| `%s`%s%s | ", key->name, (key->flags & CONFIG_SECRET) != 0 ? " (secret)" : "",
            (key->flags & CONFIG_LIVE) != 0 ? " (live)" : "");
        put_default(out, key);
        fputs(" | ", out);
        put_cell(out, key->sentence);
        put_limits(out, key);
        fputs(" |\n", out);
    }
}

// A text as comment lines of a bearable width.
static void put_comment(FILE *out, const char *text)
{
    while (*text != '\0') {
        size_t length = strlen(text);
        if (length > SAMPLE_WIDTH) {
            length = SAMPLE_WIDTH;
            while (length > 1 && text[length] != ' ') {
                length--;
            }
        }
        fprintf(out, "; %.*s\n", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
}

static void put_key(FILE *out, const struct config_key *key)
{
    put_comment(out, key->sentence);
    if ((key->flags & CONFIG_SECRET) != 0) {
        fprintf(out, "; A secret; or %s_file = PATH of a file that holds it.\n", key->name);
    }
    const char *value = key->fallback == NULL || key->fallback[0] == '\0' ? key->example : key->fallback;
    fprintf(out, ";%s =%s%s\n", key->name, value == NULL || value[0] == '\0' ? "" : " ", value == NULL ? "" : value);
}

void config_docs_sample(FILE *out)
{
    fputs("; SPDX-License-Identifier: Apache-2.0\n"
          "; outbox-relay.ini: every key, commented out, with its default (or an example where there is none).\n"
          "; A comment stands on a line of its own; a value goes to the end of its line as it is. Every key can also "
          "come from the\n"
          "; environment: OUTBOX_RELAY_<SECTION>_<KEY>. See docs/configuration.md.\n",
        out);
    for (int id = 0; id < CONFIG_SECTIONS; id++) {
        const struct config_section *section = &config_sections[id];
        fputc('\n', out);
        put_comment(out, section->sentence);
        fprintf(out, id == CONFIG_SECTION_ROUTE ? ";[%s NAME]\n" : "[%s]\n", section->name);
        if (id == CONFIG_SECTION_KAFKA) {
            fputs(";bootstrap.servers = localhost:9092\n", out);
        }
        size_t i = 0;
        for (const struct config_key *key; (key = next_key((enum config_section_id)id, &i)) != NULL;) {
            put_key(out, key);
        }
    }
}

void config_docs_help(FILE *out)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        const struct config_section *section = &config_sections[key->section];
        fprintf(out, "  [%s%s] %s", section->name, key->section == CONFIG_SECTION_ROUTE ? " NAME" : "", key->name);
        if (key->fallback != NULL && key->fallback[0] != '\0') {
            fprintf(out, " (%s)", key->fallback);
        }
        fputc('\n', out);
    }
}
