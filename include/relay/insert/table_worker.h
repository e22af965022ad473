// SPDX-License-Identifier: Apache-2.0
//
// The thread that talks to ClickHouse for one route: reads its table, reads back offsets, sends batches, one job after
// another in the order in which they were given. It repeats what may be repeated (the same bytes under the same token)
// and hands everything else back with a verdict; what follows is the consumer thread's to decide. A job belongs to the
// worker from table_worker_submit() until table_worker_take_done() gives it back.
#ifndef RELAY_INSERT_TABLE_WORKER_H
#define RELAY_INSERT_TABLE_WORKER_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/dead_letter_topic.h"
#include "relay/insert/insert_lease.h"
#include "relay/insert/table_job.h"

#include <stdbool.h>

struct table_worker;

struct table_worker_options {
    const struct relay_context *context;
    struct clickhouse_client *client;
    const struct config_route *route;
    const char *group_tag; // 8 hex digits: the consumer group in query ids
    struct insert_lease *lease;
    struct dead_letter_topic *copies; // NULL: none
    void (*wake)(void *wake_context); // after each job
    void *wake_context;
};

// Copies the options; what they point to outlives the worker. Errors: NO_MEMORY, SYSTEM.
struct table_worker *table_worker_start(const struct table_worker_options *options, struct relay_error *error);
void table_worker_submit(struct table_worker *worker, struct table_job *job);
struct table_job *table_worker_take_done(struct table_worker *worker); // the oldest, NULL: none
// The job's outcome no longer interests: it ends as soon as it can, and is taken as any other.
void table_worker_cancel(struct table_worker *worker, struct table_job *job);
// The INSERT that is under way, one for views included, if its job was given up: its id, with room for
// CLICKHOUSE_QUERY_ID_ROOM, and where it is.
bool table_worker_runs_given_up(struct table_worker *worker, char *query_id, int *endpoint);
struct clickhouse_client *table_worker_client(const struct table_worker *worker);
// Whether an INSERT is in doubt: it has no answer, or its job was given up while it is under way, and the server may
// yet start it, until when. One that has started is found in system.processes; one that starts later is refused. Only
// of exactly-once tables.
bool table_worker_has_in_doubt(struct table_worker *worker, struct mono_time *until);
// Why the present job is being repeated: copies the last error; false: nothing is wrong.
bool table_worker_trouble(struct table_worker *worker, struct relay_error *error);
void table_worker_quit(struct table_worker *worker); // ends after the present job; does not wait
bool table_worker_join(struct table_worker *worker, struct mono_time deadline); // false: still busy
void table_worker_free(struct table_worker *worker); // after a join; frees the jobs left in it

#endif
