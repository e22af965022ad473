// SPDX-License-Identifier: Apache-2.0
//
// See outbox_sql.h: the calls. Their texts are in outbox_statements.c.
#include "relay/publish/outbox_sql.h"

#include "relay/postgres/pg_array.h"
#include "relay/publish/outbox_statements.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool outbox_sql_begin(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return pg_execute(connection, "BEGIN", deadline, error);
}

bool outbox_sql_begin_snapshot(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return pg_execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", deadline, error);
}

bool outbox_sql_rollback(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return pg_execute(connection, "ROLLBACK", deadline, error);
}

bool outbox_sql_savepoint(struct pg_connection *connection, struct duration limit, struct mono_time deadline,
    struct relay_error *error)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "SAVEPOINT batch; SET LOCAL statement_timeout = %d", duration_to_poll_ms(limit));
    return pg_execute(connection, sql, deadline, error);
}

bool outbox_sql_allow(struct pg_connection *connection, struct duration limit, struct mono_time deadline,
    struct relay_error *error)
{
    char sql[60];
    snprintf(sql, sizeof(sql), "SET LOCAL statement_timeout = %d", duration_to_poll_ms(limit));
    return pg_execute(connection, sql, deadline, error);
}

int64_t outbox_sql_largest(const struct outbox_sql *sql)
{
    return sql->largest;
}

bool outbox_sql_rollback_batch(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    // Released as well, so that the name is the batch's before it again.
    return pg_execute(connection, "ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch", deadline, error);
}

// Parameters

struct number_text {
    char text[24];
};

static const char *number(struct number_text *room, int64_t value)
{
    snprintf(room->text, sizeof(room->text), "%lld", (long long)value);
    return room->text;
}

_Static_assert(sizeof(struct seq_range) == 2 * sizeof(int64_t), "ranges are read as pairs of numbers");

struct ranges_text {
    char *first, *last;
};

static bool ranges_text(struct ranges_text *text, const struct seq_range *ranges, size_t count,
    struct relay_error *error)
{
    static const struct seq_range none = {0, 0};
    const struct seq_range *from = count > 0 ? ranges : &none;
    text->first = pg_array_of_numbers(&from->first, count, 2);
    text->last = pg_array_of_numbers(&from->last, count, 2);
    if (text->first == NULL || text->last == NULL) {
        free(text->first);
        free(text->last);
        return error_no_memory(error, "a list of numbers");
    }
    return true;
}

static void ranges_text_finish(struct ranges_text *text)
{
    free(text->first);
    free(text->last);
}

static PGresult *query(struct pg_connection *connection, enum outbox_statement statement, const struct pg_value *values,
    int count, bool binary, struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = pg_query_prepared(connection, outbox_statement_names[statement], values, count, binary, deadline,
        error);
    if (result == NULL) {
        error_prefix(error, "%s", outbox_statement_names[statement]);
    }
    return result;
}

static bool run(struct pg_connection *connection, enum outbox_statement statement, const struct pg_value *values,
    int count, struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = query(connection, statement, values, count, false, deadline, error);
    PQclear(result);
    return result != NULL;
}

// The batch

bool outbox_sql_send_take(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after, int64_t limit,
    struct relay_error *error)
{
    struct number_text a, b, c;
    pg_limit_answer(connection, OUTBOX_TABLE_GROWTH * (sql->batch_bytes + sql->largest));
    return pg_send_prepared(connection, outbox_statement_names[SQL_TAKE],
        (struct pg_value[]){PG_TEXT(number(&a, after)), PG_TEXT(number(&b, limit)),
            PG_TEXT(number(&c, sql->batch_bytes))},
        3, true, error);
}

static PGresult *of_ranges(const struct outbox_sql *sql, struct pg_connection *connection,
    enum outbox_statement statement, const struct seq_range *ranges, size_t count, int64_t limit,
    struct mono_time deadline, struct relay_error *error)
{
    struct ranges_text text;
    if (!ranges_text(&text, ranges, count, error)) {
        return NULL;
    }
    struct number_text a, b;
    PGresult *result = query(connection, statement,
        (struct pg_value[]){PG_TEXT(text.first), PG_TEXT(text.last), PG_TEXT(number(&a, limit)),
            PG_TEXT(number(&b, sql->batch_bytes))},
        statement == SQL_TAKE_RANGES ? 4 : 3, true, deadline, error);
    ranges_text_finish(&text);
    return result;
}

PGresult *outbox_sql_take_ranges(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct seq_range *ranges, size_t count, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    return of_ranges(sql, connection, SQL_TAKE_RANGES, ranges, count, limit, deadline, error);
}

static PGresult *of_list(struct pg_connection *connection, enum outbox_statement statement, const int64_t *seqs,
    size_t count, bool giants, struct mono_time deadline, struct relay_error *error)
{
    char *list = pg_array_of_numbers(seqs, count, 1);
    if (list == NULL) {
        error_no_memory(error, "a list of numbers");
        return NULL;
    }
    PGresult *result = query(connection, statement, (struct pg_value[]){PG_TEXT(list), PG_TEXT(giants ? "t" : "f")},
        statement == SQL_TAKE_LIST ? 2 : 1, true, deadline, error);
    free(list);
    return result;
}

PGresult *outbox_sql_take_list(struct pg_connection *connection, const int64_t *seqs, size_t count, bool giants,
    struct mono_time deadline, struct relay_error *error)
{
    return of_list(connection, SQL_TAKE_LIST, seqs, count, giants, deadline, error);
}

PGresult *outbox_sql_take_receipt(struct pg_connection *connection, const int64_t *seqs, size_t count,
    struct mono_time deadline, struct relay_error *error)
{
    return of_list(connection, SQL_TAKE_RECEIPT, seqs, count, false, deadline, error);
}

PGresult *outbox_sql_list_new(struct pg_connection *connection, int64_t after, int64_t limit, struct mono_time deadline,
    struct relay_error *error)
{
    struct number_text a, b;
    return query(connection, SQL_LIST_NEW, (struct pg_value[]){PG_TEXT(number(&a, after)), PG_TEXT(number(&b, limit))},
        2, true, deadline, error);
}

PGresult *outbox_sql_list_ranges(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct seq_range *ranges, size_t count, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    return of_ranges(sql, connection, SQL_LIST_RANGES, ranges, count, limit, deadline, error);
}

static PGresult *of_piece(struct pg_connection *connection, enum outbox_statement statement, int64_t after,
    int64_t upto, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    struct number_text a, b, c;
    return query(connection, statement,
        (struct pg_value[]){PG_TEXT(number(&a, after)), PG_TEXT(number(&b, upto)), PG_TEXT(number(&c, limit))}, 3, true,
        deadline, error);
}

static bool take_end(PGresult *piece, bool *more, int64_t *end)
{
    *more = piece != NULL && PQntuples(piece) > 0;
    *end = *more ? pg_binary_int64(piece, 0, 0) : *end;
    PQclear(piece);
    return piece != NULL;
}

bool outbox_sql_piece(struct pg_connection *connection, int64_t after, int64_t upto, int64_t rows, bool *more,
    int64_t *end, struct mono_time deadline, struct relay_error *error)
{
    return take_end(of_piece(connection, SQL_PIECE, after, upto, rows, deadline, error), more, end);
}

PGresult *outbox_sql_list_below(struct pg_connection *connection, int64_t after, int64_t upto, int64_t limit,
    struct mono_time deadline, struct relay_error *error)
{
    return of_piece(connection, SQL_LIST_BELOW, after, upto, limit, deadline, error);
}

bool outbox_sql_newest_below(struct pg_connection *connection, int64_t upto, bool *found, struct mono_time deadline,
    struct relay_error *error)
{
    struct number_text text;
    int64_t seq = upto;
    return take_end(query(connection, SQL_NEWEST_BELOW, (struct pg_value[]){PG_TEXT(number(&text, upto))}, 1, true,
                        deadline, error),
        found, &seq);
}

bool outbox_sql_send_probe(struct pg_connection *connection, int64_t after, const struct seq_range *ranges,
    size_t count, struct relay_error *error)
{
    struct ranges_text text;
    if (!ranges_text(&text, ranges, count, error)) {
        return false;
    }
    struct number_text room;
    bool done = pg_send_prepared(connection, outbox_statement_names[SQL_PROBE],
        (struct pg_value[]){PG_TEXT(number(&room, after)), PG_TEXT(text.first), PG_TEXT(text.last)}, 3, true, error);
    ranges_text_finish(&text);
    return done;
}

PGresult *outbox_sql_holders(struct pg_connection *connection, const int pids[2], struct mono_time deadline,
    struct relay_error *error)
{
    char list[40];
    snprintf(list, sizeof(list), "{%d,%d}", pids[0], pids[1]);
    return query(connection, SQL_HOLDERS, (struct pg_value[]){PG_TEXT(list)}, 1, false, deadline, error);
}

// Numbers

bool outbox_sql_last_number(struct pg_connection *connection, struct batch_number *last, bool *found,
    struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = query(connection, SQL_LAST_NUMBER, NULL, 0, false, deadline, error);
    if (result == NULL) {
        return false;
    }
    *found = PQntuples(result) == 1;
    *last = (struct batch_number){.generation = 1, .partition = -1, .offset = -1};
    if (*found) {
        last->generation = pg_cell_int64(result, 0, 0);
        last->number = pg_cell_int64(result, 0, 1);
        snprintf(last->topic_id, sizeof(last->topic_id), "%s", PQgetvalue(result, 0, 2));
        if (!PQgetisnull(result, 0, 4)) {
            last->partition = (int32_t)pg_cell_int64(result, 0, 3);
            last->offset = pg_cell_int64(result, 0, 4);
        }
    }
    PQclear(result);
    return true;
}

bool outbox_sql_write_number(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct batch_number *batch, struct mono_time deadline, struct relay_error *error)
{
    struct number_text generation, of_batch, partition, offset;
    PGresult *result = query(connection, SQL_WRITE_NUMBER,
        (struct pg_value[]){PG_TEXT(number(&generation, batch->generation)), PG_TEXT(number(&of_batch, batch->number)),
            PG_TEXT(batch->topic_id[0] == '\0' ? NULL : batch->topic_id), PG_TEXT(number(&partition, batch->partition)),
            PG_TEXT(number(&offset, batch->offset)), PG_TEXT(sql->table->name)},
        6, false, deadline, error);
    // Rows were taken: that of this name now is the one they came from, and stays it until the end.
    bool same = result != NULL && pg_cell_int64(result, 0, 1) == (int64_t)sql->table->oid;
    if (result != NULL && !same) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, OUTBOX_SQL_ANOTHER_TABLE, sql->table->name);
    }
    PQclear(result);
    return same;
}

bool outbox_sql_note_progress(struct pg_connection *connection, int64_t settled, struct mono_time deadline,
    struct relay_error *error)
{
    struct number_text room;
    return run(connection, SQL_NOTE_PROGRESS, (struct pg_value[]){PG_TEXT(number(&room, settled))}, 1, deadline, error);
}

// By the rights of the function's owner: a role with what roles.sql grants may not ask the sequence. It is of file 020,
// which may be applied, or taken back, while the session lives.
static bool numbers_gone_back(const struct outbox_sql *sql, struct pg_connection *connection,
    struct outbox_numbers *numbers, struct mono_time deadline, struct relay_error *error)
{
    static const char callable[] = "SELECT coalesce(pg_catalog.has_function_privilege("
                                   "pg_catalog.to_regprocedure('outbox_relay.numbers_gone_back(regclass)')::oid, "
                                   "'EXECUTE'), false)";
    static const char question[] = "SELECT b.last_seq, b.settled_seq, CASE WHEN b.settled_seq > 9223372036854774807 "
                                   "THEN 'no number is left above it' ELSE pg_catalog.format('SELECT setval(%L, %s)', "
                                   "b.numbers, b.settled_seq + 1000) END FROM "
                                   "outbox_relay.numbers_gone_back($1::oid::regclass) b WHERE b.numbers IS NOT NULL";
    struct number_text oid;
    *numbers = (struct outbox_numbers){0};
    PGresult *result = pg_query(connection, callable, NULL, 0, false, deadline, error);
    if (result != NULL && pg_cell_true(result, 0, 0)) {
        PQclear(result);
        result = pg_query(connection, question, (struct pg_value[]){PG_TEXT(number(&oid, (int64_t)sql->table->oid))}, 1,
            false, deadline, error);
        if (result != NULL && PQntuples(result) == 1) {
            numbers->gone_back = true;
            numbers->last = pg_cell_int64(result, 0, 0);
            numbers->published = pg_cell_int64(result, 0, 1);
            snprintf(numbers->statement, sizeof(numbers->statement), "%s", PQgetvalue(result, 0, 2));
        }
    }
    PQclear(result);
    return result != NULL;
}

// The function compares with progress alone: so it is noted, for as long as the question takes or for good.
bool outbox_sql_published(const struct outbox_sql *sql, struct pg_connection *connection, int64_t published, bool note,
    struct outbox_numbers *numbers, struct mono_time deadline, struct relay_error *error)
{
    *numbers = (struct outbox_numbers){0};
    if (!outbox_sql_begin(connection, deadline, error)) {
        return false;
    }
    bool done = outbox_sql_note_progress(connection, published, deadline, error) &&
        numbers_gone_back(sql, connection, numbers, deadline, error);
    if (done && note && numbers->gone_back) {
        return pg_commit(connection, deadline, error);
    }
    return outbox_sql_rollback(connection, deadline, done ? error : NULL) && done;
}

bool outbox_sql_settled(const struct outbox_sql *sql, struct pg_connection *connection, int64_t *settled, bool *known,
    struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = query(connection, SQL_SETTLED, NULL, 0, false, deadline, error);
    *known = result != NULL && PQntuples(result) == 1;
    *settled = *known ? pg_cell_int64(result, 0, 0) : INT64_MIN;
    bool done = result != NULL;
    PQclear(result);
    if (*known) {
        struct outbox_numbers numbers;
        done = numbers_gone_back(sql, connection, &numbers, deadline, error);
        *known = done && !numbers.gone_back;
    }
    return done;
}

bool outbox_sql_prepared(const struct outbox_sql *sql, struct pg_connection *connection, int64_t before_ms, char *gids,
    size_t room, struct mono_time deadline, struct relay_error *error)
{
    // Before PostgreSQL 13.5 the locks of all of them are of "-1/0".
    static const char question[] =
        "SELECT string_agg(quote_literal(p.gid), ', ' ORDER BY p.prepared) FROM pg_prepared_xacts p"
        " WHERE p.database = current_database() AND p.prepared < to_timestamp($1::float8 / 1000)"
        " AND EXISTS (SELECT FROM pg_locks l WHERE l.pid IS NULL"
        " AND l.virtualtransaction IN ('-1/' || p.transaction, '-1/0') AND " OUTBOX_WRITE_LOCK("$2") ")";
    struct number_text before, oid;
    PGresult *result = pg_query(connection, question,
        (struct pg_value[]){PG_TEXT(number(&before, before_ms)), PG_TEXT(number(&oid, (int64_t)sql->table->oid))}, 2,
        false, deadline, error);
    if (result != NULL) {
        snprintf(gids, room, "%s", PQgetvalue(result, 0, 0));
    }
    PQclear(result);
    return result != NULL;
}

// Dead letters and rows that wait

bool outbox_sql_dead_letter(const struct outbox_sql *sql, struct pg_connection *connection, int64_t seq,
    const char *code, const char *reason, int attempts, struct mono_time deadline, struct relay_error *error)
{
    struct number_text a, b;
    return run(connection, SQL_DEAD_LETTER,
        (struct pg_value[]){PG_TEXT(number(&a, seq)), PG_TEXT(code), PG_TEXT(reason), PG_TEXT(number(&b, attempts)),
            PG_TEXT(sql->dead_letter_table)},
        5, deadline, error);
}

bool outbox_sql_count_waiting(struct pg_connection *connection, int64_t *held, int64_t *parked, char *first,
    size_t room, struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = query(connection, SQL_COUNT_WAITING, NULL, 0, false, deadline, error);
    if (result == NULL) {
        return false;
    }
    *held = pg_cell_int64(result, 0, 0);
    *parked = pg_cell_int64(result, 0, 1);
    snprintf(first, room, "%s", PQgetvalue(result, 0, 2));
    PQclear(result);
    return true;
}

bool outbox_sql_park_topic(struct pg_connection *connection, int64_t seq, const char *topic, const char *code,
    const char *reason, bool *parked, struct mono_time deadline, struct relay_error *error)
{
    struct number_text room;
    PGresult *result = query(connection, SQL_PARK_TOPIC,
        (struct pg_value[]){PG_TEXT(number(&room, seq)), PG_TEXT(topic), PG_TEXT(code), PG_TEXT(reason)}, 4, false,
        deadline, error);
    *parked = result != NULL && strcmp(PQcmdTuples(result), "0") != 0;
    PQclear(result);
    return result != NULL;
}

bool outbox_sql_hold_aggregate(struct pg_connection *connection, int64_t seq, const char *code, const char *reason,
    struct mono_time deadline, struct relay_error *error)
{
    struct number_text room;
    return run(connection, SQL_HOLD_AGGREGATE,
        (struct pg_value[]){PG_TEXT(number(&room, seq)), PG_TEXT(code), PG_TEXT(reason)}, 3, deadline, error);
}

PGresult *outbox_sql_list_parked(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return query(connection, SQL_LIST_PARKED, NULL, 0, false, deadline, error);
}

PGresult *outbox_sql_list_gone(struct pg_connection *connection, int64_t after, struct mono_time deadline,
    struct relay_error *error)
{
    struct number_text room;
    return query(connection, SQL_LIST_GONE, (struct pg_value[]){PG_TEXT(number(&room, after))}, 1, true, deadline,
        error);
}

PGresult *outbox_sql_list_next_held(struct pg_connection *connection, int64_t after, struct mono_time deadline,
    struct relay_error *error)
{
    struct number_text room;
    return query(connection, SQL_LIST_NEXT_HELD, (struct pg_value[]){PG_TEXT(number(&room, after))}, 1, true, deadline,
        error);
}

static PGresult *of_topics(struct pg_connection *connection, enum outbox_statement statement, const char *topics,
    int64_t upto, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    struct number_text a, b;
    return query(connection, statement,
        (struct pg_value[]){PG_TEXT(topics), PG_TEXT(number(&a, upto)), PG_TEXT(number(&b, limit))}, 3, true, deadline,
        error);
}

bool outbox_sql_piece_of_topics(struct pg_connection *connection, const char *topics, int64_t upto, int64_t rows,
    bool *more, int64_t *end, struct mono_time deadline, struct relay_error *error)
{
    return take_end(of_topics(connection, SQL_PIECE_OF_TOPICS, topics, upto, rows, deadline, error), more, end);
}

PGresult *outbox_sql_list_of_topics(struct pg_connection *connection, const char *topics, int64_t upto, int64_t limit,
    struct mono_time deadline, struct relay_error *error)
{
    return of_topics(connection, SQL_LIST_OF_TOPICS, topics, upto, limit, deadline, error);
}

PGresult *outbox_sql_list_of_held(struct pg_connection *connection, const int64_t *held, size_t count, int64_t upto,
    int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    char *list = pg_array_of_numbers(held, count, 1);
    if (list == NULL) {
        error_no_memory(error, "a list of numbers");
        return NULL;
    }
    struct number_text a, b;
    PGresult *result = query(connection, SQL_LIST_OF_HELD,
        (struct pg_value[]){PG_TEXT(list), PG_TEXT(number(&a, upto)), PG_TEXT(number(&b, limit))}, 3, true, deadline,
        error);
    free(list);
    return result;
}

bool outbox_sql_raise_topics(struct pg_connection *connection, const char *topics, int64_t upto,
    struct mono_time deadline, struct relay_error *error)
{
    struct number_text room;
    return run(connection, SQL_RAISE_TOPICS, (struct pg_value[]){PG_TEXT(topics), PG_TEXT(number(&room, upto))}, 2,
        deadline, error);
}

bool outbox_sql_unpark_topics(struct pg_connection *connection, const char *topics, struct mono_time deadline,
    struct relay_error *error)
{
    return run(connection, SQL_UNPARK_TOPICS, (struct pg_value[]){PG_TEXT(topics)}, 1, deadline, error);
}

PGresult *outbox_sql_drop_idle_topics(struct pg_connection *connection, const char *topics, int64_t upto,
    int64_t settled, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    struct number_text a, b, c;
    return query(connection, SQL_DROP_IDLE_TOPICS,
        (struct pg_value[]){PG_TEXT(topics), PG_TEXT(number(&a, upto)), PG_TEXT(number(&b, limit)),
            PG_TEXT(number(&c, settled))},
        4, false, deadline, error);
}

bool outbox_sql_drop_old_entries(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return run(connection, SQL_DROP_OLD_ENTRIES, NULL, 0, deadline, error);
}

PGresult *outbox_sql_release_held(struct pg_connection *connection, const int64_t *held, size_t count,
    struct mono_time deadline, struct relay_error *error)
{
    return of_list(connection, SQL_RELEASE_HELD, held, count, false, deadline, error);
}
