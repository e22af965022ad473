// SPDX-License-Identifier: Apache-2.0
//
// What the daemon asks when a partition becomes its own, of offsets that no message has: rights that INSERTs do not
// need, and settings of the user's profile that refuse such questions, are otherwise found in a failover.
#include "relay/cli/check.h"

#include "relay/insert/read_back.h"
#include "relay/insert/table_question.h"

#define RUNS "SELECT count(query_id), " TABLE_QUESTION_LAST " FROM system.processes WHERE startsWith(query_id, 'none')"

static bool ask(struct check *check, struct clickhouse_client *client, int endpoint, const struct table_schema *schema,
    struct relay_error *error)
{
    const char *dead_letters = check->context->config->insert.dead_letter_table;
    const struct clickhouse_request request = {.endpoint = endpoint, .timeout = CHECK_TIMEOUT};
    struct clickhouse_result *result = NULL;
    // A plan is only read here.
    struct table_plan plan = {.schema = (struct table_schema *)(uintptr_t)schema};
    struct read_back of = {.target = schema->table, .topic = "", .from = INT64_MAX - 1};
    bool done = clickhouse_query(client, &request, RUNS, &result, NULL, error) &&
        table_question_whole(result, 2, error) &&
        dead_letter_table_read(client, &request, dead_letters, &plan.dead_letters, error) &&
        read_back_offsets(check->context, client, &plan, &of, &endpoint, error);
    clickhouse_result_free(result);
    offset_ranges_finish(&of.found);
    return done;
}

bool check_read_back(struct check *check, struct clickhouse_client *client, int endpoint, const char *what,
    const struct table_schema *schema, bool *lags)
{
    struct relay_error error;
    if (ask(check, client, endpoint, schema, &error)) {
        return true;
    }
    enum clickhouse_failure failure = clickhouse_failure_of(error.detail);
    bool stays = error.class == RELAY_CLASS_OPERATOR || failure == CLICKHOUSE_UNKNOWN_CODE;
    *lags = !stays;
    check_add(check->report, stays ? CHECK_FAIL : CHECK_WARN, what,
        error.detail == CLICKHOUSE_CODE_ACCESS_DENIED ? CHECK_GRANT_CLICKHOUSE : "",
        "what the table has could not be read back: %s", error.text);
    return false;
}
