// SPDX-License-Identifier: Apache-2.0
//
// The right side of `column = source` in a route, parsed:
//   source   = place [ "?" ] [ ":" entry { entry } ]
//   place    = path | "header." name | 'header["' name '"]' | "kafka." field | "'" text "'"
//   path     = "$" ... as json_paths.h says
//   field    = topic | partition | offset | timestamp | key | value
//   entry    = from "=" to, separated by spaces or commas; from "*" stands for everything else; both may be quoted by '
// "?": where the place is missing or null, NULL or the type's default is stored. The map replaces a text by another
// one. Owns its memory; never changes after parsing.
#ifndef RELAY_CONFIG_ROUTE_SOURCE_H
#define RELAY_CONFIG_ROUTE_SOURCE_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum route_place {
    ROUTE_PATH,
    ROUTE_HEADER,
    ROUTE_TOPIC,
    ROUTE_PARTITION,
    ROUTE_OFFSET,
    ROUTE_TIMESTAMP,
    ROUTE_KEY,
    ROUTE_VALUE,
    ROUTE_CONSTANT
};

struct route_text {
    char *at; // NUL-terminated
    size_t length;
};

struct route_source {
    enum route_place place;
    struct route_text name; // PATH: the path; HEADER: its name; CONSTANT: the text; else empty
    bool optional;
    bool mapped;
    struct route_text *from, *to;
    size_t entry_count;
    bool has_otherwise;
    struct route_text otherwise;
    char *written; // the place as written, for messages
};

// Errors: CONFIG (what is wrong, where), NO_MEMORY; *source needs no finishing then.
bool route_source_parse(const char *text, struct route_source *source, struct relay_error *error);
void route_source_finish(struct route_source *source);

#endif
