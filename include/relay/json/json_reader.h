// SPDX-License-Identifier: Apache-2.0
//
// Reads the wanted places of one JSON document in one pass (simdjson behind C functions; no C++ exception leaves them).
// The whole document is checked: what is not wanted must be well-formed and UTF-8, too. Numbers are never rounded:
// their text is given. Of members that come twice, the last wins. A json_reader belongs to one thread and keeps its
// memory, five times its largest document, until it is trimmed.
#ifndef RELAY_JSON_JSON_READER_H
#define RELAY_JSON_JSON_READER_H

#include "relay/json/json_paths.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JSON_MAX_DEPTH    128          // deeper documents are refused (JSON_TOO_DEEP)
#define JSON_READER_KEEPS (256 * 1024) // bytes of a document; after a larger one the reader is to be trimmed

enum json_kind {
    JSON_KIND_MISSING,
    JSON_KIND_NULL,
    JSON_KIND_FALSE,
    JSON_KIND_TRUE,
    JSON_KIND_NUMBER,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT
};

struct json_value {
    enum json_kind kind;
    const char *raw; // the value's own text in the document, quotes and braces included; NULL when missing
    size_t raw_length;
    const char *text; // STRING: unescaped UTF-8, else as raw. Valid until the next read of this reader
    size_t length;
};

struct json_reader;

struct json_reader *json_reader_new(void);         // NULL: out of memory
void json_reader_free(struct json_reader *reader); // accepts NULL

enum json_result { JSON_OK, JSON_BAD, JSON_BAD_UTF8, JSON_TOO_DEEP, JSON_NO_MEMORY };
// document: length bytes, of which `room` (>= length) may be read; with 64 bytes more nothing is copied.
// values: paths->value_count of them, pointing into the document or the reader until the next read; the document must
// live that long. why (may be NULL): a sentence, static, for a result other than JSON_OK.
enum json_result json_reader_read(struct json_reader *reader, const struct json_paths *paths, const char *document,
    size_t length, size_t room, struct json_value *values, const char **why);
// Gives the memory back that the reads took. The values of the last read are no longer good.
void json_reader_trim(struct json_reader *reader);

#ifdef __cplusplus
}
#endif

#endif
