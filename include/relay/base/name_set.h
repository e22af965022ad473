// SPDX-License-Identifier: Apache-2.0
//
// A set of names, found by a hash: thousands of them cost no more for each than a few. Owns copies. Zeroed: empty. One
// thread at a time.
#ifndef RELAY_BASE_NAME_SET_H
#define RELAY_BASE_NAME_SET_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct name_set {
    char **slots; // NULL: free
    size_t room, count;
};

void name_set_finish(struct name_set *set);
bool name_set_has(const struct name_set *set, const char *name);
// Nothing happens to a name that is in it. Errors: NO_MEMORY, and the set is as before.
bool name_set_add(struct name_set *set, const char *name, struct relay_error *error);

#endif
