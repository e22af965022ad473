// SPDX-License-Identifier: Apache-2.0
//
// Reads the wanted places of one JSON document in one pass (simdjson behind C functions; no C++ exception leaves them).
// First the places are compiled into a json_paths; then json_reader_read() fills one json_value for each. What is not wanted
// is checked to be well-formed JSON but not looked at. Numbers are never rounded in silence: their text is always given.
// A json_paths never changes after its making: any thread. A json_reader belongs to one thread.
//
// Path: `$` is the document; `.name` a member (letters, digits, _, -, and any byte above 0x7f), `["name"]` or `['name']` a
// member of any name (\" \' \\ escape), `[N]` the N-th element, counted from 0. Of members that come twice, the last wins.
#ifndef RELAY_INSERT_JSON_READER_H
#define RELAY_INSERT_JSON_READER_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JSON_MAX_DEPTH 128 // deeper documents are refused (JSON_TOO_DEEP)

enum json_kind { JSON_MISSING, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_value {
    enum json_kind kind;
    const char *raw; // the value's own text in the document, quotes and braces included; NULL when missing
    size_t raw_length;
    const char *text; // STRING: unescaped UTF-8, else as raw. Valid until the next read of this reader
    size_t length;
};

struct json_paths;
struct json_reader;

struct json_paths *json_paths_new(struct relay_error *error);
void json_paths_free(struct json_paths *paths); // accepts NULL
// Adds the path that stands in text[0..length); *index is its place in the values. The same path twice gives the same index.
// Errors: CONFIG (what is wrong, at which character), NO_MEMORY.
bool json_paths_add(struct json_paths *paths, const char *text, size_t length, size_t *index, struct relay_error *error);
size_t json_paths_count(const struct json_paths *paths);

struct json_reader *json_reader_new(struct relay_error *error);
void json_reader_free(struct json_reader *reader); // accepts NULL

enum json_result { JSON_OK, JSON_BAD, JSON_BAD_UTF8, JSON_TOO_DEEP, JSON_NO_MEMORY };
// document: length bytes, of which `room` (>= length) may be read; with 64 bytes more nothing is copied.
// values: json_paths_count(paths) of them, pointing into the document or the reader until the next read; the document must live
// that long. why (may be NULL): a sentence, static, for a result other than JSON_OK.
enum json_result json_reader_read(struct json_reader *reader, const struct json_paths *paths, const char *document,
    size_t length, size_t room, struct json_value *values, const char **why);

// Walks the elements of an array or the members of an object that json_reader_read gave (raw text), one level.
// Each call takes the next one; name (of a member, unescaped) and value are valid until the next json_reader_read.
struct json_walk {
    const char *at, *end;
    bool object, first;
};
void json_walk_start(struct json_walk *walk, const struct json_value *container);
// false: at the end, or *result (never NULL) says what went wrong.
bool json_walk_next(struct json_reader *reader, struct json_walk *walk, struct json_value *name, struct json_value *value,
    enum json_result *result);

#ifdef __cplusplus
}
#endif

#endif
