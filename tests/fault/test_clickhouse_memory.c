// SPDX-License-Identifier: Apache-2.0
//
// Every allocation of the ClickHouse side fails once: nothing leaks, nothing is half done, the error says so.
#include "encoder_fixture.h"
#include "fault_alloc.h"
#include "http_script.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/insert_body.h"
#include "relay/insert/value_encoder.h"
#include "relay/clickhouse/lz4_unpack.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct relay_error error;

// Runs work() with the n-th allocation failing, for all n, until it is done without a failure.
static void visit(bool (*work)(void), const char *what)
{
    long n = 0;
    for (bool hit = true; hit; n++) {
        size_t before = fault_alloc_live();
        error_clear(&error);
        fault_alloc_fail_at(n);
        bool done = work();
        hit = fault_alloc_off();
        cr_assert_eq(fault_alloc_live(), before, "%s: %zu blocks left after failure %ld", what,
            fault_alloc_live() - before, n);
        cr_assert(done || hit, "%s failed without a fault: %s", what, error.text);
        // Memory that ran out while an answer was read: the request had been sent, which is what the code tells.
        bool told = error.code == RELAY_ERROR_NO_MEMORY || strstr(error.text, "out of memory");
        cr_assert(done || told, "%s, %ld: %s", what, n, error.text);
    }
    cr_assert_gt(n, 3, "%s allocates", what);
}

static bool parse_type(void)
{
    static const char text[] = "Map(LowCardinality(String), Array(Tuple(`a b` Enum8('x' = 1, 'y' = 2), c DateTime64(3, "
                               "'UTC'), d Nullable(Decimal(9, 2)))))";
    struct clickhouse_type *type = clickhouse_type_parse(text, sizeof(text) - 1, &error);
    char *wire = type ? clickhouse_type_wire(type) : NULL;
    free(wire);
    clickhouse_type_free(type);
    return wire || (type && error_no_memory(&error, "writing a type")); // clickhouse_type_wire says so by NULL alone
}

Test(fault_clickhouse, types)
{
    visit(parse_type, "parsing a type");
}

static struct table_schema *schema;
static struct config_route route;
static struct config_pair pairs[8];

static bool encode(void)
{
    struct table_findings findings = {0};
    struct row_encoder *encoder = row_encoder_new(&route, schema, &findings, &error);
    struct native_block *block = encoder ? row_encoder_block(encoder, &error) : NULL;
    bool done = block != NULL;
    static const char payload[] =
        "{\"a\":[{\"k\":\"\\u0041\",\"v\":[1,2]}],\"m\":{\"x\":1},\"op\":\"insert\",\"n\":null}";
    struct source_message message = {.topic = "t", .value = payload, .value_length = sizeof(payload) - 1};
    for (size_t row = 0; done && row < 200; row++) {
        enum encode_reason reason;
        done = row_encoder_add(encoder, block, &message, &reason, &error);
        cr_assert_eq(reason, ENCODE_NONE, "out of memory is no fault of the message");
        cr_assert_eq(native_block_rows(block), row + (done ? 1 : 0));
        if (!done) {
            done = row_encoder_add(encoder, block, &message, &reason, &error); // the same row, now that there is memory
            cr_assert(done, "%s", error.text);
        }
    }
    size_t count;
    done = done && native_block_body(block, &count, &error);
    char *statement = done ? row_encoder_statement(encoder, true, "1", &error) : NULL;
    done = statement != NULL;
    free(statement);
    native_block_free(block);
    row_encoder_free(encoder);
    table_findings_finish(&findings);
    return done;
}

Test(fault_clickhouse, routes_and_rows)
{
    schema = fixture_schema((const char *const[]){"a", "Array(Tuple(k String, v Array(Int8)))", "m",
        "Map(String, UInt8)", "s", "Int8", "n", "Nullable(String)", "c", "UInt16", "unfilled", "String", NULL});
    route = fixture_route((const char *const[]){"a", "$.a", "m", "$['m']", "s", "$.op: insert=1 delete=-1 *=0", "n",
                              "$.n", "c", "'7'", NULL},
        pairs);
    visit(encode, "encoding");
    table_schema_free(schema);
}

// The value alone, by the numbers that every row has; a reason of before is no reason of now.
static bool put_numbers(void)
{
    static const char *const types[] = {"Int64", "Int32", "Nullable(Int64)", "UInt64", "DateTime64(3)"};
    struct value_encoder encoder;
    struct clickhouse_type *type[5] = {NULL};
    struct native_block *block = native_block_new(&error);
    value_encoder_init(&encoder);
    bool done = block != NULL;
    for (size_t i = 0; done && i < 5; i++) {
        type[i] = clickhouse_type_parse(types[i], strlen(types[i]), &error);
        struct native_column *column = type[i] ? native_block_add_column(block, "n", type[i], &error) : NULL;
        done = column != NULL;
        for (int64_t row = 0; done && row < 5000; row++) {
            struct datum datum = {.kind = i == 4 ? DATUM_MILLIS : DATUM_INTEGER, .integer = row};
            enum encode_reason reason = ENCODE_WRONG_KIND;
            done = value_encode(&encoder, column, &datum, &reason) || error_no_memory(&error, "a number");
            cr_assert(done || reason == ENCODE_NONE, "%s: out of memory is no fault of the number", types[i]);
        }
    }
    native_block_free(block);
    for (size_t i = 0; i < 5; i++) {
        clickhouse_type_free(type[i]);
    }
    value_encoder_finish(&encoder);
    return done;
}

Test(fault_clickhouse, numbers)
{
    visit(put_numbers, "putting numbers");
}

// What a batch does with its block: into a body, and another one into the same; and unpacked.
static bool fill_body(void)
{
    static char bytes[400000];
    struct insert_body *body = insert_body_new(&error);
    struct iovec piece = {bytes, sizeof(bytes)};
    bool done = body != NULL;
    for (int use = 0; done && use < 2; use++) {
        done = insert_body_fill(body, &piece, 1, &error);
    }
    size_t count, read = 0;
    const struct iovec *pieces = done ? insert_body_pieces(body, &count) : NULL;
    struct lz4_unpack *unpack = done ? lz4_unpack_new(pieces, count) : NULL;
    for (ssize_t got = 1; unpack && got > 0; read += got > 0 ? (size_t)got : 0) {
        got = lz4_unpack_read(unpack, bytes, sizeof(bytes));
    }
    lz4_unpack_free(unpack);
    insert_body_free(body);
    return done && (read == sizeof(bytes) || error_no_memory(&error, "unpacking")); // which says so by -1 alone
}

Test(fault_clickhouse, bodies)
{
    visit(fill_body, "filling an INSERT");
}

static void answer(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    (void)context;
    reply->answer = strstr(seen->target, "learn-version") ? "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n24.8\thost\n"
        : strstr(seen->target, "learn-uuid")              ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nu\n"
        : strstr(seen->target, "learn-settings") ? "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nasync_insert\n"
        : strstr(seen->target, "query=INSERT")   ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                                                 : "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1\t2\n";
}

static struct relay_context context;

static bool talk(void)
{
    struct clickhouse_client *client = clickhouse_client_new(&context, &error);
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_result *result = NULL;
    static char bytes[] = "body";
    struct iovec body = {bytes, 4};
    bool done = client && clickhouse_query(client, &request, "SELECT 1", &result, NULL, &error) &&
        clickhouse_insert(client, &request, "INSERT INTO t FORMAT Native", &body, 1, NULL, &error);
    clickhouse_result_free(result);
    clickhouse_client_free(client);
    return done;
}

Test(fault_clickhouse, requests)
{
    static struct config config;
    static char user[] = "u", password[] = "p", database[] = "d";
    struct http_script *peer = http_script_start(answer, NULL);
    char *url = strdup(http_script_url(peer));
    config.clickhouse = (struct config_clickhouse){.urls = {.items = &url, .count = 1},
        .database = database,
        .user = user,
        .password = password,
        .connect_timeout = DURATION_S(5),
        .request_timeout = DURATION_S(20)};
    context = (struct relay_context){.config = &config, .clock = clock_system(), .instance = "i"};
    visit(talk, "talking");
    http_script_stop(peer);
    free(url);
}
