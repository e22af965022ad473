// SPDX-License-Identifier: Apache-2.0
//
// The places of a JSON document that somebody wants, as a tree: compiled once, followed by the reader while it walks a
// document. Path: `$` is the document; `.name` a member (letters, digits, _, - and any byte above 0x7f), `["name"]` or
// `['name']` a member of any name (\" \' \\ escape), `[N]` the N-th element, counted from 0. Filled by one thread;
// never changes afterwards: any thread may read it.
#ifndef RELAY_JSON_JSON_PATHS_H
#define RELAY_JSON_JSON_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct relay_error; // relay/base/error.h, which is no C++

#define JSON_PATH_NONE SIZE_MAX

// A step of some path. Node 0 is `$`. For the reader's eyes.
struct json_path_node {
    char *name; // of a member, unescaped; NULL: an element
    size_t name_length;
    uint64_t element;
    size_t value;                     // index of the value that stands here, or JSON_PATH_NONE
    size_t first_child, next_sibling; // nodes, or JSON_PATH_NONE
};

struct json_paths {
    struct json_path_node *nodes;
    size_t node_count, value_count;
};

struct json_paths *json_paths_new(struct relay_error *error);
void json_paths_free(struct json_paths *paths); // accepts NULL
// Adds the path in text[0..length); *index is its place in the values. The same place twice gives the same index.
// Errors: CONFIG (what is wrong, at which character), NO_MEMORY.
bool json_paths_add(struct json_paths *paths, const char *text, size_t length, size_t *index,
    struct relay_error *error);
// How many bytes of text, from its beginning, look like a path: up to the first byte that no path continues with.
size_t json_paths_span(const char *text, size_t length);

#ifdef __cplusplus
}
#endif

#endif
