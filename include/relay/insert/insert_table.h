// SPDX-License-Identifier: Apache-2.0
//
// One route on the consumer's thread: its open batch, the batch that its worker sends, and what follows from each
// verdict. A table is OPENING until the server has told what it looks like, OPEN, or PAUSED while an operator has to
// fix something; then its marks stay, its messages are not kept, and it tries again from time to time, with growing
// pauses. Nothing here blocks.
#ifndef RELAY_INSERT_INSERT_TABLE_H
#define RELAY_INSERT_INSERT_TABLE_H

#include "relay/base/backoff.h"
#include "relay/config/context.h"
#include "relay/insert/insert_batch.h"
#include "relay/insert/insert_limit.h"
#include "relay/insert/insert_partition.h"
#include "relay/insert/source_message.h"
#include "relay/insert/table_worker.h"

#include <stdbool.h>

enum insert_table_state { INSERT_TABLE_OPENING, INSERT_TABLE_OPEN, INSERT_TABLE_PAUSED };

// The partitions that are ours, and those that jobs still refer to. The stage's.
struct insert_partitions {
    struct insert_partition **items;
    size_t count, room;
};

struct insert_table {
    const struct relay_context *context;
    const struct config_route *route;
    const char *name; // on the board and in metrics
    struct insert_partitions *partitions;
    struct table_worker *worker;
    bool makes_copies;                   // there is a dead-letter topic
    struct table_plan *plan, *next_plan; // next_plan waits for the open batch to be closed
    enum insert_table_state state;
    bool on_trial; // was paused since an INSERT failed, and is called so until one succeeds, or none is needed
    bool troubled; // its worker repeats a job, and messages wait for that
    bool held_up;  // for so long that it counts as paused
    bool stands;   // called down: every table is paused, and so the whole stage
    struct mono_time troubled_since; // while no server is away that it needs; 0: it is not
    struct relay_error why;          // of the pause, or the trouble
    bool opening;                    // an OPEN job is under way
    struct mono_time open_at;        // when to read the table again
    struct backoff backoff;          // between attempts while paused
    struct insert_batch *open, *flight;
    // The flight's note (view_note.h), NULL: it needs none. noting: the flight waits for a commit of all its
    // partitions, which carries the note, with its job still ours; note_sent: for the one that is under way. note_late:
    // it was sent before, without the note, as its view was not known.
    char *note;
    bool noting, note_sent, note_late;
    bool parked;               // the flight waits for the pause to end; then the same insert is repeated, for the views
    bool after_full;           // the batch that went last was a full one
    struct batch_memory spare; // for the next batch; the block is of the present plan
    struct insert_limit limit; // of the next batch
    double window_rows, window_bad; // judged for max_bad_ratio
    struct metric_series *inserted, *skipped, *seconds, *batch_rows, *paused, *views_behind;
};

// Starts the worker and asks for the table. options->route names it. Errors: NO_MEMORY, SYSTEM.
struct insert_table *insert_table_new(const struct table_worker_options *options, const char *name,
    struct insert_partitions *partitions, struct relay_error *error);
void insert_table_free(struct insert_table *table); // after its worker was joined; accepts NULL

// Takes a message that feed (of this table) accepts. false: out of memory, the feed was rewound.
bool insert_table_add(struct insert_table *table, struct insert_feed *feed, const struct source_message *message);
// Its columns come from headers, too; else a message need not bring them.
bool insert_table_reads_headers(const struct insert_table *table);
// The open batch is full and the one before it is not stored yet.
bool insert_table_full(const struct insert_table *table);
size_t insert_table_memory(const struct insert_table *table);
void insert_table_trim(struct insert_table *table); // gives back memory that is kept for the next batch
// Sends the open batch as soon as the one before it is stored.
void insert_table_flush(struct insert_table *table);
// What is due: results of the worker, batches that have waited for linger, the table's schema, read-backs.
void insert_table_work(struct insert_table *table, struct mono_time now);
// When insert_table_work has something to do by time alone.
struct mono_time insert_table_due(const struct insert_table *table);
bool insert_table_busy(const struct insert_table *table); // a batch is open or under way

// Gives up the read-back of a partition that is gone, and every batch that holds messages of it; those of other
// partitions are taken again.
void insert_table_forget(struct insert_table *table, const struct insert_partition *partition);
bool insert_table_holds(const struct insert_table *table, const struct insert_partition *partition);

#endif
