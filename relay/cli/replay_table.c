// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the table's description is read, and where its engine merges rows away one question asked: has it rows?
// An empty table has had none that could be missed. It is asked once, before the first route writes.
//
// - Rows may be missing because they were merged, or because a TTL has removed them before views that have counted
//   them: refused, since nobody can take the rows out again. The operator who knows better says so.
// - A replica that lags would call the table empty: it is brought up to date first.
#include "relay/cli/replay_table.h"

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/table_findings.h"
#include "relay/insert/table_question.h"

#define MERGED                                                                                                         \
    "table %s.%s merges rows away (engine %.60s, or a TTL with GROUP BY): those rows would be written, and counted, "  \
    "again. Empty the table, or fill an empty copy and exchange the two, from the first message on; or say "           \
    "--allow-doubles if its engine can bear them"
#define EXPIRED                                                                                                        \
    "a TTL removes rows of table %s.%s: those that are gone would be written again, and its materialized views (%zu) " \
    "count them again. DETACH the views, or say --allow-doubles if no row of the time that you give has been removed"

static bool is_empty(struct table_question *question, const struct table_schema *schema, bool *empty,
    struct relay_error *error)
{
    struct clickhouse_text name = {0}, text = {0};
    struct clickhouse_result *found = NULL;
    bool done = (table_schema_add_name(&name, schema) &&
                    clickhouse_text_add(&text, "SELECT toString(count() > 0) FROM (SELECT 1 FROM %s LIMIT 1)",
                        name.at) &&
                    clickhouse_text_add(&text, " UNION ALL SELECT " TABLE_QUESTION_LAST)) ||
        error_no_memory(error, "asking a table what it has");
    done = done && (!schema->is_replicated || table_question_sync(question, name.at, error)) &&
        table_question_ask(question, text.at, &found, error) && table_question_whole(found, 1, error);
    for (size_t row = 0; done && row < clickhouse_result_rows(found); row++) {
        const char *cell = clickhouse_result_text(found, row, 0, NULL);
        *empty = table_question_is_last(cell) ? *empty : clickhouse_result_int(found, row, 0) == 0;
    }
    clickhouse_result_free(found);
    clickhouse_text_finish(&text);
    clickhouse_text_finish(&name);
    return done;
}

static bool judge(struct clickhouse_client *client, const struct table_schema *schema, struct relay_error *error)
{
    struct table_question question = {client, CLICKHOUSE_ANY_ENDPOINT};
    bool empty = false;
    if (table_schema_merges_rows(schema)) {
        return is_empty(&question, schema, &empty, error) &&
            (empty || error_set(error, RELAY_ERROR_CONFIG, MERGED, schema->database, schema->table, schema->engine));
    }
    return schema->view_count == 0 || !table_schema_ttl_removes_rows(schema) ||
        error_set(error, RELAY_ERROR_CONFIG, EXPIRED, schema->database, schema->table, schema->view_count);
}

bool replay_table_judge(const struct relay_context *context, const char *table, struct relay_error *error)
{
    const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_client *client = clickhouse_client_new(context, error);
    struct table_schema *schema = client ? table_schema_read(client, &any, NULL, table, error) : NULL;
    bool done = schema && judge(client, schema, error);
    table_schema_free(schema);
    clickhouse_client_free(client);
    return done;
}
