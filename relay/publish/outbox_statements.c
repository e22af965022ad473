// SPDX-License-Identifier: Apache-2.0
//
// See outbox_statements.h. The texts are made once for a table: `@` words replaced, see make_text().
//
// A row that somebody holds locked makes a statement wait for lock_timeout, then fail; the batch is rolled back and
// read again. The planner is kept to index scans and one generic plan: a queue's statistics are wrong most of the time.
#include "relay/publish/outbox_statements.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Words in the texts: @name table, @seq its column, @row the columns over t, @guarded the same without what is large in
// rows that are, and a column that says so, @receipt what a receipt knows of them, @key @aggregate @topic expressions
// over t, @take "DELETE FROM" or "UPDATE" the table as t, @opent @openu "AND t.published_at IS NULL" (or of u), @id the
// identity's literal, @oid the table's, @size about the bytes of the row u, @largest the most of a row that is read.

#define WRITES OUTBOX_WRITE_LOCK("@oid")

// Aggregates are compared by their bytes, whatever the collation of the table's columns: by the index of file 022.
#define BY_BYTES " COLLATE pg_catalog.\"C\""

// The entry behind which the row waits, one at most.
#define HELD_BY                                                                                                        \
    " FROM outbox_relay.held_aggregates h WHERE h.identity = @id AND h.aggregate_type = coalesce(@aggregate, "         \
    "'')" BY_BYTES " AND h.aggregate_id = coalesce(@key, '')" BY_BYTES " AND h.lowest_seq <= t.@seq)"
#define HELD "EXISTS (SELECT" HELD_BY
#define PARKED_BY                                                                                                      \
    " FROM outbox_relay.parked_topics p WHERE p.identity = @id AND p.topic = @topic AND p.lowest_seq <= t.@seq)"
#define PARKED "EXISTS (SELECT" PARKED_BY

// Where rows may wait for the topics of $1.
#define FROM_TOPICS                                                                                                    \
    "t.@seq >= (SELECT min(p.lowest_seq) FROM outbox_relay.parked_topics p WHERE p.identity = @id"                     \
    " AND p.topic = ANY ($1::text[]))"

// The bytes of the rows before this one in the same reading.
#define BEFORE(order, size)                                                                                            \
    "sum(" size ") OVER (ORDER BY " order " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"

// The next rows of the table, as the statement that takes them sees them twice.
#define NEXT_ROWS " FROM @name u WHERE u.@seq > $1::int8 @openu ORDER BY u.@seq LIMIT $2::int8"

// No row above @largest is read: libpq has a row whole in memory, twice, before the relay sees a length. Such a row
// ends what a reading takes, since @largest is never below batch_bytes. SQL_TAKE leaves it, which costs that statement
// nothing, and publish_serve.c then reads the careful way; the others return it without its bytes. What makes a text
// far longer than its size says comes cut from these (outbox_table.c), and is asked for alone; outbox_sql_send_take()
// limits the answer to SQL_TAKE.
static const char *const templates[SQL_COUNT] = {
    // The window over the sizes costs a tenth of the whole statement: only where a plain sum says that it cuts.
    [SQL_TAKE] = "@take WHERE t.@seq > $1::int8 AND t.@seq <= (SELECT CASE WHEN sum(b.size) >= $3::int8 THEN"
                 " (SELECT max(c.s) FROM (SELECT n.s, n.size, " BEFORE("n.s", "n.size") //
    " FROM (SELECT u.@seq AS s, @size AS size" NEXT_ROWS ") n) c"
    " WHERE (c.before IS NULL OR c.before < $3::int8) AND c.size <= @largest) ELSE max(b.s) END"
    " FROM (SELECT u.@seq AS s, @size AS size" NEXT_ROWS ") b) @opent RETURNING @row",
    // Only the statement knows whether there is more: by bytes it cuts as PostgreSQL counts them, and a row that
    // somebody deletes meanwhile is missing in the answer.
    [SQL_TAKE_RANGES] = "WITH c AS MATERIALIZED (SELECT b.s, b.size, " BEFORE("b.s", "b.size") //
    " FROM unnest($1::int8[], $2::int8[]) AS h(first, last)"
    " CROSS JOIN LATERAL (SELECT u.@seq AS s, @size AS size FROM @name u WHERE u.@seq >= h.first"
    " AND u.@seq <= h.last @openu ORDER BY u.@seq LIMIT $3::int8) b ORDER BY b.s LIMIT $3::int8),"
    " giants (seqs, room) AS MATERIALIZED (SELECT array_agg(c.s::int8), 1024 FROM c WHERE c.size > @largest)"
    " @take WHERE t.@seq IN (SELECT c.s FROM c WHERE c.before IS NULL OR c.before < $4::int8) @opent"
    " RETURNING @guarded, (SELECT count(*) >= $3::int8 OR coalesce(max(c.before) >= $4::int8, false) FROM c)",
    // Of a row alone as much is read as of any.
    [SQL_TAKE_LIST] = "WITH giants (seqs, room) AS MATERIALIZED (SELECT array_agg(u.@seq::int8), CASE"
                      " cardinality($1::int8[]) WHEN 1 THEN least(@largest, 1073741823)::int4 ELSE 1024"
                      " END FROM @name u WHERE u.@seq = ANY($1::int8[]) @openu AND ($2::bool OR @size > @largest))"
                      " @take WHERE t.@seq = ANY($1::int8[]) @opent RETURNING @guarded",
    [SQL_TAKE_RECEIPT] = "@take WHERE t.@seq = ANY($1::int8[]) @opent RETURNING @receipt",
    [SQL_LIST_NEW] = "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u), (" HELD " OR " PARKED
                     ") FROM @name t WHERE t.@seq > $1::int8 @opent"
                     " ORDER BY t.@seq LIMIT $2::int8",
    [SQL_LIST_RANGES] = "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u), (" HELD " OR " PARKED
                        ") FROM unnest($1::int8[], $2::int8[]) AS h(first, last)"
                        " CROSS JOIN LATERAL (SELECT * FROM @name u WHERE u.@seq >= h.first AND u.@seq <= h.last @openu"
                        " ORDER BY u.@seq LIMIT $3::int8) t ORDER BY t.@seq LIMIT $3::int8",
    // The end of a piece of the rows; none: there are fewer.
    [SQL_PIECE] = "SELECT t.@seq FROM @name t WHERE t.@seq > $1::int8 AND t.@seq <= $2::int8 @opent ORDER BY t.@seq"
                  " OFFSET $3::int8 - 1 LIMIT 1",
    [SQL_LIST_BELOW] =
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u) FROM @name t WHERE t.@seq > $1::int8 AND"
        " t.@seq <= $2::int8 @opent AND NOT (" HELD " OR " PARKED ") ORDER BY t.@seq LIMIT $3::int8",
    [SQL_NEWEST_BELOW] = "SELECT t.@seq FROM @name t WHERE t.@seq <= $1::int8 @opent AND NOT (" HELD " OR " PARKED
                         ") ORDER BY t.@seq DESC LIMIT 1",
    [SQL_PROBE] = "SELECT EXISTS (SELECT FROM @name t WHERE t.@seq > $1::int8 @opent) OR EXISTS (SELECT FROM"
                  " unnest($2::int8[], $3::int8[]) AS h(first, last) CROSS JOIN LATERAL (SELECT FROM @name u"
                  " WHERE u.@seq >= h.first AND u.@seq <= h.last @openu LIMIT 1) b)",
    [SQL_HOLDERS] = "SELECT l.virtualtransaction FROM pg_locks l WHERE " WRITES " AND l.granted"
                    " AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"
                    " AND (l.pid IS NULL OR l.pid <> ALL ($1::int4[]))",
    [SQL_LAST_NUMBER] = "SELECT generation, number, receipt_topic_id, receipt_partition, receipt_offset"
                        " FROM outbox_relay.last_batch_number(@id)",
    [SQL_WRITE_NUMBER] =
        "SELECT outbox_relay.write_batch_number(@id, $1::int4, $2::int8, $3::text, $4::int4, $5::int8),"
        " pg_catalog.to_regclass($6::text)::oid",
    [SQL_NOTE_PROGRESS] = "SELECT outbox_relay.note_progress(@id, $1::int8)",
    // Not where numbers are to come below it (the table was truncated, its sequence restarted), nor where rows that
    // waited do so no longer and belong before all others: the configuration names their topics or keys anew, or an
    // earlier version has made them wait. Of many entries the first thousand tell.
    [SQL_SETTLED] =
        "SELECT p.settled_seq FROM outbox_relay.progress p JOIN outbox_relay.outboxes o ON o.identity = p.identity"
        " WHERE p.identity = @id AND CASE WHEN has_sequence_privilege(pg_get_serial_sequence(o.outbox::text,"
        " o.seq_column), 'USAGE, SELECT') THEN p.settled_seq <="
        " coalesce(pg_sequence_last_value(pg_get_serial_sequence(o.outbox::text, o.seq_column)::regclass), -1)"
        " ELSE true END AND NOT EXISTS (SELECT FROM outbox_relay.parked_event_types e WHERE e.identity = @id)"
        " AND NOT EXISTS (SELECT FROM (SELECT k.topic, k.lowest_seq FROM outbox_relay.parked_topics k"
        " WHERE k.identity = @id ORDER BY k.lowest_seq LIMIT 1000) e CROSS JOIN LATERAL (SELECT FROM @name t"
        " WHERE t.@seq = e.lowest_seq @opent AND @topic IS DISTINCT FROM e.topic LIMIT 1) m)"
        " AND NOT EXISTS (SELECT FROM (SELECT k.aggregate_type, k.aggregate_id, k.lowest_seq"
        " FROM outbox_relay.held_aggregates k WHERE k.identity = @id ORDER BY k.lowest_seq LIMIT 1000) e"
        " CROSS JOIN LATERAL (SELECT FROM @name t WHERE t.@seq = e.lowest_seq @opent"
        " AND (coalesce(@aggregate, '')" BY_BYTES " <> e.aggregate_type OR coalesce(@key, '')" BY_BYTES
        " <> e.aggregate_id) LIMIT 1) m)",
    [SQL_DEAD_LETTER] =
        "SELECT outbox_relay.dead_letter(@oid::oid::regclass, $1::int8, $2::text, $3::text, $4::int4, NULL,"
        " $5::text::regclass)",
    [SQL_COUNT_WAITING] =
        "SELECT (SELECT count(*) FROM outbox_relay.held_aggregates h WHERE h.identity = @id),"
        " (SELECT count(*) FROM outbox_relay.parked_topics p WHERE p.identity = @id),"
        " coalesce((SELECT p.reason_text FROM outbox_relay.parked_topics p WHERE p.identity = @id"
        " ORDER BY p.lowest_seq LIMIT 1),"
        " (SELECT 'row ' || h.lowest_seq || ': ' || h.reason_text"
        " FROM outbox_relay.held_aggregates h WHERE h.identity = @id ORDER BY h.lowest_seq LIMIT 1), '')",
    // Only while the row is for the topic that was judged: somebody may have fixed it.
    // Without @opent a marking outbox would be read as a whole: its index has the open rows only.
    [SQL_PARK_TOPIC] =
        "INSERT INTO outbox_relay.parked_topics AS p (identity, topic, lowest_seq, reason_code, reason_text)"
        " SELECT @id, $2::text, $1::int8, $3::text, $4::text FROM @name t"
        " WHERE t.@seq = $1::int8 @opent AND @topic = $2::text ON CONFLICT (identity, topic)"
        " DO UPDATE SET lowest_seq = least(p.lowest_seq, excluded.lowest_seq),"
        " reason_code = excluded.reason_code, reason_text = excluded.reason_text",
    // Held already: behind this row, too, or behind this one instead of a row that is not there any more.
    [SQL_HOLD_AGGREGATE] =
        "INSERT INTO outbox_relay.held_aggregates AS p (identity, aggregate_type, aggregate_id, lowest_seq,"
        " reason_code, reason_text) SELECT @id, coalesce(@aggregate, ''), coalesce(@key, ''), $1::int8, $2::text,"
        " $3::text FROM @name t WHERE t.@seq = $1::int8 @opent ON CONFLICT (identity, aggregate_type, aggregate_id)"
        " DO UPDATE SET lowest_seq = excluded.lowest_seq, reason_code = excluded.reason_code, reason_text ="
        " excluded.reason_text, held_at = excluded.held_at WHERE excluded.lowest_seq < p.lowest_seq"
        " OR NOT EXISTS (SELECT FROM @name t WHERE t.@seq = p.lowest_seq @opent)",
    [SQL_LIST_PARKED] = "SELECT p.topic FROM outbox_relay.parked_topics p WHERE p.identity = @id ORDER BY p.topic",
    // A piece of them, row by row: joined, all of it would be compared with all rows of the outbox.
    [SQL_LIST_GONE] =
        "WITH piece AS MATERIALIZED (SELECT h.lowest_seq FROM outbox_relay.held_aggregates h WHERE h.identity = @id"
        " AND h.lowest_seq > $1::int8 ORDER BY h.lowest_seq LIMIT 10000) SELECT q.seq FROM (SELECT 0 AS part,"
        " CASE count(*) WHEN 10000 THEN max(p.lowest_seq) ELSE '-9223372036854775808'::int8 END AS seq FROM piece p"
        " UNION ALL (SELECT 1, p.lowest_seq FROM piece p WHERE (SELECT true FROM @name t WHERE t.@seq = p.lowest_seq"
        " @opent LIMIT 1) IS NULL ORDER BY p.lowest_seq LIMIT 1000)) q ORDER BY q.part, q.seq",
    [SQL_LIST_NEXT_HELD] =
        "SELECT h.lowest_seq FROM outbox_relay.held_aggregates h WHERE h.identity = @id AND h.lowest_seq > $1::int8"
        " ORDER BY h.lowest_seq LIMIT 1",
    [SQL_PIECE_OF_TOPICS] = "SELECT t.@seq FROM @name t WHERE " FROM_TOPICS " AND t.@seq <= $2::int8 @opent"
                            " ORDER BY t.@seq OFFSET $3::int8 - 1 LIMIT 1",
    // Which rows these are is asked for row by row: joined, the entries would be gone through for each of them.
    [SQL_LIST_OF_TOPICS] = "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u) FROM @name t WHERE " FROM_TOPICS
                           " AND t.@seq <= $2::int8 @opent"
                           " AND (SELECT p.topic" PARKED_BY " = ANY ($1::text[]) AND NOT " HELD
                           " ORDER BY t.@seq LIMIT $3::int8",
    [SQL_LIST_OF_HELD] =
        "SELECT t.@seq, (SELECT (@size)::int8 FROM (SELECT t.*) u) FROM @name t WHERE t.@seq >= ($1::int8[])[1]"
        " AND t.@seq <= $2::int8 @opent AND (SELECT h.lowest_seq" HELD_BY " = ANY ($1::int8[]) AND NOT " PARKED
        " ORDER BY t.@seq LIMIT $3::int8",
    // Of entries whose lowest row has gone (an operator fixed or deleted it), in the next rows from the lowest
    // of these on: the entry is moved to the next row of its topic, or behind what was looked through; at the
    // watermark it goes. What is above is not read yet and parks its topic again, as does what commits late.
    [SQL_DROP_IDLE_TOPICS] =
        "WITH idle AS MATERIALIZED (SELECT p.topic, p.lowest_seq FROM outbox_relay.parked_topics p"
        " WHERE p.identity = @id AND p.topic = ANY ($1::text[]) AND p.lowest_seq <= $2::int8 AND (SELECT true FROM"
        " @name t WHERE t.@seq = p.lowest_seq @opent AND @topic = p.topic LIMIT 1) IS NULL),"
        " found AS MATERIALIZED (SELECT b.topic, min(b.seq) AS seq, max(b.seq) AS last, count(*) AS rows FROM"
        " (SELECT t.@seq AS seq, @topic AS topic FROM @name t WHERE t.@seq >= (SELECT min(i.lowest_seq) FROM idle i)"
        " AND t.@seq <= $2::int8 @opent ORDER BY t.@seq LIMIT $3::int8) b GROUP BY b.topic),"
        " seen AS MATERIALIZED (SELECT coalesce(sum(f.rows), 0) < $3::int8 OR max(f.last) = $2::int8 AS whole,"
        " max(f.last) AS last FROM found f),"
        " look AS MATERIALIZED (SELECT i.topic, (SELECT f.seq FROM found f WHERE f.topic = i.topic) AS seq, s.whole,"
        " s.last FROM idle i CROSS JOIN seen s WHERE s.whole OR i.lowest_seq <= s.last),"
        " moved AS (UPDATE outbox_relay.parked_topics p SET lowest_seq ="
        " greatest(p.lowest_seq, least(coalesce(l.seq, l.last + 1), $4::int8 + 1)) FROM look l"
        " WHERE p.identity = @id AND p.topic = l.topic AND (l.seq IS NOT NULL OR NOT l.whole))"
        " DELETE FROM outbox_relay.parked_topics p USING look l WHERE p.identity = @id AND p.topic = l.topic"
        " AND l.seq IS NULL AND l.whole RETURNING p.topic",
    [SQL_DROP_OLD_ENTRIES] = "DELETE FROM outbox_relay.parked_event_types p WHERE p.identity = @id",
    [SQL_RAISE_TOPICS] = "UPDATE outbox_relay.parked_topics p SET lowest_seq = $2::int8 WHERE p.identity = @id"
                         " AND p.topic = ANY ($1::text[]) AND p.lowest_seq < $2::int8",
    [SQL_UNPARK_TOPICS] =
        "DELETE FROM outbox_relay.parked_topics p WHERE p.identity = @id AND p.topic = ANY ($1::text[])",
    [SQL_RELEASE_HELD] =
        "DELETE FROM outbox_relay.held_aggregates h WHERE h.identity = @id AND h.lowest_seq = ANY ($1::int8[])"
        " RETURNING h.aggregate_id",
};

const char *const outbox_statement_names[SQL_COUNT] = {
#define X(id, name) name,
    OUTBOX_STATEMENTS(X)
#undef X
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
    size_t message_max, struct relay_error *error)
{
    struct outbox_sql *sql = calloc(1, sizeof(*sql));
    char *take = NULL, *guarded = NULL;
    char oid[16], identity[64], largest[24];
    int64_t most = OUTBOX_SQL_LARGEST * (int64_t)message_max;
    most = most > config->batch_bytes ? most : config->batch_bytes;
    snprintf(largest, sizeof(largest), "%lld", (long long)most);
    snprintf(oid, sizeof(oid), "%u", table->oid);
    snprintf(identity, sizeof(identity), "'%s'::uuid", table->identity);
    bool marks = config->disposition == CONFIG_DISPOSITION_MARK;
    int length = marks ? asprintf(&take, "UPDATE %s AS t SET published_at = greatest(clock_timestamp(), %s)",
                             table->name, table->created_at)
                       : asprintf(&take, "DELETE FROM %s AS t", table->name);
    if (length < 0) {
        take = NULL;
    }
    if (asprintf(&guarded, "%s, CASE WHEN " OUTBOX_TABLE_GIANT " THEN %s::int8 END", table->guarded_row, table->seq,
            largest) < 0) {
        guarded = NULL;
    }
    if (sql == NULL || take == NULL || guarded == NULL) {
        error_no_memory(error, "SQL texts");
        goto failed;
    }
    sql->table = table;
    sql->dead_letter_table = config->dead_letter_table;
    sql->batch_bytes = config->batch_bytes;
    sql->largest = most;
    const struct word words[] = {
        {"take", take},
        {"name", table->name},
        {"seq", table->seq},
        {"size", table->size},
        {"row", table->row},
        {"guarded", guarded},
        {"largest", largest},
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
            goto failed;
        }
    }
    free(take);
    free(guarded);
    return sql;

failed:
    free(take);
    free(guarded);
    outbox_sql_free(sql);
    return NULL;
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
        if (!pg_prepare(connection, outbox_statement_names[i], sql->texts[i], deadline, error)) {
            return error_prefix(error, "%s", outbox_statement_names[i]);
        }
    }
    return true;
}
