// SPDX-License-Identifier: Apache-2.0
//
// A table and a route out of texts, for tests and fuzzers of the encoder that have no server.
#ifndef TESTS_SUPPORT_ENCODER_FIXTURE_H
#define TESTS_SUPPORT_ENCODER_FIXTURE_H

#include "relay/insert/row_encoder.h"
#include "relay/insert/table_plan.h"

#include <stdlib.h>
#include <string.h>

// columns: "name", "Type", ... and NULL. Aborts when a type is none.
static inline struct table_schema *fixture_schema(const char *const *columns)
{
    struct table_schema *schema = calloc(1, sizeof(*schema));
    size_t count = 0;
    while (columns[count]) {
        count += 2;
    }
    schema->columns = calloc(count / 2 + 1, sizeof(*schema->columns));
    schema->database = strdup("db");
    schema->table = strdup("t");
    for (size_t i = 0; i < count; i += 2) {
        struct table_column *column = &schema->columns[schema->column_count++];
        column->name = strdup(columns[i]);
        column->type_text = strdup(columns[i + 1]);
        column->default_expression = strdup("");
        struct relay_error error;
        column->type = clickhouse_type_parse(columns[i + 1], strlen(columns[i + 1]), &error);
        if (!column->type) {
            column->type_problem = strdup(error.text);
        }
        schema->has_offset_columns = schema->has_offset_columns || strcmp(columns[i], "kafka_offset") == 0;
    }
    return schema;
}

// pairs: "column", "source", ... and NULL. The texts are borrowed.
static inline struct config_route fixture_route(const char *const *pairs, struct config_pair *room)
{
    struct config_route route = {.name = (char *)(uintptr_t) "test", .columns = room};
    for (size_t i = 0; pairs[i]; i += 2) {
        room[route.column_count].name = (char *)(uintptr_t)pairs[i];
        room[route.column_count++].value = (char *)(uintptr_t)pairs[i + 1];
    }
    return route;
}

// As table_plan_read() gives one, for table_plan_release(). The encoder is the test's to add.
static inline struct table_plan *fixture_plan(const char *const *columns, const char *statement)
{
    struct table_plan *plan = calloc(1, sizeof(*plan));
    atomic_init(&plan->references, 1);
    plan->schema = fixture_schema(columns);
    plan->statement = strdup(statement);
    return plan;
}

#endif
