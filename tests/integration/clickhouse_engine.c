// SPDX-License-Identifier: Apache-2.0
//
// The client, the schema reader and the encoder against the real engine. Run by test_clickhouse_engine.py, which gives
// CLICKHOUSE_URL, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD, CLICKHOUSE_ODD_USER, CLICKHOUSE_NARROW_USER; each test has a
// database of its own.
#include "engine_fixture.h"
#include "relay/insert/read_back.h"

#include <pthread.h>

TestSuite(engine, .init = engine_setup, .fini = engine_teardown);

Test(engine, says_what_it_is)
{
    struct clickhouse_server server;
    struct clickhouse_clock clock;
    cr_assert(clickhouse_ping(client, 0, DURATION_S(5), &error), "%s", error.text);
    cr_assert(clickhouse_server_info(client, 0, DURATION_S(5), &server, &error), "%s", error.text);
    cr_assert_geq(server.major, 22);
    cr_assert(server.has_input_function && server.has_deduplication_token);
    cr_assert(server.says_who, "its headers are known");
    cr_assert(clickhouse_knows_setting(client, 0, "async_insert"));
    cr_assert_not(clickhouse_knows_setting(client, 0, "no_such_setting"));
    cr_assert(clickhouse_server_clock(client, 0, DURATION_S(5), &clock, &error));
    cr_assert_lt(llabs(clock.ahead.ns), clock.doubt.ns + 50000000, "the same machine: %lld ns ahead",
        (long long)clock.ahead.ns);
    cr_assert_gt(clock.doubt.ns, 0);
}

// type, JSON in, what SELECT toString(c) gives (NULL: as JSON's text)
static const struct {
    const char *type, *json, *expected;
} values[] = {
    {"Int8", "-128", "-128"},
    {"Int16", "32767", "32767"},
    {"Int32", "-2147483648", "-2147483648"},
    {"Int64", "-9223372036854775808", "-9223372036854775808"},
    {"UInt8", "255", "255"},
    {"UInt16", "65535", "65535"},
    {"UInt32", "4294967295", "4294967295"},
    {"UInt64", "18446744073709551615", "18446744073709551615"},
    {"Int128", "-170141183460469231731687303715884105728", "-170141183460469231731687303715884105728"},
    {"UInt128", "340282366920938463463374607431768211455", "340282366920938463463374607431768211455"},
    {"Int256", "-57896044618658097711785492504343953926634992332820282019728792003956564819968",
        "-57896044618658097711785492504343953926634992332820282019728792003956564819968"},
    {"UInt256", "\"115792089237316195423570985008687907853269984665640564039457584007913129639935\"",
        "115792089237316195423570985008687907853269984665640564039457584007913129639935"},
    {"Float32", "-0.5", "-0.5"},
    {"Float64", "1.7976931348623157e308", "1.7976931348623157e308"},
    {"Bool", "true", "true"},
    {"String", "\"\\u0000\\ud83d\\ude00'\\\\\"", "\0"},
    {"FixedString(3)", "\"ab\"", "ab"},
    {"UUID", "\"01234567-89AB-cdef-0123-456789abcdef\"", "01234567-89ab-cdef-0123-456789abcdef"},
    {"Date", "\"2149-06-06\"", "2149-06-06"},
    {"Date32", "\"1900-01-01\"", "1900-01-01"},
    {"Date32", "\"2299-12-31\"", "2299-12-31"},
    {"DateTime('UTC')", "\"2106-02-07T06:28:15Z\"", "2106-02-07 06:28:15"},
    {"DateTime('Asia/Tokyo')", "0", "1970-01-01 09:00:00"},
    {"DateTime64(6, 'UTC')", "\"1900-01-01T00:00:00Z\"", "1900-01-01 00:00:00.000000"},
    {"DateTime64(6, 'UTC')", "\"2299-12-31T23:59:59.999999Z\"", "2299-12-31 23:59:59.999999"},
    {"DateTime64(9, 'UTC')", "\"2262-04-11T23:47:16.854775807Z\"", "2262-04-11 23:47:16.854775807"},
    {"DateTime64(0, 'UTC')", "\"1969-12-31T23:59:59Z\"", "1969-12-31 23:59:59"},
    {"Decimal(9, 9)", "-0.999999999", "-0.999999999"},
    {"Decimal(18, 2)", "9999999999999999.99", "9999999999999999.99"},
    {"Decimal(38, 10)", "\"-9999999999999999999999999999.9999999999\"", "-9999999999999999999999999999.9999999999"},
    {"Decimal(76, 0)", "9999999999999999999999999999999999999999999999999999999999999999999999999999",
        "9999999999999999999999999999999999999999999999999999999999999999999999999999"},
    {"Enum8('a' = -128, 'it\\'s' = 127)", "\"it's\"", "it's"},
    {"Enum16('x' = 32767, '' = -32768)", "32767", "x"},
    {"IPv4", "\"255.1.2.3\"", "255.1.2.3"},
    {"IPv6", "\"2001:db8::ff00:42:8329\"", "2001:db8::ff00:42:8329"},
    {"Nullable(Int32)", "null", "NULL"},
    {"Nullable(String)", "\"\"", ""},
    {"LowCardinality(String)", "\"low\"", "low"},
    {"LowCardinality(Nullable(String))", "null", "NULL"},
    {"LowCardinality(FixedString(2))", "\"xy\"", "xy"},
    {"Array(Int64)", "[]", "[]"},
    {"Array(Array(Nullable(UInt8)))", "[[1,null],[],[255]]", "[[1,NULL],[],[255]]"},
    {"Array(LowCardinality(String))", "[\"a\",\"a\",\"b\"]", "['a','a','b']"},
    {"Map(String, UInt64)", "{\"a\":1,\"\\u00e4\":18446744073709551615}", "{'a':1,'ä':18446744073709551615}"},
    {"Map(LowCardinality(String), Array(Int8))", "{\"x\":[1,-1],\"y\":[]}", "{'x':[1,-1],'y':[]}"},
    {"Map(UInt8, String)", "{\"7\":\"seven\"}", "{7:'seven'}"},
    {"Map(String, Tuple(a Int8, b String))", "{\"k\":[1,\"x\"],\"l\":{\"b\":\"\",\"a\":2}}",
        "{'k':(1,'x'),'l':(2,'')}"},
    {"Map(String, Tuple(Tuple(Int8, Nullable(Int8)), LowCardinality(String)))", "{\"k\":[[1,null],\"x\"]}",
        "{'k':((1,NULL),'x')}"},
    {"Array(Map(String, Tuple(Array(Int8))))", "[{\"k\":[[1,2]]},{}]", "[{'k':([1,2])},{}]"},
    {"Tuple(Int8, String, Nullable(Date))", "[1,\"a\",null]", "(1,'a',NULL)"},
    {"Tuple(a Int8, `b c` Array(Tuple(x UInt8, y String)))", "{\"b c\":[{\"y\":\"q\",\"x\":1}],\"a\":2}",
        "(2,[(1,'q')])"},
    {"SimpleAggregateFunction(max, UInt64)", "9", "9"},
    {"JSON", "{\"a\":{\"b\":[1,2]}}", "{\"a\":{\"b\":[1,2]}}"},
};
#define VALUES (sizeof(values) / sizeof(values[0]))

// All types at once, several rows, so that columns follow each other in one block; each value is read back by the
// server.
Test(engine, every_type_comes_back_as_it_was)
{
    struct clickhouse_text create = {0}, payload = {0};
    static struct config_pair pairs[VALUES];
    static char names[VALUES][8], sources[VALUES][8];
    clickhouse_text_add(&create, "CREATE TABLE every (n UInt8 DEFAULT 0");
    clickhouse_text_add(&payload, "{");
    for (size_t i = 0; i < VALUES; i++) {
        snprintf(names[i], sizeof(names[i]), "c%zu", i);
        snprintf(sources[i], sizeof(sources[i]), "$.c%zu", i);
        pairs[i] = (struct config_pair){.name = names[i], .value = sources[i]};
        clickhouse_text_add(&create, ", %s %s", names[i], values[i].type);
        clickhouse_text_add(&payload, "%s\"%s\": %s", i > 0 ? "," : "", names[i], values[i].json);
    }
    clickhouse_text_add(&create, ") ENGINE = MergeTree ORDER BY n");
    clickhouse_text_add(&payload, "}");
    run(create.at);
    struct table_schema *schema = schema_of("every");
    static char route_name[] = "every";
    struct config_route route = {.name = route_name, .columns = pairs, .column_count = VALUES};
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    struct native_block *block = row_encoder_block(encoder, &error);
    struct source_message message = {.topic = "t", .value = payload.at, .value_length = payload.length};
    enum encode_reason reason;
    for (int row = 0; row < 3; row++) {
        cr_assert(row_encoder_add(encoder, block, &message, &reason, &error), "%s", error.text);
    }
    struct clickhouse_outcome outcome;
    cr_assert(insert(encoder, block, "1", NULL, &outcome), "%s", error.text);
    expect_one("SELECT count() FROM every", "3");
    for (size_t i = 0; i < VALUES; i++) {
        char statement[600];
        snprintf(statement, sizeof(statement), "SELECT DISTINCT %s(%s) FROM every",
            strstr(values[i].type, "FixedString") ? "toStringCutToZero" : "toString", names[i]);
        char *found = one(statement);
        if (values[i].expected[0] != '\0' || strcmp(values[i].json, "\"\"") == 0) {
            cr_assert_str_eq(found, values[i].expected, "%s from %s: %s", values[i].type, values[i].json, found);
        }
        free(found);
    }
    expect_one("SELECT DISTINCT hex(c15) FROM every", "00F09F9880275C");
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
    clickhouse_text_finish(&create);
    clickhouse_text_finish(&payload);
}

// Each type's default is what the server itself would store.
Test(engine, defaults_are_the_servers)
{
    struct clickhouse_text create = {0};
    static struct config_pair pairs[VALUES];
    static char names[VALUES][8], sources[VALUES][8];
    clickhouse_text_add(&create, "CREATE TABLE d (n UInt8 DEFAULT 0");
    for (size_t i = 0; i < VALUES; i++) {
        snprintf(names[i], sizeof(names[i]), "c%zu", i);
        snprintf(sources[i], sizeof(sources[i]), "$.no?");
        pairs[i] = (struct config_pair){.name = names[i], .value = sources[i]};
        clickhouse_text_add(&create, ", %s %s", names[i], values[i].type);
    }
    clickhouse_text_add(&create, ") ENGINE = MergeTree ORDER BY n");
    run(create.at);
    struct table_schema *schema = schema_of("d");
    static char route_name[] = "d";
    struct config_route route = {.name = route_name, .columns = pairs, .column_count = VALUES};
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    struct native_block *block = row_encoder_block(encoder, &error);
    struct source_message message = {.topic = "t", .value = "{}", .value_length = 2};
    enum encode_reason reason;
    struct clickhouse_outcome outcome;
    cr_assert(row_encoder_add(encoder, block, &message, &reason, &error), "%s", error.text);
    cr_assert(insert(encoder, block, NULL, NULL, &outcome), "%s", error.text);
    run("INSERT INTO d (n) VALUES (1)");
    expect_one("SELECT count() FROM d", "2");
    for (size_t i = 0; i < VALUES; i++) {
        char statement[600];
        snprintf(statement, sizeof(statement),
            "SELECT arrayStringConcat(groupUniqArray(ifNull(toString(%s), 'NULL')), ' | ') FROM d", names[i]);
        char *found = one(statement);
        cr_assert_null(strstr(found, " | "), "%s: %s", values[i].type, found);
        free(found);
    }
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
    clickhouse_text_finish(&create);
}

static struct source_message offset_message(int64_t offset)
{
    return (struct source_message){.topic = "t",
        .partition = 1,
        .offset = offset,
        .value = "{\"a\":\"b\"}",
        .value_length = 9};
}

static const char *const landing =
    "CREATE TABLE l (a String, kafka_topic LowCardinality(String), kafka_partition Int32, kafka_offset Int64, "
    "INDEX o kafka_offset TYPE minmax) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = "
    "1000";
static char column_a[] = "a", source_a[] = "$.a", route_l[] = "l";
static struct config_pair pair_a = {.name = column_a, .value = source_a};
static const struct config_route landing_route = {.name = route_l, .columns = &pair_a, .column_count = 1};

Test(engine, a_token_a_deadline_and_one_part)
{
    run(landing);
    struct table_schema *schema = schema_of("l");
    cr_assert(schema->has_offset_columns && schema->offset_has_index && schema->dedup_window == 1000);
    struct row_encoder *encoder = row_encoder_new(&landing_route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    struct native_block *block = row_encoder_block(encoder, &error);
    enum encode_reason reason;
    for (int64_t i = 0; i < 300000; i++) {
        struct source_message message = offset_message(i);
        cr_assert(row_encoder_add(encoder, block, &message, &reason, &error));
    }
    struct clickhouse_outcome outcome;
    static const char in_time[] = "throwIf(now() > toDateTime(4000000000), 'late') = 0";
    for (int attempt = 0; attempt < 2; attempt++) {
        cr_assert(insert(encoder, block, in_time, "token-1", &outcome), "%s", error.text);
        cr_assert_eq(outcome.failure, CLICKHOUSE_DONE);
    }
    expect_one("SELECT count() FROM l", "300000");
    expect_one("SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'l' AND active", "1");
    cr_assert_not(insert(encoder, block, "throwIf(now() > toDateTime(1), 'late') = 0", "token-2", &outcome));
    cr_assert_eq(outcome.exception_code, 395, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "late"), "%s", error.text);
    expect_one("SELECT count() FROM l", "300000");
    cr_assert_lt(outcome.bytes_sent, native_block_bytes(block), "compressed");
    config.clickhouse.compression = CONFIG_COMPRESSION_NONE;
    for (int attempt = 0; attempt < 2; attempt++) {
        cr_assert(insert(encoder, block, in_time, "token-3", &outcome), "%s", error.text);
        cr_assert_geq(outcome.bytes_sent, native_block_bytes(block));
    }
    expect_one("SELECT count() FROM l", "600000");
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

static void run_each(const char *statements)
{
    char *copy = strdup(statements), *rest = copy;
    for (char *statement; (statement = strsep(&rest, ";")) != NULL;) {
        run(statement);
    }
    free(copy);
}

Test(engine, views_are_walked_and_the_alter_mends)
{
    struct table_findings findings = {0};
    bool possible;
    run("CREATE TABLE a (x UInt8, `odd.name` String, m UInt8 MATERIALIZED x + 1) ENGINE = MergeTree ORDER BY x");
    run("CREATE TABLE b (x UInt8) ENGINE = MergeTree ORDER BY x");
    run("CREATE TABLE `c d` (x UInt8) ENGINE = SummingMergeTree ORDER BY x SETTINGS "
        "non_replicated_deduplication_window = 5");
    run("CREATE MATERIALIZED VIEW v1 TO b AS SELECT x FROM a");
    run("CREATE MATERIALIZED VIEW v2 TO `c d` AS SELECT x FROM b");
    run("CREATE MATERIALIZED VIEW v3 ENGINE = Memory AS SELECT x FROM a");
    struct table_schema *schema = schema_of("a");
    cr_assert_eq(schema->view_count, 3);
    size_t windows = 0;
    for (size_t i = 0; i < schema->view_count; i++) {
        windows += schema->views[i].has_window;
        cr_assert_neq(schema->views[i].engine[0], '\0', "%s", schema->views[i].target);
    }
    cr_assert_eq(windows, 1);
    cr_assert_eq(table_schema_column(schema, "m")->default_kind, TABLE_DEFAULT_MATERIALIZED);
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error));
    cr_assert_not(possible);
    run("DROP VIEW v3");
    for (size_t i = 0; i < findings.count; i++) {
        if (strncmp(findings.items[i].hint, "ALTER", 5) == 0) {
            run_each(findings.items[i].hint); // every ALTER that is advised must be one
        }
    }
    table_findings_finish(&findings);
    uint64_t before = schema->fingerprint;
    table_schema_free(schema);
    schema = schema_of("a");
    cr_assert_neq(schema->fingerprint, before);
    cr_assert(table_schema_exactly_once(schema, 1, NULL, 0, &possible, &findings, &error));
    cr_assert(possible, "%s", findings.count ? findings.items[0].what : "");
    table_findings_finish(&findings);
    before = schema->fingerprint;
    table_schema_free(schema);
    schema = schema_of("a");
    cr_assert_eq(schema->fingerprint, before, "reading again changes nothing");
    table_schema_free(schema);
    cr_assert_null(table_schema_read(client, &any, NULL, "nothing", &error));
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR, "%s", error.text);
}

Test(engine, errors_are_classified)
{
    struct clickhouse_outcome outcome;
    cr_assert_not(clickhouse_query(client, &any, "SELECT * FROM nothing", NULL, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR, "%s", error.text);
    cr_assert_eq(outcome.exception_code, 60);
    cr_assert_not(clickhouse_query(client, &any, "SELECT throwIf(number = 300000) FROM numbers(1000000)", NULL,
        &outcome, &error));
    cr_assert_eq(outcome.exception_code, 395, "an exception after rows were made: %s", error.text);
    struct clickhouse_request brief = {.endpoint = 0, .timeout = DURATION_MS(300)};
    cr_assert_not(clickhouse_query(client, &brief, "SELECT sleep(3)", NULL, &outcome, &error));
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN, "%s", error.text);
    static char wrong[] = "wrong password";
    char *right = config.clickhouse.password;
    config.clickhouse.password = wrong;
    struct clickhouse_client *stranger = clickhouse_client_new(&context, &error);
    cr_assert_not(clickhouse_query(stranger, &any, "SELECT 1", NULL, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_OPERATOR, "%s", error.text);
    cr_assert_null(strstr(error.text, wrong));
    clickhouse_client_free(stranger);
    config.clickhouse.password = right;
}

Test(engine, what_a_view_refuses_says_so_and_the_table_has_the_row)
{
    static char row[] = "1\tno address\n";
    const struct iovec body = {.iov_base = row, .iov_len = sizeof(row) - 1};
    struct clickhouse_outcome outcome;
    run("CREATE TABLE a (x UInt8, ip String, CONSTRAINT one CHECK x < 2) ENGINE = MergeTree ORDER BY x");
    run("CREATE TABLE b (ip IPv4) ENGINE = MergeTree ORDER BY tuple()");
    run("CREATE MATERIALIZED VIEW v TO b AS SELECT toIPv4(ip) AS ip FROM a");
    cr_assert_not(clickhouse_insert(client, &any, "INSERT INTO a FORMAT TSV", &body, 1, &outcome, &error));
    cr_assert_eq(outcome.failure, CLICKHOUSE_BAD_ROW, "%s", error.text);
    cr_assert(outcome.in_view, "%s", error.text);
    expect_one("SELECT count() FROM a", "1");
    row[0] = '2';
    cr_assert_not(clickhouse_insert(client, &any, "INSERT INTO a FORMAT TSV", &body, 1, &outcome, &error));
    cr_assert_eq(outcome.exception_code, 469, "%s", error.text);
    cr_assert_not(outcome.in_view, "%s", error.text);
    expect_one("SELECT count() FROM a", "1");
}

static void be(const char *user)
{
    clickhouse_client_free(client);
    config.clickhouse.user = environment(user);
    client = clickhouse_client_new(&context, &error);
    cr_assert_not_null(client, "%s", error.text);
}

// The profile cuts every SELECT, that of an INSERT and that of the settings' names among them, makes types Nullable,
// and drops no repeated block. The table has a type that its own session had to allow.
Test(engine, what_a_profile_says_does_not_change_an_insert)
{
    static char list[] = "list", list_at[] = "$.list", hash[] = "hash", hash_at[] = "$.hash";
    static struct config_pair pairs[] = {{.name = list, .value = list_at}, {.name = hash, .value = hash_at}};
    const struct config_route route = {.name = route_l, .columns = pairs, .column_count = 2};
    const struct clickhouse_setting allowed = {"allow_suspicious_fixed_string_types", "1"};
    const struct clickhouse_request create = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .settings = &allowed,
        .setting_count = 1};
    cr_assert(clickhouse_query(client, &create,
                  "CREATE TABLE odd (list Array(Int8), hash FixedString(300)) ENGINE = MergeTree ORDER BY tuple() "
                  "SETTINGS non_replicated_deduplication_window = 100",
                  NULL, NULL, &error),
        "%s", error.text);
    be("CLICKHOUSE_ODD_USER");
    struct table_schema *schema = schema_of("odd");
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    cr_assert_not_null(encoder, "%s", error.text);
    struct native_block *block = row_encoder_block(encoder, &error);
    static const char value[] = "{\"list\": [1], \"hash\": \"x\"}";
    struct source_message message = {.topic = "t", .value = value, .value_length = sizeof(value) - 1};
    enum encode_reason reason;
    for (int row = 0; row < 5; row++) {
        cr_assert(row_encoder_add(encoder, block, &message, &reason, &error), "%s", error.text);
    }
    struct clickhouse_outcome outcome;
    for (int repetition = 0; repetition < 2; repetition++) {
        cr_assert(insert(encoder, block, "throwIf(now() > toDateTime(4000000000), 'late') = 0", "token", &outcome),
            "%s", error.text);
        expect_one("SELECT count() FROM odd", "5");
    }
    cr_assert(clickhouse_knows_setting(client, 0, "timeout_overflow_mode"));
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

// The profile hides all rows of outbox_relay.filtered, also from its view, and cuts what takes too long.
Test(engine, what_a_profile_says_takes_no_rows_from_views_and_questions)
{
    static char row[] = "1\n";
    const struct iovec body = {row, sizeof(row) - 1};
    const struct clickhouse_setting at_once = {"max_execution_time", "1"};
    const struct clickhouse_request hurried = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .settings = &at_once,
        .setting_count = 1};
    struct clickhouse_outcome outcome;
    run("DROP TABLE IF EXISTS outbox_relay.filtered");
    run("CREATE TABLE outbox_relay.filtered (v UInt8) ENGINE = MergeTree ORDER BY v");
    run("CREATE TABLE target (v UInt8) ENGINE = MergeTree ORDER BY v");
    run("CREATE MATERIALIZED VIEW view TO target AS SELECT v FROM outbox_relay.filtered");
    be("CLICKHOUSE_ODD_USER");
    cr_assert(
        clickhouse_insert(client, &any, "INSERT INTO outbox_relay.filtered FORMAT TSV", &body, 1, &outcome, &error),
        "%s", error.text);
    expect_one("SELECT count() FROM outbox_relay.filtered", "1");
    expect_one("SELECT count() FROM target", "1");
    run("CREATE MATERIALIZED VIEW slow TO target AS SELECT v + sleep(2) AS v FROM outbox_relay.filtered");
    cr_assert_not(clickhouse_insert(client, &hurried, "INSERT INTO outbox_relay.filtered FORMAT TSV", &body, 1,
        &outcome, &error));
    cr_assert_eq(outcome.exception_code, CLICKHOUSE_CODE_TIMEOUT_EXCEEDED, "%s", error.text);
    run("DROP TABLE view");
    run("DROP TABLE slow");
    run("DROP TABLE outbox_relay.filtered");
}

// 16 pages are full, one has nothing but what is far above, one has that.
Test(engine, a_read_back_takes_no_more_memory_the_more_there_is)
{
    static char dead_letters[] = "no_dead_letters";
    uint64_t offsets = 0;
    size_t pages = 0;
    run("CREATE TABLE deep (v String, kafka_topic String, kafka_partition Int32, kafka_offset Int64, INDEX o "
        "kafka_offset TYPE minmax) ENGINE = MergeTree ORDER BY v");
    run("INSERT INTO deep SELECT toString(number % 10), 't', 1, number FROM numbers(8000000)");
    run("INSERT INTO deep VALUES ('', 't', 1, 900000000)");
    be("CLICKHOUSE_NARROW_USER");
    config.insert.dead_letter_table = dead_letters;
    struct table_plan plan = {.schema = schema_of("deep")};
    struct read_back of = {.target = "deep", .topic = "t", .partition = 1, .through = 0};
    while (of.through < INT64_MAX && pages++ < 100) {
        of.from = of.through;
        cr_assert(read_back_offsets(&context, client, &plan, &of, &(int){CLICKHOUSE_ANY_ENDPOINT}, &error), "%s",
            error.text);
        for (size_t i = 0; i < of.found.count; i++) {
            offsets += (uint64_t)(of.found.items[i].after - of.found.items[i].first);
        }
    }
    cr_assert_eq(pages, 18, "%zu", pages);
    cr_assert_eq(offsets, 8000001);
    offset_ranges_finish(&of.found);
    table_schema_free(plan.schema);
}

static void *sleep_long(void *argument)
{
    struct clickhouse_outcome *outcome = argument;
    struct relay_error why;
    struct clickhouse_request request = {.endpoint = 0, .query_id = "engine-kill-1"};
    clickhouse_query(client, &request,
        "SELECT count() FROM numbers(1000) WHERE sleepEachRow(0.05) = 0 SETTINGS max_block_size = 1", NULL, outcome,
        &why);
    return NULL;
}

Test(engine, queries_are_killed_by_their_prefix)
{
    struct clickhouse_outcome outcome;
    pthread_t thread;
    size_t left = 9;
    cr_assert_eq(pthread_create(&thread, NULL, sleep_long, &outcome), 0);
    char *running;
    struct mono_time until = mono_add(clock_mono(clock_system()), DURATION_S(20));
    do {
        running = one("SELECT count() FROM system.processes WHERE query_id = 'engine-kill-1'");
        cr_assert_not(mono_reached(clock_mono(clock_system()), until), "the query never began");
        if (running[0] == '1') {
            break;
        }
        free(running);
    } while (true);
    free(running);
    cr_assert(clickhouse_kill_query(client, 0, "engine-kill-", DURATION_S(20), &left, &error), "%s", error.text);
    pthread_join(thread, NULL);
    cr_assert_eq(left, 0);
    cr_assert_eq(outcome.exception_code, 394);
    cr_assert_eq(outcome.failure, CLICKHOUSE_OUTCOME_UNKNOWN);
}
