// SPDX-License-Identifier: Apache-2.0
//
// How far each table has come in each partition. A feed is one table's way through one partition: `next` is the first
// offset that it has not taken, `mark` the first that is not known to be stored. What may be committed for the
// partition is the lowest mark of its feeds: never past a hole. All of it belongs to the consumer's thread; no I/O.
#ifndef RELAY_INSERT_INSERT_PARTITION_H
#define RELAY_INSERT_INSERT_PARTITION_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/base/metrics.h"
#include "relay/insert/offset_ranges.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OFFSET_NONE INT64_MIN // no offset: nothing committed, or the log's beginning, wherever that is

enum feed_state {
    FEED_WAITING, // for its table's plan or the partition's committed offset; then for its turn to be read back
    FEED_READING, // the table is being asked
    FEED_DOUBTED, // the table has offsets, and has yet to be compared with the log (insert_expiry.h)
    FEED_READY,   // knows where to begin
    FEED_ACTIVE,  // takes messages
    FEED_PAUSED,  // its table is paused; the mark stays
    FEED_LOST,    // the log no longer has its next message; an operator has to decide, the mark stays
};

struct insert_table;
struct insert_partition;
struct table_job;

// A message that the server refused by itself: a dead letter when it comes again.
struct feed_refusal {
    int64_t offset; // OFFSET_NONE: none
    int code;
    char text[300];
};

#define FEED_REFUSALS 4

struct insert_feed {
    struct insert_table *table;
    struct insert_partition *partition;
    enum feed_state state;
    bool by_reader;             // catches up: its messages come from a reader of its own
    int64_t next, mark;         // OFFSET_NONE: the log's beginning
    unsigned pending;           // batches, the open one included, with messages of it
    struct offset_ranges found; // what the table has already
    int64_t found_through;      // `found` is complete below; then it must be read on
    int64_t highest;            // FEED_DOUBTED: the log must have this offset, if it is the one that the table is of
    bool compared;              // it is, as far as can be told
    int64_t passed;             // the last offset that was passed over as found; OFFSET_NONE
    char *owed;                 // note of an INSERT (view_note.h) that may have left views behind; malloc'd, NULL: none
    int64_t copied;             // dead letters below are in the dead-letter topic; OFFSET_NONE: none
    uint64_t generation;        // a read-back of an older one is stale
    struct table_job *reading;  // the read-back that is under way; NULL: none
    struct feed_refusal refusals[FEED_REFUSALS]; // a ring: the last ones
    unsigned next_refusal;
};

struct insert_partition {
    char *topic;
    int32_t number;
    struct insert_feed *feeds;
    size_t feed_count;
    struct mono_time since;       // when it became ours
    struct mono_time ready_since; // when the first of its tables knew where to begin; ns 0: none does
    int64_t position;             // the next message that Kafka will give us; OFFSET_NONE: not positioned
    int64_t committed;            // OFFSET_NONE: none
    bool committed_known;
    bool fetching;                // positioned and not paused
    bool held;                    // paused because a table is full
    bool failed;                  // the log does not have our offset; an operator has to decide
    struct mono_time compared_at; // when its end was last asked for, for feeds that are FEED_DOUBTED
    struct mono_time short_since; // since when the answers lie below what a table has; ns 0: they do not
    int64_t lost_at;              // which one, of failed and of feeds that are FEED_LOST
    struct mono_time troubled_since, troubled_at; // it could not be read: from when on, and last; ns 0: it could
    char trouble[160];                            // why
    bool unreadable;                              // the log says so
    bool refused;                                 // the broker does not let us read it, which is said only once
    struct mono_time quiet_since;                 // insert_silence.h: since when it gives nothing, less time held
    bool heard;                                   // it has given a message or its end since the last look
    bool asked_again;                             // its fetching has begun anew, and nothing came since
    bool silent;                                  // nothing comes, although it flows; `trouble` says why
    struct mono_time open_since; // since when it ends below the log's end, at an open transaction; ns 0: it does not
    bool open;                   // for too long, which `trouble` says
    bool gone;                   // no longer ours; kept while jobs refer to it
    int64_t end;                 // the log's end when it was last reached; OFFSET_NONE
    int64_t asked_end;           // the same as the broker said when nothing was fetched (insert_lag.h); OFFSET_NONE
    struct mono_time asked_at;
    int64_t beginning;             // the log's, when it was first read from there, or asked for; OFFSET_NONE: not known
    struct mono_time beginning_at; // when it may be asked for
    unsigned jobs;                 // read-backs and batches that refer to its feeds
    struct metric_series *lag;
};

// feeds: how many. NULL: NO_MEMORY.
struct insert_partition *insert_partition_new(const char *topic, int32_t number, size_t feeds,
    struct relay_error *error);
void insert_partition_free(struct insert_partition *partition); // accepts NULL

// The first offset that is not known to be stored by this feed.
int64_t insert_feed_done(const struct insert_feed *feed);
// The same of the partition: what may be committed. OFFSET_NONE: nothing can be said yet.
int64_t insert_partition_low(const struct insert_partition *partition);
// Back to the mark: everything that was taken and not stored is taken again, after a new read-back.
void insert_feed_rewind(struct insert_feed *feed);
// The message at this offset is the first one of the feed in a batch.
void insert_feed_pending(struct insert_feed *feed, int64_t offset);
// A batch that holds messages of the feed up to `after` is stored, or was given up.
void insert_feed_stored(struct insert_feed *feed, int64_t after);
void insert_feed_dropped(struct insert_feed *feed);

// Whether an active feed takes the message at this offset. If not, it has moved past it all the same: it was taken
// before, or the table has it (*found).
bool insert_feed_takes(struct insert_feed *feed, int64_t offset, bool *found);
// The feed has taken the message at this offset and cannot keep it (no memory): back to its mark, that message
// included.
void insert_feed_give_back(struct insert_feed *feed, int64_t offset);
// The server refused the row of this offset, alone in its INSERT; text is cut.
void insert_feed_refuse(struct insert_feed *feed, int64_t offset, int code, const char *text);
const struct feed_refusal *insert_feed_refusal(const struct insert_feed *feed, int64_t offset); // NULL: none is known
// The first thing that Kafka gives of it, be it a message or the end, tells where the log begins.
void insert_partition_gives(struct insert_partition *partition, int64_t offset);
// Nothing more comes before `end`: markers of transactions and compacted messages are passed over.
// by_reader: for the feeds that have a reader of their own.
void insert_partition_reached_end(struct insert_partition *partition, int64_t end, bool by_reader);
// Where the partition has to be for its ready feeds. false: it is there, or no feed is ready.
// *from OFFSET_NONE: the log's beginning.
bool insert_partition_wants_position(const struct insert_partition *partition, int64_t *from);
// It is there now: ready feeds become active.
void insert_partition_positioned(struct insert_partition *partition, int64_t from);
// The log begins at `first`, behind the feed's next message. true: the table has what came before, as far as the
// read-back tells, and the feed goes on there, or asks for the next page. false: messages are lost to it.
// What the table lacks of it may have been messages; that is logged.
bool insert_feed_has_expired(struct insert_feed *feed, int64_t first);
// Offsets from the feed's next one to `first` that the table does not have.
struct feed_holes {
    int64_t count, offsets, longest, first;
};
struct feed_holes insert_feed_holes(const struct insert_feed *feed, int64_t first);
// It goes on without what lies before.
void insert_feed_skip(struct insert_feed *feed, int64_t first);
// The group's consumer stopped: the partition has to be positioned again for the feeds that it served.
void insert_partition_stopped(struct insert_partition *partition);
// Paused feeds that would begin at the log's beginning, wherever that is, begin at the one that is known.
void insert_partition_pin_beginning(struct insert_partition *partition);
bool insert_partition_has(const struct insert_partition *partition, enum feed_state state);

#endif
