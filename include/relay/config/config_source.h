// SPDX-License-Identifier: Apache-2.0
//
// What was written, before it means anything: the settings of the file, overridden by those of the environment, with
// the files of `_file` twins read. Knows which keys there are (config_table, librdkafka's properties) and reports
// unknown and double ones; judges no value. Everything lives in the memory that the source was given. One thread.
#ifndef RELAY_CONFIG_CONFIG_SOURCE_H
#define RELAY_CONFIG_CONFIG_SOURCE_H

#include "relay/config/config_memory.h"
#include "relay/config/config_report.h"
#include "relay/config/config_table.h"
#include "relay/config/kafka_properties.h"

#include <stdbool.h>

#define CONFIG_FILE_MAX (1024 * 1024)

struct config_setting {
    enum config_section_id section;
    const char *name;     // NAME of [section NAME], "" if none
    const char *key;      // without _file
    const char *value;    // once the files are read: of the file
    bool in_file;         // written as KEY_file
    int line;             // 0: from the environment
    const char *variable; // NULL: from the file
};

// A section that was seen, in the order of appearance. [outbox default] is [outbox], [route default] stays named.
struct config_heading {
    enum config_section_id section;
    const char *name;
    int line;
    const char *variable;
};

struct config_source {
    struct config_memory *memory;
    struct config_report *report;
    const struct kafka_properties *kafka;
    struct config_setting *settings;
    size_t setting_count, setting_room;
    struct config_heading *headings;
    size_t heading_count, heading_room;
    // while a file is read
    const struct config_heading *now; // NULL: none yet, or one that is unknown
    bool skipping;                    // in a section that is unknown
    bool file_is_open;                // the file that was read may be read by every user of the machine
};

// Reads the file at report->path. false: it cannot be opened or is no file, which is reported unless `may_miss` and it
// is missing.
bool config_source_read_file(struct config_source *source, bool may_miss);
// Text of a file, changed in place; text[length] must be writable.
void config_source_read_text(struct config_source *source, char *text, size_t length);
// After both: values of `_file` settings become what their files hold. The password that a dsn of the environment
// replaces is taken out, and its file is not looked at.
void config_source_read_secrets(struct config_source *source);

// For the readers: adds a setting, and its section if that is new; meets an earlier one of the same key.
void config_source_add(struct config_source *source, struct config_setting setting);
// Whether a key, of [kafka] too, has a _file twin and must not be told.
bool config_source_is_secret(const struct config_source *source, enum config_section_id section, const char *key);

// NULL: not written.
const struct config_setting *config_source_find(const struct config_source *source, enum config_section_id section,
    const char *name, const char *key);

// A mistake in a setting, at its line or variable.
void config_source_mistake(const struct config_source *source, const struct config_setting *setting, const char *format,
    ...) __attribute__((format(printf, 3, 4)));

// "outbox orders", for messages.
const char *config_section_label(struct config_memory *memory, enum config_section_id section, const char *name);
// The key of a section, an outbox's also of [publish]; NULL: none. Not for [kafka] and a route's columns.
const struct config_key *config_source_key(enum config_section_id section, const char *key);
// Takes one line end away, which editors and echo put behind a secret; a second one is meant. Returns the length.
size_t config_cut_line_end(char *text, size_t length);

#endif
