// SPDX-License-Identifier: Apache-2.0
//
// How far an outbox has been read, and which sequence numbers below that are missing: a smaller number can commit
// later, and most that are missing never will (their transactions rolled back). Two structures:
//
// seq_holders knows which transactions hold a lock on the table that an INSERT takes (pg_locks, RowExclusiveLock or
// stronger, on the table or one of its partitions), and since which listing. A transaction draws its numbers while it
// holds that lock, so a number that is missing when a listing is made belongs to one of the transactions of that
// listing, or will be found by a look-up made after it (locks go after the commit is visible), or never comes. A
// transaction that is prepared changes its name: a prepared one that is new counts as old as any that vanished with its
// coming. One per term. What it knows does not depend on the fate of a batch, so it is never rolled back.
//
// seq_holes is the watermark and the missing numbers as ranges, each with the listing that first covered it. It is part
// of a batch: copy it before the batch, put the copy back if the batch rolls back (40 bytes a range, at most `limit`).
//
// The order of work in each batch, on the batch's own connection, statements in READ COMMITTED:
//   1. read and delete the new rows, seq > seq_holes_watermark()                   -> seq_holes_saw()
//   2. if seq_holes_wants_listing(): read pg_locks                                 -> seq_holders_listed(),
//   seq_holes_listed()
//   3. look up the ranges of seq_holes_ask() (a later snapshot) and delete         -> seq_holes_looked_up()
//   4. publish both, sorted by seq.
// A range is forgotten by step 3 when none of the transactions that could fill it was left in a listing before the
// look-up. With nothing else going on that is the batch that saw it, so roll-backs leave nothing behind.
//
// Ranges are coarsened past the limit: the nearest neighbours become one range that also covers numbers already
// published, which a look-up does not find again. That costs look-ups some index entries, never an event; one that
// would meet rows that an open transaction has just taken out waits until that is over (publish_take.c).
//
// What this cannot know, and a sweep (a look-up of everything below the watermark) must find: numbers drawn without the
// lock (nextval by hand, a sequence with CACHE > 1) and rows put in with an old number. Both belong to one thread at a
// time.
#ifndef RELAY_PUBLISH_SEQ_HOLES_H
#define RELAY_PUBLISH_SEQ_HOLES_H

#include "relay/base/clock.h"
#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seq_holders;

struct seq_holders *seq_holders_new(struct relay_error *error); // Errors: NO_MEMORY
void seq_holders_free(struct seq_holders *holders);             // accepts NULL
// virtualtransaction of pg_locks ("3/4711"; "-1/815" for a prepared one) as a number. Errors: PROTOCOL.
bool seq_holder_parse(const char *text, uint64_t *holder, struct relay_error *error);
// A complete listing (any order, doubles allowed, without the relay's own sessions). Errors: NO_MEMORY; then nothing
// has changed and the listing must not be reported to a seq_holes.
bool seq_holders_listed(struct seq_holders *holders, const uint64_t *list, size_t count, struct relay_error *error);
size_t seq_holders_count(const struct seq_holders *holders); // transactions in the last listing

struct seq_range {
    int64_t first, last; // both included
};

struct seq_holes;

// watermark: everything up to it has been read; the first read asks for more. limit: ranges kept, at least 16.
// Errors: NO_MEMORY.
struct seq_holes *seq_holes_new(int64_t watermark, size_t limit, struct relay_error *error);
void seq_holes_free(struct seq_holes *holes); // accepts NULL
// Makes `to` (of the same limit) what `from` is; cannot fail.
void seq_holes_copy(struct seq_holes *to, const struct seq_holes *from);
void seq_holes_reset(struct seq_holes *holes, int64_t watermark); // a new term: no holes
int64_t seq_holes_watermark(const struct seq_holes *holes);
size_t seq_holes_ranges(const struct seq_holes *holes); // how many ranges
// How long the oldest range has been one; 0 where there is none.
struct duration seq_holes_age(const struct seq_holes *holes, struct mono_time now);
// Whether a range covers it. One that was read may be covered, too: ranges are merged at the limit.
bool seq_holes_covers(const struct seq_holes *holes, int64_t seq);
// Everything up to it has been read: past no hole. INT64_MIN while that is not known.
int64_t seq_holes_settled(const struct seq_holes *holes);

// seqs: what a read above the watermark gave, ascending. Every gap becomes a hole; the watermark
// becomes the last one. Nothing read: nothing changes.
void seq_holes_saw(struct seq_holes *holes, const int64_t *seqs, size_t count, struct mono_time now);
// Whether any hole is waiting for a listing: for its first, or for the end of those who may fill it.
bool seq_holes_wants_listing(const struct seq_holes *holes);
// After seq_holders_listed() of a listing that was read after the last seq_holes_saw().
void seq_holes_listed(struct seq_holes *holes, const struct seq_holders *holders);
// The ranges to look up now, ascending; valid until holes changes. Marks them as asked for. Returns how many.
size_t seq_holes_ask(struct seq_holes *holes, const struct seq_range **ranges);
// What the look-up gave (ascending; numbers that are no holes are ignored), complete up to `complete`: INT64_MAX, or
// the last number found where the look-up was cut by a limit. Found numbers are holes no more; a range that was asked
// for when nobody could fill it any more is forgotten as far as it was complete.
void seq_holes_looked_up(struct seq_holes *holes, const int64_t *seqs, size_t count, int64_t complete);

#endif
