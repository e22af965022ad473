// SPDX-License-Identifier: Apache-2.0
//
// The texts of outbox_sql.h's statements, for outbox_sql.c alone: made for a table by outbox_sql_new(), and prepared on
// a connection, each under its name, by outbox_sql_prepare().
#ifndef RELAY_PUBLISH_OUTBOX_STATEMENTS_H
#define RELAY_PUBLISH_OUTBOX_STATEMENTS_H

#include "relay/publish/outbox_sql.h"

#define OUTBOX_STATEMENTS(X)                                                                                           \
    X(TAKE, "take")                                                                                                    \
    X(TAKE_RANGES, "take_ranges")                                                                                      \
    X(TAKE_LIST, "take_list")                                                                                          \
    X(TAKE_RECEIPT, "take_receipt")                                                                                    \
    X(LIST_NEW, "list_new")                                                                                            \
    X(LIST_RANGES, "list_ranges")                                                                                      \
    X(PIECE, "piece")                                                                                                  \
    X(LIST_BELOW, "list_below")                                                                                        \
    X(NEWEST_BELOW, "newest_below")                                                                                    \
    X(PROBE, "probe")                                                                                                  \
    X(HOLDERS, "holders")                                                                                              \
    X(LAST_NUMBER, "last_number")                                                                                      \
    X(WRITE_NUMBER, "write_number")                                                                                    \
    X(NOTE_PROGRESS, "note_progress")                                                                                  \
    X(SETTLED, "settled")                                                                                              \
    X(DEAD_LETTER, "dead_letter")                                                                                      \
    X(COUNT_WAITING, "count_waiting")                                                                                  \
    X(PARK_TOPIC, "park_topic")                                                                                        \
    X(HOLD_AGGREGATE, "hold_aggregate")                                                                                \
    X(LIST_PARKED, "list_parked")                                                                                      \
    X(LIST_GONE, "list_gone")                                                                                          \
    X(LIST_NEXT_HELD, "list_next_held")                                                                                \
    X(PIECE_OF_TOPICS, "piece_of_topics")                                                                              \
    X(LIST_OF_TOPICS, "list_of_topics")                                                                                \
    X(LIST_OF_HELD, "list_of_held")                                                                                    \
    X(DROP_IDLE_TOPICS, "drop_idle_topics")                                                                            \
    X(DROP_OLD_ENTRIES, "drop_old_entries")                                                                            \
    X(RAISE_TOPICS, "raise_topics")                                                                                    \
    X(UNPARK_TOPICS, "unpark_topics")                                                                                  \
    X(RELEASE_HELD, "release_held")

enum outbox_statement {
#define X(id, name) SQL_##id,
    OUTBOX_STATEMENTS(X)
#undef X
        SQL_COUNT
};

// A condition: the row "l" of pg_locks is the lock that an INSERT takes of the table `oid` (SQL), or of a partition.
#define OUTBOX_WRITE_LOCK(oid)                                                                                         \
    "l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND (l.relation = " oid "::oid"                           \
    " OR l.relation IN (SELECT w.relid::oid FROM pg_partition_tree(" oid "::oid::regclass) w))"

extern const char *const outbox_statement_names[SQL_COUNT];

struct outbox_sql {
    const struct outbox_table *table; // borrowed
    const char *dead_letter_table;    // borrowed
    int64_t batch_bytes, largest;
    char *texts[SQL_COUNT];
};

#endif
