// SPDX-License-Identifier: Apache-2.0
//
// The notations of single values: what a text of the configuration means, or why it means nothing. Errors are CONFIG
// with what was expected; they quote the value only where `quote` of the caller's key allows it, which they leave to
// the caller. Pure functions; any thread.
#ifndef RELAY_CONFIG_CONFIG_VALUE_H
#define RELAY_CONFIG_CONFIG_VALUE_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/config/config.h"
#include "relay/config/config_memory.h"

#include <stdbool.h>
#include <stdint.h>

bool config_parse_integer(const char *text, int64_t *value, struct relay_error *error); // 5, -1, 50000; no units
bool config_parse_size(const char *text, int64_t *bytes, struct relay_error *error);    // 8MiB, 64KiB, 512 (bytes)
bool config_parse_duration(const char *text, int64_t *ns, struct relay_error *error);   // 500ms, 5s, 10m, 4h, 2d; 0
bool config_parse_boolean(const char *text, bool *value, struct relay_error *error); // true/false, yes/no, on/off, 1/0
bool config_parse_ratio(const char *text, double *value, struct relay_error *error); // 0 to 1, also 5%
// words: NULL-terminated. *index into it.
bool config_parse_word(const char *text, const char *const *words, int *index, struct relay_error *error);
// Commas between items, blanks around them cut, "" is an empty list. An empty item is an error.
bool config_parse_list(struct config_memory *memory, const char *text, struct config_list *list,
    struct relay_error *error);
// column:header|envelope|partition[:alias], a list.
bool config_parse_additional(struct config_memory *memory, const char *text, struct config_additional **items,
    size_t *count, struct relay_error *error);

// As people write them: "8MiB", "600s" becomes "10m".
const char *config_format_size(struct config_memory *memory, int64_t bytes);
const char *config_format_duration(struct config_memory *memory, int64_t ns);

// The one of `count` names that a typing mistake most likely meant, NULL if none is near. name_of(context, i) may be
// NULL.
const char *config_nearest(const char *text, const char *(*name_of)(const void *context, size_t i), const void *context,
    size_t count);

#endif
