// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/table_job.h"

#include <stdlib.h>
#include <string.h>

struct table_job *table_job_new(enum table_job_kind kind, void *owner, struct relay_error *error)
{
    struct table_job *job = calloc(1, sizeof(*job));
    if (!job) {
        error_no_memory(error, "a job for ClickHouse");
        return NULL;
    }
    job->kind = kind;
    job->owner = owner;
    job->hashes = INSERT_TOKEN_HASHES;
    atomic_init(&job->cancelled, false);
    return job;
}

bool table_job_may_repeat(const struct table_job *job, const struct table_plan *plan)
{
    bool altered = job->again && job->again->schema->fingerprint != plan->schema->fingerprint;
    // The statement of the dead letters names the columns that their table had; one that was added since does no harm.
    bool lacks = job->dead && job->plan->dead_letters.has_timestamp && !plan->dead_letters.has_timestamp;
    // Where the view that turned up, or what it fills, does not allow more than at least once, nothing is repeated.
    bool weaker = job->note && job->note == job->unnoted && !plan->exactly_once;
    return strcmp(job->plan->statement, plan->statement) == 0 && !lacks && !weaker && !(job->forgotten && altered);
}

void table_job_free(struct table_job *job)
{
    if (!job) {
        return;
    }
    insert_body_free(job->body);
    native_block_free(job->block); // before the plan's schema
    dead_letter_block_free(job->dead);
    dead_letter_copies_finish(&job->copies);
    offset_ranges_finish(&job->read_back.found);
    insert_places_finish(&job->places);
    free(job->owed);
    table_plan_release(job->again);
    table_plan_release(job->before);
    table_plan_release(job->plan);
    free(job);
}
