// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Room for one more, or false.
static bool grow(struct config_report *report)
{
    if (report->count < report->room) {
        return true;
    }
    size_t room = report->room == 0 ? 16 : report->room * 2;
    struct config_mistake *mistakes = config_memory_take(report->memory, room * sizeof(*mistakes));
    if (mistakes == NULL) {
        return false;
    }
    if (report->count > 0) {
        memcpy(mistakes, report->mistakes, report->count * sizeof(*mistakes));
    }
    report->mistakes = mistakes;
    report->room = room;
    return true;
}

static void __attribute__((format(printf, 4, 0)))
add(struct config_report *report, int rank, const char *where, const char *format, va_list arguments)
{
    char what[1024];
    vsnprintf(what, sizeof(what), format, arguments);
    if (report->count == CONFIG_MISTAKES_MAX) {
        report->untold++;
        return;
    }
    if (grow(report)) {
        char *text = config_memory_format(report->memory, "%s: %s", where, what);
        for (char *at = text; *at != '\0'; at++) {
            if ((unsigned char)*at < 0x20 || *at == 0x7f) { // what was quoted may hold anything, also for a terminal
                *at = '?';
            }
        }
        // One value may be read by several sections that inherit it.
        for (size_t i = 0; i < report->count; i++) {
            if (strcmp(report->mistakes[i].text, text) == 0) {
                return;
            }
        }
        report->mistakes[report->count++] = (struct config_mistake){.rank = rank, .text = text};
    }
}

static const char *place(struct config_report *report, const char *prefix, const char *section, const char *key)
{
    const char *text = prefix;
    if (section != NULL && section[0] != '\0') {
        text = config_memory_format(report->memory, "%s%s[%.80s]", text, text[0] == '\0' ? "" : ": ", section);
        if (key != NULL && key[0] != '\0') {
            text = config_memory_format(report->memory, "%s %.80s", text, key);
        }
    }
    return text;
}

void config_report_line(struct config_report *report, int line, const char *section, const char *key,
    const char *format, ...)
{
    const char *prefix = line > 0 ? config_memory_format(report->memory, "%s:%d", report->path, line) : report->path;
    va_list arguments;
    va_start(arguments, format);
    add(report, line, place(report, prefix, section, key), format, arguments);
    va_end(arguments);
}

void config_report_variable(struct config_report *report, const char *variable, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(report, CONFIG_RANK_ENVIRONMENT, config_memory_format(report->memory, "environment: %.120s", variable), format,
        arguments);
    va_end(arguments);
}

void config_report_whole(struct config_report *report, const char *section, const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *prefix = report->path[0] == '\0' ? "configuration" : report->path;
    add(report, CONFIG_RANK_WHOLE, place(report, prefix, section, key), format, arguments);
    va_end(arguments);
}

char *config_report_text(struct config_report *report)
{
    // By insertion, which keeps the order of equal ranks; there are few, and mostly sorted.
    for (size_t i = 1; i < report->count; i++) {
        struct config_mistake mistake = report->mistakes[i];
        size_t at = i;
        for (; at > 0 && report->mistakes[at - 1].rank > mistake.rank; at--) {
            report->mistakes[at] = report->mistakes[at - 1];
        }
        report->mistakes[at] = mistake;
    }
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < report->count; i++) {
        fprintf(stream, "%s\n", report->mistakes[i].text);
    }
    if (report->untold > 0) {
        fprintf(stream, "... and %zu more\n", report->untold);
    }
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
