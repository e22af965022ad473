// SPDX-License-Identifier: Apache-2.0
//
// Dead letters of both stages behind one form: a page of them is a JSON array of objects {id, stage, at, place,
// event_type, event_id, reason, text, attempts} and, where wanted, what they hold; the row that was to be published is
// the text of a JSON object, with its numbers as they are. The id is what an operator types: "publish:17",
// "publish:schema.table:17" (another table than the default), "insert:target:topic:partition:offset".
// Pages are read in the order of the tables' keys, each behind the last one; so a letter that stays is met once. One
// thread.
#ifndef RELAY_CLI_DEAD_LETTERS_H
#define RELAY_CLI_DEAD_LETTERS_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/postgres/pg_connection.h"

#include <jansson.h>

enum letter_stage { LETTER_PUBLISH, LETTER_INSERT };

struct letter_id {
    enum letter_stage stage;
    char table[256]; // PUBLISH: the dead-letter table; INSERT: the target
    char topic[256]; // INSERT
    int32_t partition;
    int64_t number; // PUBLISH: dead_letter_id; INSERT: the offset
};
// Errors: USAGE.
bool letter_id_parse(const char *text, struct letter_id *id, struct relay_error *error);

struct letter_filter {
    bool since_given, until_given; // 1970-01-01 is a time too
    struct wall_time since, until;
    const char *type, *reason;   // NULL: any
    const struct letter_id *ids; // 0: any
    size_t id_count;
};

// The last letter of a table at one moment: what is set aside later is behind it.
struct letter_bound {
    bool known;
    int64_t last; // PUBLISH: the highest dead_letter_id; INSERT: the latest `at`, in microseconds
};

// Where a page ends: start with {0}, or with the bound that all pages keep.
struct letter_cursor {
    bool begun;
    struct letter_id last;
    struct letter_bound bound; // unknown: none
};

// Errors: POSTGRES_*, NO_MEMORY.
bool publish_letters_bound(const struct relay_context *context, struct pg_connection *connection, const char *table,
    struct letter_bound *bound, struct relay_error *error);
// Appends at most `limit` letters behind the cursor to `page`, whole: with what they hold. Of a letter that PostgreSQL
// cannot convert to UTF-8, event_id, event_type and event have their bytes as `\ooo`. Errors: POSTGRES_*, NO_MEMORY.
bool publish_letters_page(const struct relay_context *context, struct pg_connection *connection, const char *table,
    const struct letter_filter *filter, size_t limit, bool whole, struct letter_cursor *cursor, json_t *page,
    struct relay_error *error);
// One letter back into its outbox / away. *gone: there was none of that id any more.
bool publish_letter_retry(const struct relay_context *context, struct pg_connection *connection, const char *table,
    int64_t number, bool *gone, struct relay_error *error);
bool publish_letter_drop(const struct relay_context *context, struct pg_connection *connection, const char *table,
    int64_t number, bool *gone, struct relay_error *error);

// The same of ClickHouse. Errors: CLICKHOUSE_*, NO_MEMORY.
bool insert_letters_bound(const struct relay_context *context, struct clickhouse_client *client,
    struct letter_bound *bound, struct relay_error *error);
bool insert_letters_page(const struct relay_context *context, struct clickhouse_client *client,
    const struct letter_filter *filter, size_t limit, bool whole, struct letter_cursor *cursor, json_t *page,
    struct relay_error *error);
// Encodes the letters of a page (read whole is not needed: it reads them again) into their targets, and deletes those
// that are there, of this page and others, some time later. Counts what was written, was there already, and stays; why
// it stays goes to stderr. Errors: CLICKHOUSE_*, STOPPED, NO_MEMORY.
struct letter_counts {
    size_t done, present, left;
};
struct insert_retry;
struct insert_retry *insert_retry_open(const struct relay_context *context, struct clickhouse_client *client,
    struct relay_error *error);
bool insert_retry_page(struct insert_retry *retry, const json_t *page, struct letter_counts *counts,
    struct relay_error *error);
bool insert_retry_close(struct insert_retry *retry, struct relay_error *error); // deletes the rest, also after an error
bool insert_letters_drop(const struct relay_context *context, struct clickhouse_client *client, const json_t *page,
    struct relay_error *error);
// Everything that the filter takes up to the bound, by one statement. *count: how many that is, also where it fails.
bool insert_letters_drop_all(const struct relay_context *context, struct clickhouse_client *client,
    const struct letter_filter *filter, const struct letter_bound *bound, size_t *count, struct relay_error *error);

#endif
