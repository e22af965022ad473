// SPDX-License-Identifier: Apache-2.0
//
// The one table of all keys: section, name, kind, limits, default, whether it can change while running, whether it is a
// secret, and one sentence. Parsing, defaults, comparing, --help, docs/configuration.md and deploy/outbox-relay.ini
// come from it or are checked against it. [kafka] is not in it: its keys are librdkafka's. Static; any thread.
#ifndef RELAY_CONFIG_CONFIG_TABLE_H
#define RELAY_CONFIG_CONFIG_TABLE_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_kind {
    CONFIG_KIND_TEXT,       // char *
    CONFIG_KIND_INTEGER,    // int64_t
    CONFIG_KIND_SIZE,       // int64_t, bytes
    CONFIG_KIND_DURATION,   // struct duration
    CONFIG_KIND_BOOLEAN,    // bool
    CONFIG_KIND_RATIO,      // double
    CONFIG_KIND_WORD,       // an enum; the value is the index into `words`
    CONFIG_KIND_LIST,       // struct config_list
    CONFIG_KIND_ADDITIONAL, // struct config_publish's additional and additional_count
    CONFIG_KIND_COLUMNS,    // [route] columns: read by config_routes, stored nowhere by the table
    CONFIG_KIND_TOPICS,     // struct config_list: a list, or one regular expression
};

enum config_key_flags {
    CONFIG_LIVE = 1,     // a reload takes it over
    CONFIG_SECRET = 2,   // has a twin NAME_file; its value is never told
    CONFIG_INHERITS = 4, // not set: as the sentence says, taken from another key; `fallback` is NULL
    CONFIG_DISCREET = 8, // no secret, but a mistaken value may hold one: it is not quoted
};

// The section a key belongs to, and what its offset counts from.
enum config_section_id {
    CONFIG_SECTION_POSTGRES,
    CONFIG_SECTION_OUTBOX,  // of each struct config_outbox
    CONFIG_SECTION_KAFKA,   // no keys here
    CONFIG_SECTION_PUBLISH, // of a struct config_publish
    CONFIG_SECTION_INSERT,
    CONFIG_SECTION_CLICKHOUSE,
    CONFIG_SECTION_ROUTE, // of each struct config_route
    CONFIG_SECTION_BREAKER,
    CONFIG_SECTION_HEALTH,
    CONFIG_SECTION_ALERT,
    CONFIG_SECTION_HTTP,
    CONFIG_SECTION_LOG,
    CONFIG_SECTION_RUN,
    CONFIG_SECTIONS
};

struct config_section {
    const char *name;
    bool named;    // may come as [name NAME]
    size_t offset; // in struct config, for what comes once
    const char *sentence;
};

// Judges a text that is not empty. error CONFIG: "expected ...".
typedef bool config_check(const char *text, struct relay_error *error);

struct config_key {
    enum config_section_id section;
    const char *name;
    enum config_kind kind;
    size_t offset;
    int64_t min, max;         // INTEGER, SIZE (bytes), DURATION (ns)
    const char *fallback;     // the default as one would write it; NULL: see CONFIG_INHERITS
    const char *example;      // for the sample, where the default is empty
    const char *const *words; // WORD
    config_check *check;      // TEXT, or each item of a LIST; may be NULL
    unsigned flags;
    const char *sentence;
};

extern const struct config_section config_sections[CONFIG_SECTIONS];
extern const struct config_key config_keys[];
extern const size_t config_key_count;

// NULL: no such key. An outbox's section also takes every key of [publish], which is not looked for here.
const struct config_key *config_key_find(enum config_section_id section, const char *name);
// The id of a section by its name without NAME, CONFIG_SECTIONS if there is none.
enum config_section_id config_section_find(const char *name, size_t length);

#endif
