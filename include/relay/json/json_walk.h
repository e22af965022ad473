// SPDX-License-Identifier: Apache-2.0
//
// Steps through one level of an array or object whose text json_reader has already found to be well-formed. It
// allocates nothing and copies nothing; strings with escapes are unescaped on demand into a buffer of the caller's. Any
// thread, with its own walk.
#ifndef RELAY_JSON_JSON_WALK_H
#define RELAY_JSON_JSON_WALK_H

#include "relay/json/json_reader.h"

struct json_walk {
    const char *at, *end;
    bool object;
};

// container: an ARRAY or OBJECT.
void json_walk_start(struct json_walk *walk, const struct json_value *container);
// The next element, or member with its name (a STRING; name may be NULL for arrays). false: at the end.
// A STRING with escapes has text NULL: see json_unescape.
bool json_walk_next(struct json_walk *walk, struct json_value *name, struct json_value *value);

// Sets text and length of a STRING whose text is NULL, into *scratch, which must have room for raw_length bytes.
void json_unescape(struct json_value *value, char *scratch);

// Whether text[0..length) is a number by JSON's grammar.
bool json_is_number(const char *text, size_t length);

#endif
