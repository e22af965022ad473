// SPDX-License-Identifier: Apache-2.0
//
// What the parts of a table's worker share: its state, and how they wait, give up and tell what is wrong. For
// table_worker.c, table_insert.c and table_reading.c only; on the worker's thread unless it says otherwise.
#ifndef RELAY_INSERT_TABLE_WORKER_INSIDE_H
#define RELAY_INSERT_TABLE_WORKER_INSIDE_H

#include "relay/base/backoff.h"
#include "relay/insert/insert_deadline.h"
#include "relay/insert/table_worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct table_worker {
    struct table_worker_options options;
    char prefix[64];             // of query ids for this table, all members of the group; "" before the first opening
    struct server_clock *clocks; // for each endpoint
    struct mono_time *may_run_until; // the same: it may run an INSERT of ours that has no answer until then
    int endpoint;
    int doubted; // that has answered the last INSERT, but not whether it has it; CLICKHOUSE_ANY_ENDPOINT: none
    uint64_t next_query;
    int64_t read_back_span;  // of the next question (read_back.h)
    int strange;             // failures by codes that say nothing sure, in a row
    struct table_plan *read; // the table as it was read last, held; NULL: not yet
    bool insert_trouble;     // the last INSERT failed
    struct backoff backoff;
    struct metric_series *retries[CLICKHOUSE_FAILURES];
    pthread_t thread;
    bool running; // the joiner's: to be joined
    pthread_mutex_t lock;
    pthread_cond_t changed;
    // under the lock
    struct table_job *waiting, **waiting_end, *present, *done, **done_end;
    char running_id[CLICKHOUSE_QUERY_ID_ROOM]; // of the INSERT under way, "" if none
    int running_endpoint;
    struct mono_time running_until; // the server may start that INSERT until then
    struct insert_doubt doubt;      // of one that has no answer
    bool quit, troubled;
    struct relay_error trouble;
};

bool table_worker_stopping(const struct table_worker *worker);
struct mono_time table_worker_stop_limit(const struct table_worker *worker);
// The job was cancelled, or the drain deadline is over.
bool table_worker_given_up(const struct table_worker *worker, const struct table_job *job);
// Sleeps; ends early when the job is given up.
void table_worker_pause(struct table_worker *worker, const struct table_job *job, struct duration length);
// Notes why the job is repeated, for the board; NULL: it is not. The trouble of an INSERT lasts until one succeeds;
// that of a read-back ends with it, also where it repeats an INSERT for views.
void table_worker_note(struct table_worker *worker, const struct table_job *job, const struct relay_error *error);
void table_worker_log_retry(const struct table_worker *worker, const char *what, const struct relay_error *error);
// After which the server has ended what began at `start`, by its max_execution_time.
struct mono_time table_worker_end_of_run(const struct table_worker *worker, struct mono_time start);

// For each INSERT, those for views included. *end: until when nobody else can own our partitions, in our time, which
// the clock of the endpoint, measured here where that is due, turns into the server's. Errors: as clickhouse_query;
// STOPPED: the job was given up.
bool table_worker_hold_deadline(struct table_worker *worker, const struct table_job *job, int endpoint,
    struct mono_time *end, struct relay_error *error);
// The same in the server's time; *end becomes not later than shortly from now, so that whoever gives the partition away
// can wait for it.
int64_t table_worker_deadline(const struct table_worker *worker, int endpoint, struct mono_time *end);
// It is about to be sent. Only then look whether the job was given up: who cancels it either sees the INSERT in
// table_worker_has_in_doubt, or is seen.
void table_worker_set_running(struct table_worker *worker, const char *query_id, int endpoint, struct mono_time end);
// It has ended here; answered: and on the server. Else the server may have it yet to start, from a buffer on the way.
// row: of one of its rows; NULL: none of them tells that it has begun.
void table_worker_end_running(struct table_worker *worker, const struct row_place *row, const char *token,
    bool answered);

#endif
