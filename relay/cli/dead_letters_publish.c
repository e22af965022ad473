// SPDX-License-Identifier: Apache-2.0
//
// Dead letters of the publish stage: rows of PostgreSQL. Reading is one statement a page; retry is the schema's own
// function, which puts the row back under a new seq and wakes the relay, in a transaction of its own for each letter;
// so what was done stays done when a later one fails. A page of which the server cannot convert a letter to UTF-8 is
// read again letter by letter, and that letter in its stored bytes; one that is too long as a text, without its event.
#include "relay/cli/dead_letters.h"

#include "relay/postgres/pg_array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TABLE "public.outbox_dead_letters"

// The bytes that the database holds: ASCII as it is, but for a doubled backslash, all others as \ooo.
#define AS_STORED(text) "pg_catalog.encode(pg_catalog.convert_to(" text ", pg_catalog.getdatabaseencoding()), 'escape')"

bool letter_id_parse(const char *text, struct letter_id *id, struct relay_error *error)
{
    long long partition, number;
    int end = 0;
    *id = (struct letter_id){0};
    if (sscanf(text, "publish:%lld%n", &number, &end) == 1 && text[end] == '\0') {
        id->number = number;
        snprintf(id->table, sizeof(id->table), DEFAULT_TABLE);
        return true;
    }
    if (sscanf(text, "publish:%255[^:]:%lld%n", id->table, &number, &end) == 2 && text[end] == '\0') {
        id->number = number;
        return true;
    }
    if (sscanf(text, "insert:%255[^:]:%255[^:]:%lld:%lld%n", id->table, id->topic, &partition, &number, &end) == 4 &&
        text[end] == '\0' && partition >= 0 && partition <= INT32_MAX) {
        id->stage = LETTER_INSERT;
        id->partition = (int32_t)partition;
        id->number = number;
        return true;
    }
    return error_set(error, RELAY_ERROR_USAGE,
        "\"%.100s\" is no dead letter's id: publish:NUMBER or insert:TARGET:TOPIC:PARTITION:OFFSET, as list prints "
        "them",
        text);
}

// The ids of this table as an array; NULL in *text: the filter names none. false: no memory.
static bool id_array(const struct letter_filter *filter, const char *table, char **text, struct relay_error *error)
{
    *text = NULL;
    if (filter->id_count == 0) {
        return true;
    }
    int64_t *numbers = malloc(filter->id_count * sizeof(*numbers));
    size_t count = 0;
    for (size_t i = 0; numbers != NULL && i < filter->id_count; i++) {
        if (filter->ids[i].stage == LETTER_PUBLISH && strcmp(filter->ids[i].table, table) == 0) {
            numbers[count++] = filter->ids[i].number;
        }
    }
    *text = numbers != NULL ? pg_array_of_numbers(numbers, count, 1) : NULL;
    free(numbers);
    return *text != NULL || error_no_memory(error, "reading dead letters");
}

static const char *time_text(bool given, struct wall_time time, char text[WALL_TIME_TEXT])
{
    wall_time_format(time, text);
    return given ? text : NULL;
}

static json_t *letter_of(const PGresult *result, int row, const char *table, bool whole)
{
    char id[320];
    bool usual = strcmp(table, DEFAULT_TABLE) == 0;
    snprintf(id, sizeof(id), "publish:%s%s%s", usual ? "" : table, usual ? "" : ":", pg_cell(result, row, 0));
    json_t *letter = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:s, s:I}", "id", id, "stage", "publish", "at",
        pg_cell(result, row, 6), "place", pg_cell(result, row, 1), "event_type", pg_cell(result, row, 3), "event_id",
        pg_cell(result, row, 2), "reason", pg_cell(result, row, 4), "text", pg_cell(result, row, 5), "attempts",
        (json_int_t)pg_cell_int64(result, row, 7));
    if (letter && whole) {
        json_object_set_new(letter, "first_failed_at", json_string(pg_cell(result, row, 9)));
        json_object_set_new(letter, "seq", json_integer(pg_cell_int64(result, row, 10)));
        json_object_set_new(letter, "event", json_string(pg_cell(result, row, 8)));
    }
    return letter;
}

// The table's name as SQL, quoted by the server. NULL: there is none, no answer, no memory; the error says which.
static char *quoted_table(struct pg_connection *connection, const struct relay_context *context, const char *table,
    struct relay_error *error)
{
    PGresult *result = pg_query(connection, "SELECT pg_catalog.to_regclass($1)::text", &PG_TEXT(table), 1, false,
        pg_deadline(context), error);
    char *name = NULL;
    if (result && pg_cell(result, 0, 0)) {
        name = strdup(pg_cell(result, 0, 0));
        if (!name) {
            error_no_memory(error, "a table's name");
        }
    } else if (result) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, "there is no table %s: run outbox-relay migrate postgres up",
            table);
    }
    PQclear(result);
    return name;
}

bool publish_letters_bound(const struct relay_context *context, struct pg_connection *connection, const char *table,
    struct letter_bound *bound, struct relay_error *error)
{
    char *sql = NULL, *name = quoted_table(connection, context, table, error);
    PGresult *result = NULL;
    if (!name) {
        return false;
    }
    if (asprintf(&sql, "SELECT coalesce(max(dead_letter_id), 0) FROM %s", name) < 0) {
        error_no_memory(error, "reading dead letters");
        goto name_held;
    }
    result = pg_query(connection, sql, NULL, 0, false, pg_deadline(context), error);
    if (result) {
        *bound = (struct letter_bound){.known = true, .last = pg_cell_int64(result, 0, 0)};
    }
    free(sql);
name_held:
    free(name);
    PQclear(result);
    return bound->known;
}

// stored: see AS_STORED.
static bool read_page(const struct relay_context *context, struct pg_connection *connection, const char *table,
    const struct letter_filter *filter, size_t limit, bool whole, bool stored, struct letter_cursor *cursor,
    json_t *page, struct relay_error *error)
{
    const char *names = stored ? AS_STORED("event_id") ", " AS_STORED("event_type") : "event_id, event_type";
    const char *event = stored ? AS_STORED("event::text") : "event::text";
    char times[2][WALL_TIME_TEXT], last[24], most[24], bound[24], *ids = NULL, *sql = NULL;
    char *name = quoted_table(connection, context, table, error);
    bool done = false;
    if (!name || !id_array(filter, table, &ids, error)) {
        goto texts_held;
    }
    // The payload of a letter may be large: only where it is wanted.
    if (asprintf(&sql,
            "SELECT dead_letter_id, outbox, %s, reason_code, reason_text, "
            "pg_catalog.to_char(last_failed_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), attempts, %s, "
            "pg_catalog.to_char(first_failed_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), seq FROM %s "
            "WHERE dead_letter_id > $1 AND ($2::timestamptz IS NULL OR last_failed_at >= $2) AND ($3::timestamptz IS "
            "NULL OR "
            "last_failed_at < $3) AND ($4::text IS NULL OR event_type = $4) AND ($5::text IS NULL OR reason_code = $5) "
            "AND ($6::bigint[] IS NULL OR dead_letter_id = ANY ($6)) AND ($8::bigint IS NULL OR dead_letter_id <= $8) "
            "ORDER BY dead_letter_id LIMIT $7",
            names, whole ? event : "NULL", name) < 0) {
        sql = NULL;
        error_no_memory(error, "reading dead letters");
        goto texts_held;
    }
    snprintf(last, sizeof(last), "%lld", (long long)(cursor->begun ? cursor->last.number : -1));
    snprintf(most, sizeof(most), "%zu", limit);
    snprintf(bound, sizeof(bound), "%lld", (long long)cursor->bound.last);
    const struct pg_value values[] = {PG_TEXT(last), PG_TEXT(time_text(filter->since_given, filter->since, times[0])),
        PG_TEXT(time_text(filter->until_given, filter->until, times[1])), PG_TEXT(filter->type),
        PG_TEXT(filter->reason), PG_TEXT(ids), PG_TEXT(most), PG_TEXT(cursor->bound.known ? bound : NULL)};
    PGresult *result = pg_query(connection, sql, values, sizeof(values) / sizeof(values[0]), false,
        pg_deadline(context), error);
    done = result != NULL;
    for (int i = 0; done && i < PQntuples(result); i++) {
        cursor->begun = true;
        cursor->last.number = pg_cell_int64(result, i, 0);
        done = json_array_append_new(page, letter_of(result, i, table, whole)) == 0 ||
            error_no_memory(error, "reading dead letters");
    }
    PQclear(result);
texts_held:
    free(sql);
    free(ids);
    free(name);
    return done;
}

bool publish_letters_page(const struct relay_context *context, struct pg_connection *connection, const char *table,
    const struct letter_filter *filter, size_t limit, bool whole, struct letter_cursor *cursor, json_t *page,
    struct relay_error *error)
{
    if (read_page(context, connection, table, filter, limit, whole, false, cursor, page, error)) {
        return true;
    }
    // A letter of bad_encoding, whose names may have such bytes, too, or of too_large.
    if (!pg_not_converted(connection, error) && !pg_too_long(connection, error)) {
        return false;
    }
    for (size_t count = 0, before; count < limit; count++) {
        before = json_array_size(page);
        bool done = read_page(context, connection, table, filter, 1, whole, false, cursor, page, error) ||
            (pg_not_converted(connection, error) &&
                read_page(context, connection, table, filter, 1, whole, true, cursor, page, error)) ||
            (pg_too_long(connection, error) &&
                read_page(context, connection, table, filter, 1, false, false, cursor, page, error));
        if (!done) {
            return false;
        }
        if (json_array_size(page) == before) {
            break; // that was the last one
        }
    }
    return true;
}

bool publish_letter_retry(const struct relay_context *context, struct pg_connection *connection, const char *table,
    int64_t number, bool *gone, struct relay_error *error)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)number);
    const struct pg_value values[] = {PG_TEXT(text), PG_TEXT(table)};
    PGresult *result = pg_query(connection,
        "SELECT outbox_relay.retry_dead_letter($1::bigint, pg_catalog.to_regclass($2))", values, 2, false,
        pg_deadline(context), error);
    *gone = result && !pg_cell(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

// Before file 021.
static bool drop_unlogged(const struct relay_context *context, struct pg_connection *connection, const char *table,
    const char *number, bool *gone, struct relay_error *error)
{
    char *sql = NULL;
    char *name = quoted_table(connection, context, table, error);
    PGresult *result = NULL;
    if (name && asprintf(&sql, "DELETE FROM %s WHERE dead_letter_id = $1::bigint", name) < 0) {
        sql = NULL;
        error_no_memory(error, "dropping a dead letter");
    }
    if (sql) {
        result = pg_query(connection, sql, &PG_TEXT(number), 1, false, pg_deadline(context), error);
    }
    free(sql);
    *gone = result && strcmp(PQcmdTuples(result), "0") == 0;
    PQclear(result);
    free(name);
    return result != NULL;
}

bool publish_letter_drop(const struct relay_context *context, struct pg_connection *connection, const char *table,
    int64_t number, bool *gone, struct relay_error *error)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)number);
    const struct pg_value values[] = {PG_TEXT(text), PG_TEXT(table)};
    PGresult *result = pg_query(connection,
        "SELECT outbox_relay.drop_dead_letter($1::bigint, pg_catalog.to_regclass($2))", values, 2, false,
        pg_deadline(context), error);
    if (!result && !pg_broken(connection) && strcmp(pg_last_sqlstate(connection), "42883") == 0) {
        return drop_unlogged(context, connection, table, text, gone, error);
    }
    *gone = result && !pg_cell_true(result, 0, 0);
    PQclear(result);
    return result != NULL;
}
