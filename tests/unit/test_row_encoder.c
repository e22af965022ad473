// SPDX-License-Identifier: Apache-2.0
//
// From messages to rows by routes: what fits, what is refused and with which words. The bytes of accepted rows are
// judged by the engine in the integration tests; here a few golden ones.
#include "encoder_fixture.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>

static struct table_schema *schema;
static struct row_encoder *encoder;
static struct native_block *block;
static enum encode_reason reason;
static struct relay_error error;

static void compile(const char *const *columns, const char *const *pairs)
{
    struct config_pair room[32];
    struct config_route route = fixture_route(pairs, room);
    schema = fixture_schema(columns);
    encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    block = row_encoder_block(encoder, &error);
    cr_assert_not_null(block);
}

static void finish(void)
{
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

static const struct source_header headers[] = {{"event_id", "00112233-4455-6677-8899-aabbccddeeff", 36},
    {"event_type", "order.created", 13}, {"aggregate_type", "order", 5}, {"aggregate_id", "a-1", 3},
    {"created_at", "2026-03-01T12:34:56.123456Z", 27}, {"seq", "42", 2}, {"empty", NULL, 0}, {"seq", "43", 2}};

static struct source_message message_of(const char *value)
{
    return (struct source_message){.topic = "nova.order.events",
        .partition = 3,
        .offset = 77,
        .timestamp_ms = 1772368496123,
        .key = "k",
        .key_length = 1,
        .value = value,
        .value_length = value ? strlen(value) : 0,
        .headers = headers,
        .header_count = sizeof(headers) / sizeof(headers[0])};
}

static bool add(const char *value)
{
    struct source_message message = message_of(value);
    return row_encoder_add(encoder, block, &message, &reason, &error);
}

// The data of the block's single column.
static void expect_data(const char *bytes, size_t length)
{
    size_t count;
    const struct iovec *pieces = native_block_body(block, &count, NULL);
    cr_assert_eq(count, 3);
    cr_assert_eq(pieces[2].iov_len, length, "%zu bytes", pieces[2].iov_len);
    cr_assert_arr_eq(pieces[2].iov_base, bytes, length);
}

Test(row_encoder, the_default_route)
{
    static const char *const columns[] = {"event_id", "UUID", "event_type", "LowCardinality(String)", "aggregate_type",
        "LowCardinality(String)", "aggregate_id", "String", "payload", "String", "created_at", "DateTime64(6, 'UTC')",
        "seq", "UInt64", "kafka_topic", "LowCardinality(String)", "kafka_partition", "Int32", "kafka_offset", "Int64",
        NULL};
    compile(columns, (const char *const[]){NULL});
    cr_assert(row_encoder_reads_headers(encoder));
    cr_assert(add("{\"a\":1}"), "%s", error.text);
    cr_assert(add(NULL), "a tombstone is an empty payload: %s", error.text);
    cr_assert_eq(native_block_rows(block), 2);
    char *statement = row_encoder_statement(encoder, true, "1 = 1", &error);
    cr_assert_not_null(strstr(statement, "INSERT INTO `db`.`t` (`event_id`, "), "%s", statement);
    cr_assert_not_null(strstr(statement, " FROM input('`event_id` UUID, `event_type` String, "), "%s", statement);
    cr_assert_not_null(strstr(statement, "\\'UTC\\'"), "%s", statement);
    cr_assert_not_null(strstr(statement, ") WHERE 1 = 1 FORMAT Native"), "%s", statement);
    free(statement);
    struct source_message message = message_of("{}");
    message.header_count = 0;
    cr_assert_not(row_encoder_add(encoder, block, &message, &reason, &error));
    cr_assert_eq(reason, ENCODE_MISSING_HEADER);
    cr_assert_eq(error.class, RELAY_CLASS_POISON);
    cr_assert_str_eq(error.text,
        "column event_id (UUID) from header.event_id: a header that the route needs is not there");
    cr_assert_eq(native_block_rows(block), 2);
    finish();
}

static void compile_tombstones(enum config_tombstones tombstones)
{
    static const char *const columns[] = {"a", "Int32", "b", "Nullable(String)", "c", "String", "d", "UInt8", NULL};
    static const char *const pairs[] = {"a", "$.a", "b", "$.b", "c", "kafka.value", "d",
        "header.event_type: order.created=7", NULL};
    struct config_pair room[32];
    struct config_route route = fixture_route(pairs, room);
    route.tombstones = tombstones;
    schema = fixture_schema(columns);
    encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    block = row_encoder_block(encoder, &error);
}

Test(row_encoder, a_message_without_value_is_what_the_route_says)
{
    const struct source_message tombstone = message_of(NULL), incomplete = message_of("{\"b\": \"x\"}");
    compile_tombstones(CONFIG_TOMBSTONES_DEAD_LETTER);
    cr_assert_not(row_encoder_skips(encoder, &tombstone));
    cr_assert(!add(NULL) && reason == ENCODE_MISSING_VALUE);
    finish();

    compile_tombstones(CONFIG_TOMBSTONES_ROW);
    cr_assert_not(row_encoder_skips(encoder, &tombstone));
    cr_assert(add(NULL), "%s", error.text);
    cr_assert(!row_encoder_add(encoder, block, &incomplete, &reason, &error) && reason == ENCODE_MISSING_PATH,
        "what has a value is judged as ever");
    cr_assert_eq(native_block_rows(block), 1);
    finish();

    compile_tombstones(CONFIG_TOMBSTONES_SKIP);
    cr_assert(row_encoder_skips(encoder, &tombstone) && !row_encoder_skips(encoder, &incomplete));
    const struct source_message blank = message_of("");
    cr_assert_not(row_encoder_skips(encoder, &blank), "no bytes are a value");
    finish();
}

Test(row_encoder, a_route_without_header_columns_says_so)
{
    static const char *const columns[] = {"a", "Int32", "b", "String", NULL};
    compile(columns, (const char *const[]){"a", "$.a", "b", "kafka.key", NULL});
    cr_assert_not(row_encoder_reads_headers(encoder));
    cr_assert(add("{\"a\":1}"), "%s", error.text);
    finish();
}

Test(row_encoder, each_refusal_has_its_reason)
{
    static const struct {
        const char *type, *source, *value;
        enum encode_reason reason;
    } cases[] = {
        {"UInt8", "$.a", "{\"a\":256}", ENCODE_OUT_OF_RANGE},
        {"UInt8", "$.a", "{\"a\":\"-1\"}", ENCODE_OUT_OF_RANGE},
        {"Int32", "$.a", "{\"a\":1.5}", ENCODE_NOT_EXACT},
        {"Int32", "$.a", "{\"a\":\"x\"}", ENCODE_BAD_NUMBER},
        {"Int32", "$.a", "{\"a\":[]}", ENCODE_WRONG_KIND},
        {"Int32", "$.a", "{}", ENCODE_MISSING_PATH},
        {"Int32", "$.a", "[]", ENCODE_MISSING_PATH},
        {"Nullable(Int32)", "$.a", "{}", ENCODE_MISSING_PATH},
        {"Int32", "$.a", "{\"a\":null}", ENCODE_NULL_VALUE},
        {"Int32", "$.a", NULL, ENCODE_MISSING_VALUE},
        {"Int32", "$.a", "", ENCODE_BAD_JSON},
        {"Int32", "$.a", "{\"a\":1", ENCODE_BAD_JSON},
        {"Int32", "$.a", "{\"a\":1,\"b\":\"\xff\"}", ENCODE_BAD_UTF8},
        {"UUID", "$.a", "{\"a\":\"zz\"}", ENCODE_BAD_UUID},
        {"UUID", "$.a", "{\"a\":5}", ENCODE_WRONG_KIND},
        {"Date", "$.a", "{\"a\":\"2024-02-30\"}", ENCODE_BAD_DATE},
        {"Date", "$.a", "{\"a\":\"1969-12-31\"}", ENCODE_DATE_RANGE},
        {"DateTime", "$.a", "{\"a\":\"2106-02-07T06:28:16Z\"}", ENCODE_DATE_RANGE},
        {"DateTime64(6)", "$.a", "{\"a\":\"0001-01-01\"}", ENCODE_DATE_RANGE},
        {"DateTime64(6)", "$.a", "{\"a\":\"infinity\"}", ENCODE_BAD_DATE},
        {"DateTime64(9)", "$.a", "{\"a\":\"2299-12-31\"}", ENCODE_DATE_RANGE},
        {"DateTime", "$.a", "{\"a\":true}", ENCODE_WRONG_KIND},
        {"DateTime", "$.a", "{\"a\":-0.5}", ENCODE_DATE_RANGE},
        {"DateTime", "$.a", "{\"a\":\"2026\"}", ENCODE_BAD_DATE},
        {"DateTime", "$.a", "{\"a\":\"20260301\"}", ENCODE_BAD_DATE},
        {"DateTime64(6)", "$.a", "{\"a\":\"20260301120000\"}", ENCODE_BAD_DATE},
        {"Date", "$.a", "{\"a\":\"2026.03\"}", ENCODE_BAD_DATE},
        {"DateTime64(3)", "$.a", "{\"a\":\"12.30\"}", ENCODE_BAD_DATE},
        {"DateTime64(3)", "$.a", "{\"a\":1.7e12}", ENCODE_DATE_RANGE},
        {"DateTime64(3)", "$.a", "{\"a\":1e400}", ENCODE_DATE_RANGE},
        {"DateTime64(3)", "$.a", "{\"a\":\"-9223372036854775808\"}", ENCODE_DATE_RANGE},
        {"DateTime64(3)", "$.a", "{\"a\":\"-2208988801\"}", ENCODE_DATE_RANGE},
        {"Enum8('x' = 1)", "$.a", "{\"a\":\"y\"}", ENCODE_UNKNOWN_ENUM},
        {"Enum8('x' = 1)", "$.a", "{\"a\":2}", ENCODE_UNKNOWN_ENUM},
        {"FixedString(2)", "$.a", "{\"a\":\"abc\"}", ENCODE_TOO_LONG},
        {"Decimal(4, 2)", "$.a", "{\"a\":100}", ENCODE_OUT_OF_RANGE},
        {"Decimal(4, 2)", "$.a", "{\"a\":\"1.005\"}", ENCODE_NOT_EXACT},
        {"IPv4", "$.a", "{\"a\":\"300.1.1.1\"}", ENCODE_BAD_ADDRESS},
        {"Bool", "$.a", "{\"a\":2}", ENCODE_WRONG_KIND},
        {"Float32", "$.a", "{\"a\":1e40}", ENCODE_OUT_OF_RANGE},
        {"Array(Int8)", "$.a", "{\"a\":[1,1000]}", ENCODE_OUT_OF_RANGE},
        {"Array(Int8)", "$.a", "{\"a\":[null]}", ENCODE_NULL_VALUE},
        {"Array(Int8)", "$.a", "{\"a\":{}}", ENCODE_WRONG_KIND},
        {"Map(String, Int8)", "$.a", "{\"a\":[]}", ENCODE_WRONG_KIND},
        {"Tuple(Int8, Int8)", "$.a", "{\"a\":[1]}", ENCODE_TUPLE_SHAPE},
        {"Tuple(Int8, Int8)", "$.a", "{\"a\":[1,2,3]}", ENCODE_TUPLE_SHAPE},
        {"Tuple(x Int8)", "$.a", "{\"a\":{\"y\":1}}", ENCODE_TUPLE_SHAPE},
        {"JSON", "$.a", "{\"a\":[]}", ENCODE_WRONG_KIND},
        {"String", "header.nope", "{}", ENCODE_MISSING_HEADER},
        {"String", "header.empty", "{}", ENCODE_NULL_VALUE},
        {"Int8", "$.op: insert=1 delete=-1", "{\"op\":\"update\"}", ENCODE_NOT_MAPPED},
        {"Int8", "kafka.offset?", "x", ENCODE_NONE},
        {"Int8", "kafka.timestamp", "x", ENCODE_OUT_OF_RANGE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        compile((const char *const[]){"c", cases[i].type, "s", "String", NULL},
            (const char *const[]){"s", "'before'", "c", cases[i].source, NULL});
        bool done = add(cases[i].value);
        cr_assert_eq(reason, cases[i].reason, "%s into %s from %s: %s (%s)", cases[i].value, cases[i].type,
            cases[i].source, encode_reason_name(reason), error.text);
        cr_assert_eq(done, cases[i].reason == ENCODE_NONE);
        cr_assert_eq(native_block_rows(block), done ? 1 : 0);
        finish();
    }
}

Test(row_encoder, what_is_quoted_is_short_and_printable)
{
    compile((const char *const[]){"c", "UInt8", NULL}, (const char *const[]){"c", "$.a", NULL});
    cr_assert_not(add("{\"a\":\"secret\\u0001\\\"\xC3\xA4 and much more than forty characters of it\"}"));
    cr_assert_str_eq(error.text,
        "column c (UInt8) from $.a: the text is not a number: \"secret???? and much more than forty char\"...");
    finish();
}

Test(row_encoder, values_that_fit)
{
    static const struct {
        const char *type, *source, *value, *bytes;
        size_t length;
    } cases[] = {
#define CASE(type, source, value, bytes) {type, source, value, bytes, sizeof(bytes) - 1}
        CASE("UInt16", "$.a", "{\"a\":\"513\"}", "\x01\x02"),
        CASE("UInt8", "$.a", "{\"a\":true}", "\x01"),
        CASE("Bool", "$.a", "{\"a\":false}", "\0"),
        CASE("String", "$.a", "{\"a\":{\"b\": [1]}}", "\x0a{\"b\": [1]}"),
        CASE("String", "$.a", "{\"a\":1.50}",
            "\x04"
            "1.50"),
        CASE("String", "$.a", "{\"a\":\"\\u00e4\\n\"}", "\x03\xC3\xA4\n"),
        CASE("String", "$", " [1] ", "\x03[1]"),
        CASE("String", "kafka.value", "raw", "\x03raw"),
        CASE("String", "kafka.key", "", "\x01k"),
        CASE("String", "kafka.topic", "", "\x11nova.order.events"),
        CASE("String", "kafka.offset", "",
            "\x02"
            "77"),
        CASE("UInt64", "header.seq", "", "\x2b\0\0\0\0\0\0\0"),
        CASE("Int8", "header.nope?", "", "\0"),
        CASE("Int8", "$.a?", "{\"a\":null}", "\0"),
        CASE("Int8", "$.op: insert=1, delete=-1 '*'=5 *=9", "{\"op\":\"delete\"}", "\xff"),
        CASE("Int8", "$.op: a=1 *=9", "{\"op\":\"?\"}", "\x09"),
        CASE("Int8", "$.op: 1.5=1 true=2", "{\"op\":1.5}", "\x01"),
        CASE("Int8", "$.op: 1.5=1 true=2", "{\"op\":true}", "\x02"),
        CASE("Enum8('x' = 1, 'y' = -1)", "$.a", "{\"a\":\"y\"}", "\xff"),
        CASE("Enum16('x' = 258)", "$.a", "{\"a\":258}", "\x02\x01"),
        CASE("Date", "$.a", "{\"a\":\"1970-01-03\"}", "\x02\0"),
        CASE("Date", "$.a", "{\"a\":3}", "\x03\0"),
        CASE("Date32", "$.a", "{\"a\":\"1969-12-31\"}", "\xff\xff\xff\xff"),
        CASE("DateTime", "kafka.timestamp", "", "\x70\x32\xa4\x69"),
        CASE("DateTime", "$.a", "{\"a\":\"1970-01-01 00:00:01.9\"}", "\x01\0\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":\"1970-01-01T00:00:01.9999Z\"}", "\xcf\x07\0\0\0\0\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":5}", "\x05\0\0\0\0\0\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":1700000000}", "\x00\xf1\x53\x65\0\0\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":1700000000.000000}", "\x00\x68\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":1.7e9}", "\x00\x68\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":1700000000.5}", "\xf4\x69\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":-0.5}", "\x0c\xfe\xff\xff\xff\xff\xff\xff"),
        CASE("DateTime64(3)", "$.a", "{\"a\":0e99999999999}", "\0\0\0\0\0\0\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":\"1700000000\"}", "\x00\x68\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":\"1700000000.5\"}", "\xf4\x69\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":\"1700000000500\"}", "\xf4\x69\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(3)", "$.a", "{\"a\":\"1700000000500999\"}", "\xf4\x69\xe5\xcf\x8b\x01\0\0"),
        CASE("DateTime64(6)", "$.a", "{\"a\":\"100000000000\"}", "\x00\xe8\x76\x48\x17\0\0\0"),
        CASE("DateTime64(3)", "header.seq", "", "\xf8\xa7\0\0\0\0\0\0"),
        CASE("DateTime", "$.a", "{\"a\":1700000000.9}", "\x00\xf1\x53\x65"),
        CASE("DateTime", "$.a", "{\"a\":\"1700000000.9\"}", "\x00\xf1\x53\x65"),
        CASE("Date", "$.a", "{\"a\":86400.0}", "\x01\0"),
        CASE("Date32", "$.a", "{\"a\":-0.5}", "\xff\xff\xff\xff"),
        CASE("DateTime64(0)", "$.a", "{\"a\":\"1969-12-31T23:59:58.5Z\"}", "\xfe\xff\xff\xff\xff\xff\xff\xff"),
        CASE("Decimal(9, 2)", "$.a", "{\"a\":\"-1.5\"}", "\x6a\xff\xff\xff"),
        CASE("FixedString(3)", "'ab'", "", "ab\0"),
        CASE("FixedString(3)", "'it''s'?: it''s=x *=y", "", "y\0\0"),
        CASE("JSON", "$.a", "{\"a\":{}}", "\x02{}"),
        CASE("IPv4", "$.a", "{\"a\":\"1.2.3.4\"}", "\x04\x03\x02\x01"),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        compile((const char *const[]){"c", cases[i].type, NULL}, (const char *const[]){"c", cases[i].source, NULL});
        cr_assert(add(cases[i].value), "%zu: %s", i, error.text);
        expect_data(cases[i].bytes, cases[i].length);
        finish();
    }
}

Test(row_encoder, nested_values_and_rollback)
{
    compile((const char *const[]){"c", "Array(Tuple(k String, v Nullable(Int8)))", "m", "Map(String, Array(UInt8))",
                "n", "Nullable(String)", NULL},
        (const char *const[]){"c", "$.c", "m", "$.m", "n", "$.n?", NULL});
    cr_assert(add("{\"c\":[{\"v\":1,\"k\":\"a\"},{\"k\":\"\\u0062\"},[\"c\",null]],\"m\":{\"x\":[1,2],\"y\":[]}}"),
        "%s", error.text);
    size_t bytes = native_block_bytes(block);
    cr_assert_eq(bytes, 8 + 3 * 2 + 3 * 2 + 8 + 2 * 2 + 16 + 2 + 1 + 1);
    cr_assert_not(add("{\"c\":[{\"k\":\"a\",\"v\":1}],\"m\":{\"x\":[1,2],\"y\":[3,\"no\"]},\"n\":\"s\"}"));
    cr_assert_eq(native_block_bytes(block), bytes);
    cr_assert(add("{\"c\":[],\"m\":{},\"n\":\"s\"}"));
    cr_assert_eq(native_block_rows(block), 2);
    finish();
}

// What the members say is the value of a Map with each name once.
static void expect_map(const char *value, const char *bytes, size_t length)
{
    compile((const char *const[]){"c", "Map(String, UInt8)", NULL}, (const char *const[]){"c", "$.a", NULL});
    cr_assert(add(value), "%s", error.text);
    size_t count;
    const struct iovec *pieces = native_block_body(block, &count, NULL);
    char got[1024];
    size_t used = 0;
    for (size_t i = 2; i < count; i++) { // after the block's and the column's head
        cr_assert_leq(used + pieces[i].iov_len, sizeof(got));
        memcpy(&got[used], pieces[i].iov_base, pieces[i].iov_len);
        used += pieces[i].iov_len;
    }
    cr_assert_eq(used, length, "%s: %zu bytes", value, used);
    cr_assert_arr_eq(got, bytes, length, "%s", value);
    finish();
}

#define MAP(count, keys, values) count "\0\0\0\0\0\0\0" keys values, 8 + sizeof(keys) - 1 + sizeof(values) - 1

Test(row_encoder, of_names_that_come_twice_in_a_map_the_last_counts)
{
    expect_map("{\"a\":{\"a\":1,\"b\":2,\"c\":3}}", MAP("\3", "\1a\1b\1c", "\1\2\3"));
    expect_map("{\"a\":{\"a\":1,\"a\":2}}", MAP("\1", "\1a", "\2"));
    expect_map("{\"a\":{\"b\":1,\"a\":2,\"ab\":3,\"b\":4,\"b\":5}}", MAP("\3", "\1a\2ab\1b", "\2\3\5"));
    expect_map("{\"a\":{\"\\u0061\":1,\"\\n\":2,\"a\":3,\"\\u000a\":4}}", MAP("\2", "\1a\1\n", "\3\4"));
    expect_map("{\"a\":{}}", MAP("\0", "", ""));
}

Test(row_encoder, names_come_twice_in_large_maps)
{
    char value[4096] = "{\"a\":{", keys[400] = "";
    size_t length = strlen(value), used = 0;
    for (int twice = 0; twice < 2; twice++) {
        for (int i = 0; i < 40; i++) {
            length += (size_t)snprintf(&value[length], sizeof(value) - length, "%s\"%02d\":%d",
                twice + i > 0 ? "," : "", i * 7 % 40, twice * 100 + i);
        }
    }
    snprintf(&value[length], sizeof(value) - length, "}}");
    keys[used++] = 40;
    memset(&keys[used], 0, 7);
    used += 7;
    for (int i = 0; i < 40; i++) {
        used += (size_t)snprintf(&keys[used], sizeof(keys) - used, "\2%02d", i * 7 % 40);
    }
    for (int i = 0; i < 40; i++) {
        keys[used++] = (char)(100 + i);
    }
    expect_map(value, keys, used);
}

Test(row_encoder, every_mistake_of_a_route_is_found_at_once)
{
    static const char *const columns[] = {"a", "UInt8", "b", "Array(String)", "c", "Dynamic", "d", "UInt8", "e",
        "UInt8", "plain", "String", NULL};
    static const char *const pairs[] = {"nope", "$.x", "b", "header.h", "c", "$.c", "d", "'300'", "e", "$.e: x=1 y=z",
        "a", "$..", "a", "$.a", "a", "$.b", NULL};
    struct config_pair room[16];
    struct config_route route = fixture_route(pairs, room);
    struct table_findings findings = {0};
    schema = fixture_schema(columns);
    cr_assert_null(row_encoder_new(&route, schema, &findings, &error));
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    static const char *const expected[] = {"column nope, which the table does not have",
        "column b (Array(String)) cannot be filled from header.h", "\"Dynamic\" cannot be filled", "constant '300'",
        "constant 'z'", "column a: source $..", "column a twice", "column plain (String) is not filled"};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        bool found = false;
        for (size_t j = 0; j < findings.count; j++) {
            found = found || strstr(findings.items[j].what, expected[i]);
        }
        cr_assert(found, "%s", expected[i]);
    }
    for (size_t j = 0; j < findings.count; j++) {
        cr_assert_null(strstr(findings.items[j].what, "column c (Dynamic) is not filled"), "the route names it");
    }
    table_findings_finish(&findings);
    table_schema_free(schema);
}

Test(row_encoder, a_nested_that_was_flattened_is_told)
{
    static const char *const columns[] = {"items.sku", "Array(String)", "items.qty", "Array(UInt32)", "item", "String",
        NULL};
    struct config_pair room[2];
    struct config_route route = fixture_route((const char *const[]){"items", "$.items", "item", "$.item", NULL}, room);
    struct table_findings findings = {0};
    schema = fixture_schema(columns);
    cr_assert_null(row_encoder_new(&route, schema, &findings, &error));
    cr_assert_not_null(strstr(error.text, "column items, of which the table has a column for each element"), "%s",
        error.text);
    cr_assert_not_null(strstr(findings.items[0].hint, "flatten_nested = 0"), "%s", findings.items[0].hint);
    table_findings_finish(&findings);
    route = fixture_route((const char *const[]){"items.sku", "$.skus", "items.qty", "$.qtys", NULL}, room);
    encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "arrays of their own fit: %s", error.text);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

Test(row_encoder, a_default_that_is_stored_in_place_of_the_columns_own_is_told)
{
    static const struct {
        const char *type, *source, *engine;
        bool has_default, in_partition_key;
        enum config_tombstones tombstones;
        const char *told; // NULL: nothing
    } cases[] = {
        {"DateTime", "$.x?", "MergeTree", true, false, 0, "stored, and not the column's DEFAULT"},
        {"DateTime", "$.x", "MergeTree", true, false, 0, NULL},
        {"DateTime", "$.x?", "MergeTree", false, false, 0, NULL},
        {"Nullable(DateTime)", "$.x?", "MergeTree", true, true, 0, NULL},
        {"LowCardinality(Nullable(String))", "$.x?", "MergeTree", true, false, 0, NULL},
        {"DateTime", "header.x?", "MergeTree", true, true, 0, "which chooses the row's partition"},
        {"DateTime", "header.x?", "MergeTree ORDER BY y TTL x + 1", false, false, 0, "by which the TTL may remove"},
        {"DateTime", "header.x?", "MergeTree ORDER BY y TTL y + 1", false, false, 0, NULL},
        {"DateTime", "header.x?", "MergeTree ORDER BY y TTL x + 1 TO DISK 'd'", false, false, 0, NULL},
        {"DateTime", "$.x", "MergeTree", true, false, CONFIG_TOMBSTONES_ROW, "where $.x is missing"},
        {"DateTime", "header.x", "MergeTree", true, false, CONFIG_TOMBSTONES_ROW, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config_pair room[4];
        struct config_route route = fixture_route((const char *const[]){"x", cases[i].source, NULL}, room);
        struct table_findings findings = {0};
        route.tombstones = cases[i].tombstones;
        schema = fixture_schema((const char *const[]){"x", cases[i].type, NULL});
        schema->engine_full = strdup(cases[i].engine);
        schema->columns[0].default_kind = cases[i].has_default ? TABLE_DEFAULT : TABLE_DEFAULT_NONE;
        schema->columns[0].in_partition_key = cases[i].in_partition_key;
        encoder = row_encoder_new(&route, schema, &findings, &error);
        cr_assert_not_null(encoder, "%s", error.text);
        cr_assert_eq(findings.count, cases[i].told ? 1 : 0, "%zu: %zu", i, findings.count);
        if (cases[i].told) {
            cr_assert_not_null(strstr(findings.items[0].what, cases[i].told), "%s", findings.items[0].what);
            cr_assert(!findings.items[0].fatal && !findings.items[0].prevents_exactly_once);
        }
        table_findings_finish(&findings);
        row_encoder_free(encoder);
        table_schema_free(schema);
    }
}

Test(row_encoder, a_zone_that_times_without_an_offset_are_not_read_in_is_told)
{
    static const struct {
        const char *type, *source;
        bool told;
    } cases[] = {
        {"DateTime('Europe/Berlin')", "$.x", true},
        {"DateTime64(3, 'Europe/Berlin')", "header.x", true},
        {"Nullable(DateTime('Europe/Berlin'))", "kafka.key", true},
        {"LowCardinality(Nullable(DateTime('Europe/Berlin')))", "kafka.value", true},
        {"Array(Tuple(a String, b DateTime('Europe/Berlin')))", "$.x", true},
        {"DateTime64(3, 'Europe/Berlin')", "header.created_at: a='2026-01-01'", true},
        {"DateTime64(3, 'Europe/Berlin')", "header.created_at", false},
        {"DateTime64(3, 'Europe/Berlin')", "kafka.timestamp", false},
        {"DateTime64(3, 'UTC')", "$.x", false},
        {"DateTime('Etc/UTC')", "$.x", false},
        {"DateTime('GMT')", "$.x", false},
        {"DateTime", "$.x", false},
        {"Date", "$.x", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        static const char *columns[] = {"x", NULL, NULL}, *pairs[] = {"x", NULL, NULL};
        columns[1] = cases[i].type;
        pairs[1] = cases[i].source;
        struct config_pair room[2];
        struct config_route route = fixture_route(pairs, room);
        struct table_findings findings = {0};
        schema = fixture_schema(columns);
        encoder = row_encoder_new(&route, schema, &findings, &error);
        cr_assert_not_null(encoder, "%s", error.text);
        cr_assert_eq(findings.count, cases[i].told ? 1 : 0, "%s from %s: %s", cases[i].type, cases[i].source,
            findings.count ? findings.items[0].what : "nothing");
        if (cases[i].told) {
            cr_assert(!findings.items[0].fatal && !findings.items[0].prevents_exactly_once);
            cr_assert_not_null(strstr(findings.items[0].what, "are read as UTC, not in Europe/Berlin"), "%s",
                findings.items[0].what);
        }
        table_findings_finish(&findings);
        row_encoder_free(encoder);
        table_schema_free(schema);
    }
}

Test(row_encoder, offset_columns_are_filled_by_themselves)
{
    compile((const char *const[]){"a", "UInt8", "kafka_topic", "String", "kafka_partition", "Int32", "kafka_offset",
                "UInt64", NULL},
        (const char *const[]){"a", "'1'", NULL});
    size_t count;
    const char *const *names = row_encoder_columns(encoder, &count);
    cr_assert_eq(count, 4);
    cr_assert_str_eq(names[3], "kafka_offset");
    cr_assert(add(""));
    finish();
}

// Compiles and gives how many findings stand against exactly once; the first in `what`.
static size_t foreign_offsets(const char *const *pairs, char what[300])
{
    struct config_pair room[8];
    struct config_route route = fixture_route(pairs, room);
    struct table_findings findings = {0};
    schema = fixture_schema((const char *const[]){"a", "UInt8", "kafka_topic", "String", "kafka_partition", "Int32",
        "kafka_offset", "Int64", NULL});
    schema->engine = strdup("MergeTree");
    schema->engine_full = strdup("MergeTree");
    schema->partition_key = strdup("");
    schema->is_mergetree = schema->offset_has_index = true;
    schema->dedup_window = 10;
    encoder = row_encoder_new(&route, schema, &findings, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    const struct table_finding *against = table_findings_against_exactly_once(&findings);
    snprintf(what, 300, "%s", against ? against->what : "");
    size_t count = findings.count;
    bool possible;
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error), "%s", error.text);
    cr_assert_eq(possible, count == 0);
    table_findings_finish(&findings);
    row_encoder_free(encoder);
    table_schema_free(schema);
    return count;
}

Test(row_encoder, offset_columns_filled_from_elsewhere_prevent_exactly_once)
{
    char what[300];
    cr_assert_eq(foreign_offsets((const char *const[]){"a", "'1'", "kafka_offset", "$.o", NULL}, what), 1);
    cr_assert_str_eq(what,
        "the route fills column kafka_offset from $.o, not from kafka.offset: rows cannot be found again");
    cr_assert_eq(foreign_offsets((const char *const[]){"a", "'1'", "kafka_topic", "'orders'", "kafka_partition",
                                     "header[\"dlq.partition\"]", NULL},
                     what),
        2);
    cr_assert_eq(foreign_offsets((const char *const[]){"a", "'1'", "kafka_topic", "kafka.topic: a=b *=c", NULL}, what),
        1);
    cr_assert_not_null(strstr(what, "from kafka.topic by a map, not"), "%s", what);
    cr_assert_eq(foreign_offsets((const char *const[]){"a", "'1'", "kafka_offset", "kafka.offset", "kafka_topic",
                                     "kafka.topic?", NULL},
                     what),
        0);
}

Test(row_encoder, exactly_once_is_judged_with_what_mends_it)
{
    schema = fixture_schema((const char *const[]){"a", "UInt8", "d", "Date", NULL});
    schema->engine = strdup("MergeTree");
    schema->engine_full = strdup("MergeTree PARTITION BY d ORDER BY a TTL d + 1 SETTINGS index_granularity = 8192");
    schema->partition_key = strdup("toYYYYMM(d)");
    schema->columns[1].in_partition_key = true;
    free(schema->columns[1].default_expression);
    schema->columns[1].default_expression = strdup("today()");
    schema->is_mergetree = true;
    struct table_findings findings = {0};
    bool possible = true;
    cr_assert(table_schema_exactly_once(schema, 2, (const char *const[]){"a"}, 1, &possible, &findings, &error));
    cr_assert_not(possible);
    cr_assert_eq(findings.count, 5, "%zu", findings.count);
    cr_assert_not_null(strstr(findings.items[0].hint, "ALTER TABLE `db`.`t` ADD COLUMN"));
    bool window = false;
    for (size_t i = 0; i < findings.count; i++) {
        window = window || strstr(findings.items[i].hint, "MODIFY SETTING non_replicated_deduplication_window");
    }
    cr_assert(window);
    table_findings_finish(&findings);
    table_schema_free(schema);
    schema = fixture_schema(
        (const char *const[]){"kafka_topic", "String", "kafka_partition", "Int32", "kafka_offset", "Int64", NULL});
    schema->engine = strdup("MergeTree");
    schema->engine_full = strdup("MergeTree");
    schema->partition_key = strdup("");
    schema->is_mergetree = schema->offset_has_index = true;
    schema->dedup_window = 10;
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error));
    cr_assert(possible);
    cr_assert_eq(findings.count, 0);
    table_schema_free(schema);
}

// Both what reads the payload and what unescapes a text inside of an array.
Test(row_encoder, what_a_large_message_took_comes_back)
{
    static const size_t length = 4 << 20;
    compile((const char *const[]){"c", "Array(FixedString(2))", NULL}, (const char *const[]){"c", "$.a", NULL});
    char *large = malloc(length + 1);
    cr_assert_not_null(large);
    memcpy(large, "{\"a\":[\"\\n", 9);
    memset(large + 9, 'x', length - 12);
    memcpy(large + length - 3, "\"]}", 4);
    cr_assert(add("{\"a\":[\"\\n\"]}"), "%s", error.text);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    cr_assert_not(add(large));
    cr_assert_eq(reason, ENCODE_TOO_LONG, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "?xxx"), "%s", error.text);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    cr_assert_leq(after, before + 65536, "%zu bytes are kept", after - before);
    cr_assert(add("{\"a\":[\"\\n\"]}"), "%s", error.text);
    cr_assert_eq(native_block_rows(block), 2);
    free(large);
    finish();
}
