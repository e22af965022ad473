// SPDX-License-Identifier: Apache-2.0
//
// Happy path: what an earlier run has left under way is ended, once; for each partition among the messages one question
// for the offsets that are there; the others are encoded into one block; one INSERT, with the deadline after which the
// server does not start it any more.
//
// - The outcome is unknown (cut, timeout): until the server can no longer start it nothing is asked; then what still
//   runs is ended, the table is asked again and only what is missing is sent. A few rounds, with pauses. Also where the
//   operator ends the command meanwhile: the next run would ask too early. There only the waiting is left to the
//   operator, who is told.
// - It came too late to be started: nothing was done. The clocks are compared anew, and it is sent again.
// - The server refuses rows, or lacks memory for them, or a proxy finds them too large: the messages are divided until
//   those that it refuses stand alone. The table is asked again before each part, since rows of several table
//   partitions are not stored as one, and since it may be a view that has refused them: the server gives a block to the
//   views after the table has it.
// - The outcome is unknown and the INSERT took long: the same rows would take as long again. They are divided too, down
//   to the size at which this saves no time, and nothing larger is sent any more: each INSERT that is given up may
//   leave views behind.
// - The server refuses anything else: nothing is guessed; an error with its words.
// - A message does not fit the table: REFUSED with the encoder's or the server's reason, the others go on.
// - An INSERT did not end well, and its rows are there: a later run would find nothing to do, while views of the table
//   may have none of them. So they are told, and marked.
// - A replica that does not answer is passed over, unless it is the one that has the INSERT in doubt.
#include "relay/cli/refill.h"

#include "relay/base/backoff.h"
#include "relay/cli/guarded_insert.h"
#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/insert_limit.h"
#include "relay/insert/row_encoder.h"
#include "relay/insert/table_question.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 6
#define NOBODY (-1)

struct refill {
    const struct relay_context *context;
    struct clickhouse_client *client;
    struct config_route route; // a shallow copy, its table replaced
    char *table;
    struct table_schema *schema;
    struct row_encoder *encoder;
    struct native_block *block;
    char *statement;
    char name[512];
    struct guarded_insert insert;
    bool settled;                     // nothing runs, of this run or an earlier one
    int in_doubt;                     // the endpoint that may still run an INSERT of ours, or NOBODY
    struct mono_time may_start_until; // it may begin until then
    bool divides;                     // the operator knows why it takes longer
    struct insert_limit limit;        // of messages in one INSERT, after one that took too long
};

static bool compile_route(struct refill *refill, struct relay_error *error)
{
    struct table_findings findings = {0};
    refill->encoder = row_encoder_new(&refill->route, refill->schema, &findings, error);
    const struct table_finding *against = table_findings_against_exactly_once(&findings);
    bool done = refill->encoder && !against;
    if (!refill->encoder) {
        for (size_t i = 0; i < findings.count; i++) {
            fprintf(stderr, "route %s: %s; %s\n", refill->route.name, findings.items[i].what, findings.items[i].hint);
        }
        error_prefix(error, "route %s does not fit table %s", refill->route.name, refill->name);
    } else if (against) {
        error_set(error, RELAY_ERROR_CONFIG, "route %s: %s, so what table %s has already cannot be known",
            refill->route.name, against->what, refill->name);
    }
    table_findings_finish(&findings);
    return done;
}

static bool compile(struct refill *refill, struct relay_error *error)
{
    const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    refill->schema = table_schema_read(refill->client, &any, NULL, refill->table, error);
    if (!refill->schema) {
        return false; // whose text names the table
    }
    snprintf(refill->name, sizeof(refill->name), "%s.%s", refill->schema->database, refill->schema->table);
    if (!refill->schema->has_offset_columns) {
        return error_set(error, RELAY_ERROR_CONFIG,
            "table %s has no columns kafka_topic, kafka_partition and kafka_offset, so what it has already cannot be "
            "known",
            refill->name);
    }
    if (!compile_route(refill, error) ||
        !guarded_insert_init(&refill->insert, refill->context, refill->client, "refill", refill->name, error)) {
        return false;
    }
    refill->block = row_encoder_block(refill->encoder, error);
    refill->statement = refill->block ? row_encoder_statement(refill->encoder, refill->insert.has_input,
                                            guarded_insert_condition(&refill->insert), error)
                                      : NULL;
    return refill->statement != NULL;
}

struct refill *refill_open(const struct relay_context *context, struct clickhouse_client *client,
    const struct config_route *route, const char *table, struct relay_error *error)
{
    struct refill *refill = calloc(1, sizeof(*refill));
    if (!refill || !(refill->table = strdup(table ? table : route->table))) {
        error_no_memory(error, "preparing to fill a table");
        goto failed;
    }
    refill->context = context;
    refill->client = client;
    refill->in_doubt = NOBODY;
    insert_limit_init(&refill->limit);
    refill->route = *route;
    refill->route.table = refill->table;
    if (compile(refill, error)) {
        if (refill->schema->view_count > 0) {
            fprintf(stderr,
                "note: materialized views of %s (%zu) get each row that is written into it now, also those that they "
                "have from before\n",
                refill->name, refill->schema->view_count);
        }
        return refill;
    }

failed:
    refill_close(refill);
    return NULL;
}

void refill_close(struct refill *refill)
{
    if (!refill) {
        return;
    }
    free(refill->statement);
    native_block_free(refill->block);
    row_encoder_free(refill->encoder);
    table_schema_free(refill->schema);
    guarded_insert_finish(&refill->insert);
    free(refill->table);
    free(refill);
}

const char *refill_table(const struct refill *refill)
{
    return refill->name;
}

// What is there

static bool same_partition(const struct source_message *a, const struct source_message *b)
{
    return a->partition == b->partition && strcmp(a->topic, b->topic) == 0;
}

static bool build_question(const struct refill *refill, const struct source_message *messages, size_t count,
    size_t first, struct clickhouse_text *text)
{
    const struct source_message *one = &messages[first];
    int64_t low = one->offset, high = one->offset;
    for (size_t i = first; i < count; i++) {
        if (same_partition(&messages[i], one)) {
            low = messages[i].offset < low ? messages[i].offset : low;
            high = messages[i].offset > high ? messages[i].offset : high;
        }
    }
    bool done = clickhouse_text_add(text, "SELECT DISTINCT toString(kafka_offset) FROM ") &&
        table_schema_add_name(text, refill->schema) && clickhouse_text_add(text, " WHERE kafka_topic = ") &&
        clickhouse_text_literal(text, one->topic, strlen(one->topic)) &&
        clickhouse_text_add(text,
            " AND kafka_partition = %d AND kafka_offset >= %lld AND kafka_offset <= %lld AND kafka_offset IN (",
            (int)one->partition, (long long)low, (long long)high);
    for (size_t i = first; done && i < count; i++) {
        if (same_partition(&messages[i], one)) {
            done = clickhouse_text_add(text, i == first ? "%lld" : ",%lld", (long long)messages[i].offset);
        }
    }
    return done && clickhouse_text_add(text, ") UNION ALL SELECT " TABLE_QUESTION_LAST);
}

static int by_number(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

// Marks the messages of the partition of messages[first] that the table has.
static bool ask_partition(struct refill *refill, struct table_question *question, const struct source_message *messages,
    size_t count, size_t first, struct refill_result *results, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *found = NULL;
    bool done = build_question(refill, messages, count, first, &text)
        ? table_question_ask(question, text.at, &found, error) && table_question_whole(found, 1, error)
        : error_no_memory(error, "asking a table what it has");
    clickhouse_text_finish(&text);
    size_t rows = done ? clickhouse_result_rows(found) : 0, known = 0;
    int64_t *offsets = done ? calloc(rows, sizeof(*offsets)) : NULL;
    if (done && !offsets) {
        done = error_no_memory(error, "asking a table what it has");
    }
    for (size_t i = 0; done && i < rows; i++) {
        if (!table_question_is_last(clickhouse_result_text(found, i, 0, NULL))) {
            offsets[known++] = clickhouse_result_int(found, i, 0);
        }
    }
    clickhouse_result_free(found);
    if (done) {
        qsort(offsets, known, sizeof(*offsets), by_number);
    }
    for (size_t i = first; done && i < count; i++) {
        if (same_partition(&messages[i], &messages[first]) && results[i].state != REFILL_PRESENT) {
            bool there = bsearch(&messages[i].offset, offsets, known, sizeof(*offsets), by_number) != NULL;
            results[i].state = there ? REFILL_PRESENT : results[i].state;
            results[i].views_behind = there && results[i].in_doubt && refill->schema->view_count > 0;
            results[i].in_doubt = false;
        }
    }
    free(offsets);
    return done;
}

// The replica that answers may lag behind the one into which the daemon, or the round before, has inserted.
static bool catch_up(struct refill *refill, struct table_question *question, struct relay_error *error)
{
    struct clickhouse_text name = {0};
    if (!refill->schema->is_replicated) {
        return true;
    }
    bool done = table_schema_add_name(&name, refill->schema) ? table_question_sync(question, name.at, error)
                                                             : error_no_memory(error, "asking a table what it has");
    clickhouse_text_finish(&name);
    return done;
}

// *endpoint: who has answered.
static bool ask_all(struct refill *refill, const struct source_message *messages, size_t count,
    struct refill_result *results, int *endpoint, struct relay_error *error)
{
    struct table_question question = {refill->client, CLICKHOUSE_ANY_ENDPOINT};
    if (!catch_up(refill, &question, error)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        bool asked = false;
        for (size_t j = 0; j < i && !asked; j++) {
            asked = same_partition(&messages[i], &messages[j]);
        }
        if (!asked && !ask_partition(refill, &question, messages, count, i, results, error)) {
            return false;
        }
    }
    *endpoint = question.endpoint;
    return true;
}

// Sending

static bool encode(struct refill *refill, const struct source_message *messages, size_t count,
    struct refill_result *results, struct relay_error *error)
{
    native_block_reset(refill->block);
    for (size_t i = 0; i < count; i++) {
        if (results[i].state != REFILL_WRITTEN) {
            continue;
        }
        if (row_encoder_skips(refill->encoder, &messages[i])) {
            results[i].state = REFILL_SKIPPED;
            continue;
        }
        if (!row_encoder_add(refill->encoder, refill->block, &messages[i], &results[i].reason, error)) {
            if (results[i].reason == ENCODE_NONE) {
                return false;
            }
            results[i].state = REFILL_REFUSED;
            snprintf(results[i].text, sizeof(results[i].text), "%.511s", error->text);
        }
    }
    return true;
}

// Until no INSERT of ours can begin any more. false: the operator ends the command.
static bool await_starts(const struct refill *refill, struct relay_error *error)
{
    const struct clock *clock = refill->context->clock;
    return mono_reached(clock_mono(clock), refill->may_start_until) ||
        !stop_wait(refill->context->stop, clock, refill->may_start_until) ||
        error_set(error, RELAY_ERROR_STOPPED, "stopped");
}

static bool kill_inserts(struct refill *refill, struct relay_error *error)
{
    return guarded_insert_end(&refill->insert, refill->in_doubt, error) ||
        error_prefix(error, "ending an INSERT of unknown outcome");
}

// Whatever INSERT into this table still runs, of an attempt in doubt or of a run that was killed, is ended, so that the
// next question has a final answer.
static bool settle(struct refill *refill, struct relay_error *error)
{
    if (!refill->settled && (!await_starts(refill, error) || !kill_inserts(refill, error))) {
        return false;
    }
    refill->in_doubt = NOBODY;
    refill->settled = true;
    return true;
}

// What to do after an INSERT of a block, whatever became of it: that some of its rows may be there is told by in_doubt.
// DIVIDE: these rows will not do together; others, or fewer, may.
enum next_step { DONE, AGAIN, GIVE_UP, DIVIDE_REJECTED, DIVIDE_TOO_LARGE };

static enum next_step next_step_after(const struct relay_error *error)
{
    return error->class == RELAY_CLASS_RETRIABLE || error->class == RELAY_CLASS_UNKNOWN ? AGAIN : GIVE_UP;
}

// And a smaller one may not be. What is sent next follows it.
static bool is_too_slow(struct refill *refill, const struct clickhouse_outcome *outcome)
{
    return outcome->body_sent && insert_limit_took_too_long(refill->context, outcome->elapsed) &&
        insert_limit_too_slow(&refill->limit, native_block_rows(refill->block), native_block_bytes(refill->block));
}

// *may_be_there: of an INSERT that failed.
static enum next_step send_block(struct refill *refill, int endpoint, bool *may_be_there, struct relay_error *error)
{
    const struct relay_context *context = refill->context;
    struct clickhouse_outcome outcome = {.endpoint = NOBODY};
    struct mono_time end = mono_add(clock_mono(context->clock), insert_deadline_most(context));
    if (guarded_insert_send(&refill->insert, endpoint, refill->statement, refill->block, end, &outcome, error)) {
        return DONE;
    }
    if (insert_deadline_was_over(&outcome, error)) {
        return AGAIN;
    }
    *may_be_there = outcome.body_sent;
    if (next_step_after(error) == AGAIN && outcome.body_sent) {
        refill->settled = false;
        refill->in_doubt = outcome.endpoint;
        if (!clickhouse_outcome_is_answered(&outcome)) {
            refill->may_start_until = mono_add(end, INSERT_DEADLINE_SECOND);
        }
    }
    if (outcome.failure == CLICKHOUSE_BAD_ROW) {
        return DIVIDE_REJECTED;
    }
    enum next_step next = next_step_after(error);
    bool divides = outcome.failure == CLICKHOUSE_MEMORY || (next == AGAIN && is_too_slow(refill, &outcome));
    return divides ? DIVIDE_TOO_LARGE : next;
}

// Nothing of ours outlives the command: the next run would ask too early.
static bool give_up(struct refill *refill, struct relay_error *error)
{
    struct relay_error why = {0};
    if (refill->in_doubt == NOBODY) {
        return false;
    }
    bool awaited = await_starts(refill, &why);
    if (!kill_inserts(refill, &why)) {
        return error_prefix(error, "an INSERT may still run (%s), so wait before you try again", why.text);
    }
    if (!awaited) {
        struct duration left = mono_left(clock_mono(refill->context->clock), refill->may_start_until);
        return error_prefix(error, "an INSERT has no answer and may still begin, so wait %.0f s before you try again",
            duration_seconds(left) + 1);
    }
    return false;
}

static bool pause_round(const struct refill *refill, struct backoff *backoff, struct relay_error *error)
{
    const struct clock *clock = refill->context->clock;
    struct mono_time until = mono_add(clock_mono(clock), backoff_next(backoff));
    return !stop_wait(refill->context->stop, clock, until) || error_set(error, RELAY_ERROR_STOPPED, "stopped");
}

// The messages that the block holds are those that are still to be written.
static enum next_step send_rest(struct refill *refill, int endpoint, struct refill_result *results, size_t count,
    struct relay_error *error)
{
    bool may_be_there = false;
    enum next_step next = send_block(refill, endpoint, &may_be_there, error);
    for (size_t i = 0; i < count; i++) {
        if (results[i].state == REFILL_WRITTEN) {
            results[i].in_doubt = next != DONE && (results[i].in_doubt || may_be_there);
        }
    }
    return next;
}

static void refuse_rest(struct refill_result *results, size_t count, const struct relay_error *refusal)
{
    for (size_t i = 0; i < count; i++) {
        if (results[i].state == REFILL_WRITTEN) {
            results[i].state = REFILL_REFUSED;
            results[i].reason = ENCODE_REJECTED;
            results[i].in_doubt = false;
            snprintf(results[i].code, sizeof(results[i].code), "%d", refusal->detail);
            snprintf(results[i].text, sizeof(results[i].text), "%.511s", refusal->text);
        }
    }
}

// Once: each block of the command may be too large, for as long as the limit stays.
static void tell_divided(struct refill *refill, const struct relay_error *error)
{
    if (!refill->divides) {
        fprintf(stderr, "note: an INSERT into %s is sent in halves: %s\n", refill->name, error->text);
        refill->divides = true;
    }
}

// Calls itself, through write_halves(), with half as many messages each time.
static bool write_messages(struct refill *refill, const struct source_message *messages, size_t count, bool dry,
    struct refill_result *results, struct relay_error *error);

static bool write_halves(struct refill *refill, const struct source_message *messages, size_t count, bool dry,
    struct refill_result *results, struct relay_error *error)
{
    size_t half = count / 2;
    return write_messages(refill, messages, half, dry, results, error) &&
        write_messages(refill, messages + half, count - half, dry, results + half, error);
}

static bool write_messages(struct refill *refill, const struct source_message *messages, size_t count, bool dry,
    struct refill_result *results, struct relay_error *error)
{
    if (count > refill->limit.slow) {
        return write_halves(refill, messages, count, dry, results, error);
    }
    struct backoff backoff;
    struct relay_error refusal = {0}; // of the only row that is left
    backoff_init(&backoff, DURATION_MS(200), DURATION_S(5));
    for (int round = 1;; round++) {
        int endpoint = NOBODY;
        enum next_step next;
        if ((dry || settle(refill, error)) && ask_all(refill, messages, count, results, &endpoint, error)) {
            if (refusal.code != RELAY_ERROR_NONE) {
                refuse_rest(results, count, &refusal);
            }
            if (!encode(refill, messages, count, results, error)) {
                return false;
            }
            if (dry || native_block_rows(refill->block) == 0) {
                return true;
            }
            next = send_rest(refill, endpoint, results, count, error);
        } else {
            next = next_step_after(error);
        }
        if (next == DONE) {
            return true;
        }
        bool several = native_block_rows(refill->block) > 1;
        if (next == DIVIDE_REJECTED && !several) {
            refusal = *error;
            continue; // whether the table has it, or has refused it, says the next answer
        }
        if (next == DIVIDE_REJECTED || (next == DIVIDE_TOO_LARGE && several && pause_round(refill, &backoff, error))) {
            if (next == DIVIDE_TOO_LARGE) {
                tell_divided(refill, error);
            }
            return write_halves(refill, messages, count, dry, results, error);
        }
        if (next == GIVE_UP || round >= ROUNDS || !pause_round(refill, &backoff, error)) {
            return give_up(refill, error);
        }
    }
}

// Of each partition one line with the lowest and the highest offset.
static void tell_views_behind(const struct refill *refill, const struct source_message *messages, size_t count,
    const struct refill_result *results)
{
    for (size_t i = 0; i < count; i++) {
        int64_t low = INT64_MAX, high = -1;
        bool told = !results[i].views_behind;
        for (size_t j = 0; j < i && !told; j++) {
            told = results[j].views_behind && same_partition(&messages[i], &messages[j]);
        }
        for (size_t j = i; j < count && !told; j++) {
            if (results[j].views_behind && same_partition(&messages[i], &messages[j])) {
                low = messages[j].offset < low ? messages[j].offset : low;
                high = messages[j].offset > high ? messages[j].offset : high;
            }
        }
        if (!told) {
            fprintf(stderr,
                "%s [%d] offsets %lld to %lld: an INSERT into %s failed, so its materialized views may lack rows that "
                "it has: refill what they fill by hand\n",
                messages[i].topic, (int)messages[i].partition, (long long)low, (long long)high, refill->name);
        }
    }
}

bool refill_write(struct refill *refill, const struct source_message *messages, size_t count, bool dry,
    struct refill_result *results, struct relay_error *error)
{
    memset(results, 0, count * sizeof(*results));
    bool done = write_messages(refill, messages, count, dry, results, error);
    for (size_t i = 0; !done && i < count; i++) {
        results[i].views_behind = results[i].views_behind || (results[i].in_doubt && refill->schema->view_count > 0);
    }
    tell_views_behind(refill, messages, count, results);
    return done;
}
