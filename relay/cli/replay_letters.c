// SPDX-License-Identifier: Apache-2.0
//
// Happy path: an INSERT that an earlier run has left under way is ended, once; so many refused messages at a time, one
// question which of them have a letter; the others as one block. Failures: the server's own, with the table's name in
// front. An INSERT without an answer is not repeated here: the error says how long it may still begin.
#include "relay/cli/replay_letters.h"

#include "relay/cli/guarded_insert.h"
#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/dead_letter_block.h"
#include "relay/insert/dead_letter_table.h"
#include "relay/insert/table_question.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY    (-1)
#define AT_A_TIME 500 // keeps the question below ClickHouse's limit of 256 KiB

struct replay_letters {
    struct clickhouse_client *client;
    const char *table, *target;
    struct dead_letter_table found;
    struct dead_letter_block *block;
    char *statement;
    struct guarded_insert insert;
    bool settled; // nothing runs of an earlier run
};

struct replay_letters *replay_letters_open(const struct relay_context *context, struct clickhouse_client *client,
    const char *target, struct relay_error *error)
{
    const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    const char *table = context->config->insert.dead_letter_table;
    struct replay_letters *letters = calloc(1, sizeof(*letters));
    if (!letters) {
        error_no_memory(error, "preparing to write dead letters");
        return NULL;
    }
    letters->client = client;
    letters->table = table;
    letters->target = target;
    if (!dead_letter_table_read(client, &any, table, &letters->found, error) ||
        !guarded_insert_init(&letters->insert, context, client, "letters", table, error)) {
        goto failed;
    }
    letters->block = dead_letter_block_new(letters->found.has_timestamp, error);
    letters->statement = letters->block ? dead_letter_statement(letters->block, table, letters->insert.has_input,
                                              guarded_insert_condition(&letters->insert), error)
                                        : NULL;
    if (letters->statement) {
        return letters;
    }

failed:
    replay_letters_close(letters);
    return NULL;
}

void replay_letters_close(struct replay_letters *letters)
{
    if (!letters) {
        return;
    }
    free(letters->statement);
    dead_letter_block_free(letters->block);
    guarded_insert_finish(&letters->insert);
    free(letters);
}

// What the answer calls a message.
static void name_of(const struct source_message *message, char *name, size_t room)
{
    snprintf(name, room, "%s %d %lld", message->topic, (int)message->partition, (long long)message->offset);
}

static bool build_question(const struct replay_letters *letters, const struct source_message *const *refused,
    size_t count, struct clickhouse_text *text)
{
    bool done = clickhouse_text_add(text,
                    "SELECT DISTINCT concat(kafka_topic, ' ', toString(kafka_partition), ' ', toString(kafka_offset)) "
                    "FROM ") &&
        clickhouse_text_table(text, letters->table) && clickhouse_text_add(text, " WHERE target IN (") &&
        clickhouse_text_spellings(text, letters->target, letters->insert.context->config->clickhouse.database) &&
        clickhouse_text_add(text, ") AND (kafka_topic, kafka_partition, kafka_offset) IN (");
    for (size_t i = 0; done && i < count; i++) {
        done = clickhouse_text_add(text, i == 0 ? "(" : ", (") &&
            clickhouse_text_literal(text, refused[i]->topic, strlen(refused[i]->topic)) &&
            clickhouse_text_add(text, ", %d, %lld)", (int)refused[i]->partition, (long long)refused[i]->offset);
    }
    return done && clickhouse_text_add(text, ") UNION ALL SELECT " TABLE_QUESTION_LAST);
}

// *found: the answer, the caller's. *endpoint: who gave it.
static bool ask(struct replay_letters *letters, const struct source_message *const *refused, size_t count,
    struct clickhouse_result **found, int *endpoint, struct relay_error *error)
{
    struct table_question question = {letters->client, CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_text text = {0};
    bool done = true;
    if (letters->found.is_replicated) { // the replica that answers may lag behind
        done = clickhouse_text_table(&text, letters->table) ? table_question_sync(&question, text.at, error)
                                                            : error_no_memory(error, "asking for dead letters");
        clickhouse_text_reset(&text);
    }
    if (done) {
        done = build_question(letters, refused, count, &text)
            ? table_question_ask(&question, text.at, found, error) && table_question_whole(*found, 1, error)
            : error_no_memory(error, "asking for dead letters");
    }
    clickhouse_text_finish(&text);
    *endpoint = question.endpoint;
    return done;
}

static bool has_letter(const struct clickhouse_result *found, const struct source_message *message)
{
    char name[320]; // Kafka's topics have 249 characters at most
    name_of(message, name, sizeof(name));
    for (size_t i = 0; i < clickhouse_result_rows(found); i++) {
        if (strcmp(clickhouse_result_text(found, i, 0, NULL), name) == 0) {
            return true;
        }
    }
    return false;
}

static bool settle(struct replay_letters *letters, struct relay_error *error)
{
    letters->settled = letters->settled || guarded_insert_end(&letters->insert, NOBODY, error);
    return letters->settled || error_prefix(error, "ending an INSERT of an earlier run");
}

static bool send_block(struct replay_letters *letters, int endpoint, struct relay_error *error)
{
    const struct relay_context *context = letters->insert.context;
    struct duration most = insert_deadline_most(context);
    struct clickhouse_outcome outcome = {.endpoint = endpoint};
    return guarded_insert_send(&letters->insert, endpoint, letters->statement, dead_letter_block_rows(letters->block),
               mono_add(clock_mono(context->clock), most), &outcome, error) ||
        (outcome.body_sent && !clickhouse_outcome_is_answered(&outcome) &&
            error_prefix(error, "an INSERT has no answer and may still begin, so wait %.0f s before you try again",
                duration_seconds(most) + 1));
}

static bool write_some(struct replay_letters *letters, const struct source_message *const *refused,
    const struct refill_result *const *why, size_t count, size_t *written, struct relay_error *error)
{
    struct clickhouse_result *found = NULL;
    int endpoint;
    bool done = settle(letters, error) && ask(letters, refused, count, &found, &endpoint, error);
    struct native_block *rows = dead_letter_block_rows(letters->block);
    native_block_reset(rows);
    for (size_t i = 0; done && i < count; i++) {
        done = has_letter(found, refused[i]) ||
            dead_letter_block_add(letters->block, letters->target, refused[i], encode_reason_name(why[i]->reason),
                why[i]->code, why[i]->text, error);
    }
    clickhouse_result_free(found);
    if (done && native_block_rows(rows) > 0) {
        done = send_block(letters, endpoint, error);
        *written += done ? native_block_rows(rows) : 0;
    }
    if (!done && clickhouse_error_no_table(error)) { // ClickHouse answers with the whole question
        error_set(error, RELAY_ERROR_CLICKHOUSE_OPERATOR,
            "it does not exist: run `outbox-relay migrate clickhouse up`");
    }
    return done || error_prefix(error, "dead-letter table %s", letters->table);
}

bool replay_letters_write(struct replay_letters *letters, const struct source_message *messages,
    const struct refill_result *results, size_t count, size_t *written, struct relay_error *error)
{
    const struct source_message *refused[AT_A_TIME];
    const struct refill_result *why[AT_A_TIME];
    size_t some = 0;
    for (size_t i = 0; i < count; i++) {
        if (results[i].state == REFILL_REFUSED) {
            refused[some] = &messages[i];
            why[some++] = &results[i];
        }
        if (some == AT_A_TIME || (some > 0 && i + 1 == count)) {
            if (!write_some(letters, refused, why, some, written, error)) {
                return false;
            }
            some = 0;
        }
    }
    return true;
}
