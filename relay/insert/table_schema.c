// SPDX-License-Identifier: Apache-2.0
//
// Happy path: one query each for the table, its columns, the server's default windows and the offset's index, then the
// views (table_views.c). Failures: no such table, or none that we may see, is the operator's; everything else is the
// query's own error, with the table's name in front.
#include "relay/insert/table_schema.h"

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/schema_reading.h"
#include "relay/insert/table_views.h"

#include <stdlib.h>
#include <string.h>

static bool read_table(struct schema_reading *reading, struct table_schema *schema)
{
    struct clickhouse_result *result = schema_ask(reading,
        "SELECT toString(uuid), engine, engine_full, partition_key, sorting_key FROM system.tables", "database",
        schema->database, "name", schema->table, "");
    if (!result && reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER) { // 18.16 has no uuid
        result = schema_ask(reading, "SELECT '', engine, engine_full, partition_key, sorting_key FROM system.tables",
            "database", schema->database, "name", schema->table, "");
    }
    if (!result) {
        return false;
    }
    bool done = false;
    if (clickhouse_result_rows(result) == 0) {
        error_set_detail(reading->error, RELAY_ERROR_CLICKHOUSE_OPERATOR, CLICKHOUSE_CODE_UNKNOWN_TABLE,
            "there is no such table, or the user may not see it; create it (the default route's: outbox-relay migrate "
            "clickhouse up), or grant "
            "SELECT and INSERT");
    } else {
        done = (schema->uuid = schema_copy(reading, result, 0, 0)) != NULL &&
            (schema->engine = schema_copy(reading, result, 0, 1)) != NULL &&
            (schema->engine_full = schema_copy(reading, result, 0, 2)) != NULL &&
            (schema->partition_key = schema_copy(reading, result, 0, 3)) != NULL &&
            (schema->sorting_key = schema_copy(reading, result, 0, 4)) != NULL;
    }
    clickhouse_result_free(result);
    if (!done) {
        return false;
    }
    schema->is_mergetree = schema_is_mergetree(schema->engine);
    schema->is_replicated = schema->is_mergetree && schema_is_replicated(schema->engine);
    int64_t window, seconds;
    if (!schema_read_memory(reading, schema->engine, schema->engine_full, &window, &seconds)) {
        return false;
    }
    schema->dedup_window = window;
    schema->dedup_seconds = seconds;
    return true;
}

static enum table_default default_kind(const char *text)
{
    static const char *const names[] = {"", "DEFAULT", "MATERIALIZED", "ALIAS", "EPHEMERAL"};
    for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum table_default)i;
        }
    }
    return TABLE_DEFAULT_NONE;
}

static bool read_column(const struct schema_reading *reading, const struct clickhouse_result *result, size_t row,
    struct table_column *column)
{
    if (!(column->name = schema_copy(reading, result, row, 0)) ||
        !(column->type_text = schema_copy(reading, result, row, 1)) ||
        !(column->default_expression = schema_copy(reading, result, row, 3))) {
        return false;
    }
    column->default_kind = default_kind(clickhouse_result_text(result, row, 2, NULL));
    column->in_partition_key = clickhouse_result_int(result, row, 4) != 0;
    column->in_sorting_key = clickhouse_result_int(result, row, 5) != 0;
    struct relay_error why;
    column->type = clickhouse_type_parse(column->type_text, strlen(column->type_text), &why);
    if (!column->type) {
        if (why.code == RELAY_ERROR_NO_MEMORY || !(column->type_problem = strdup(why.text))) {
            return schema_no_memory(reading);
        }
    }
    return true;
}

static bool read_columns(const struct schema_reading *reading, struct table_schema *schema)
{
    struct clickhouse_result *result = schema_ask(reading,
        "SELECT name, type, toString(default_kind), default_expression, is_in_partition_key, is_in_sorting_key "
        "FROM system.columns",
        "database", schema->database, "table", schema->table, "ORDER BY position");
    if (!result && reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER) { // 18.16 has no position
        result = schema_ask(reading,
            "SELECT name, type, toString(default_kind), default_expression, is_in_partition_key, is_in_sorting_key "
            "FROM system.columns",
            "database", schema->database, "table", schema->table, "");
    }
    if (!result) {
        return false;
    }
    size_t rows = clickhouse_result_rows(result);
    bool done = true;
    schema->columns = calloc(rows + 1, sizeof(*schema->columns));
    if (!schema->columns) {
        done = schema_no_memory(reading);
    }
    for (size_t row = 0; done && row < rows; row++) {
        schema->column_count++;
        done = read_column(reading, result, row, &schema->columns[row]);
    }
    clickhouse_result_free(result);
    return done;
}

const struct table_column *table_schema_column(const struct table_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->column_count; i++) {
        if (strcmp(schema->columns[i].name, name) == 0) {
            return &schema->columns[i];
        }
    }
    return NULL;
}

static bool is_integer(const struct table_column *column, uint32_t least_width)
{
    return column && column->type && (column->type->kind == CLICKHOUSE_INT || column->type->kind == CLICKHOUSE_UINT) &&
        column->type->width >= least_width;
}

static bool read_offset_columns(const struct schema_reading *reading, struct table_schema *schema)
{
    const struct table_column *topic = table_schema_column(schema, "kafka_topic");
    const struct table_column *offset = table_schema_column(schema, "kafka_offset");
    schema->has_offset_columns = topic && topic->type && topic->type->kind == CLICKHOUSE_STRING &&
        is_integer(table_schema_column(schema, "kafka_partition"), 4) && is_integer(offset, 8);
    if (!schema->has_offset_columns) {
        return true;
    }
    schema->offset_has_index = offset->in_sorting_key;
    struct clickhouse_result *result = schema_ask(reading, "SELECT count() FROM system.data_skipping_indices",
        "database", schema->database, "table", schema->table, "AND expr = 'kafka_offset'");
    if (!result) {
        // Servers without this table: the index is a warning at most.
        return reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_TABLE ||
            reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER;
    }
    schema->offset_has_index = schema->offset_has_index || clickhouse_result_int(result, 0, 0) > 0;
    clickhouse_result_free(result);
    return true;
}

static bool read_keeper_path(const struct schema_reading *reading, struct table_schema *schema)
{
    if (schema->is_replicated) {
        return (schema->keeper_path = schema_read_keeper_path(reading, schema->database, schema->table)) != NULL;
    }
    return (schema->keeper_path = strdup("")) || schema_no_memory(reading);
}

static uint64_t mix(uint64_t hash, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)(text ? text : ""); *at; at++) {
        hash = (hash ^ *at) * 1099511628211u;
    }
    return (hash ^ 0xFF) * 1099511628211u;
}

static uint64_t mix_memory(uint64_t hash, int64_t window, int64_t seconds)
{
    char text[64];
    snprintf(text, sizeof(text), "%lld %lld", (long long)window, (long long)seconds);
    return mix(hash, text);
}

// FNV-1a over everything that matters.
static uint64_t fingerprint(const struct table_schema *schema)
{
    uint64_t hash = 14695981039346656037u;
    const char *const texts[] = {schema->uuid, schema->engine, schema->engine_full, schema->partition_key,
        schema->sorting_key};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        hash = mix(hash, texts[i]);
    }
    for (size_t i = 0; i < schema->column_count; i++) {
        const struct table_column *column = &schema->columns[i];
        static const char *const kinds[] = {"", "D", "M", "A", "E"};
        hash = mix(mix(mix(mix(hash, column->name), column->type_text), kinds[column->default_kind]),
            column->default_expression);
    }
    for (size_t i = 0; i < schema->view_count; i++) {
        const struct table_view_target *view = &schema->views[i];
        hash = mix(mix(mix(mix(hash, view->view), view->target), view->engine), view->has_window ? "w" : "");
        hash = mix_memory(hash, view->dedup_window, view->dedup_seconds);
    }
    hash = mix_memory(hash, schema->dedup_window, schema->dedup_seconds);
    return mix(hash, schema->offset_has_index ? "i" : "");
}

struct table_schema *table_schema_read(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *database, const char *table, struct relay_error *error)
{
    struct relay_error local;
    struct clickhouse_outcome outcome;
    struct schema_reading reading = {.client = client, .request = *request, .error = error ? error : &local};
    struct table_schema *schema = calloc(1, sizeof(*schema));
    struct clickhouse_result *result = NULL;
    if (!schema) {
        schema_no_memory(&reading);
        return NULL;
    }
    reading.request.query_id = NULL; // each query needs its own
    if (!clickhouse_query(client, &reading.request, "SELECT currentDatabase()", &result, &outcome, reading.error)) {
        goto failed;
    }
    reading.request.endpoint = schema->endpoint = outcome.endpoint; // all of it from one server
    const char *standard = clickhouse_result_text(result, 0, 0, NULL);
    char *names[2] = {NULL, NULL};
    bool named = schema_split_name(&reading, database, standard ? standard : "default", table, &names[0], &names[1]);
    schema->database = names[0];
    schema->table = names[1];
    clickhouse_result_free(result);
    if (!named || !schema_read_windows(&reading) || !read_table(&reading, schema) || !read_columns(&reading, schema) ||
        !read_offset_columns(&reading, schema) || !read_keeper_path(&reading, schema) ||
        !table_views_read(&reading, schema)) {
        goto failed;
    }
    schema->fingerprint = fingerprint(schema);
    return schema;

failed:
    error_prefix(reading.error, "table %s", table);
    table_schema_free(schema);
    return NULL;
}

bool table_schema_is_shared(const struct table_schema *schema)
{
    return strncmp(schema->engine, "Shared", 6) == 0;
}

bool table_schema_add_name(struct clickhouse_text *text, const struct table_schema *schema)
{
    return clickhouse_text_name(text, schema->database) && clickhouse_text_add(text, ".") &&
        clickhouse_text_name(text, schema->table);
}

void table_schema_free(struct table_schema *schema)
{
    if (!schema) {
        return;
    }
    for (size_t i = 0; i < schema->column_count; i++) {
        free(schema->columns[i].name);
        free(schema->columns[i].type_text);
        free(schema->columns[i].type_problem);
        free(schema->columns[i].default_expression);
        clickhouse_type_free(schema->columns[i].type);
    }
    for (size_t i = 0; i < schema->view_count; i++) {
        free(schema->views[i].view);
        free(schema->views[i].target);
        free(schema->views[i].engine);
        free(schema->views[i].newest);
    }
    free(schema->columns);
    free(schema->views);
    free(schema->database);
    free(schema->table);
    free(schema->uuid);
    free(schema->engine);
    free(schema->engine_full);
    free(schema->partition_key);
    free(schema->sorting_key);
    free(schema->keeper_path);
    free(schema->newest);
    free(schema);
}
