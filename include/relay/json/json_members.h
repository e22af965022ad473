// SPDX-License-Identifier: Apache-2.0
//
// The members of an object whose text json_reader has already found to be well-formed, with those marked that come
// again later under the same name: of them the last one counts. Names in the order of PostgreSQL's jsonb (by length,
// then by bytes) cost one comparison each, others a sort. A small object takes no memory. Any thread, each with its
// own.
#ifndef RELAY_JSON_JSON_MEMBERS_H
#define RELAY_JSON_JSON_MEMBERS_H

#include "relay/json/json_reader.h"

#define JSON_MEMBERS_HELD 16

struct json_member {
    struct json_value name, value; // as json_walk_next() gives them
    bool escaped;                  // the name
    bool overridden;               // by a later one
};

struct json_members {
    struct json_member *items; // in the order of the text
    size_t count, room;
    struct json_member held[JSON_MEMBERS_HELD];
};

// members: anything; json_members_finish() follows in any case. They point into the document. false: out of memory.
bool json_members_read(struct json_members *members, const struct json_value *object);
void json_members_finish(struct json_members *members);

#endif
