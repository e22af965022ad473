// SPDX-License-Identifier: Apache-2.0
//
// All names go into the statements as quoted literals. Failures: a server without replicated_merge_tree_settings has
// their defaults in merge_tree_settings; everything else is the query's own error.
#include "relay/insert/schema_reading.h"

#include "relay/clickhouse/clickhouse_text.h"

#include <stdlib.h>
#include <string.h>

#define NOT_SET (-1)

bool schema_no_memory(const struct schema_reading *reading)
{
    return error_no_memory(reading->error, "reading a table's schema");
}

struct clickhouse_result *schema_ask(const struct schema_reading *reading, const char *select,
    const char *database_column, const char *database, const char *table_column, const char *table, const char *rest)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    if (clickhouse_text_add(&text, "%s WHERE %s = ", select, database_column) &&
        clickhouse_text_literal(&text, database, strlen(database)) &&
        clickhouse_text_add(&text, " AND %s = ", table_column) &&
        clickhouse_text_literal(&text, table, strlen(table)) && clickhouse_text_add(&text, " %s", rest)) {
        clickhouse_query(reading->client, &reading->request, text.at, &result, NULL, reading->error);
    } else {
        schema_no_memory(reading);
    }
    clickhouse_text_finish(&text);
    return result;
}

char *schema_copy(const struct schema_reading *reading, const struct clickhouse_result *result, size_t row,
    size_t column)
{
    const char *text = clickhouse_result_text(result, row, column, NULL);
    char *copy = strdup(text ? text : "");
    if (!copy) {
        schema_no_memory(reading);
    }
    return copy;
}

char *schema_read_keeper_path(const struct schema_reading *reading, const char *database, const char *table)
{
    struct clickhouse_result *result = schema_ask(reading, "SELECT zookeeper_path FROM system.replicas", "database",
        database, "table", table, "");
    char *path = result ? schema_copy(reading, result, 0, 0) : NULL;
    clickhouse_result_free(result);
    return path;
}

bool schema_split_name(const struct schema_reading *reading, const char *database, const char *standard,
    const char *name, char **database_out, char **table_out)
{
    const char *dot = NULL;
    bool quoted = false;
    for (const char *at = name; *at && !dot; at++) {
        quoted = *at == '`' ? !quoted : quoted;
        dot = *at == '.' && !quoted ? at : NULL;
    }
    if (dot) {
        *database_out = strndup(name, (size_t)(dot - name));
    } else {
        *database_out = strdup(database && database[0] ? database : standard);
    }
    *table_out = strdup(dot ? dot + 1 : name);
    char *parts[] = {*database_out, *table_out};
    for (size_t i = 0; i < 2; i++) {
        size_t length = parts[i] ? strlen(parts[i]) : 0;
        if (length >= 2 && parts[i][0] == '`' && parts[i][length - 1] == '`') {
            memmove(parts[i], parts[i] + 1, length - 2);
            parts[i][length - 2] = '\0';
        }
    }
    return (*database_out && *table_out) || schema_no_memory(reading);
}

// "name = 123" in the SETTINGS of an engine, where name is not the end of a longer word.
static int64_t engine_setting(const char *engine_full, const char *name, int64_t standard)
{
    size_t length = strlen(name);
    for (const char *at = strstr(engine_full, name); at; at = strstr(at + 1, name)) {
        bool whole = at == engine_full || at[-1] == ' ' || at[-1] == ',';
        if (whole && strncmp(at + length, " = ", 3) == 0) {
            return strtoll(at + length + 3, NULL, 10);
        }
    }
    return standard;
}

bool schema_is_mergetree(const char *engine)
{
    static const char end[] = "MergeTree";
    size_t length = strlen(engine), end_length = sizeof(end) - 1;
    return length >= end_length && strcmp(engine + length - end_length, end) == 0;
}

bool schema_is_replicated(const char *engine)
{
    return strncmp(engine, "Replicated", 10) == 0 || strncmp(engine, "Shared", 6) == 0;
}

static void take_windows(struct schema_reading *reading, const struct clickhouse_result *result)
{
    for (size_t row = 0; row < clickhouse_result_rows(result); row++) {
        const char *name = clickhouse_result_text(result, row, 0, NULL);
        int64_t value = clickhouse_result_int(result, row, 1);
        if (name && strcmp(name, "replicated_deduplication_window") == 0) {
            reading->replicated_window = value;
        } else if (name && strcmp(name, "replicated_deduplication_window_seconds") == 0) {
            reading->replicated_seconds = value;
        } else {
            reading->plain_window = value;
        }
    }
}

bool schema_read_windows(struct schema_reading *reading)
{
    struct clickhouse_result *result = NULL;
    if (!clickhouse_query(reading->client, &reading->request,
            "SELECT name, value FROM system.merge_tree_settings WHERE name IN "
            "('non_replicated_deduplication_window', 'replicated_deduplication_window', "
            "'replicated_deduplication_window_seconds')",
            &result, NULL, reading->error)) {
        return false;
    }
    take_windows(reading, result);
    clickhouse_result_free(result);
    return true;
}

// The section <replicated_merge_tree> of the server's configuration stands above <merge_tree>, and only here.
static bool read_replicated_windows(struct schema_reading *reading)
{
    struct clickhouse_result *result = NULL;
    if (!reading->knows_replicated &&
        !clickhouse_query(reading->client, &reading->request,
            "SELECT name, value FROM system.replicated_merge_tree_settings WHERE name IN "
            "('replicated_deduplication_window', 'replicated_deduplication_window_seconds')",
            &result, NULL, reading->error) &&
        reading->error->detail != CLICKHOUSE_CODE_UNKNOWN_TABLE) { // before 20.9
        return false;
    }
    if (result) {
        take_windows(reading, result);
    }
    clickhouse_result_free(result);
    reading->knows_replicated = true;
    return true;
}

bool schema_read_memory(struct schema_reading *reading, const char *engine, const char *engine_full, int64_t *window,
    int64_t *seconds)
{
    *window = 0;
    *seconds = INT64_MAX;
    if (!schema_is_mergetree(engine)) {
        return true;
    }
    if (!schema_is_replicated(engine)) {
        *window = engine_setting(engine_full, "non_replicated_deduplication_window", reading->plain_window);
        return true;
    }
    *window = engine_setting(engine_full, "replicated_deduplication_window", NOT_SET);
    *seconds = engine_setting(engine_full, "replicated_deduplication_window_seconds", NOT_SET);
    if ((*window == NOT_SET || *seconds == NOT_SET) && !read_replicated_windows(reading)) {
        return false;
    }
    *window = *window == NOT_SET ? reading->replicated_window : *window;
    *seconds = *seconds == NOT_SET ? reading->replicated_seconds : *seconds;
    return true;
}
