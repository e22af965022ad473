// SPDX-License-Identifier: Apache-2.0
//
// A batch for one table: rows and dead letters of several partitions, in offset order for each, and how far it reaches
// in each. Filled on the consumer's thread; its job carries the blocks to the worker and back. No I/O.
#ifndef RELAY_INSERT_INSERT_BATCH_H
#define RELAY_INSERT_INSERT_BATCH_H

#include "relay/base/clock.h"
#include "relay/insert/insert_partition.h"
#include "relay/insert/source_message.h"
#include "relay/insert/table_worker.h"
#include "relay/insert/view_note.h"

#include <stdbool.h>

#define BATCH_STAMPS 512

struct batch_entry {
    struct insert_feed *feed;
    int64_t after;     // behind the last message taken
    int64_t last_row;  // offset of the last one that is a row, OFFSET_NONE
    size_t rows, run;  // run: the last one of its rows
    int64_t longer_at; // from this offset on the run's text is a digit longer
};

struct insert_batch {
    struct table_job *job;
    struct native_block *block; // its rows; NULL: sealed, they are the job's
    size_t sealed_bytes;        // of the block that was
    struct batch_entry *entries;
    size_t entry_count, entry_room, entry_last; // entry_last: the one used last
    struct mono_time opened;
    size_t rows, dead;
    uint64_t reasons[ENCODE_REASON_COUNT]; // of the dead letters
    int64_t periods[128];                  // distinct periods of the table's partition key
    size_t period_count;
    int64_t period_length;        // in milliseconds; 0: the table has no partitions
    int64_t stamps[BATCH_STAMPS]; // timestamps of a sample of the rows, in milliseconds
    size_t stamp_count, stamp_step;
    struct view_note note; // its runs, where they are kept
    bool keeps_runs;       // the table is read back, and a view may turn up
    bool wants_note;       // one is known, so that the note goes into commits before the batch is sent
    size_t note_bytes;     // of its runs, when it is written
    bool dropped;          // its outcome no longer counts; its feeds were told
};

// Memory of one batch for the next: either may be NULL.
struct batch_memory {
    struct native_block *block; // of the same plan
    struct insert_body *body;
};
void batch_memory_free(struct batch_memory *memory); // both, and leaves NULL

// plan: held by the batch. What memory has is taken over, also on failure; what it lacks is made, a body only where
// rows are sent compressed (lz4). NULL: NO_MEMORY.
struct insert_batch *insert_batch_new(struct table_plan *plan, struct batch_memory *memory, bool lz4,
    struct mono_time now, struct relay_error *error);
void insert_batch_free(struct insert_batch *batch); // accepts NULL; the feeds must have been told

// Encodes the message as a row, or keeps it as a dead letter with the reason, and with a copy for the dead-letter topic
// if that has none yet; clock NULL: there is no such topic. false: NO_MEMORY.
bool insert_batch_add(struct insert_batch *batch, struct insert_feed *feed, const char *target,
    const struct clock *clock, const struct source_message *message, struct relay_error *error);
// No more messages: the rows become the job's, ready to be sent, with its partitions. Compressed, they are its body,
// and the block, reset, is memory for the next batch; else the job has the block itself. Sealed already: nothing to do.
// false: NO_MEMORY; the batch is then only good to be dropped.
bool insert_batch_seal(struct insert_batch *batch, struct batch_memory *memory, struct relay_error *error);
// Of a batch that is stored: what memory lacks and the next batch, of `plan`, can use.
void insert_batch_give_memory(struct insert_batch *batch, const struct table_plan *plan, struct batch_memory *memory);
bool insert_batch_is_sealed(const struct insert_batch *batch);
// Of its rows, uncompressed, and of its dead letters.
size_t insert_batch_bytes(const struct insert_batch *batch);
size_t insert_batch_memory(const struct insert_batch *batch);
bool insert_batch_holds(const struct insert_batch *batch, const struct insert_partition *partition);
// It has messages of a partition without a committed offset.
bool insert_batch_lacks_commit(const struct insert_batch *batch);
// Its rows lie in so many partitions of the table that one INSERT should not hold more.
bool insert_batch_is_scattered(const struct insert_batch *batch);

// The next message may make its note too long, or, where none is wanted, there are enough runs.
bool insert_batch_note_is_full(const struct insert_batch *batch);
// The note of its INSERT, malloc'd; NULL: none is wanted, or error says why there is none. The job gets the note, or,
// where none is wanted, what it would be.
char *insert_batch_note(struct insert_batch *batch, const struct config_route *route, int64_t now_seconds,
    struct relay_error *error);

// The feeds need no second copy of the dead letters.
void insert_batch_copied(struct insert_batch *batch);
// Tells the feeds: everything is stored, or nothing is known; then they take it again. Lets go of the partitions.
void insert_batch_stored(struct insert_batch *batch);
void insert_batch_drop(struct insert_batch *batch); // rewinds the feeds; the job may still be under way

#endif
