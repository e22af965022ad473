// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/table_question.h"

#include "relay/clickhouse/clickhouse_text.h"

#include <string.h>

#define SYNC_TIMEOUT CLICKHOUSE_QUESTION_LIMIT
#define SYNC_LIMIT   "25" // seconds, below SYNC_TIMEOUT: the server itself ends the waiting, and says so

static bool ask(struct table_question *question, struct clickhouse_request *request, const char *statement,
    struct clickhouse_result **result, struct relay_error *error)
{
    struct clickhouse_outcome outcome = {.endpoint = -1};
    request->endpoint = question->endpoint;
    bool done = clickhouse_query(question->client, request, statement, result, &outcome, error);
    if (done && outcome.endpoint >= 0) {
        question->endpoint = outcome.endpoint;
    }
    return done;
}

bool table_question_ask(struct table_question *question, const char *statement, struct clickhouse_result **result,
    struct relay_error *error)
{
    struct clickhouse_request request = {.timeout = clickhouse_client_question_limit(question->client)};
    return ask(question, &request, statement, result, error);
}

bool table_question_sync(struct table_question *question, const char *name, struct relay_error *error)
{
    static const struct clickhouse_setting limit = {"receive_timeout", SYNC_LIMIT};
    struct clickhouse_request request = {.timeout = SYNC_TIMEOUT,
        .waits = true,
        .settings = &limit,
        .setting_count = 1};
    struct clickhouse_text text = {0};
    // LIGHTWEIGHT (23.4): not for merges and mutations, which may take hours and bring no rows.
    bool done = clickhouse_text_add(&text, "SYSTEM SYNC REPLICA %s LIGHTWEIGHT", name)
        ? ask(question, &request, text.at, NULL, error) || error_prefix(error, "bringing the replica up to date")
        : error_no_memory(error, "asking a table what it has");
    clickhouse_text_finish(&text);
    return done;
}

bool table_question_is_last(const char *cell)
{
    return cell && strlen(cell) == strlen(TABLE_QUESTION_LAST) - 2 &&
        strncmp(cell, &TABLE_QUESTION_LAST[1], strlen(cell)) == 0;
}

bool table_question_whole(const struct clickhouse_result *result, size_t columns, struct relay_error *error)
{
    size_t found = 0, rows = clickhouse_result_rows(result);
    for (size_t row = 0; clickhouse_result_columns(result) == columns && row < rows; row++) {
        found += table_question_is_last(clickhouse_result_text(result, row, columns - 1, NULL));
    }
    return found == 1 ||
        error_set_class(error, RELAY_ERROR_PROTOCOL, RELAY_CLASS_RETRIABLE, 0,
            "ClickHouse's answer is not whole, as with a full disk");
}
