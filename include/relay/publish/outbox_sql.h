// SPDX-License-Identifier: Apache-2.0
//
// Every SQL statement of the publish stage, made for one table and prepared on the connections of a term. Rows are
// taken out of the outbox (deleted, or marked as published: the disposition) by seq alone: never by ctid, which skips a
// row that somebody is just updating, and never SKIP LOCKED. Each function is one round trip unless it says otherwise.
// Results with rows have the columns of outbox_table.row in binary and belong to the caller (PQclear). Errors: those of
// pg_connection.h. One thread at a time for each connection; the texts themselves never change. What takes no struct
// outbox_sql runs the statements that outbox_sql_prepare() has left on the connection.
#ifndef RELAY_PUBLISH_OUTBOX_SQL_H
#define RELAY_PUBLISH_OUTBOX_SQL_H

#include "relay/publish/outbox_row.h"
#include "relay/publish/outbox_table.h"
#include "relay/publish/seq_holes.h"

struct outbox_sql;

// What is said of a table that is not the owned one any more.
#define OUTBOX_SQL_ANOTHER_TABLE                                                                                       \
    "table %s was recreated or attached again: its locks are taken and its definition is read again"

// No row is read that takes more than the larger of batch_bytes and so many times message_max: jsonb takes up to six
// times its text, and what is compared with message.max.bytes is the record.
#define OUTBOX_SQL_LARGEST 8

struct outbox_sql *outbox_sql_new(const struct outbox_table *table, const struct config_outbox *config,
    size_t message_max, struct relay_error *error);       // borrows both. Errors: NO_MEMORY
void outbox_sql_free(struct outbox_sql *sql);             // accepts NULL
int64_t outbox_sql_largest(const struct outbox_sql *sql); // what a row takes that is read

// Settings of the session, then all statements. Several round trips, once for each connection of a term.
bool outbox_sql_prepare(const struct outbox_sql *sql, struct pg_connection *connection, struct mono_time deadline,
    struct relay_error *error);

bool outbox_sql_begin(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);
// What is listed until the rollback is of one snapshot. Nothing can be taken.
bool outbox_sql_begin_snapshot(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);
bool outbox_sql_rollback(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);
// One more batch in the open transaction, which can be undone without what was taken before it. limit: of each
// statement from here on.
bool outbox_sql_savepoint(struct pg_connection *connection, struct duration limit, struct mono_time deadline,
    struct relay_error *error);
// limit: of each statement from here to the end of the transaction.
bool outbox_sql_allow(struct pg_connection *connection, struct duration limit, struct mono_time deadline,
    struct relay_error *error);
bool outbox_sql_rollback_batch(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);

// Readings are limited by rows and by batch_bytes: the row that exceeds those is the last one.
// The batch's rows: those above `after`, at most `limit`, taken out and returned, up to the first that is too large to
// be read. Send only; pg_receive() gives the rows. They may be far larger than they were measured by (numbers in jsonb,
// OUTBOX_TABLE_GROWTH): beyond a few times batch_bytes the connection is broken.
bool outbox_sql_send_take(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after, int64_t limit,
    struct relay_error *error);
// Rows inside the ranges, at most `limit`, the lowest first; taken out and returned, guarded (outbox_batch_add). One
// more column, the last: whether there may be more of them (bool).
PGresult *outbox_sql_take_ranges(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct seq_range *ranges, size_t count, int64_t limit, struct mono_time deadline, struct relay_error *error);
// Exactly these rows, those that are still there; guarded. giants: all of them as if they were too large to be read. Of
// a row that is asked for alone as much is read as of any.
PGresult *outbox_sql_take_list(struct pg_connection *connection, const int64_t *seqs, size_t count, bool giants,
    struct mono_time deadline, struct relay_error *error);
// The same with the columns of outbox_table.receipt_row: a receipt may name the rows of many batches, so their payloads
// are not read.
PGresult *outbox_sql_take_receipt(struct pg_connection *connection, const int64_t *seqs, size_t count,
    struct mono_time deadline, struct relay_error *error);

// Only look; the caller keeps to batch_bytes. Columns, binary: seq (int8), about the bytes that the row takes (int8),
// whether it waits for a held aggregate or a parked topic (bool; not in the listings below that say which rows wait).
PGresult *outbox_sql_list_new(struct pg_connection *connection, int64_t after, int64_t limit, struct mono_time deadline,
    struct relay_error *error);
PGresult *outbox_sql_list_ranges(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct seq_range *ranges, size_t count, int64_t limit, struct mono_time deadline, struct relay_error *error);
// The first `rows` rows above `after`, at or below `upto`: *more is whether there are so many, *end then the seq of the
// last of them, and else what it was.
bool outbox_sql_piece(struct pg_connection *connection, int64_t after, int64_t upto, int64_t rows, bool *more,
    int64_t *end, struct mono_time deadline, struct relay_error *error);
// Seqs of rows above `after`, at or below `upto`, that do not wait, for the sweep; lowest first.
PGresult *outbox_sql_list_below(struct pg_connection *connection, int64_t after, int64_t upto, int64_t limit,
    struct mono_time deadline, struct relay_error *error);
// Whether a row at or below `upto` does not wait; looks from the newest one on.
bool outbox_sql_newest_below(struct pg_connection *connection, int64_t upto, bool *found, struct mono_time deadline,
    struct relay_error *error);

// Whether there is anything above `after` or in the ranges. Send only; pg_receive() gives one boolean (binary).
bool outbox_sql_send_probe(struct pg_connection *connection, int64_t after, const struct seq_range *ranges,
    size_t count, struct relay_error *error);

// Who holds the lock that an INSERT takes, without the sessions of `pids`: one text column, virtualtransaction.
PGresult *outbox_sql_holders(struct pg_connection *connection, const int pids[2], struct mono_time deadline,
    struct relay_error *error);

// The last batch number. false in *found: none was ever written.
struct batch_number {
    int64_t generation, number;
    char topic_id[40]; // "" unknown
    int32_t partition; // -1 unknown
    int64_t offset;    // -1 unknown
};
bool outbox_sql_last_number(struct pg_connection *connection, struct batch_number *last, bool *found,
    struct mono_time deadline, struct relay_error *error);
// Writes it in the open transaction, in which rows were taken; fails unless the one before it is the last, and the
// table is the one that is owned. Checks deferred constraints too, so that afterwards only COMMIT is left.
bool outbox_sql_write_number(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct batch_number *number, struct mono_time deadline, struct relay_error *error);
bool outbox_sql_note_progress(struct pg_connection *connection, int64_t settled, struct mono_time deadline,
    struct relay_error *error);
// Whether the sequence is below the number up to which events were published, so that new ones would get used numbers.
struct outbox_numbers {
    bool gone_back;          // the rest is only there if so:
    int64_t last, published; // of the sequence, and of events
    char statement[320];     // that sets the sequence, as the table's owner
};
// `published`: of an event, as its receipt says; what was noted may be higher. note: where numbers have gone back it is
// noted, for health and `check` to tell. Never gone back before file 020.
bool outbox_sql_published(const struct outbox_sql *sql, struct pg_connection *connection, int64_t published, bool note,
    struct outbox_numbers *numbers, struct mono_time deadline, struct relay_error *error);
// As it was noted last. *known: it was, and a term may begin to read behind it.
bool outbox_sql_settled(const struct outbox_sql *sql, struct pg_connection *connection, int64_t *settled, bool *known,
    struct mono_time deadline, struct relay_error *error);
// The names of transactions that were prepared before that time, quoted, and have written into the table; "": none.
bool outbox_sql_prepared(const struct outbox_sql *sql, struct pg_connection *connection, int64_t before_ms, char *gids,
    size_t room, struct mono_time deadline, struct relay_error *error);

// A row moves into the dead letters, in the open transaction. No such row is no error.
bool outbox_sql_dead_letter(const struct outbox_sql *sql, struct pg_connection *connection, int64_t seq,
    const char *code, const char *reason, int attempts, struct mono_time deadline, struct relay_error *error);

// Rows that wait. How many aggregates and topics there are, and in words what the first one waits for ("": none):
bool outbox_sql_count_waiting(struct pg_connection *connection, int64_t *held, int64_t *parked, char *first,
    size_t room, struct mono_time deadline, struct relay_error *error);
// All rows for this topic wait from this row on / the row's aggregate waits behind it. An entry that exists keeps the
// lower seq. Not parked: the row is gone, or for another topic by now.
bool outbox_sql_park_topic(struct pg_connection *connection, int64_t seq, const char *topic, const char *code,
    const char *reason, bool *parked, struct mono_time deadline, struct relay_error *error);
bool outbox_sql_hold_aggregate(struct pg_connection *connection, int64_t seq, const char *code, const char *reason,
    struct mono_time deadline, struct relay_error *error);
// The topics that rows wait for, in the order of their bytes; texts.
PGresult *outbox_sql_list_parked(struct pg_connection *connection, struct mono_time deadline,
    struct relay_error *error);
// lowest_seq (int8, binary) of held aggregates. list_gone looks at the 10,000 next ones above `after`: first the one to
// go on after (the least number behind the last piece), then, ascending, those whose row is not there any more, up to
// 1,000. list_next_held: the next one above `after`, whatever its row.
PGresult *outbox_sql_list_gone(struct pg_connection *connection, int64_t after, struct mono_time deadline,
    struct relay_error *error);
PGresult *outbox_sql_list_next_held(struct pg_connection *connection, int64_t after, struct mono_time deadline,
    struct relay_error *error);
// As outbox_sql_piece(), of the rows from the lowest_seq of these topics (an array, as PostgreSQL writes it) on.
bool outbox_sql_piece_of_topics(struct pg_connection *connection, const char *topics, int64_t upto, int64_t rows,
    bool *more, int64_t *end, struct mono_time deadline, struct relay_error *error);
// Seqs (int8, binary) of the rows at or below `upto` that wait for these topics, and for no held aggregate, lowest
// first.
PGresult *outbox_sql_list_of_topics(struct pg_connection *connection, const char *topics, int64_t upto, int64_t limit,
    struct mono_time deadline, struct relay_error *error);
// The same of the aggregates that are held with these lowest_seq, ascending (and that wait for no topic).
PGresult *outbox_sql_list_of_held(struct pg_connection *connection, const int64_t *held, size_t count, int64_t upto,
    int64_t limit, struct mono_time deadline, struct relay_error *error);
// In a batch's transaction: no row at or below `upto` waits for these topics any more / none at all does.
bool outbox_sql_raise_topics(struct pg_connection *connection, const char *topics, int64_t upto,
    struct mono_time deadline, struct relay_error *error);
bool outbox_sql_unpark_topics(struct pg_connection *connection, const char *topics, struct mono_time deadline,
    struct relay_error *error);
// Drops the entries, of these topics, for which no row at or below `upto` waits any more: somebody has fixed or
// deleted those that did. At most `limit` rows are looked through; where there are more, entries are moved to where the
// next call goes on, but not past `settled`, behind which there may be holes. Outside a batch. One text column: the
// topics that are dropped.
PGresult *outbox_sql_drop_idle_topics(struct pg_connection *connection, const char *topics, int64_t upto,
    int64_t settled, int64_t limit, struct mono_time deadline, struct relay_error *error);
// What the version before parked topics has left, at the start of a term, which reads all rows.
bool outbox_sql_drop_old_entries(struct pg_connection *connection, struct mono_time deadline,
    struct relay_error *error);
// One text column, binary: the aggregates' ids.
PGresult *outbox_sql_release_held(struct pg_connection *connection, const int64_t *held, size_t count,
    struct mono_time deadline, struct relay_error *error);

#endif
