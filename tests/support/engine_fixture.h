// SPDX-License-Identifier: Apache-2.0
//
// A client of a real ClickHouse and a database for each test, for the programs that pytest runs with CLICKHOUSE_URL,
// CLICKHOUSE_USER and CLICKHOUSE_PASSWORD.
#ifndef TESTS_SUPPORT_ENGINE_FIXTURE_H
#define TESTS_SUPPORT_ENGINE_FIXTURE_H

#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/row_encoder.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config config;
static struct relay_context context;
static struct clickhouse_client *client;
static struct relay_error error;
static char database[64];
static const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};

static char *environment(const char *name)
{
    char *value = getenv(name);
    cr_assert_not_null(value, "%s is not set: run this by pytest tests/integration", name);
    return value;
}

static void run(const char *statement)
{
    cr_assert(clickhouse_query(client, &any, statement, NULL, NULL, &error), "%s: %s", statement, error.text);
}

static void engine_setup(void)
{
    static char *url;
    static char empty[] = "";
    url = environment("CLICKHOUSE_URL");
    config.clickhouse = (struct config_clickhouse){.urls = {.items = &url, .count = 1},
        .database = empty,
        .user = environment("CLICKHOUSE_USER"),
        .password = environment("CLICKHOUSE_PASSWORD"),
        .connect_timeout = DURATION_S(5),
        .request_timeout = DURATION_S(60),
        .compression = CONFIG_COMPRESSION_LZ4};
    context = (struct relay_context){.config = &config, .clock = clock_system()};
    snprintf(context.instance, sizeof(context.instance), "engine%d", (int)getpid());
    client = clickhouse_client_new(&context, &error);
    cr_assert_not_null(client, "%s", error.text);
    snprintf(database, sizeof(database), "engine_%d", (int)getpid());
    char statement[128];
    snprintf(statement, sizeof(statement), "CREATE DATABASE %s", database);
    run(statement);
    clickhouse_client_free(client);
    config.clickhouse.database = database;
    client = clickhouse_client_new(&context, &error);
}

static void engine_teardown(void)
{
    char statement[128];
    snprintf(statement, sizeof(statement), "DROP DATABASE %s", database);
    run(statement);
    clickhouse_client_free(client);
}

static char *one(const char *statement)
{
    struct clickhouse_result *result = NULL;
    cr_assert(clickhouse_query(client, &any, statement, &result, NULL, &error), "%s: %s", statement, error.text);
    const char *text = clickhouse_result_text(result, 0, 0, NULL);
    char *copy = strdup(text ? text : "NULL");
    clickhouse_result_free(result);
    return copy;
}

#define expect_one(statement, expected)                                                                                \
    do {                                                                                                               \
        char *found = one(statement);                                                                                  \
        cr_assert_str_eq(found, expected, "%s: %s", statement, found);                                                 \
        free(found);                                                                                                   \
    } while (0)

static struct table_schema *schema_of(const char *table)
{
    struct table_schema *schema = table_schema_read(client, &any, NULL, table, &error);
    cr_assert_not_null(schema, "%s", error.text);
    return schema;
}

static bool insert(const struct row_encoder *encoder, struct native_block *block, const char *guard, const char *token,
    struct clickhouse_outcome *outcome)
{
    char *statement = row_encoder_statement(encoder, true, guard, &error);
    struct clickhouse_setting setting = {"insert_deduplication_token", token};
    struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .settings = &setting,
        .setting_count = token ? 1 : 0};
    size_t count;
    const struct iovec *pieces = native_block_body(block, &count, &error);
    bool done = clickhouse_insert(client, &request, statement, pieces, count, outcome, &error);
    free(statement);
    return done;
}

#endif
