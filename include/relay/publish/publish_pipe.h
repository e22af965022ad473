// SPDX-License-Identifier: Apache-2.0
//
// The pipe of one outbox, and the state that its parts share. Each part uses those below it only:
//
//   publish_pipe.c      who owns the outbox; one term after the other
//   publish_serve.c     a term's loop: batches on two lanes in turn
//   publish_wait.c      nothing to do; the pace under load
//   publish_term.c      how a term starts: fence, proof, receipts; publish_resume.c: from which row on it reads
//   publish_chores.c    what is due now and then; publish_sweep.c: rows below the watermark
//   publish_send.c      a batch to Kafka, and to its COMMIT; publish_refused.c: what Kafka did not take
//   publish_careful.c   rows out of the table while some of them wait or have to be judged
//   publish_take.c      rows out of the table
//   publish_timestamp.c rows whose timestamp Kafka does not take
//   publish_judge.c     which rows Kafka will not take
//   publish_topics.c    which parked topics are there
//   publish_commit.c    the end of a transaction in PostgreSQL
//   publish_waiting.c   what rows wait for
//   publish_board.c     what the rest of the process learns
//   publish_lane.c      deadlines, heartbeats, the lanes
//
// Everything in it belongs to the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_PIPE_H
#define RELAY_PUBLISH_PUBLISH_PIPE_H

#include "relay/base/backoff.h"
#include "relay/base/name_set.h"
#include "relay/config/context.h"
#include "relay/kafka/kafka_producer.h"
#include "relay/publish/event_router.h"
#include "relay/publish/outbox_batch.h"
#include "relay/publish/outbox_owner.h"
#include "relay/publish/outbox_sleep.h"
#include "relay/publish/outbox_sql.h"
#include "relay/publish/publish_share.h"
#include "relay/publish/publish_transaction.h"
#include "relay/publish/publish_verdicts.h"
#include "relay/publish/receipt_store.h"
#include "relay/publish/seq_holes.h"
#include "relay/publish/sweep_pieces.h"

// What a lane is doing. Only publish_lane_move() changes it.
enum lane_state {
    LANE_IDLE,       // no batch
    LANE_TAKING,     // the statement that takes new rows is running
    LANE_TAKEN,      // its rows are in memory, the transaction is open
    LANE_ROUTED,     // and routed
    LANE_SENT,       // and handed to Kafka
    LANE_COMMITTING, // COMMIT is on its way
};

// A batch on its way from the table to Kafka. There are two, in turn; each begins a transaction, or joins that of the
// batch before it.
struct publish_lane {
    int slot;    // of its transaction, and of the connection
    bool joined; // behind a savepoint: undone, it leaves an open transaction that must come to its end
    enum lane_state state;
    struct outbox_batch *batch;
    int64_t settled;          // past no hole, once this batch is committed
    struct seq_holes *before; // the holes as they were before this batch
    struct duration waited;   // for PostgreSQL, while this batch was read
    const int64_t *asked;     // the numbers of the statement that takes a list of rows, in the batch's arena
    size_t asked_count;       // 0: no such statement is unanswered
    bool slow;                // one of its statements took long for its rows
    bool full;                // there are probably more rows behind it
    bool holes_only;          // no new rows were asked for
    bool seen;                // the new rows are in memory, the holes are still to be looked up:
    bool behind;              // not before the other lane's transaction has ended, which has taken rows out of them
    bool late;                // some of its rows were holes before
    bool chosen;              // exactly these rows were asked for (the sweep, rows that waited)
    bool careful;             // read the careful way: it carries out the verdicts
    bool kept;                // rows that may go were listed, and none of them could be taken out
    bool released;            // with its commit nothing waits any more behind some entry:
    bool released_topics;     // topics, or else aggregates:
    int released_count;       // so many,
    char released_name[256];  // of this name, or the first of them
};

struct publish_series {
    struct metric_series *batch_seconds, *latency_seconds, *owned, *holes, *oldest_hole, *held, *parked, *replays,
        *not_there;
};

// Rows that were found and are not taken yet: those of one snapshot, ascending.
struct publish_found {
    int64_t *seqs, *sizes;
    size_t count, next, room;
    bool cut; // that snapshot had more
};
// They are taken, or stay where they are.
static inline void publish_found_empty(struct publish_found *list)
{
    list->count = list->next = 0;
    list->cut = false;
}

// Rows below the watermark that nobody waits for: see publish_sweep.c.
struct publish_sweep {
    struct mono_time at; // when it was looked last
    struct sweep_pieces pieces;
    struct publish_found list;
    struct mono_time all_again_at; // everything in one listing took too long: not before this
    bool found;                    // rows were taken: there may soon be others
};

// A topic for which a broker refused a record for its timestamp.
struct untimely_topic {
    char name[250];
    struct mono_time refused_at; // the last time
};

struct publish_pipe {
    // never change
    const struct relay_context *context;
    const struct config_outbox *config;
    bool exactly_once;
    struct event_router *router;
    struct publish_series series;
    struct heartbeat *heartbeat;
    struct outbox_owner owner;
    struct publish_share *share; // of the process; NULL with one outbox
    struct publish_sharer sharer;
    struct mono_time replicas_counted_at;
    bool giving_up; // to another replica, as soon as both lanes are idle
    bool outdated;  // the term failed because the server is an old primary
    bool fenced;    // the term's start has come so far: Kafka has answered
    bool unreached; // as an owner, Kafka does not answer us,
    struct mono_time unreached_since;
    bool cut_off;    // and so long that the outbox was let go: not ours again before Kafka has answered
    bool told_kafka; // the board says of Kafka what this pipe met, and its answer has not been seen since
    bool unended;    // Kafka answered the last term, and could not end the transaction before
    struct backoff backoff;
    struct backoff turns;    // of a standby: evenly spread, so that standbys do not try in step
    int failures;            // in a row
    int64_t receipt_refused; // the broker found a receipt of so many rows too large; 0: none
    int64_t set_bytes;       // most in a set of records, since a topic found larger ones too large; 0: none did
    int64_t carried_rows;    // at most so many in a batch, since one took too long; 0: none did
    bool troubled;           // the board says so
    bool starting;           // a term
    bool came_up;            // a term has started since the process did
    bool reached;            // Kafka has answered this process
    bool left_client;        // librdkafka did not let go of one
    // A row may be too large to be read, or not be converted, or more was sent than there is memory for: the next
    // readings are careful.
    bool closely;

    // of the present term
    struct outbox_sql *sql;
    struct kafka_producer *producer;
    struct receipt_store store;
    int32_t receipt_partition;
    struct batch_number number; // the last one that is in PostgreSQL or on its way there
    struct seq_holders *holders;
    struct seq_holes *holes;
    struct publish_lane lanes[2];
    struct publish_transaction transactions[2]; // one on each connection
    struct outbox_sleep sleep;
    struct mono_time sleep_tried_at; // to connect its session
    struct mono_time busy_since;     // the window in which rows are counted
    size_t busy_rows;
    struct mono_time listed_at, noted_at, waiting_checked_at, held_tried_at;
    struct duration waiting_pause; // what waits is not looked at again before: the last look took long
    struct publish_sweep sweep;
    int64_t held_tried;              // the row behind which an aggregate is held
    int64_t held_looked;             // those held behind rows up to this one were looked at: have the rows gone?
    struct mono_time read_again_at;  // a reading was refused: not before this
    struct mono_time begin_again_at; // under load: no transaction before this
    int64_t noted;                   // settled_seq as PostgreSQL has it
    int64_t held, parked;            // rows of the two tables; above 0: batches are read the careful way
    PGresult *topics;                // that rows wait for; NULL: none
    int next_topic;                  // of them, to be looked at
    struct name_set missing;         // topics that this process has found missing or forbidden, as long as the pipe is
    struct untimely_topic *untimely; // as long
    size_t untimely_count;
    char first_waiting[300]; // what the first of them waits for, in words
    bool found;              // by the last probe: there are rows
    bool in_vain;            // and since then every reading has taken none
    struct mono_time in_vain_since;
    // PostgreSQL cannot make the text of a row that was read alone: of this one.
    bool unprintable;
    int64_t unprintable_seq;
    int chores_in_vain;               // in a row that listed rows and could take none of them
    bool commits_slowly;              // PostgreSQL: the last COMMIT was waited for too long to have a batch in Kafka
    bool looks_slowly;                // it took as long for the last look-up of holes
    bool holes_first;                 // the last look-up was cut: no new rows until the holes are through
    struct publish_verdicts verdicts; // rows that cannot go to Kafka, to be dealt with by the next careful batch
    int64_t most_rows;    // in a batch: batch_rows, or fewer so that the receipt is a message that Kafka takes
    int64_t receipt_rows; // as many go into one
    int purges;           // transactions that librdkafka threw away without a reason, since the last commit
    int64_t row_bytes;    // average size of a row lately
};

// share: borrowed; NULL where there is nothing to share.
struct publish_pipe *publish_pipe_new(const struct relay_context *context, const struct config_outbox *config,
    struct publish_share *share, struct relay_error *error);
void publish_pipe_free(struct publish_pipe *pipe); // accepts NULL
void publish_pipe_run(struct publish_pipe *pipe);  // until the stop

#endif
