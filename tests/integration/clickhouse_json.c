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
        found = one("SELECT replaceAll(toString(a), char(0), '<NUL>') FROM j");
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
    clickhouse_text_add(&select, "SELECT replaceAll(toString(a), char(0), '<NUL>') FROM format(JSONEachRow, ");
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

// What PostgreSQL, Jackson, Go, Python and JavaScript write, and what is odd but taken by both.
Test(json, values_are_those_of_clickhouse)
{
    static const struct {
        const char *type, *json;
    } cases[] = {
        {"Int8", "\"-128\""},
        {"UInt64", "18446744073709551615"},
        {"Int32", "-0"},
        {"Int32", "1,\"z\":1e400"},
        {"Float32", "16777217"},
        {"Float32", "1.00000017881393421514957253748434595763683319091796875"},
        {"Float32", "7e-46"},
        {"Float64", "9007199254740992.5"},
        {"Float64", "1.7976931348623158e308"},
        {"Float64", "2.4703282292062328e-324"},
        {"Float64", "0.1111111111111111111111111111111111111111111111111111111111111111111111111111111111"},
        {"Float64", "\"-0\""},
        {"Float64", "1e-400"},
        {"Decimal(38, 10)", "-9999999999999999999999999999.9999999999"},
        {"Decimal(38, 10)", "1e27"},
        {"Decimal(9, 2)", "\"1e1\""},
        {"Decimal(9, 2)", "-0.00"},
        {"Bool", "0"},
        {"Array(Bool)", "[true,0]"},
        {"Enum8('1' = 2, '2' = 1)", "\"1\""},
        {"Enum8('1' = 2, '2' = 1)", "1"},
        {"Enum16('x y' = -5, '' = 7)", "\"\""},
        {"UUID", "\"61F0C404-5cb3-11e7-907b-a6006ad3dba0\""},
        {"IPv6", "\"1.2.3.4\""},
        {"IPv6", "\"1:2:3:4:5:6:1.2.3.4\""},
        {"FixedString(4)", "\"a\\u0000b\""},
        {"String", "\"\\ud83d\\ude00\\u0000\\/\\b\\uffff\""},
        {"String", "1.50"},
        {"String", "-1.0E+5"},
        {"String", "100000000000000000000"},
        {"String", "true"},
        {"String", "{ \"b\" : [1, 2.50, null], \"b\": \"\\u00e4\" }"},
        {"LowCardinality(Nullable(String))", "null"},
        {"LowCardinality(Nullable(String))", "\"null\""},
        {"Array(Nullable(Int32))", "[1,null,\"2\"]"},
        {"Array(Nullable(String))", "[1,null,false,\"\"]"},
        {"Array(String)", "[1,true,{\"a\":[1]},\"x\",[2]]"},
        {"Map(UInt64, String)", "{\"1\":\"a\",\"18446744073709551615\":1}"},
        {"Map(UUID, Int8)", "{\"61f0c404-5cb3-11e7-907b-a6006ad3dba0\":1}"},
        {"Map(DateTime64(3, 'UTC'), Int8)", "{\"2026-01-01 00:00:00\":1}"},
        {"Map(Enum8('a' = 1), Int8)", "{\"a\":1}"},
        {"Map(String, Map(String, Nullable(Int8)))", "{\"\\u0000\":{\"b\":null},\"\":{}}"},
        {"Tuple(a Int8, b Nullable(String))", "{\"b\":\"x\",\"c\":{\"d\":[]},\"a\":1}"},
        {"Tuple(a Int8, b Nullable(String))", "{\"a\":1}"},
        {"Tuple(Int8, String)", "[1,\"x\"]"},
        {"Array(Tuple(sku String, qty UInt32))", "[{\"qty\":1,\"sku\":\"a\"}]"},
        {"Date", "\"2149-06-06\""},
        {"Date32", "\"1900-01-01\""},
        {"DateTime('UTC')", "\"2026-01-01T10:00:00.5-00:30\""},
        {"DateTime64(3, 'UTC')", "\"2026-01-01T10:00:00.9999999999+02\""},
        {"DateTime64(3, 'UTC')", "\"1969-12-31 23:59:59.5\""},
        {"DateTime64(9, 'UTC')", "\"2262-04-11 23:47:16.854775807\""},
        {"DateTime64(9, 'UTC')", "-2208988800000000000"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *ours = by_us(cases[i].type, cases[i].json);
        char *theirs = by_clickhouse(cases[i].type, cases[i].json, "best_effort");
        cr_expect(ours && theirs && strcmp(ours, theirs) == 0, "%s %s: %s, and by ClickHouse %s (%s)", cases[i].type,
            cases[i].json, ours ? ours : "refused", theirs ? theirs : "refused", error.text);
        free(ours);
        free(theirs);
    }
}
