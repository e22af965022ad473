// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the rows of the note are counted, all are there; the windows of the table and of what its views fill
// cannot have forgotten the token since; INSERT ... SELECT of these rows, as one block, under the token.
// Cases:
// - none of the asker's rows is there: the INSERT was not executed. The server gives a block to the views after the
//   table has it, so no view has them either. Where the read-back has just found some, somebody drops rows, or it is
//   not one server that answers: an error;
// - some are missing, or there are more: the block lay over several partitions of the table and was stored in part, or
//   rows were deleted or inserted by others. A block of other rows under the same token could hide or double some: left
//   alone, and said;
// - the token may be forgotten, or not be recognised by the version that the server has by now, or a target exists on
//   one replica only: the same.
// The SELECT has a total order and gives one block: servers deduplicate INSERT ... SELECT only where the result is
// stable, and by the blocks that it comes in. Its deadline is for a relay that was frozen after it had looked at the
// windows, or has lost the partition: all rows may then be there because the next owner has inserted them.
#include "relay/insert/view_repeat.h"

#include "relay/base/test_points.h"
#include "relay/insert/insert_deadline.h"
#include "relay/insert/insert_token.h"

#include <stdio.h>
#include <string.h>

#define LAST_WORD     "outbox-relay: end"
#define START_SECONDS 10 // the server begins it within this time or not at all
#define CLOCK_SECONDS 60 // so far apart may the clocks of relay and server be
// ClickHouse 26.2 to 26.5 keep two hashes of each block in a plain table's window.
#define PLAIN_PLACES 2
#define WINDOW_SHARE 4 // so much of what came already may come while the INSERT is on its way: a quarter

static bool add_run(struct clickhouse_text *text, const struct view_run *run)
{
    return clickhouse_text_add(text, "(kafka_topic = ") &&
        clickhouse_text_literal(text, run->topic, strlen(run->topic)) &&
        clickhouse_text_add(text, " AND kafka_partition = %d AND kafka_offset BETWEEN %lld AND %lld)", run->partition,
            (long long)run->first, (long long)run->last);
}

static bool add_runs(struct clickhouse_text *text, const struct view_note *note)
{
    bool done = clickhouse_text_add(text, "(");
    for (size_t i = 0; done && i < note->run_count; i++) {
        done = clickhouse_text_add(text, "%s", i > 0 ? " OR " : "") && add_run(text, &note->runs[i]);
    }
    return done && clickhouse_text_add(text, ")");
}

// One row whose last column is the last word: nothing cut passes as an answer.
static bool ask(struct clickhouse_client *client, int *endpoint, struct duration limit, const char *statement,
    size_t columns, struct clickhouse_result **result, struct relay_error *error)
{
    static const struct clickhouse_setting room = {"max_query_size", "16777216"}; // there may be many partitions
    struct clickhouse_request request = {.endpoint = *endpoint,
        .timeout = limit,
        .settings = &room,
        .setting_count = 1};
    struct clickhouse_outcome outcome = {.endpoint = -1};
    if (!clickhouse_query(client, &request, statement, result, &outcome, error)) {
        return false;
    }
    *endpoint = outcome.endpoint;
    const char *word = clickhouse_result_rows(*result) == 1 ? clickhouse_result_text(*result, 0, columns - 1, NULL)
                                                            : NULL;
    if (word && strcmp(word, LAST_WORD) == 0) {
        return true;
    }
    clickhouse_result_free(*result);
    *result = NULL;
    return error_set_class(error, RELAY_ERROR_PROTOCOL, RELAY_CLASS_RETRIABLE, 0, "ClickHouse's answer is not whole");
}

// What the table has of the note, and the server's time.
struct there {
    uint64_t own, all;
    int64_t now;
};

static bool count_rows(struct clickhouse_client *client, int *endpoint, const struct table_plan *plan,
    const struct view_repeat *repeat, struct there *there, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    bool built = clickhouse_text_add(&text, "SELECT countIf(kafka_topic = ") &&
        clickhouse_text_literal(&text, repeat->topic, strlen(repeat->topic)) &&
        clickhouse_text_add(&text,
            " AND kafka_partition = %d), count(), toInt64(toUnixTimestamp(now())), '" LAST_WORD "' FROM ",
            repeat->partition) &&
        table_schema_add_name(&text, plan->schema) && clickhouse_text_add(&text, " WHERE ") &&
        add_runs(&text, repeat->note);
    struct duration limit = clickhouse_client_question_limit(client);
    bool done = built ? ask(client, endpoint, limit, text.at, 4, &result, error)
                      : error_no_memory(error, "counting rows");
    if (done) {
        *there = (struct there){.own = clickhouse_result_uint(result, 0, 0),
            .all = clickhouse_result_uint(result, 0, 1),
            .now = clickhouse_result_int(result, 0, 2)};
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done;
}

// What a table has seen: how many blocks since a moment, at most, and when it was last altered. Each block took one
// place in the window at the most. They are in the parts that were written or merged since then; a part that was merged
// holds older ones as well, but none that is newer than what was not touched. A window that was made smaller has
// forgotten what did not fit, and looks the same as ever once it is wide again.
struct seen {
    uint64_t blocks;
    int64_t altered;
};

static bool look(struct clickhouse_client *client, int *endpoint, const char *name, int64_t since, struct seen *seen,
    struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    bool built = clickhouse_text_add(&text,
                     "SELECT toUInt64(sum(least(blocks, newest - older))), ifNull((SELECT "
                     "max(toInt64(toUnixTimestamp(metadata_modification_time))) FROM system.tables WHERE "
                     "concat(database, '.', name) = ") &&
        clickhouse_text_literal(&text, name, strlen(name)) &&
        clickhouse_text_add(&text,
            "), toInt64(0)), '" LAST_WORD "' FROM (SELECT sumIf(last - first + 1, since) AS blocks, max(last) AS "
            "newest, if(countIf(NOT since) = 0, -1, maxIf(last, NOT since)) AS older FROM (SELECT partition_id, "
            "min_block_number AS first, max_block_number AS last, toUnixTimestamp(modification_time) >= %lld AS since "
            "FROM system.parts WHERE active AND concat(database, '.', table) = ",
            (long long)since) &&
        clickhouse_text_literal(&text, name, strlen(name)) && clickhouse_text_add(&text, ") GROUP BY partition_id)");
    bool done = built ? ask(client, endpoint, CLICKHOUSE_QUESTION_LIMIT, text.at, 3, &result, error)
                      : error_no_memory(error, "counting blocks");
    *seen = (struct seen){0};
    if (done) {
        *seen = (struct seen){clickhouse_result_uint(result, 0, 0), clickhouse_result_int(result, 0, 1)};
    }
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done;
}

// How many blocks a table has taken since `then` (table_schema.newest), at most. Where numbers went back, parts were
// dropped, and nobody knows.
static bool count_blocks(struct clickhouse_client *client, int *endpoint, const char *name, bool replicated,
    const char *then, uint64_t *blocks, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    bool built =
        clickhouse_text_add(&text,
            "SELECT if(min(newest - older) < 0, toUInt64(4294967295), toUInt64(sum(newest - older))), '" LAST_WORD
            "' FROM (SELECT %s AS place, max(max_block_number) AS newest, transform(place, %s, toInt64(-1)) AS "
            "older FROM system.parts WHERE concat(database, '.', table) = ",
            replicated ? "partition_id" : TABLE_ALL_PLACES, then) &&
        clickhouse_text_literal(&text, name, strlen(name)) && clickhouse_text_add(&text, " GROUP BY place)");
    bool done = built ? ask(client, endpoint, CLICKHOUSE_QUESTION_LIMIT, text.at, 2, &result, error)
                      : error_no_memory(error, "counting blocks");
    *blocks = done ? clickhouse_result_uint(result, 0, 0) : 0;
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done;
}

// A table, and how long it remembers a token: for so many blocks, and so many seconds.
struct memory {
    const char *name;
    int64_t blocks, seconds;
    bool replicated;
};

// What the table (target NULL), or that target, had before the INSERT. NULL: not known, as where each replica has
// numbers of its own and it was another that was read.
static const char *newest_before(const struct table_plan *before, const char *target, bool replicated, int endpoint)
{
    const struct table_schema *schema = before ? before->schema : NULL;
    if (!schema || (!replicated && endpoint != schema->endpoint)) {
        return NULL;
    }
    for (size_t i = 0; target && i < schema->view_count; i++) {
        if (strcmp(schema->views[i].target, target) == 0) {
            return schema->views[i].newest;
        }
    }
    return target ? NULL : schema->newest;
}

static void say_forgotten(struct view_repeat *repeat, const struct memory *memory)
{
    snprintf(repeat->why, sizeof(repeat->why), "%.100s may have forgotten its token (deduplication window %lld)",
        memory->name, (long long)memory->blocks);
}

// Whether a table's window surely still holds the token. false: an error.
static bool remembers(struct clickhouse_client *client, int *endpoint, const struct memory *memory, const char *then,
    struct view_repeat *repeat, uint64_t *blocks, bool *does, struct relay_error *error)
{
    struct seen seen = {0};
    bool done = then ? count_blocks(client, endpoint, memory->name, memory->replicated, then, &seen.blocks, error)
                     : look(client, endpoint, memory->name, repeat->note->sent - CLOCK_SECONDS, &seen, error);
    uint64_t places = memory->replicated ? seen.blocks : PLAIN_PLACES * seen.blocks;
    *blocks += seen.blocks;
    *does = done && places + places / WINDOW_SHARE < (uint64_t)memory->blocks &&
        (repeat->seen || seen.altered < repeat->note->sent);
    if (done && !*does) {
        say_forgotten(repeat, memory);
    }
    return done;
}

// How old the token is. ClickHouse counts from the newest block, so the sender does until it last saw one come.
static bool is_young(struct view_repeat *repeat, const struct memory *shortest, uint64_t blocks, int64_t now)
{
    if (repeat->seen && repeat->seen->blocks != blocks) {
        *repeat->seen = (struct view_seen){blocks, now};
    }
    int64_t end = repeat->seen ? repeat->seen->changed : now;
    bool young = end - repeat->note->sent < shortest->seconds / 2;
    if (!young) {
        say_forgotten(repeat, shortest);
    }
    return young;
}

// Whether the server, as it was when the last question was asked, looks for a hash that was kept of the token.
static bool recognises(struct clickhouse_client *client, int endpoint, struct view_repeat *repeat)
{
    struct clickhouse_server server;
    unsigned kept = repeat->seen ? repeat->hashes : insert_token_hashes(repeat->note->token);
    if ((kept & insert_token_kept(client, endpoint)) != 0) {
        return true;
    }
    bool told = clickhouse_server_known(client, endpoint, &server);
    snprintf(repeat->why, sizeof(repeat->why),
        "ClickHouse %.31s does not recognise its token: it was upgraded, or went back, past the versions 26.2 to 26.5",
        told ? server.version : "");
    return false;
}

static bool all_remember(struct clickhouse_client *client, int *endpoint, const struct table_plan *plan,
    struct view_repeat *repeat, int64_t now, bool *all, struct relay_error *error)
{
    const struct table_schema *schema = plan->schema;
    struct clickhouse_text name = {0};
    uint64_t blocks = 0;
    bool done = clickhouse_text_add(&name, "%s.%s", schema->database, schema->table) ||
        error_no_memory(error, "counting blocks");
    struct memory memory = {name.at, schema->dedup_window, schema->dedup_seconds, schema->is_replicated};
    struct memory shortest = memory;
    done = done &&
        remembers(client, endpoint, &memory, newest_before(repeat->before, NULL, memory.replicated, *endpoint), repeat,
            &blocks, all, error);
    for (size_t i = 0; done && *all && i < schema->view_count; i++) {
        const struct table_view_target *view = &schema->views[i];
        if (!view->is_mergetree) {
            continue; // it keeps nothing
        }
        if (!repeat->seen && !view->is_replicated && clickhouse_client_endpoints(client) > 1) {
            *all = false;
            snprintf(repeat->why, sizeof(repeat->why), "%.100s is not replicated, so another replica may have it",
                view->target);
            break;
        }
        memory = (struct memory){view->target, view->dedup_window, view->dedup_seconds, view->is_replicated};
        shortest = memory.seconds < shortest.seconds ? memory : shortest;
        done = remembers(client, endpoint, &memory,
            newest_before(repeat->before, view->target, view->is_replicated, *endpoint), repeat, &blocks, all, error);
    }
    *all = done && *all && is_young(repeat, &shortest, blocks, now) && recognises(client, *endpoint, repeat);
    clickhouse_text_finish(&name);
    return done;
}

bool view_repeat_is_known(struct clickhouse_client *client, int endpoint, const struct table_plan *plan,
    struct view_repeat *repeat, int64_t now, bool *known, struct relay_error *error)
{
    clickhouse_server_doubt(client, endpoint);
    return all_remember(client, &endpoint, plan, repeat, now, known, error) ||
        error_prefix(error, "judging deduplication windows");
}

bool view_repeat_has_none(struct clickhouse_client *client, int endpoint, const struct table_plan *plan,
    const struct view_note *note, bool *none, struct relay_error *error)
{
    struct view_repeat repeat = {.note = note, .topic = note->runs[0].topic, .partition = note->runs[0].partition};
    struct there there;
    bool done = count_rows(client, &endpoint, plan, &repeat, &there, error);
    *none = done && there.all == 0;
    return done;
}

// Every column that can be written, as stored.
static bool add_columns(struct clickhouse_text *text, const struct table_schema *schema)
{
    bool done = true, any = false;
    for (size_t i = 0; done && i < schema->column_count; i++) {
        const struct table_column *column = &schema->columns[i];
        if (column->default_kind == TABLE_DEFAULT_NONE || column->default_kind == TABLE_DEFAULT) {
            done = clickhouse_text_add(text, any ? ", " : "") && clickhouse_text_name(text, column->name);
            any = true;
        }
    }
    return done;
}

static bool add_statement(struct clickhouse_text *text, const struct table_plan *plan, const struct view_note *note)
{
    return clickhouse_text_add(text, "INSERT INTO ") && table_schema_add_name(text, plan->schema) &&
        clickhouse_text_add(text, " (") && add_columns(text, plan->schema) && clickhouse_text_add(text, ") SELECT ") &&
        add_columns(text, plan->schema) && clickhouse_text_add(text, " FROM ") &&
        table_schema_add_name(text, plan->schema) && clickhouse_text_add(text, " WHERE ") && add_runs(text, note) &&
        clickhouse_text_add(text, " AND " INSERT_DEADLINE_GUARD " ORDER BY kafka_topic, kafka_partition, kafka_offset");
}

static bool send(struct clickhouse_client *client, int endpoint, const struct view_repeat *repeat,
    const char *statement, struct relay_error *error)
{
    // The SELECT as one block, too.
    const struct clickhouse_setting settings[] = {{"insert_deduplication_token", repeat->note->token},
        {"insert_select_deduplicate", "1"}, {"max_block_size", "4194304"}, {"preferred_block_size_bytes", "0"},
        {"max_bytes_before_external_sort", "0"}, {"max_bytes_ratio_before_external_sort", "0"}, {"max_threads", "1"}};
    struct clickhouse_request request = {.endpoint = endpoint,
        .query_id = repeat->query_id,
        .timeout = repeat->timeout,
        .inserts = true,
        .while_stopping = true, // else the stop would leave it running in the server, and nobody would know its id
        .settings = settings,
        .setting_count = sizeof(settings) / sizeof(settings[0])};
    struct clickhouse_outcome outcome;
    bool done = clickhouse_query(client, &request, statement, NULL, &outcome, error);
    bool late = !done && insert_deadline_was_over(&outcome, error);
    repeat->end(repeat->context, done || clickhouse_outcome_is_answered(&outcome), late);
    if (done) {
        return true;
    }
    switch (outcome.failure) {
    case CLICKHOUSE_OPERATOR:
    case CLICKHOUSE_SCHEMA_DRIFT:
    case CLICKHOUSE_BAD_ROW:
    case CLICKHOUSE_MEMORY:
    case CLICKHOUSE_UNKNOWN_CODE: error->class = late ? RELAY_CLASS_RETRIABLE : RELAY_CLASS_OPERATOR; break;
    case CLICKHOUSE_OUTCOME_UNKNOWN:
    case CLICKHOUSE_TRANSIENT:
    case CLICKHOUSE_NOT_SENT:
    case CLICKHOUSE_BACK_PRESSURE:
    case CLICKHOUSE_DONE:
    case CLICKHOUSE_FAILURES: error->class = RELAY_CLASS_RETRIABLE; break;
    }
    return false;
}

bool view_repeat(struct clickhouse_client *client, const struct table_plan *plan, struct view_repeat *repeat,
    struct relay_error *error)
{
    int endpoint = repeat->endpoint;
    struct there there;
    bool all_know;
    repeat->result = VIEW_REPEAT_CANNOT;
    clickhouse_server_doubt(client, endpoint);
    if (!count_rows(client, &endpoint, plan, repeat, &there, error)) {
        return error_prefix(error, "looking for the rows of a former owner's INSERT");
    }
    if (there.own == 0 && repeat->found) {
        return error_set_class(error, RELAY_ERROR_PROTOCOL, RELAY_CLASS_RETRIABLE, 0,
            "%s: the rows of a former owner's INSERT were there, and are not any more: the table is read back again",
            clickhouse_client_url(client, endpoint));
    }
    if (there.own == 0) {
        repeat->result = VIEW_REPEAT_NOTHING;
        return true;
    }
    if (there.all != repeat->note->rows) {
        snprintf(repeat->why, sizeof(repeat->why), "the table has %llu rows where the INSERT had %llu",
            (unsigned long long)there.all, (unsigned long long)repeat->note->rows);
        return true;
    }
    if (!all_remember(client, &endpoint, plan, repeat, there.now, &all_know, error)) {
        return error_prefix(error, "judging deduplication windows");
    }
    if (!all_know) {
        return true;
    }
    TEST_POINT(INSERT_BEFORE_VIEW_REPEAT);
    struct clickhouse_text text = {0};
    int64_t deadline = there.now + START_SECONDS;
    bool done = (add_statement(&text, plan, repeat->note) || error_no_memory(error, "completing views")) &&
        repeat->begin(repeat->context, endpoint, &deadline, error);
    if (done) {
        insert_deadline_set(text.at, deadline);
        done = send(client, endpoint, repeat, text.at, error);
    }
    clickhouse_text_finish(&text);
    if (done) {
        TEST_POINT(INSERT_AFTER_VIEW_REPEAT);
        repeat->result = VIEW_REPEAT_DONE;
    }
    return done || error_prefix(error, "completing views after a former owner's INSERT");
}
