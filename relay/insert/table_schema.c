// SPDX-License-Identifier: Apache-2.0
//
// Happy path: one query each for the table, its columns, the server's default windows and the offset's index, then one
// for each view that hangs on it, breadth first through chained views. All names go into the statements as quoted
// literals. Failures: no such table, or none that we may see, is the operator's; everything else is the query's own
// error, with the table's name in front. A view that vanishes between two queries is passed over: the next reading sees
// what there is.
#include "relay/insert/table_schema.h"

#include "relay/clickhouse/clickhouse_text.h"

#include <stdlib.h>
#include <string.h>

#define MAX_VIEWS 256 // of all levels together

struct reading {
    struct clickhouse_client *client;
    struct clickhouse_request request;
    struct relay_error *error;
    int64_t plain_window, replicated_window, replicated_seconds; // the server's defaults
};

static bool no_memory(const struct reading *reading)
{
    return error_no_memory(reading->error, "reading a table's schema");
}

// Runs "<select> WHERE <database_column> = 'database' AND <table_column> = 'table' <rest>".
static struct clickhouse_result *ask(const struct reading *reading, const char *select, const char *database_column,
    const char *database, const char *table_column, const char *table, const char *rest)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    if (clickhouse_text_add(&text, "%s WHERE %s = ", select, database_column) &&
        clickhouse_text_literal(&text, database, strlen(database)) &&
        clickhouse_text_add(&text, " AND %s = ", table_column) &&
        clickhouse_text_literal(&text, table, strlen(table)) && clickhouse_text_add(&text, " %s", rest)) {
        clickhouse_query(reading->client, &reading->request, text.at, &result, NULL, reading->error);
    } else {
        no_memory(reading);
    }
    clickhouse_text_finish(&text);
    return result;
}

static bool copy(const struct reading *reading, const struct clickhouse_result *result, size_t row, size_t column,
    char **to)
{
    const char *text = clickhouse_result_text(result, row, column, NULL);
    *to = strdup(text ? text : "");
    return *to || no_memory(reading);
}

// "db.table", "table", either part in backticks or not. database NULL or "": `standard`.
static bool split_name(const struct reading *reading, const char *database, const char *standard, const char *name,
    char **database_out, char **table_out)
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
    return (*database_out && *table_out) || no_memory(reading);
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

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool is_replicated(const char *engine)
{
    return strncmp(engine, "Replicated", 10) == 0 || strncmp(engine, "Shared", 6) == 0;
}

static int64_t window_of(const struct reading *reading, const char *engine, const char *engine_full)
{
    if (!ends_with(engine, "MergeTree")) {
        return 0;
    }
    return is_replicated(engine)
        ? engine_setting(engine_full, "replicated_deduplication_window", reading->replicated_window)
        : engine_setting(engine_full, "non_replicated_deduplication_window", reading->plain_window);
}

// How old what that window remembers may be.
static int64_t seconds_of(const struct reading *reading, const char *engine, const char *engine_full)
{
    return is_replicated(engine)
        ? engine_setting(engine_full, "replicated_deduplication_window_seconds", reading->replicated_seconds)
        : INT64_MAX;
}

static bool read_windows(struct reading *reading)
{
    struct clickhouse_result *result = NULL;
    if (!clickhouse_query(reading->client, &reading->request,
            "SELECT name, value FROM system.merge_tree_settings WHERE name IN "
            "('non_replicated_deduplication_window', 'replicated_deduplication_window', "
            "'replicated_deduplication_window_seconds')",
            &result, NULL, reading->error)) {
        return false;
    }
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
    clickhouse_result_free(result);
    return true;
}

static bool read_table(const struct reading *reading, struct table_schema *schema)
{
    struct clickhouse_result *result = ask(reading,
        "SELECT toString(uuid), engine, engine_full, partition_key, sorting_key FROM system.tables", "database",
        schema->database, "name", schema->table, "");
    if (!result && reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER) { // 18.16 has no uuid
        result = ask(reading, "SELECT '', engine, engine_full, partition_key, sorting_key FROM system.tables",
            "database", schema->database, "name", schema->table, "");
    }
    if (!result) {
        return false;
    }
    bool done = false;
    if (clickhouse_result_rows(result) == 0) {
        error_set_class(reading->error, RELAY_ERROR_CLICKHOUSE_OPERATOR, RELAY_CLASS_OPERATOR,
            CLICKHOUSE_CODE_UNKNOWN_TABLE,
            "there is no such table, or the user may not see it; create it (the default route's: outbox-relay migrate "
            "clickhouse up), or grant "
            "SELECT and INSERT");
    } else {
        done = copy(reading, result, 0, 0, &schema->uuid) && copy(reading, result, 0, 1, &schema->engine) &&
            copy(reading, result, 0, 2, &schema->engine_full) && copy(reading, result, 0, 3, &schema->partition_key) &&
            copy(reading, result, 0, 4, &schema->sorting_key);
    }
    clickhouse_result_free(result);
    if (!done) {
        return false;
    }
    schema->is_mergetree = ends_with(schema->engine, "MergeTree");
    schema->is_replicated = schema->is_mergetree && is_replicated(schema->engine);
    schema->dedup_window = window_of(reading, schema->engine, schema->engine_full);
    schema->dedup_seconds = seconds_of(reading, schema->engine, schema->engine_full);
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

static bool read_column(const struct reading *reading, const struct clickhouse_result *result, size_t row,
    struct table_column *column)
{
    if (!copy(reading, result, row, 0, &column->name) || !copy(reading, result, row, 1, &column->type_text) ||
        !copy(reading, result, row, 3, &column->default_expression)) {
        return false;
    }
    column->default_kind = default_kind(clickhouse_result_text(result, row, 2, NULL));
    column->in_partition_key = clickhouse_result_int(result, row, 4) != 0;
    column->in_sorting_key = clickhouse_result_int(result, row, 5) != 0;
    struct relay_error why;
    column->type = clickhouse_type_parse(column->type_text, strlen(column->type_text), &why);
    if (!column->type) {
        if (why.code == RELAY_ERROR_NO_MEMORY || !(column->type_problem = strdup(why.text))) {
            return no_memory(reading);
        }
    }
    return true;
}

static bool read_columns(const struct reading *reading, struct table_schema *schema)
{
    struct clickhouse_result *result = ask(reading,
        "SELECT name, type, toString(default_kind), default_expression, is_in_partition_key, is_in_sorting_key "
        "FROM system.columns",
        "database", schema->database, "table", schema->table, "ORDER BY position");
    if (!result && reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER) { // 18.16 has no position
        result = ask(reading,
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
        done = no_memory(reading);
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

static bool read_offset_columns(const struct reading *reading, struct table_schema *schema)
{
    const struct table_column *topic = table_schema_column(schema, "kafka_topic");
    const struct table_column *offset = table_schema_column(schema, "kafka_offset");
    schema->has_offset_columns = topic && topic->type && topic->type->kind == CLICKHOUSE_STRING &&
        is_integer(table_schema_column(schema, "kafka_partition"), 4) && is_integer(offset, 8);
    if (!schema->has_offset_columns) {
        return true;
    }
    schema->offset_has_index = offset->in_sorting_key;
    struct clickhouse_result *result = ask(reading, "SELECT count() FROM system.data_skipping_indices", "database",
        schema->database, "table", schema->table, "AND expr = 'kafka_offset'");
    if (!result) {
        // Servers without this table: the index is a warning at most.
        return reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_TABLE ||
            reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER;
    }
    schema->offset_has_index = schema->offset_has_index || clickhouse_result_int(result, 0, 0) > 0;
    clickhouse_result_free(result);
    return true;
}

static bool read_keeper_path(const struct reading *reading, struct table_schema *schema)
{
    struct clickhouse_result *result = NULL;
    if (schema->is_replicated) {
        result = ask(reading, "SELECT zookeeper_path FROM system.replicas", "database", schema->database, "table",
            schema->table, "");
        if (!result) {
            return false;
        }
    }
    bool found = result && clickhouse_result_rows(result) > 0;
    schema->keeper_path = strdup(found ? clickhouse_result_text(result, 0, 0, NULL) : "");
    clickhouse_result_free(result);
    return schema->keeper_path || no_memory(reading);
}

// A target that a view fills, with its engine and window.
static bool describe_target(const struct reading *reading, const char *database, const char *table,
    struct table_view_target *target)
{
    struct clickhouse_result *result = ask(reading, "SELECT engine, engine_full FROM system.tables", "database",
        database, "name", table, "");
    if (!result) {
        return false;
    }
    const char *engine = clickhouse_result_text(result, 0, 0, NULL), *full = clickhouse_result_text(result, 0, 1, NULL);
    target->engine = strdup(engine ? engine : "");
    target->is_mergetree = engine && ends_with(engine, "MergeTree");
    target->is_replicated = target->is_mergetree && is_replicated(engine);
    // What stores nothing can double nothing.
    target->dedup_window = engine && full ? window_of(reading, engine, full) : 0;
    target->dedup_seconds = engine && full ? seconds_of(reading, engine, full) : 0;
    target->has_window = (engine && strcmp(engine, "Null") == 0) || target->dedup_window > 0;
    clickhouse_result_free(result);
    return target->engine || no_memory(reading);
}

static bool join_name(const char *database, const char *table, char **to)
{
    struct clickhouse_text text = {0};
    bool done = clickhouse_text_add(&text, "%s.%s", database, table);
    *to = text.at;
    return done;
}

static bool is_known(const struct table_schema *schema, const char *view)
{
    for (size_t i = 0; i < schema->view_count; i++) {
        if (strcmp(schema->views[i].view, view) == 0) {
            return true;
        }
    }
    return false;
}

static bool add_view(const struct reading *reading, struct table_schema *schema, const char *database, const char *view,
    const struct clickhouse_result *described)
{
    char *target_database = NULL, *target_table = NULL;
    const char *target = clickhouse_result_text(described, 0, 1, NULL);
    struct table_view_target *views = reallocarray(schema->views, schema->view_count + 1, sizeof(*views));
    if (!views) {
        return no_memory(reading);
    }
    schema->views = views;
    struct table_view_target *added = &views[schema->view_count];
    *added = (struct table_view_target){0};
    bool done = false;
    if (!join_name(database, view, &added->view)) {
        return no_memory(reading);
    }
    schema->view_count++;
    if (target && target[0]) {
        done = split_name(reading, database, database, target, &target_database, &target_table);
    } else { // no TO: a hidden table of the view's own
        const char *uuid = clickhouse_result_text(described, 0, 2, NULL);
        bool by_uuid = uuid && uuid[0] && strncmp(uuid, "00000000-", 9) != 0;
        struct clickhouse_text hidden = {0};
        done = clickhouse_text_add(&hidden, "%s%s", by_uuid ? ".inner_id." : ".inner.", by_uuid ? uuid : view);
        target_database = strdup(database);
        target_table = hidden.at;
        done = (done && target_database) || no_memory(reading);
    }
    done = done && (join_name(target_database, target_table, &added->target) || no_memory(reading)) &&
        describe_target(reading, target_database, target_table, added);
    free(target_database);
    free(target_table);
    return done;
}

// Reads the materialized views that hang on one table and adds those that are new.
static bool read_views_of(const struct reading *reading, struct table_schema *schema, const char *database,
    const char *table)
{
    struct clickhouse_result *result = ask(reading,
        "SELECT d.1, d.2 FROM (SELECT arrayJoin(arrayMap((a, b) -> tuple(a, b), dependencies_database, "
        "dependencies_table)) AS d "
        "FROM system.tables",
        "database", database, "name", table, ")");
    if (!result) {
        return reading->error->detail == CLICKHOUSE_CODE_UNKNOWN_IDENTIFIER; // 18.16 does not say which views there are
    }
    bool done = true;
    for (size_t row = 0; done && row < clickhouse_result_rows(result) && schema->view_count < MAX_VIEWS; row++) {
        const char *view_database = clickhouse_result_text(result, row, 0, NULL);
        const char *view = clickhouse_result_text(result, row, 1, NULL);
        char *name = NULL;
        if (!join_name(view_database, view, &name)) {
            done = no_memory(reading);
            break;
        }
        bool known = is_known(schema, name);
        free(name);
        if (known) {
            continue;
        }
        struct clickhouse_result *described = ask(reading,
            "SELECT engine, extract(create_table_query, ' TO ((?:`[^`]+`|[^ `.(]+)[.](?:`[^`]+`|[^ `.(]+))'), "
            "toString(uuid) "
            "FROM system.tables",
            "database", view_database, "name", view, "");
        if (!described) {
            done = false;
            break;
        }
        const char *engine = clickhouse_result_text(described, 0, 0, NULL);
        if (engine && strcmp(engine, "MaterializedView") == 0) {
            done = add_view(reading, schema, view_database, view, described);
        }
        clickhouse_result_free(described);
    }
    clickhouse_result_free(result);
    return done;
}

// Block numbers only grow, and those of a replicated table are its partition's, those of another the table's. Who may
// not see parts goes without.
#define NEWEST(place)                                                                                                  \
    "SELECT concat(toString(arrayPushBack(groupArray(place), '')), ', ', toString(arrayPushBack(groupArray(newest), "  \
    "toInt64(-1)))) FROM (SELECT " place " AS place, max(max_block_number) AS newest FROM system.parts"

static bool read_newest(const struct reading *reading, const char *database, const char *table, bool replicated,
    char **newest)
{
    struct clickhouse_result *result = ask(reading, replicated ? NEWEST("partition_id") : NEWEST(TABLE_ALL_PLACES),
        "database", database, "table", table, "GROUP BY place)");
    if (!result) {
        return reading->error->class == RELAY_CLASS_OPERATOR;
    }
    bool done = clickhouse_result_rows(result) == 0 || copy(reading, result, 0, 0, newest);
    clickhouse_result_free(result);
    return done;
}

static bool read_views(const struct reading *reading, struct table_schema *schema)
{
    if (!read_views_of(reading, schema, schema->database, schema->table)) {
        return false;
    }
    for (size_t i = 0; i < schema->view_count; i++) { // grows while it is walked
        char *database = NULL, *table = NULL;
        const char *dot = strchr(schema->views[i].target, '.');
        bool done = false;
        if (dot) {
            database = strndup(schema->views[i].target, (size_t)(dot - schema->views[i].target));
            table = strdup(dot + 1);
            done = database && table ? read_views_of(reading, schema, database, table) : no_memory(reading);
            struct table_view_target *view = &schema->views[i];
            done = done &&
                (!view->is_mergetree || read_newest(reading, database, table, view->is_replicated, &view->newest));
        }
        free(database);
        free(table);
        if (!done) {
            return false;
        }
    }
    return schema->view_count == 0 ||
        read_newest(reading, schema->database, schema->table, schema->is_replicated, &schema->newest);
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
    struct reading reading = {.client = client, .request = *request, .error = error ? error : &local};
    struct table_schema *schema = calloc(1, sizeof(*schema));
    struct clickhouse_result *result = NULL;
    if (!schema) {
        no_memory(&reading);
        return NULL;
    }
    reading.request.query_id = NULL; // each query needs its own
    if (!clickhouse_query(client, &reading.request, "SELECT currentDatabase()", &result, &outcome, reading.error)) {
        goto failed;
    }
    reading.request.endpoint = schema->endpoint = outcome.endpoint; // all of it from one server
    const char *standard = clickhouse_result_text(result, 0, 0, NULL);
    bool named = split_name(&reading, database, standard ? standard : "default", table, &schema->database,
        &schema->table);
    clickhouse_result_free(result);
    if (!named || !read_windows(&reading) || !read_table(&reading, schema) || !read_columns(&reading, schema) ||
        !read_offset_columns(&reading, schema) || !read_keeper_path(&reading, schema) ||
        !read_views(&reading, schema)) {
        goto failed;
    }
    schema->fingerprint = fingerprint(schema);
    return schema;

failed:
    error_prefix(reading.error, "table %s", table);
    table_schema_free(schema);
    return NULL;
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
