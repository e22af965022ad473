// SPDX-License-Identifier: Apache-2.0
#include "relay/postgres/pg_newest.h"

#include <pthread.h>
#include <stdlib.h>

struct pg_newest {
    pthread_mutex_t lock;
    uint64_t system_identifier; // under the lock, as is the timeline
    uint32_t timeline;          // 0: none was noted
};

struct pg_newest *pg_newest_new(struct relay_error *error)
{
    struct pg_newest *newest = calloc(1, sizeof(*newest));
    if (newest == NULL) {
        error_no_memory(error, "what is known of PostgreSQL's servers");
        return NULL;
    }
    pthread_mutex_init(&newest->lock, NULL);
    return newest;
}

void pg_newest_free(struct pg_newest *newest)
{
    if (newest != NULL) {
        pthread_mutex_destroy(&newest->lock);
        free(newest);
    }
}

bool pg_newest_note(struct pg_newest *newest, uint64_t system_identifier, uint32_t timeline)
{
    if (newest == NULL || timeline == 0) {
        return true;
    }
    pthread_mutex_lock(&newest->lock);
    bool latest = newest->system_identifier != system_identifier || newest->timeline <= timeline;
    if (latest) {
        newest->system_identifier = system_identifier;
        newest->timeline = timeline;
    }
    pthread_mutex_unlock(&newest->lock);
    return latest;
}
