// SPDX-License-Identifier: Apache-2.0
//
// The encoder beside ClickHouse's own reading of JSON: what both take must be the same value. Run by
// test_clickhouse_engine.py.
#include "engine_fixture.h"

TestSuite(json, .init = engine_setup, .fini = engine_teardown);

// What the column has after the encoder's INSERT; NULL: the encoder refuses the value. The caller frees it.
static char *by_us(const char *type, const char *json)
{
    struct clickhouse_text create = {0}, payload = {0};
    static char name[] = "a", source[] = "$.a", route_name[] = "j";
    struct config_pair pair = {.name = name, .value = source};
    struct config_route route = {.name = route_name, .columns = &pair, .column_count = 1};
    clickhouse_text_add(&create, "CREATE OR REPLACE TABLE j (a %s) ENGINE = MergeTree ORDER BY tuple()", type);
    clickhouse_text_add(&payload, "{\"a\":%s}", json);
    run(create.at);
    struct table_schema *schema = schema_of("j");
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    struct native_block *block = row_encoder_block(encoder, &error);
    struct source_message message = {.topic = "t", .value = payload.at, .value_length = payload.length};
    enum encode_reason reason;
    struct clickhouse_outcome outcome;
    char *found = NULL;
    if (row_encoder_add(encoder, block, &message, &reason, &error)) {
        cr_assert(insert(encoder, block, NULL, NULL, &outcome), "%s %s: %s", type, json, error.text);
        found = one("SELECT toString(a) FROM j");
    }
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
    clickhouse_text_finish(&create);
    clickhouse_text_finish(&payload);
    return found;
}

// What ClickHouse makes of it; NULL: it refuses the value. The caller frees it.
static char *by_clickhouse(const char *type, const char *json, const char *times)
{
    struct clickhouse_text column = {0}, payload = {0}, select = {0};
    struct clickhouse_setting setting = {"date_time_input_format", times};
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .settings = &setting, .setting_count = 1};
    struct clickhouse_result *result = NULL;
    clickhouse_text_add(&column, "a %s", type);
    clickhouse_text_add(&payload, "{\"a\":%s}", json);
    clickhouse_text_add(&select, "SELECT toString(a) FROM format(JSONEachRow, ");
    clickhouse_text_literal(&select, column.at, column.length);
    clickhouse_text_add(&select, ", ");
    clickhouse_text_literal(&select, payload.at, payload.length);
    clickhouse_text_add(&select, ")");
    char *found = NULL;
    if (clickhouse_query(client, &request, select.at, &result, NULL, &error)) {
        const char *text = clickhouse_result_text(result, 0, 0, NULL);
        found = strdup(text ? text : "NULL");
        clickhouse_result_free(result);
    }
    clickhouse_text_finish(&column);
    clickhouse_text_finish(&payload);
    clickhouse_text_finish(&select);
    return found;
}

enum rule { BASIC = 1, BEST_EFFORT = 2, BOTH = 3 };

// Each of them is taken, and means the same in ClickHouse by that rule for numbers in strings.
Test(json, epochs_are_those_of_clickhouse)
{
    static const struct {
        const char *type, *json;
        enum rule rule;
    } cases[] = {
        {"DateTime64(3, 'UTC')", "1700000000", BOTH},
        {"DateTime64(3, 'UTC')", "-1", BOTH},
        {"DateTime64(3, 'UTC')", "\"1700000000\"", BOTH},
        {"DateTime64(6, 'UTC')", "\"1700000000\"", BOTH},
        {"DateTime64(9, 'UTC')", "\"1700000000\"", BOTH},
        {"DateTime64(0, 'UTC')", "\"1700000000\"", BOTH},
        {"DateTime64(3, 'UTC')", "\"100000000\"", BOTH},
        {"DateTime64(3, 'UTC')", "\"9908870399\"", BOTH},
        {"DateTime64(3, 'UTC')", "\"12345\"", BASIC},
        {"DateTime64(3, 'UTC')", "\"99999999\"", BASIC},
        {"DateTime64(3, 'UTC')", "\"-5\"", BASIC},
        {"DateTime64(3, 'UTC')", "\"-2208988800\"", BASIC},
        {"DateTime64(3, 'UTC')", "\"1700000000123\"", BOTH},
        {"DateTime64(6, 'UTC')", "\"1700000000123456\"", BOTH},
        {"DateTime64(9, 'UTC')", "\"1700000000123456789\"", BOTH},
        {"DateTime64(6, 'UTC')", "\"1700000000123\"", BEST_EFFORT},
        {"DateTime64(3, 'UTC')", "\"1700000000123456\"", BEST_EFFORT},
        {"DateTime64(0, 'UTC')", "\"1700000000123456789\"", BEST_EFFORT},
        {"DateTime64(6, 'UTC')", "\"946684800123456\"", BASIC},
        {"DateTime64(9, 'UTC')", "\"946684800123456789\"", BASIC},
        {"DateTime64(3, 'UTC')", "\"1700000000.5\"", BOTH},
        {"DateTime64(6, 'UTC')", "\"1700000000.123456789123\"", BOTH},
        {"DateTime64(3, 'UTC')", "\"-1700000000.5\"", BASIC},
        {"DateTime('UTC')", "1700000000", BOTH},
        {"DateTime('UTC')", "\"1700000000\"", BOTH},
        {"DateTime('UTC')", "\"12345\"", BASIC},
        {"Date", "19000", BOTH},
        {"Date32", "-19000", BOTH},
    };
    static const char *const names[] = {"basic", "best_effort"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *ours = by_us(cases[i].type, cases[i].json);
        cr_assert_not_null(ours, "%s %s: %s", cases[i].type, cases[i].json, error.text);
        for (unsigned rule = BASIC; rule <= BEST_EFFORT; rule++) {
            char *theirs = cases[i].rule & rule ? by_clickhouse(cases[i].type, cases[i].json, names[rule - 1]) : NULL;
            cr_expect(!(cases[i].rule & rule) || (theirs && strcmp(ours, theirs) == 0), "%s %s: %s, and by %s %s",
                cases[i].type, cases[i].json, ours, names[rule - 1], theirs ? theirs : error.text);
            free(theirs);
        }
        free(ours);
    }
}
