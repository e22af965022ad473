// SPDX-License-Identifier: Apache-2.0
//
// Happy path: nothing of ours runs, one query for the rows and one for the dead letters give their offsets as ranges.
// Failures: a query that does not end is killed, and if it outlives that, the caller tries again later. An endpoint
// that does not answer is passed over where another one does, but not before the last INSERT that it may have got has
// reached its max_execution_time: its rows could come by replication after we had asked for them. A replica that lags
// is brought up to date first (SYSTEM SYNC REPLICA). No dead-letter table is no dead letters. A page looks at so many
// offsets and no more, however much there is above: the server keeps all that it looks at in memory. It tells how far
// it reaches, and the caller asks again when it gets there. After one that took too long, or too much memory, the next
// one looks at half as many.
#include "relay/insert/read_back.h"

#include "relay/base/log.h"
#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/table_question.h"

#include <string.h>

#define PAGE_OFFSETS 500000  // that it may return
#define SPAN_MOST    1000000 // that it looks at
#define SPAN_LEAST   10000
#define QUICK        DURATION_S(1) // for rows and dead letters: twice as many offsets would not take long
#define KILL_TIMEOUT DURATION_S(5)

static bool stopping(const struct relay_context *context)
{
    return context->stop && stop_raised(context->stop);
}

// What runs now, as lists of SQL literals; a text stays empty when there is none.
struct running {
    struct clickhouse_text ours;     // with rows of the partitions in question: whoever sent them has lost those
    struct clickhouse_text doubtful; // perhaps
};

static bool list_id(struct running *running, const struct read_back_settling *of, const char *id,
    struct relay_error *error)
{
    enum insert_concern concern = insert_query_id_concern(id, of->places);
    struct clickhouse_text *list = concern == INSERT_CONCERNS_US ? &running->ours : &running->doubtful;
    return concern == INSERT_CONCERNS_OTHERS ||
        (clickhouse_text_add(list, list->at ? "," : "") && clickhouse_text_literal(list, id, strlen(id))) ||
        error_no_memory(error, "asking what runs");
}

static bool list_running(struct clickhouse_client *client, int endpoint, const struct read_back_settling *of,
    struct running *running, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    struct clickhouse_request request = {.endpoint = endpoint, .timeout = CLICKHOUSE_QUESTION_LIMIT};
    bool done = clickhouse_text_add(&text, "SELECT query_id FROM system.processes WHERE startsWith(query_id, ") &&
        clickhouse_text_literal(&text, of->prefix, strlen(of->prefix)) &&
        clickhouse_text_add(&text, ") UNION ALL SELECT " TABLE_QUESTION_LAST);
    if (!done) {
        error_no_memory(error, "asking what runs");
    }
    done = done && clickhouse_query(client, &request, text.at, &result, NULL, error) &&
        table_question_whole(result, 1, error);
    for (size_t i = 0; done && i < clickhouse_result_rows(result); i++) {
        const char *id = clickhouse_result_text(result, i, 0, NULL);
        done = table_question_is_last(id) || list_id(running, of, id, error);
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done;
}

// How many of the listed ids still run; with kill, after telling them to end.
static bool count_running(struct clickhouse_client *client, int endpoint, const char *list, bool kill, uint64_t *left,
    struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    struct clickhouse_request request = {.endpoint = endpoint, .timeout = KILL_TIMEOUT};
    bool done = true;
    if (kill) {
        done = clickhouse_text_add(&text, "KILL QUERY WHERE query_id IN (%s) ASYNC", list) &&
            clickhouse_query(client, &request, text.at, NULL, NULL, error);
        clickhouse_text_reset(&text);
    }
    done = done &&
        clickhouse_text_add(&text,
            "SELECT count(), " TABLE_QUESTION_LAST " FROM system.processes WHERE query_id IN (%s)", list) &&
        clickhouse_query(client, &request, text.at, &result, NULL, error) && table_question_whole(result, 2, error);
    *left = done ? clickhouse_result_uint(result, 0, 0) : 0;
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done;
}

static bool stopping_or_given_up(const struct relay_context *context, const struct read_back_settling *of)
{
    return stopping(context) || (of->given_up && atomic_load(of->given_up));
}

// Until none of the listed ones is left; from kill_at on they are told to end.
static bool await_end(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct read_back_settling *of, const char *list, struct mono_time kill_at, struct relay_error *error)
{
    struct mono_time until = mono_add(kill_at, KILL_TIMEOUT);
    struct duration pause = DURATION_MS(5);
    uint64_t left = 0;
    bool killed = false;
    for (;;) {
        struct mono_time now = clock_mono(context->clock);
        bool kill = !killed && mono_reached(now, kill_at);
        if (!count_running(client, endpoint, list, kill, &left, error)) {
            return false;
        }
        if (kill) {
            killed = true;
            log_event(LOG_LEVEL_WARNING, "insert.killed",
                "killed inserts of a former owner, or of our own, that did not end",
                LOG_TEXT("url", clickhouse_client_url(client, endpoint)), LOG_TEXT("query_ids", list));
        }
        if (left == 0) {
            return true;
        }
        if (mono_reached(now, until)) {
            return error_set(error, RELAY_ERROR_TIMEOUT, "%llu inserts still run after KILL QUERY",
                (unsigned long long)left);
        }
        if (stopping_or_given_up(context, of) ||
            (context->stop && stop_wait(context->stop, context->clock, mono_add(now, pause)))) {
            return error_set(error, RELAY_ERROR_STOPPED, "the read-back was given up");
        }
        pause = pause.ns < 100000000 ? DURATION_NS(pause.ns * 2) : pause;
    }
}

static bool settle_endpoint(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct read_back_settling *of, struct relay_error *error)
{
    struct running running = {0};
    struct mono_time now = clock_mono(context->clock);
    bool done = list_running(client, endpoint, of, &running, error);
    if (done && running.ours.at) {
        done = await_end(context, client, endpoint, of, running.ours.at, mono_add(now, of->patience), error);
    }
    if (done && running.doubtful.at) {
        done = await_end(context, client, endpoint, of, running.doubtful.at, mono_add(now, of->longest), error);
    }
    clickhouse_text_finish(&running.ours);
    clickhouse_text_finish(&running.doubtful);
    return done;
}

bool read_back_settle(const struct relay_context *context, struct clickhouse_client *client,
    const struct read_back_settling *of, struct relay_error *error)
{
    size_t answered = 0, endpoints = clickhouse_client_endpoints(client);
    struct relay_error early = {.class = RELAY_CLASS_NONE};
    for (size_t i = 0; i < endpoints; i++) {
        struct duration left = mono_left(clock_mono(context->clock), of->may_run_until[i]);
        if (settle_endpoint(context, client, (int)i, of, error)) {
            answered++;
        } else if (stopping_or_given_up(context, of) || endpoints == 1 || error->code == RELAY_ERROR_TIMEOUT) {
            return error_prefix(error, "waiting for inserts under way");
        } else if (left.ns > 0) {
            error_set_class(&early, error->code, RELAY_CLASS_RETRIABLE, error->detail,
                "%s may run an INSERT for another %.0f s, and does not answer: %.250s",
                clickhouse_client_url(client, (int)i), duration_seconds(left), error->text);
        }
    }
    if (answered > 0 && early.class != RELAY_CLASS_NONE) {
        *error = early;
        return false;
    }
    return answered > 0 || error_prefix(error, "waiting for inserts under way");
}

// The quoted name of the table, or of the dead-letter table where that is given.
static bool add_name(struct clickhouse_text *text, const struct table_plan *plan, const char *dead_letter_table)
{
    if (dead_letter_table) {
        return clickhouse_text_table(text, dead_letter_table);
    }
    return table_schema_add_name(text, plan->schema);
}

// "FROM db.t WHERE [target IN (..) AND] kafka_topic = .. AND kafka_partition = .."
static bool add_place(struct clickhouse_text *text, const struct table_plan *plan, const struct read_back *of,
    const char *dead_letter_table)
{
    bool done = clickhouse_text_add(text, " FROM ") && add_name(text, plan, dead_letter_table) &&
        clickhouse_text_add(text, " WHERE ");
    if (dead_letter_table) {
        done = done && clickhouse_text_add(text, "target IN (") &&
            clickhouse_text_spellings(text, of->target, of->database) && clickhouse_text_add(text, ") AND ");
    }
    return done && clickhouse_text_add(text, "kafka_topic = ") &&
        clickhouse_text_literal(text, of->topic, strlen(of->topic)) &&
        clickhouse_text_add(text, " AND kafka_partition = %d", of->partition);
}

// The lowest and the highest offset that are there.
struct edges {
    bool any;
    int64_t lowest, highest;
};

// From `from` on; READ_BACK_NONE: of all.
static bool read_edges(struct table_question *question, const struct table_plan *plan, const struct read_back *of,
    const char *dead_letter_table, int64_t from, struct edges *edges, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    *edges = (struct edges){.lowest = INT64_MAX, .highest = READ_BACK_NONE};
    bool built = clickhouse_text_add(&text,
                     "SELECT count(), toInt64(min(kafka_offset)), toInt64(max(kafka_offset)), " TABLE_QUESTION_LAST) &&
        add_place(&text, plan, of, dead_letter_table) &&
        (from == READ_BACK_NONE || clickhouse_text_add(&text, " AND kafka_offset >= %lld", (long long)from));
    bool done = built && table_question_ask(question, text.at, &result, error) &&
        table_question_whole(result, 4, error);
    edges->any = done && clickhouse_result_uint(result, 0, 0) > 0;
    if (edges->any) {
        edges->lowest = clickhouse_result_int(result, 0, 1);
        edges->highest = clickhouse_result_int(result, 0, 2);
    }
    if (!built) {
        error_no_memory(error, "reading back");
    } else if (dead_letter_table && clickhouse_error_no_table(error)) {
        done = true;
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done;
}

// One question for offsets from of->from on.
struct page {
    int64_t end;     // what it looks at lies below
    bool more;       // the answer: there is something from there on
    int64_t through; // the answer: it is complete for offsets below; INT64_MAX: for all
};

// Ranges as [first, after, count] of one page. The count proves that a range has no holes.
static bool take_ranges(const struct clickhouse_result *result, struct offset_ranges *ranges, struct page *page,
    struct relay_error *error)
{
    int64_t offsets = 0;
    for (size_t row = 0; row < clickhouse_result_rows(result); row++) {
        int64_t first = clickhouse_result_int(result, row, 0), after = clickhouse_result_int(result, row, 1);
        int64_t count = clickhouse_result_int(result, row, 2);
        if (table_question_is_last(clickhouse_result_text(result, row, 3, NULL))) {
            page->more = count > 0;
            continue;
        }
        if (after - first != count || (ranges->count > 0 && first < offset_ranges_after(ranges))) {
            return error_set_class(error, RELAY_ERROR_PROTOCOL, RELAY_CLASS_RETRIABLE, 0,
                "the read-back of offsets %lld to %lld does not add up", (long long)first, (long long)after);
        }
        if (!offset_ranges_add(ranges, first, after)) {
            return error_no_memory(error, "reading back");
        }
        offsets += count;
    }
    page->through = offsets >= PAGE_OFFSETS ? offset_ranges_after(ranges) : page->more ? page->end : INT64_MAX;
    return true;
}

// The ranges of the offsets that are there, and a last row, which counts one if there are more above.
static bool add_page(struct clickhouse_text *text, const struct table_plan *plan, const struct read_back *of,
    const char *dead_letter_table, const struct page *page)
{
    return clickhouse_text_add(text,
               "SELECT * FROM (SELECT min(o) AS first, max(o) + 1 AS after, count() AS offsets, '' AS word FROM "
               "(SELECT o, o - toInt64(rowNumberInAllBlocks()) AS run FROM "
               "(SELECT DISTINCT toInt64(kafka_offset) AS o") &&
        add_place(text, plan, of, dead_letter_table) &&
        clickhouse_text_add(text,
            " AND kafka_offset >= %lld AND kafka_offset < %lld ORDER BY o LIMIT %d)) GROUP BY run UNION ALL SELECT "
            "toInt64(9223372036854775807), toInt64(0), ifNull((SELECT count() FROM (SELECT 1",
            (long long)of->from, (long long)page->end, PAGE_OFFSETS) &&
        add_place(text, plan, of, dead_letter_table) &&
        clickhouse_text_add(text,
            " AND kafka_offset >= %lld LIMIT 1)), toUInt64(0)), " TABLE_QUESTION_LAST ") ORDER BY first",
            (long long)page->end);
}

static int64_t span_of(const struct read_back *of)
{
    return of->span > 0 ? of->span : SPAN_MOST;
}

// Limits of the user's profile, or of time as servers before 24.1 foresee it.
static bool beyond_limit(int code)
{
    return code == CLICKHOUSE_CODE_TOO_MANY_ROWS || code == CLICKHOUSE_CODE_TOO_SLOW ||
        code == CLICKHOUSE_CODE_SET_SIZE_LIMIT_EXCEEDED || code == CLICKHOUSE_CODE_TOO_MANY_BYTES ||
        code == CLICKHOUSE_CODE_TOO_MANY_ROWS_OR_BYTES;
}

// It may have been for what it looked at: no answer in time, or a limit of the server's.
static bool was_too_much(const struct relay_error *error)
{
    bool limit = error->code == RELAY_ERROR_CLICKHOUSE_RETRIABLE &&
        (beyond_limit(error->detail) || clickhouse_failure_of(error->detail) == CLICKHOUSE_MEMORY);
    return limit || error->code == RELAY_ERROR_CLICKHOUSE_UNKNOWN;
}

static void look_at_less(const struct table_plan *plan, struct read_back *of, struct duration took,
    struct relay_error *error)
{
    error_prefix(error, "%lld offsets from %lld on, after %.0f s%s", (long long)span_of(of), (long long)of->from,
        duration_seconds(took),
        plan->schema->offset_has_index ? "" : " (kafka_offset has no index; `outbox-relay check` has the ALTER TABLE)");
    of->span = span_of(of) / 2 > SPAN_LEAST ? span_of(of) / 2 : SPAN_LEAST;
}

static bool read_ranges(struct table_question *question, const struct table_plan *plan, const struct read_back *of,
    const char *dead_letter_table, struct offset_ranges *ranges, int64_t *through, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    int64_t span = span_of(of);
    struct page page = {.end = of->from < INT64_MAX - span ? of->from + span : INT64_MAX, .through = INT64_MAX};
    bool built = add_page(&text, plan, of, dead_letter_table, &page);
    bool done = built && table_question_ask(question, text.at, &result, error) &&
        table_question_whole(result, 4, error);
    if (done) {
        done = take_ranges(result, ranges, &page, error);
    } else if (!built) {
        error_no_memory(error, "reading back");
    } else if (dead_letter_table && clickhouse_error_no_table(error)) {
        done = true;
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    if (done && page.more && ranges->count == 0) { // a gap, which is passed over at once, however long
        struct edges edges;
        done = read_edges(question, plan, of, dead_letter_table, page.end, &edges, error);
        page.through = edges.lowest;
    }
    *through = page.through;
    return done;
}

static bool sync_replica(struct table_question *question, const struct table_plan *plan, const char *dead_letter_table,
    struct relay_error *error)
{
    struct clickhouse_text name = {0};
    if (!(dead_letter_table ? plan->dead_letters.is_replicated : plan->schema->is_replicated)) {
        return true;
    }
    bool done = add_name(&name, plan, dead_letter_table)
        ? table_question_sync(question, name.at, error) || (dead_letter_table && clickhouse_error_no_table(error))
        : error_no_memory(error, "reading back");
    clickhouse_text_finish(&name);
    return done;
}

static bool has_noted(const struct read_back *of, const struct offset_ranges *rows)
{
    for (size_t i = 0; of->note && i < of->note->run_count; i++) {
        const struct view_run *run = &of->note->runs[i];
        if (run->partition != of->partition || strcmp(run->topic, of->topic) != 0) {
            continue;
        }
        for (size_t j = 0; j < rows->count; j++) {
            if (rows->items[j].first <= run->last && run->first < rows->items[j].after) {
                return true;
            }
        }
    }
    return false;
}

// How far the table and its dead letters reach, and where to begin without a committed offset.
static bool look_at_edges(struct table_question *question, const struct table_plan *plan, struct read_back *of,
    const char *dead_letters, struct relay_error *error)
{
    struct edges rows, dead;
    if (!read_edges(question, plan, of, NULL, of->from, &rows, error) ||
        !read_edges(question, plan, of, dead_letters, of->from, &dead, error)) {
        return error_prefix(error, "reading back the lowest and highest offset");
    }
    if (of->from == READ_BACK_NONE && (rows.any || dead.any)) {
        of->from = rows.lowest < dead.lowest ? rows.lowest : dead.lowest;
    }
    of->highest = rows.highest > dead.highest ? rows.highest : dead.highest;
    return true;
}

static bool look_back(const struct relay_context *context, struct table_question *question,
    const struct table_plan *plan, struct read_back *of, struct relay_error *error)
{
    const char *dead_letters = context->config->insert.dead_letter_table;
    struct offset_ranges rows = {0}, dead = {0};
    int64_t rows_through = INT64_MAX, dead_through = INT64_MAX;
    offset_ranges_finish(&of->found);
    of->through = INT64_MAX;
    of->highest = READ_BACK_NONE;
    of->has_noted = false;
    if (!sync_replica(question, plan, NULL, error) || !sync_replica(question, plan, dead_letters, error)) {
        return false;
    }
    if (of->from == READ_BACK_NONE) {
        bool told = look_at_edges(question, plan, of, dead_letters, error);
        if (!told || of->from == READ_BACK_NONE) {
            return told;
        }
    }
    struct mono_time start = clock_mono(context->clock);
    bool done = read_ranges(question, plan, of, NULL, &rows, &rows_through, error) &&
        read_ranges(question, plan, of, dead_letters, &dead, &dead_through, error);
    struct duration took = mono_since(clock_mono(context->clock), start);
    if (!done && was_too_much(error)) {
        look_at_less(plan, of, took, error);
    } else if (done && took.ns < QUICK.ns && span_of(of) < SPAN_MOST) {
        of->span = span_of(of) * 2 < SPAN_MOST ? span_of(of) * 2 : SPAN_MOST;
    }
    if (done) {
        of->has_noted = has_noted(of, &rows);
        done = offset_ranges_merge(&rows, &dead) || error_no_memory(error, "reading back");
    }
    offset_ranges_finish(&dead);
    if (!done) {
        offset_ranges_finish(&rows);
        return error_prefix(error, "reading back offsets");
    }
    of->found = rows;
    of->through = rows_through < dead_through ? rows_through : dead_through;
    if (of->through == INT64_MAX) {
        of->highest = of->found.count > 0 ? offset_ranges_after(&of->found) - 1 : READ_BACK_NONE;
    } else if (of->highest == READ_BACK_NONE && !of->highest_known) {
        return look_at_edges(question, plan, of, dead_letters, error);
    }
    return true;
}

bool read_back_offsets(const struct relay_context *context, struct clickhouse_client *client,
    const struct table_plan *plan, struct read_back *of, int *endpoint, struct relay_error *error)
{
    struct table_question question = {client, *endpoint};
    of->database = context->config->clickhouse.database;
    bool done = look_back(context, &question, plan, of, error);
    *endpoint = question.endpoint;
    return done;
}
