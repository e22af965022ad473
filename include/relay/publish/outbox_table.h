// SPDX-License-Identifier: Apache-2.0
//
// What one outbox table looks like in this database: its oid and identity, the server it lives on, and the columns that
// play the roles of the config, each with the form in which it is read. Read when the locks are taken, since an
// operator may have changed the table or moved the database meanwhile; whether it is the same one still, under the same
// identity, is asked at the start of each term and while it publishes (outbox_owner_current). Immutable.
#ifndef RELAY_PUBLISH_OUTBOX_TABLE_H
#define RELAY_PUBLISH_OUTBOX_TABLE_H

#include "relay/config/config.h"
#include "relay/postgres/pg_connection.h"

#include <stdbool.h>
#include <stdint.h>

// How a column's binary value becomes the text that PostgreSQL would print.
enum column_form {
    COLUMN_ABSENT,  // the table has none: NULL is read in its place
    COLUMN_TEXT,    // the bytes are the text (text, varchar, json; anything small is cast to text by the server)
    COLUMN_BYTES,   // bytea: the bytes are taken for the text, where PostgreSQL would print their digits
    COLUMN_UUID,    // 16 bytes
    COLUMN_PRINTED, // the same, of anything else
    COLUMN_JSONB,   // one byte of version, then the text
    // Of these two the text of a guarded row has a NUL byte behind it, unless it was cut (OUTBOX_TABLE_GROWTH).
};

struct outbox_table {
    Oid oid;
    char *name;                 // schema and table, quoted
    char *seq;                  // the seq column, quoted
    char *key, *aggregate_type; // expressions of text over alias t, for exclusion lists; "NULL::text" when absent
    char *topic;                // the same: what the topic's template makes of the row, NULL where it makes nothing
    char *created_at;           // an expression of timestamptz over alias t
    char *size;                 // an expression over alias u: about the bytes that the row takes when it is read
    char *row;                  // the list of columns over alias t: the order of outbox_batch.c
    char *guarded_row;          // the same without the bytes of rows that are OUTBOX_TABLE_GIANT
    char *receipt_row;          // the same with NULL for what a receipt does not know, and without the additional ones
    bool published_at;          // the table can mark
    enum column_form forms[CONFIG_COLUMN_ROLES];
    Oid *additional_types; // of the columns named in `additional`; of a domain what it is made of
    enum column_form *additional_forms;
    char identity[37];
    uint8_t identity_bytes[16];
    uint64_t system_identifier; // of the server
    uint32_t timeline;          // 0: the server has none (pg_timeline.h)
    // The time column that the table is registered with, by which health tells ages, where it is not the configured
    // one; else "".
    char other_time[64];
};

// SQL over alias o of outbox_relay.outboxes: whether the table had a column published_at when it was attached. NULL:
// nobody has looked, as before file 022.
#define OUTBOX_TABLE_MARKED "(pg_catalog.to_jsonb(o) ->> 'marks')::boolean"
// The same: whether it has lost that column, or has another one of that name, which marks nothing.
#define OUTBOX_TABLE_LOST                                                                                              \
    "(" OUTBOX_TABLE_MARKED " AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = o.outbox::oid " \
    "AND a.attname = 'published_at' AND NOT a.attisdropped AND ((pg_catalog.to_jsonb(o) ->> 'marked_table')::oid "     \
    "IS DISTINCT FROM a.attrelid OR (pg_catalog.to_jsonb(o) ->> 'marked_column')::int2 = a.attnum)))"
// That it has. A name of the table, one of the two words below, a name of the table.
#define OUTBOX_TABLE_LOST_MARKS                                                                                        \
    "table %s had a column published_at when it was attached, and has %s: what was published would be published "      \
    "again. Rename it back (an empty new one marks no row); only if the table keeps no published row, or marks them "  \
    "all, as the login that runs `migrate`: SELECT outbox_relay.accept_unmarked('%s')"
#define OUTBOX_TABLE_HAS_NOW(published_at) ((published_at) ? "another one" : "none")

// A value that PostgreSQL prints is cut in a guarded row where its text is longer than so many times its size, and the
// room of `giants` besides. What a row is measured by, its size, says nothing of the digits of numbers. To cut costs a
// tenth of the statement and more: new rows come without, and their answer is given up where it takes too much.
#define OUTBOX_TABLE_GROWTH 4

// Over alias t: whether the row is too large to be read. Its statement has `WITH giants (seqs, room)`, one row with an
// array of int8, or NULL for none, and an int4. %s: the seq column.
#define OUTBOX_TABLE_GIANT "t.%s = ANY ((SELECT g.seqs FROM giants g)::int8[])"

// The types that created_at may have, by what is under a domain: timestamptz, timestamp and date (of UTC), bigint
// (milliseconds since 1970). A text would do until the first row that is no time, at which the outbox would stop.
bool outbox_table_takes_time(Oid base);
// Such a column as timestamptz, an expression over alias t. quoted: its name. malloc'd; NULL: out of memory.
char *outbox_table_time(Oid base, const char *quoted);

// SQL: the type of pg_attribute a, of a domain what it is made of.
#define OUTBOX_TABLE_BASE_TYPE                                                                                         \
    "(WITH RECURSIVE under AS (SELECT t.* FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid UNION ALL "               \
    "SELECT t.* FROM under JOIN pg_catalog.pg_type t ON under.typtype = 'd' AND t.oid = under.typbasetype) "           \
    "SELECT under.oid FROM under WHERE under.typtype <> 'd')"

// NULL: POSTGRES_OPERATOR with what is missing and what to do (migrate, attach_outbox, accept_system, the config's
// keys), or the connection's own errors.
struct outbox_table *outbox_table_load(struct pg_connection *connection, const struct config_outbox *config,
    struct mono_time deadline, struct relay_error *error);
void outbox_table_free(struct outbox_table *table); // accepts NULL

// A role's column as the topic's template takes it: an expression of text over alias t, "NULL::text" when absent.
// malloc'd; NULL: out of memory.
char *outbox_table_text(const struct outbox_table *table, const struct config_outbox *config,
    enum config_column_role role);

// How long the text is that PostgreSQL makes of a value of which so many bytes were read.
size_t outbox_table_text_length(const struct outbox_table *table, enum config_column_role role, size_t length);

#endif
