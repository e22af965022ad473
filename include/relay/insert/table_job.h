// SPDX-License-Identifier: Apache-2.0
//
// What the consumer thread asks of a table's worker, and what became of it: reading the table, reading back offsets, or
// a batch to insert. A job owns its plan, blocks and ranges, and belongs to one thread at a time (see table_worker.h);
// only `cancelled` is set by the consumer thread while the worker has it.
#ifndef RELAY_INSERT_TABLE_JOB_H
#define RELAY_INSERT_TABLE_JOB_H

#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/dead_letter_block.h"
#include "relay/insert/insert_body.h"
#include "relay/insert/insert_doubt.h"
#include "relay/insert/dead_letter_topic.h"
#include "relay/insert/insert_query_id.h"
#include "relay/insert/insert_token.h"
#include "relay/insert/read_back.h"
#include "relay/insert/table_plan.h"
#include "relay/insert/view_note.h"
#include "relay/insert/view_repeat.h"

#include <stdatomic.h>
#include <stdbool.h>

enum table_job_kind { TABLE_JOB_OPEN, TABLE_JOB_READ_BACK, TABLE_JOB_INSERT };
enum table_verdict {
    TABLE_DONE,
    TABLE_CANCELLED, // given up by table_worker_cancel, or by the stop; what of it was stored is unknown
    TABLE_UNCLEAR,   // the outcome stays unknown: read back, then go on from the mark
    TABLE_REJECTED,  // the server refuses rows of this batch; read back, then smaller batches
    TABLE_TOO_LARGE, // the server lacks memory for it, or says nothing sure; as REJECTED, but no row is to blame
    TABLE_OPERATOR,  // somebody has to fix something: pause the table
};

struct table_job {
    struct table_job *next;
    enum table_job_kind kind;
    void *owner; // the consumer thread's
    atomic_bool cancelled;
    // INSERT and READ_BACK: held by the job
    struct table_plan *plan;
    // INSERT
    struct insert_body *body;       // of the rows; NULL: they are not compressed,
    struct native_block *block;     // and this has them
    size_t rows;                    // in either
    struct dead_letter_block *dead; // may be NULL or empty
    struct dead_letter_copies copies;
    bool copied; // the answer: all of them are in the dead-letter topic
    char token[INSERT_TOKEN_ROOM];
    unsigned hashes;              // of the token, that every server keeps that may have executed it (insert_token.h)
    struct row_place row;         // of one of them
    struct insert_places places;  // its partitions
    const struct view_note *note; // its rows, where views hang on the table; the batch's; NULL: no view waits for them
    const struct view_note *unnoted; // the same, where no view is known: its note once one refuses them
    struct table_plan *again;  // it may have been executed already: the table as it was read last, held; NULL: is new
    struct table_plan *before; // the table as it was read before the first attempt, held
    struct view_seen seen;     // what came since, at the last look
    int sent_to;               // the endpoint of the last attempt
    bool stored;               // the answer: table and views have the rows
    char refusal[CLICKHOUSE_REFUSAL_ROOM]; // the answer, REJECTED: the server's words, which may quote the row
    bool absent;                           // the answer: refused, and the table has none of the rows, so no view has
    bool forgotten;                        // the answer: its token may be, so that it is not repeated
    struct duration took;                  // the answer: the longest of its requests
    // READ_BACK
    struct read_back read_back;
    struct mono_time since; // when the partition became ours: former owners started nothing later
    bool settled;
    char *owed;        // note of an INSERT whose views are to be completed; malloc'd, NULL: none
    bool views_behind; // the answer: they cannot be
    // the answer; OPEN: plan is the new one, held
    enum table_verdict verdict;
    struct relay_error error;
    struct duration elapsed;
};

// owner: the consumer thread's, kept as it is. NULL: NO_MEMORY.
struct table_job *table_job_new(enum table_job_kind kind, void *owner, struct relay_error *error);
// Whether an INSERT that was kept over a pause may be repeated as it is, the table being like that now. Not where its
// token may be forgotten and something was altered since: the next INSERT shows whether that has fixed the view.
bool table_job_may_repeat(const struct table_job *job, const struct table_plan *plan);
void table_job_free(struct table_job *job); // with its plan, blocks and ranges; accepts NULL

#endif
