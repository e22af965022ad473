// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_registered.h"

#include "relay/postgres/pg_array.h"

#include <stdlib.h>

char *pg_named_tables(const struct config *config)
{
    char **names = calloc(config->outbox_count + 1, sizeof(*names)); // borrowed
    if (names == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < config->outbox_count; i++) {
        names[i] = config->outboxes[i].table;
    }
    char *tables = pg_array_of_texts(names, config->outbox_count);
    free(names);
    return tables;
}
