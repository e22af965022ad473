// SPDX-License-Identifier: Apache-2.0
//
// The pipe of one outbox, and what its parts share: publish_term.c starts a term (fence, proof, receipts),
// publish_read.c takes rows out of the table (publish_careful.c while some of them wait), publish_send.c brings them to
// Kafka and commits, publish_pipe.c is the loop. Everything in it belongs to the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_PIPE_H
#define RELAY_PUBLISH_PUBLISH_PIPE_H

#include "relay/base/backoff.h"
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

// What a lane is doing. Only publish_lane_move() changes it.
enum lane_state {
    LANE_IDLE,       // no batch
    LANE_READING,    // the statement that takes new rows is running
    LANE_TAKEN,      // its rows are in memory, the transaction is open
    LANE_READ,       // and routed
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
    struct metric_series *batch_seconds, *latency_seconds, *owned, *holes, *held, *parked, *replays;
};

// Rows below the watermark that nobody waits for: see publish_sweep.c.
struct publish_sweep {
    struct mono_time at; // when it was looked last
    int64_t upto;        // looked through up to this row; INT64_MIN: the next look begins at the first one
    int64_t *seqs;       // of the rows that were found and are not taken yet: those of one snapshot, ascending
    int64_t *sizes;
    size_t count, next, room;
    bool cut;   // that snapshot had more
    bool found; // rows were taken: there may soon be others
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
    bool cut_off; // and so long that the outbox was let go: not ours again before Kafka has answered
    struct backoff backoff;
    struct backoff turns;    // of a standby: evenly spread, so that standbys do not try in step
    int failures;            // in a row
    int64_t receipt_refused; // the broker found a receipt of so many rows too large; 0: none
    bool troubled;           // the board says so
    bool starting;           // a term
    bool came_up;            // a term has started since the process did

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
    struct publish_sweep sweep;
    int64_t held_tried;              // the row behind which an aggregate is held
    int64_t held_looked;             // those held behind rows up to this one were looked at: have the rows gone?
    struct mono_time read_again_at;  // a reading was refused: not before this
    struct mono_time begin_again_at; // under load: no transaction before this
    int64_t noted;                   // settled_seq as PostgreSQL has it
    int64_t held, parked;            // rows of the two tables; above 0: batches are read the careful way
    PGresult *topics;                // that rows wait for; NULL: none
    int next_topic;                  // of them, to be looked at
    char **missing;                  // topics that this process has found missing or forbidden, each once; never freed
    size_t missing_count;            // before the pipe is
    char first_waiting[300];         // what the first of them waits for, in words
    bool found;                      // by the last probe: there are rows
    bool in_vain;                    // and since then every reading has taken none
    struct mono_time in_vain_since;
    int chores_in_vain;               // in a row that listed rows and could take none of them
    bool holes_first;                 // the last look-up was cut: no new rows until the holes are through
    struct publish_verdicts verdicts; // rows that cannot go to Kafka, to be dealt with by the next careful batch
    int64_t most_rows;    // in a batch: batch_rows, or fewer so that the receipt is a message that Kafka takes
    int64_t receipt_rows; // as many go into one
    int purges;           // transactions that librdkafka threw away without a reason, since the last commit
    int64_t row_bytes;    // average size of a row lately
};

// Deadlines of one pipe.
struct mono_time publish_deadline(const struct publish_pipe *pipe, struct duration from_now);
bool publish_stopping(const struct publish_pipe *pipe);
// Heartbeats of the sessions and of the loop; called in every wait, also for an answer of PostgreSQL.
void publish_tick(void *pipe);
struct kafka_tick publish_kafka_tick(struct publish_pipe *pipe);
struct pg_connection *publish_connection(struct publish_pipe *pipe, const struct publish_lane *lane);
struct publish_transaction *publish_transaction_of(struct publish_pipe *pipe, const struct publish_lane *lane);
const struct publish_lane *publish_other(const struct publish_pipe *pipe, const struct publish_lane *lane);
// Whether `next` has joined the lane's transaction, and is not undone.
bool publish_goes_on(const struct publish_lane *lane, const struct publish_lane *next);
// What the board and the gauges say: all is well or rows wait; something is in the way, going on.
void publish_show_waiting(struct publish_pipe *pipe);
void publish_show_trouble(struct publish_pipe *pipe, const struct relay_error *error);
// Rows are there that the DELETE does not take out: the log says so as well.
void publish_show_kept(struct publish_pipe *pipe);
void publish_lane_move(struct publish_pipe *pipe, struct publish_lane *lane, enum lane_state to);

// publish_term.c
// What a term's producer is made of. transactional_id: borrowed; left out with at_least_once.
struct kafka_producer_options publish_term_options(const struct config_outbox *config, const char *transactional_id);
bool publish_term_start(struct publish_pipe *pipe, struct relay_error *error);
// Whether Kafka answers this process. Needs no ownership.
bool publish_term_reach(struct publish_pipe *pipe, struct relay_error *error);
void publish_term_end(struct publish_pipe *pipe); // frees the producer first, then the batches; the locks stay

// publish_read.c
int64_t publish_read_limit(const struct publish_pipe *pipe); // rows of the next batch
// Sends the statement that takes the next rows, in the transaction of `before`, whose rows are in memory, or in a new
// one (NULL).
bool publish_read_start(struct publish_pipe *pipe, struct publish_lane *lane, const struct publish_lane *before,
    struct relay_error *error);
// Takes its rows, looks up the holes. The lane is then TAKEN; with no rows its batch is empty. IDLE: undone, and the
// next reading knows why (a locked row: pipe->read_again_at). READING: lane->behind, and the other lane's COMMIT is not
// on its way yet; once it is, this waits for it.
bool publish_read_take(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// Routes what was taken. The lane is then READ. IDLE: undone for a verdict, and with it `later`, the lane that has
// begun to read what comes after it (NULL: none has).
bool publish_read_route(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *later,
    struct relay_error *error);
// Rolls back and forgets what the lane and every later one have read, but not what its transaction held before.
bool publish_read_undo(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// The lane's whole transaction, and what the other lane holds after it. Kafka has aborted, or was told nothing.
bool publish_read_undo_all(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// Takes nothing more into the transaction in which the lane was to go on: an empty batch ends it. The lane is READ.
void publish_read_nothing(struct publish_pipe *pipe, struct publish_lane *lane);
// Whether there is anything to read.
bool publish_read_probe(struct publish_pipe *pipe, bool *found, struct relay_error *error);

// What publish_careful.c reads with. A step inside a batch's transaction; from BEGIN to READ, whatever takes the rows
// out; pg_locks, when a hole wants it, but not more often than every 20 ms; the ranges to look up; rows for the batch.
typedef bool publish_step(struct publish_pipe *pipe, struct publish_lane *lane, void *context,
    struct relay_error *error);
bool publish_read_with(struct publish_pipe *pipe, struct publish_lane *lane, publish_step *take, void *context,
    struct relay_error *error);
bool publish_read_holders(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
size_t publish_read_ask(struct publish_pipe *pipe, const struct seq_range **ranges);
bool publish_read_add(struct publish_pipe *pipe, struct publish_lane *lane, PGresult *result,
    struct relay_error *error);

// A row of the lane that Kafka will never take: a verdict by on_poison. When that says stop: a suspect, so that what
// lies before it goes first; then, alone, false (OPERATOR).
bool publish_judge_poison(struct publish_pipe *pipe, const struct publish_lane *lane, int64_t seq, const char *code,
    const char *text, struct relay_error *error);

// publish_careful.c
// The careful way, from BEGIN on: verdicts are carried out, rows that wait are left. Both lanes must be idle before.
bool publish_read_carefully(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// Takes exactly these rows, as a batch without new rows (the sweep, rows that waited). Both lanes must be idle before.
// then: one more step in the batch's transaction, NULL for none.
bool publish_read_these(struct publish_pipe *pipe, struct publish_lane *lane, const int64_t *seqs, size_t count,
    publish_step *then, void *context, struct relay_error *error);

// publish_send.c
// Before anything is sent: sizes, topics. Rows that cannot go are judged; *clean: none.
bool publish_check(struct publish_pipe *pipe, struct publish_lane *lane, bool *clean, struct relay_error *error);
// Tells the breaker; error NULL: it works.
void publish_report_kafka(struct publish_pipe *pipe, const struct relay_error *error);
// Hands the batch to Kafka. The lane is then SENT.
bool publish_send(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// And the receipt of its transaction: nothing more goes into it.
bool publish_send_receipt(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// From delivery to Kafka's commit and PostgreSQL's COMMIT on its way: the lane is then COMMITTING; or only to delivery
// where the other lane goes on in its transaction: it is IDLE. Meanwhile the other lane goes on. When the broker
// refused a record the suspects are noted, everything is undone, and both lanes are IDLE.
bool publish_settle(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// Takes PostgreSQL's answer to the COMMIT; the lane is then IDLE.
bool publish_committed(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);

// The rows for this topic wait, from this one on, until the topic is as it should be: a verdict.
bool publish_park(struct publish_pipe *pipe, const struct outbox_row *row, const char *topic,
    const struct relay_error *why, struct relay_error *error);
struct mono_time publish_batch_deadline(const struct publish_pipe *pipe, const struct publish_lane *lane);

// publish_refused.c
// After records of the lane, or of what goes on in its transaction, have failed: suspects and verdicts are noted and
// everything is undone, or false where nobody knows what to do.
bool publish_refused(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);
// After an error of handing something over. Once the broker has refused a record of a transaction librdkafka takes no
// more of them, and tells of the refusal a little later. true: that was it, and everything is undone as
// publish_settle() does. false: the error stands.
bool publish_send_failed(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error);

// publish_wait.c
// Nothing to do, both lanes idle: returns when there is, when a chore is due, or at the stop.
bool publish_wait_for_rows(struct publish_pipe *pipe, struct relay_error *error);
// After a batch of so many rows: under load the outbox does not sleep.
void publish_stay_awake(struct publish_pipe *pipe, size_t rows);
// After the lane's COMMIT was sent: under load the next transaction is not begun at once.
void publish_pace(struct publish_pipe *pipe, const struct publish_lane *lane);

// Rows that wait are looked up one by one, a piece of them in a statement: some 0.1 s of PostgreSQL, in which nothing
// is published.
#define PUBLISH_PIECE_ROWS 20000

// publish_sweep.c
// Rows below the watermark that nobody waits for. As with the other chores, the lane may be READ afterwards. forget:
// what was found and is not taken yet, since it may wait by now, or would overtake what was undone.
void publish_sweep_begin(struct publish_pipe *pipe); // a term
bool publish_sweep_due(const struct publish_pipe *pipe);
bool publish_sweep(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
void publish_sweep_forget(struct publish_pipe *pipe);
void publish_sweep_finish(struct publish_pipe *pipe);

// publish_chores.c
// What is done now and then, when both lanes are idle: the sweep below the watermark, rows that waited, progress. The
// lane may be READ afterwards, with rows that are to be sent. Counts the live replicas now and then, on the first
// session.
bool publish_count_replicas(struct publish_pipe *pipe, struct relay_error *error);
bool publish_chores_due(const struct publish_pipe *pipe);
bool publish_chores(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error);
// After rows were read by their numbers. more: there are others besides, to be read at once, unless that would list the
// same again. *last: when it was looked for them last.
void publish_after_these(struct publish_pipe *pipe, const struct publish_lane *lane, bool more, struct mono_time *last);
// What waits, as PostgreSQL has it: how many aggregates, and which topics.
bool publish_count_waiting(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error);
// A topic is missing or forbidden, as Kafka has just said. Errors: NO_MEMORY.
bool publish_note_missing(struct publish_pipe *pipe, const char *topic, struct relay_error *error);
// Notes how far the outbox is settled, in the batch's transaction or alone, at most once a second.
bool publish_note_progress(struct publish_pipe *pipe, const struct publish_lane *lane, struct relay_error *error);

// publish_pipe.c
// share: borrowed; NULL where there is nothing to share.
struct publish_pipe *publish_pipe_new(const struct relay_context *context, const struct config_outbox *config,
    struct publish_share *share, struct relay_error *error);
void publish_pipe_free(struct publish_pipe *pipe); // accepts NULL
void publish_pipe_run(struct publish_pipe *pipe);  // until the stop

#endif
