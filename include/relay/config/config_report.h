// SPDX-License-Identifier: Apache-2.0
//
// The mistakes of a configuration, collected so that all are told at once: those of the file in the order of its lines,
// then those of the environment, then what contradicts. Texts must hold no secrets. One thread at a time.
#ifndef RELAY_CONFIG_CONFIG_REPORT_H
#define RELAY_CONFIG_CONFIG_REPORT_H

#include "relay/config/config_memory.h"

#include <stddef.h>

struct config_mistake {
    int rank;         // line of the file, or one of the ranks below
    const char *text; // one line
};

#define CONFIG_RANK_ENVIRONMENT 0x40000000
#define CONFIG_RANK_WHOLE       0x50000000

struct config_report {
    struct config_memory *memory; // borrowed
    const char *path;             // of the file, for "path:line: "
    struct config_mistake *mistakes;
    size_t count, room;
    size_t untold; // beyond CONFIG_MISTAKES_MAX
};

// A file that is no configuration at all would be a mistake in each line.
#define CONFIG_MISTAKES_MAX 200

// A mistake in a line of the file. section and key may be NULL or "".
void config_report_line(struct config_report *report, int line, const char *section, const char *key,
    const char *format, ...) __attribute__((format(printf, 5, 6)));
// A mistake of an environment variable.
void config_report_variable(struct config_report *report, const char *variable, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A mistake that no single line has: something is missing, or two things contradict.
void config_report_whole(struct config_report *report, const char *section, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// All of them, one a line with a final newline; malloc'd. NULL: out of memory.
char *config_report_text(struct config_report *report);

#endif
