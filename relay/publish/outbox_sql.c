// SPDX-License-Identifier: Apache-2.0
//
// See outbox_sql.h. The texts are made once for a table (`@` words replaced, see make_text()) and prepared under fixed
// names.
//
// A row that somebody holds locked makes a statement wait for lock_timeout, then fail; the batch is rolled back and
// read again. The planner is kept to index scans and one generic plan: a queue's statistics are wrong most of the time.
#include "relay/publish/outbox_sql.h"

#include "relay/postgres/pg_array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Words in the texts: @name table, @seq its column, @row the columns over t, @receipt what a receipt knows of them,
// @key @aggregate @topic expressions over t, @take "DELETE FROM" or "UPDATE" the table as t, @opent @openu "AND
// t.published_at IS NULL" (or of u), @id the identity's literal, @oid the table's, @size about the bytes of the row u.
// The entry behind which the row waits, one at most.
#define HELD_BY                                                                                                        \
    " FROM outbox_relay.held_aggregates h WHERE h.identity = @id AND h.aggregate_type = coalesce(@aggregate, '')"      \
    " AND h.aggregate_id = coalesce(@key, '') AND h.lowest_seq <= t.@seq)"
#define HELD "EXISTS (SELECT" HELD_BY
#define PARKED_BY                                                                                                      \
    " FROM outbox_relay.parked_topics p WHERE p.identity = @id AND p.topic = @topic AND p.lowest_seq <= t.@seq)"
#define PARKED "EXISTS (SELECT" PARKED_BY

// The bytes of the rows before this one in the same reading.
#define BEFORE(order, size)                                                                                            \
    "sum(" size ") OVER (ORDER BY " order " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"

// The next rows of the table, as the statement that takes them sees them twice.
#define NEXT_ROWS " FROM @name u WHERE u.@seq > $1::int8 @openu ORDER BY u.@seq LIMIT $2::int8"

#define STATEMENTS(X)                                                                                                  \
    /* The window over the sizes costs a tenth of the whole statement: only where a plain sum says that it cuts. */    \
    X(TAKE, "take",                                                                                                    \
        "@take WHERE t.@seq > $1::int8 AND t.@seq <= (SELECT CASE WHEN sum(b.size) >= $3::int8 THEN"                   \
        " (SELECT max(c.s) FROM (SELECT u.@seq AS s, " BEFORE("u.@seq", "@size") NEXT_ROWS                             \
        ") c"                                                                                                          \
        " WHERE c.before IS NULL OR c.before < $3::int8) ELSE max(b.s) END"                                            \
        " FROM (SELECT u.@seq AS s, @size AS size" NEXT_ROWS ") b) @opent RETURNING @row")                             \
    /* Only the statement knows whether there is more: by bytes it cuts as PostgreSQL counts them, and a row that */   \
    /* somebody deletes meanwhile is missing in the answer. */                                                         \
    X(TAKE_RANGES, "take_ranges",                                                                                      \
        "WITH c AS MATERIALIZED (SELECT b.s, " BEFORE("b.s",                                                           \
            "b.size") " FROM unnest($1::int8[], $2::int8[])"                                                           \
                      " AS h(first, last) CROSS JOIN LATERAL (SELECT u.@seq AS s, @size AS size FROM @name u WHERE "   \
                      "u.@seq"                                                                                         \
                      " >= h.first AND u.@seq <= h.last @openu ORDER BY u.@seq LIMIT $3::int8) b ORDER BY b.s LIMIT "  \
                      "$3::int8)"                                                                                      \
                      " @take WHERE t.@seq IN (SELECT c.s FROM c WHERE c.before IS NULL OR c.before < $4::int8) "      \
                      "@opent"                                                                                         \
                      " RETURNING @row, (SELECT count(*) >= $3::int8 OR coalesce(max(c.before) >= $4::int8, false) "   \
                      "FROM c)")                                                                                       \
    X(TAKE_LIST, "take_list", "@take WHERE t.@seq = ANY($1::int8[]) @opent RETURNING @row")                            \
    X(TAKE_RECEIPT, "take_receipt", "@take WHERE t.@seq = ANY($1::int8[]) @opent RETURNING @receipt")                  \
    X(LIST_NEW, "list_new",                                                                                            \
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u), (" HELD " OR " PARKED                              \
        ") FROM @name t WHERE t.@seq > $1::int8 @opent"                                                                \
        " ORDER BY t.@seq LIMIT $2::int8")                                                                             \
    X(LIST_RANGES, "list_ranges",                                                                                      \
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u), (" HELD " OR " PARKED                              \
        ") FROM unnest($1::int8[], $2::int8[]) AS h(first, last)"                                                      \
        " CROSS JOIN LATERAL (SELECT * FROM @name u WHERE u.@seq >= h.first AND u.@seq <= h.last @openu"               \
        " ORDER BY u.@seq LIMIT $3::int8) t ORDER BY t.@seq LIMIT $3::int8")                                           \
    /* The end of a piece of the rows; none: there are fewer. */                                                       \
    X(PIECE, "piece",                                                                                                  \
        "SELECT t.@seq FROM @name t WHERE t.@seq > $1::int8 AND t.@seq <= $2::int8 @opent ORDER BY t.@seq"             \
        " OFFSET $3::int8 - 1 LIMIT 1")                                                                                \
    X(LIST_BELOW, "list_below",                                                                                        \
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u) FROM @name t WHERE t.@seq > $1::int8 AND"           \
        " t.@seq <= $2::int8 @opent AND NOT (" HELD " OR " PARKED ") ORDER BY t.@seq LIMIT $3::int8")                  \
    X(PROBE, "probe",                                                                                                  \
        "SELECT EXISTS (SELECT FROM @name t WHERE t.@seq > $1::int8 @opent) OR EXISTS (SELECT FROM"                    \
        " unnest($2::int8[], $3::int8[]) AS h(first, last) CROSS JOIN LATERAL (SELECT FROM @name u"                    \
        " WHERE u.@seq >= h.first AND u.@seq <= h.last @openu LIMIT 1) b)")                                            \
    X(HOLDERS, "holders",                                                                                              \
        "SELECT l.virtualtransaction FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'"    \
        " AND l.granted AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"       \
        " AND (l.relation = @oid::oid OR l.relation IN (SELECT p.relid::oid FROM pg_partition_tree(@oid) p))"          \
        " AND (l.pid IS NULL OR l.pid <> ALL ($1::int4[]))")                                                           \
    X(LAST_NUMBER, "last_number",                                                                                      \
        "SELECT generation, number, receipt_topic_id, receipt_partition, receipt_offset"                               \
        " FROM outbox_relay.last_batch_number(@id)")                                                                   \
    X(WRITE_NUMBER, "write_number",                                                                                    \
        "SELECT outbox_relay.write_batch_number(@id, $1::int4, $2::int8, $3::text, $4::int4, $5::int8),"               \
        " pg_catalog.to_regclass($6::text)::oid")                                                                      \
    X(BEGIN_GENERATION, "begin_generation", "SELECT outbox_relay.begin_generation(@id, $1::int8)")                     \
    X(NOTE_PROGRESS, "note_progress", "SELECT outbox_relay.note_progress(@id, $1::int8)")                              \
    X(DEAD_LETTER, "dead_letter",                                                                                      \
        "SELECT outbox_relay.dead_letter(@oid::oid::regclass, $1::int8, $2::text, $3::text, $4::int4, NULL,"           \
        " $5::text::regclass)")                                                                                        \
    X(COUNT_WAITING, "count_waiting",                                                                                  \
        "SELECT (SELECT count(*) FROM outbox_relay.held_aggregates h WHERE h.identity = @id),"                         \
        " (SELECT count(*) FROM outbox_relay.parked_topics p WHERE p.identity = @id),"                                 \
        " coalesce((SELECT p.reason_text FROM outbox_relay.parked_topics p WHERE p.identity = @id"                     \
        " ORDER BY p.lowest_seq LIMIT 1),"                                                                             \
        " (SELECT 'row ' || h.lowest_seq || ': ' || h.reason_text"                                                     \
        " FROM outbox_relay.held_aggregates h WHERE h.identity = @id ORDER BY h.lowest_seq LIMIT 1), '')")             \
    /* Only while the row is for the topic that was judged: somebody may have mended it. */                            \
    /* Without @opent a marking outbox would be read as a whole: its index has the open rows only. */                  \
    X(PARK_TOPIC, "park_topic",                                                                                        \
        "INSERT INTO outbox_relay.parked_topics AS p (identity, topic, lowest_seq, reason_code, reason_text)"          \
        " SELECT @id, $2::text, $1::int8, $3::text, $4::text FROM @name t"                                             \
        " WHERE t.@seq = $1::int8 @opent AND @topic = $2::text ON CONFLICT (identity, topic)"                          \
        " DO UPDATE SET lowest_seq = least(p.lowest_seq, excluded.lowest_seq),"                                        \
        " reason_code = excluded.reason_code, reason_text = excluded.reason_text")                                     \
    /* Held already: behind this row, too, or behind this one instead of a row that is not there any more. */          \
    X(HOLD_AGGREGATE, "hold_aggregate",                                                                                \
        "INSERT INTO outbox_relay.held_aggregates AS p (identity, aggregate_type, aggregate_id, lowest_seq,"           \
        " reason_code, reason_text) SELECT @id, coalesce(@aggregate, ''), coalesce(@key, ''), $1::int8, $2::text,"     \
        " $3::text FROM @name t WHERE t.@seq = $1::int8 @opent ON CONFLICT (identity, aggregate_type, aggregate_id)"   \
        " DO UPDATE SET lowest_seq = excluded.lowest_seq, reason_code = excluded.reason_code, reason_text ="           \
        " excluded.reason_text, held_at = excluded.held_at WHERE excluded.lowest_seq < p.lowest_seq"                   \
        " OR NOT EXISTS (SELECT FROM @name t WHERE t.@seq = p.lowest_seq @opent)")                                     \
    X(LIST_PARKED, "list_parked",                                                                                      \
        "SELECT p.topic FROM outbox_relay.parked_topics p WHERE p.identity = @id ORDER BY p.topic")                    \
    /* A piece of them, row by row: joined, all of it would be compared with all rows of the outbox. */                \
    X(LIST_GONE, "list_gone",                                                                                          \
        "WITH piece AS MATERIALIZED (SELECT h.lowest_seq FROM outbox_relay.held_aggregates h WHERE h.identity = @id"   \
        " AND h.lowest_seq > $1::int8 ORDER BY h.lowest_seq LIMIT 10000) SELECT q.seq FROM (SELECT 0 AS part,"         \
        " CASE count(*) WHEN 10000 THEN max(p.lowest_seq) ELSE '-9223372036854775808'::int8 END AS seq FROM piece p"   \
        " UNION ALL (SELECT 1, p.lowest_seq FROM piece p WHERE (SELECT true FROM @name t WHERE t.@seq = p.lowest_seq"  \
        " @opent LIMIT 1) IS NULL ORDER BY p.lowest_seq LIMIT 1000)) q ORDER BY q.part, q.seq")                        \
    X(LIST_NEXT_HELD, "list_next_held",                                                                                \
        "SELECT h.lowest_seq FROM outbox_relay.held_aggregates h WHERE h.identity = @id AND h.lowest_seq > $1::int8"   \
        " ORDER BY h.lowest_seq LIMIT 1")                                                                              \
    /* Which rows these are is asked for row by row: joined, the entries would be gone through for each of them. */    \
    X(LIST_OF_TOPICS, "list_of_topics",                                                                                \
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u) FROM @name t WHERE t.@seq >= (SELECT"               \
        " min(p.lowest_seq) FROM outbox_relay.parked_topics p WHERE p.identity = @id"                                  \
        " AND p.topic = ANY ($1::text[])) AND t.@seq <= $2::int8 @opent"                                               \
        " AND (SELECT p.topic" PARKED_BY " = ANY ($1::text[]) AND NOT " HELD " ORDER BY t.@seq LIMIT $3::int8")        \
    X(LIST_OF_HELD, "list_of_held",                                                                                    \
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u) FROM @name t WHERE t.@seq >= ($1::int8[])[1]"       \
        " AND t.@seq <= $2::int8 @opent AND (SELECT h.lowest_seq" HELD_BY " = ANY ($1::int8[]) AND NOT " PARKED        \
        " ORDER BY t.@seq LIMIT $3::int8")                                                                             \
    /* Of entries whose lowest row has gone (an operator mended or deleted it), in the next rows from the lowest */    \
    /* of these on: the entry is moved to the next row of its topic, or behind what was looked through; at the */      \
    /* watermark it goes. What is above is not read yet and parks its topic again, as does what commits late. */       \
    X(DROP_IDLE_TOPICS, "drop_idle_topics",                                                                            \
        "WITH idle AS MATERIALIZED (SELECT p.topic, p.lowest_seq FROM outbox_relay.parked_topics p"                    \
        " WHERE p.identity = @id AND p.topic = ANY ($1::text[]) AND p.lowest_seq <= $2::int8 AND (SELECT true FROM"    \
        " @name t WHERE t.@seq = p.lowest_seq @opent AND @topic = p.topic LIMIT 1) IS NULL),"                          \
        " found AS MATERIALIZED (SELECT b.topic, min(b.seq) AS seq, max(b.seq) AS last, count(*) AS rows FROM"         \
        " (SELECT t.@seq AS seq, @topic AS topic FROM @name t WHERE t.@seq >= (SELECT min(i.lowest_seq) FROM idle i)"  \
        " AND t.@seq <= $2::int8 @opent ORDER BY t.@seq LIMIT $3::int8) b GROUP BY b.topic),"                          \
        " seen AS MATERIALIZED (SELECT coalesce(sum(f.rows), 0) < $3::int8 OR max(f.last) = $2::int8 AS whole,"        \
        " max(f.last) AS last FROM found f),"                                                                          \
        " look AS MATERIALIZED (SELECT i.topic, (SELECT f.seq FROM found f WHERE f.topic = i.topic) AS seq, s.whole,"  \
        " s.last FROM idle i CROSS JOIN seen s WHERE s.whole OR i.lowest_seq <= s.last),"                              \
        " moved AS (UPDATE outbox_relay.parked_topics p SET lowest_seq = coalesce(l.seq, l.last + 1) FROM look l"      \
        " WHERE p.identity = @id AND p.topic = l.topic AND (l.seq IS NOT NULL OR NOT l.whole))"                        \
        " DELETE FROM outbox_relay.parked_topics p USING look l WHERE p.identity = @id AND p.topic = l.topic"          \
        " AND l.seq IS NULL AND l.whole RETURNING p.topic")                                                            \
    X(DROP_OLD_ENTRIES, "drop_old_entries", "DELETE FROM outbox_relay.parked_event_types p WHERE p.identity = @id")    \
    X(UNPARK_TOPICS, "unpark_topics",                                                                                  \
        "DELETE FROM outbox_relay.parked_topics p WHERE p.identity = @id AND p.topic = ANY ($1::text[])")              \
    X(RELEASE_HELD, "release_held",                                                                                    \
        "DELETE FROM outbox_relay.held_aggregates h WHERE h.identity = @id AND h.lowest_seq = ANY ($1::int8[])"        \
        " RETURNING h.aggregate_id")

enum statement {
#define X(id, name, text) SQL_##id,
    STATEMENTS(X)
#undef X
        SQL_COUNT
};
static const char *const names[] = {
#define X(id, name, text) name,
    STATEMENTS(X)
#undef X
};
static const char *const templates[] = {
#define X(id, name, text) text,
    STATEMENTS(X)
#undef X
};

struct outbox_sql {
    const struct outbox_table *table;
    const char *dead_letter_table;
    int64_t batch_bytes;
    char *texts[SQL_COUNT];
};

static const char session_settings[] =
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;"
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET lock_timeout = '2s'";

struct word {
    const char *name;
    const char *text;
};

// Replaces the @words of a template. NULL: out of memory. The longest names first, since @take is not @t.
static char *make_text(const char *template, const struct word *words, size_t count)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    for (const char *at = template; *at != '\0';) {
        const struct word *word = NULL;
        for (size_t i = 0; *at == '@' && word == NULL && i < count; i++) {
            if (strncmp(at + 1, words[i].name, strlen(words[i].name)) == 0) {
                word = &words[i];
            }
        }
        if (word == NULL) {
            fputc(*at++, out);
        } else {
            fputs(word->text, out);
            at += 1 + strlen(word->name);
        }
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

struct outbox_sql *outbox_sql_new(const struct outbox_table *table, const struct config_outbox *config,
    struct relay_error *error)
{
    struct outbox_sql *sql = calloc(1, sizeof(*sql));
    char *take = NULL;
    char oid[16], identity[64];
    snprintf(oid, sizeof(oid), "%u", table->oid);
    snprintf(identity, sizeof(identity), "'%s'::uuid", table->identity);
    bool marks = config->disposition == CONFIG_DISPOSITION_MARK;
    int length = marks ? asprintf(&take, "UPDATE %s AS t SET published_at = greatest(clock_timestamp(), %s)",
                             table->name, table->created_at)
                       : asprintf(&take, "DELETE FROM %s AS t", table->name);
    if (sql == NULL || length < 0) {
        free(sql);
        error_no_memory(error, "SQL texts");
        return NULL;
    }
    sql->table = table;
    sql->dead_letter_table = config->dead_letter_table;
    sql->batch_bytes = config->batch_bytes;
    const struct word words[] = {
        {"take", take},
        {"name", table->name},
        {"seq", table->seq},
        {"size", table->size},
        {"row", table->row},
        {"receipt", table->receipt_row},
        {"aggregate", table->aggregate_type},
        {"key", table->key},
        {"topic", table->topic},
        {"opent", table->published_at ? "AND t.published_at IS NULL" : ""},
        {"openu", table->published_at ? "AND u.published_at IS NULL" : ""},
        {"id", identity},
        {"oid", oid},
    };
    for (size_t i = 0; i < SQL_COUNT; i++) {
        sql->texts[i] = make_text(templates[i], words, sizeof(words) / sizeof(words[0]));
        if (sql->texts[i] == NULL) {
            error_no_memory(error, "SQL texts");
            free(take);
            outbox_sql_free(sql);
            return NULL;
        }
    }
    free(take);
    return sql;
}

void outbox_sql_free(struct outbox_sql *sql)
{
    if (sql == NULL) {
        return;
    }
    for (size_t i = 0; i < SQL_COUNT; i++) {
        free(sql->texts[i]);
    }
    free(sql);
}

bool outbox_sql_prepare(const struct outbox_sql *sql, struct pg_connection *connection, struct mono_time deadline,
    struct relay_error *error)
{
    if (!pg_execute(connection, session_settings, deadline, error)) {
        return false;
    }
    for (size_t i = 0; i < SQL_COUNT; i++) {
        if (!pg_prepare(connection, names[i], sql->texts[i], deadline, error)) {
            return error_prefix(error, "%s", names[i]);
        }
    }
    return true;
}

bool outbox_sql_begin(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return pg_execute(connection, "BEGIN", deadline, error);
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

static PGresult *query(struct pg_connection *connection, enum statement statement, const struct pg_value *values,
    int count, bool binary, struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = pg_query_prepared(connection, names[statement], values, count, binary, deadline, error);
    if (result == NULL) {
        error_prefix(error, "%s", names[statement]);
    }
    return result;
}

static bool run(struct pg_connection *connection, enum statement statement, const struct pg_value *values, int count,
    struct mono_time deadline, struct relay_error *error)
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
    return pg_send_prepared(connection, names[SQL_TAKE],
        (struct pg_value[]){PG_TEXT(number(&a, after)), PG_TEXT(number(&b, limit)),
            PG_TEXT(number(&c, sql->batch_bytes))},
        3, true, error);
}

static PGresult *of_ranges(const struct outbox_sql *sql, struct pg_connection *connection, enum statement statement,
    const struct seq_range *ranges, size_t count, int64_t limit, struct mono_time deadline, struct relay_error *error)
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

static PGresult *of_list(struct pg_connection *connection, enum statement statement, const int64_t *seqs, size_t count,
    struct mono_time deadline, struct relay_error *error)
{
    char *list = pg_array_of_numbers(seqs, count, 1);
    if (list == NULL) {
        error_no_memory(error, "a list of numbers");
        return NULL;
    }
    PGresult *result = query(connection, statement, (struct pg_value[]){PG_TEXT(list)}, 1, true, deadline, error);
    free(list);
    return result;
}

PGresult *outbox_sql_take_list(const struct outbox_sql *sql, struct pg_connection *connection, const int64_t *seqs,
    size_t count, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return of_list(connection, SQL_TAKE_LIST, seqs, count, deadline, error);
}

PGresult *outbox_sql_take_receipt(const struct outbox_sql *sql, struct pg_connection *connection, const int64_t *seqs,
    size_t count, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return of_list(connection, SQL_TAKE_RECEIPT, seqs, count, deadline, error);
}

PGresult *outbox_sql_list_new(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after,
    int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    struct number_text a, b;
    return query(connection, SQL_LIST_NEW, (struct pg_value[]){PG_TEXT(number(&a, after)), PG_TEXT(number(&b, limit))},
        2, true, deadline, error);
}

PGresult *outbox_sql_list_ranges(const struct outbox_sql *sql, struct pg_connection *connection,
    const struct seq_range *ranges, size_t count, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    return of_ranges(sql, connection, SQL_LIST_RANGES, ranges, count, limit, deadline, error);
}

static PGresult *of_piece(struct pg_connection *connection, enum statement statement, int64_t after, int64_t upto,
    int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    struct number_text a, b, c;
    return query(connection, statement,
        (struct pg_value[]){PG_TEXT(number(&a, after)), PG_TEXT(number(&b, upto)), PG_TEXT(number(&c, limit))}, 3, true,
        deadline, error);
}

PGresult *outbox_sql_piece(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after, int64_t upto,
    int64_t rows, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return of_piece(connection, SQL_PIECE, after, upto, rows, deadline, error);
}

PGresult *outbox_sql_list_below(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after,
    int64_t upto, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return of_piece(connection, SQL_LIST_BELOW, after, upto, limit, deadline, error);
}

bool outbox_sql_send_probe(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after,
    const struct seq_range *ranges, size_t count, struct relay_error *error)
{
    (void)sql;
    struct ranges_text text;
    if (!ranges_text(&text, ranges, count, error)) {
        return false;
    }
    struct number_text room;
    bool done = pg_send_prepared(connection, names[SQL_PROBE],
        (struct pg_value[]){PG_TEXT(number(&room, after)), PG_TEXT(text.first), PG_TEXT(text.last)}, 3, true, error);
    ranges_text_finish(&text);
    return done;
}

PGresult *outbox_sql_holders(const struct outbox_sql *sql, struct pg_connection *connection, const int pids[2],
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    char list[40];
    snprintf(list, sizeof(list), "{%d,%d}", pids[0], pids[1]);
    return query(connection, SQL_HOLDERS, (struct pg_value[]){PG_TEXT(list)}, 1, false, deadline, error);
}

// Numbers

bool outbox_sql_last_number(const struct outbox_sql *sql, struct pg_connection *connection, struct batch_number *last,
    bool *found, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
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

static bool run_number(struct pg_connection *connection, enum statement statement, int64_t value,
    struct mono_time deadline, struct relay_error *error)
{
    struct number_text room;
    return run(connection, statement, (struct pg_value[]){PG_TEXT(number(&room, value))}, 1, deadline, error);
}

bool outbox_sql_begin_generation(const struct outbox_sql *sql, struct pg_connection *connection, int64_t base,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return run_number(connection, SQL_BEGIN_GENERATION, base, deadline, error);
}

bool outbox_sql_note_progress(const struct outbox_sql *sql, struct pg_connection *connection, int64_t settled,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return run_number(connection, SQL_NOTE_PROGRESS, settled, deadline, error);
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

bool outbox_sql_count_waiting(const struct outbox_sql *sql, struct pg_connection *connection, int64_t *held,
    int64_t *parked, char *first, size_t room, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
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

bool outbox_sql_park_topic(const struct outbox_sql *sql, struct pg_connection *connection, int64_t seq,
    const char *topic, const char *code, const char *reason, bool *parked, struct mono_time deadline,
    struct relay_error *error)
{
    (void)sql;
    struct number_text room;
    PGresult *result = query(connection, SQL_PARK_TOPIC,
        (struct pg_value[]){PG_TEXT(number(&room, seq)), PG_TEXT(topic), PG_TEXT(code), PG_TEXT(reason)}, 4, false,
        deadline, error);
    *parked = result != NULL && strcmp(PQcmdTuples(result), "0") != 0;
    PQclear(result);
    return result != NULL;
}

bool outbox_sql_hold_aggregate(const struct outbox_sql *sql, struct pg_connection *connection, int64_t seq,
    const char *code, const char *reason, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    struct number_text room;
    return run(connection, SQL_HOLD_AGGREGATE,
        (struct pg_value[]){PG_TEXT(number(&room, seq)), PG_TEXT(code), PG_TEXT(reason)}, 3, deadline, error);
}

PGresult *outbox_sql_list_parked(const struct outbox_sql *sql, struct pg_connection *connection,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return query(connection, SQL_LIST_PARKED, NULL, 0, false, deadline, error);
}

PGresult *outbox_sql_list_gone(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    struct number_text room;
    return query(connection, SQL_LIST_GONE, (struct pg_value[]){PG_TEXT(number(&room, after))}, 1, true, deadline,
        error);
}

PGresult *outbox_sql_list_next_held(const struct outbox_sql *sql, struct pg_connection *connection, int64_t after,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    struct number_text room;
    return query(connection, SQL_LIST_NEXT_HELD, (struct pg_value[]){PG_TEXT(number(&room, after))}, 1, true, deadline,
        error);
}

PGresult *outbox_sql_list_of_topics(const struct outbox_sql *sql, struct pg_connection *connection, const char *topics,
    int64_t upto, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    struct number_text a, b;
    return query(connection, SQL_LIST_OF_TOPICS,
        (struct pg_value[]){PG_TEXT(topics), PG_TEXT(number(&a, upto)), PG_TEXT(number(&b, limit))}, 3, true, deadline,
        error);
}

PGresult *outbox_sql_list_of_held(const struct outbox_sql *sql, struct pg_connection *connection, const int64_t *held,
    size_t count, int64_t upto, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
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

bool outbox_sql_unpark_topics(const struct outbox_sql *sql, struct pg_connection *connection, const char *topics,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return run(connection, SQL_UNPARK_TOPICS, (struct pg_value[]){PG_TEXT(topics)}, 1, deadline, error);
}

PGresult *outbox_sql_drop_idle_topics(const struct outbox_sql *sql, struct pg_connection *connection,
    const char *topics, int64_t upto, int64_t limit, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    struct number_text a, b;
    return query(connection, SQL_DROP_IDLE_TOPICS,
        (struct pg_value[]){PG_TEXT(topics), PG_TEXT(number(&a, upto)), PG_TEXT(number(&b, limit))}, 3, false, deadline,
        error);
}

bool outbox_sql_drop_old_entries(const struct outbox_sql *sql, struct pg_connection *connection,
    struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return run(connection, SQL_DROP_OLD_ENTRIES, NULL, 0, deadline, error);
}

PGresult *outbox_sql_release_held(const struct outbox_sql *sql, struct pg_connection *connection, const int64_t *held,
    size_t count, struct mono_time deadline, struct relay_error *error)
{
    (void)sql;
    return of_list(connection, SQL_RELEASE_HELD, held, count, deadline, error);
}
