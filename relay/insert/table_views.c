// SPDX-License-Identifier: Apache-2.0
//
// Happy path: one query for the views that hang on a table, then two for each of them (the view, what it fills),
// breadth first through chained views. Failures: a view that vanishes between two queries is passed over: the next
// reading sees what there is. One that the user may not see is kept by its name alone: the server tells what hangs on a
// table, but describes no table of a database without SHOW TABLES.
#include "relay/insert/table_views.h"

#include "relay/clickhouse/clickhouse_text.h"

#include <stdlib.h>
#include <string.h>

#define MAX_VIEWS 256 // of all levels together

// A target that a view fills, with its engine and window.
static bool describe_target(struct schema_reading *reading, const char *database, const char *table,
    struct table_view_target *target)
{
    struct clickhouse_result *result = schema_ask(reading, "SELECT engine, engine_full FROM system.tables", "database",
        database, "name", table, "");
    if (!result) {
        return false;
    }
    const char *engine = clickhouse_result_text(result, 0, 0, NULL), *full = clickhouse_result_text(result, 0, 1, NULL);
    target->engine = strdup(engine ? engine : "");
    target->is_mergetree = engine && schema_is_mergetree(engine);
    target->is_replicated = target->is_mergetree && schema_is_replicated(engine);
    bool done = !engine || !full ||
        schema_read_memory(reading, engine, full, &target->dedup_window, &target->dedup_seconds);
    // What stores nothing can double nothing.
    target->has_window = (engine && strcmp(engine, "Null") == 0) || target->dedup_window > 0;
    clickhouse_result_free(result);
    return done && (target->engine || schema_no_memory(reading));
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

// With its name alone. NULL: NO_MEMORY.
static struct table_view_target *add_name(struct schema_reading *reading, struct table_schema *schema,
    const char *database, const char *view)
{
    struct table_view_target *views = reallocarray(schema->views, schema->view_count + 1, sizeof(*views));
    if (!views) {
        schema_no_memory(reading);
        return NULL;
    }
    schema->views = views;
    struct table_view_target *added = &views[schema->view_count];
    *added = (struct table_view_target){0};
    if (!join_name(database, view, &added->view)) {
        schema_no_memory(reading);
        return NULL;
    }
    schema->view_count++;
    return added;
}

static bool add_view(struct schema_reading *reading, struct table_schema *schema, const char *database,
    const char *view, const struct clickhouse_result *described)
{
    char *target_database = NULL, *target_table = NULL;
    const char *target = clickhouse_result_text(described, 0, 1, NULL);
    struct table_view_target *added = add_name(reading, schema, database, view);
    if (!added) {
        return false;
    }
    bool done = false;
    if (target && target[0]) {
        done = schema_split_name(reading, database, database, target, &target_database, &target_table);
    } else { // no TO: a hidden table of the view's own
        const char *uuid = clickhouse_result_text(described, 0, 2, NULL);
        bool by_uuid = uuid && uuid[0] && strncmp(uuid, "00000000-", 9) != 0;
        struct clickhouse_text hidden = {0};
        done = clickhouse_text_add(&hidden, "%s%s", by_uuid ? ".inner_id." : ".inner.", by_uuid ? uuid : view);
        target_database = strdup(database);
        target_table = hidden.at;
        done = (done && target_database) || schema_no_memory(reading);
    }
    done = done && (join_name(target_database, target_table, &added->target) || schema_no_memory(reading)) &&
        describe_target(reading, target_database, target_table, added);
    free(target_database);
    free(target_table);
    return done;
}

// Whether it still hangs on the table, although it cannot be seen.
static bool still_hangs(struct schema_reading *reading, const char *database, const char *table,
    const char *view_database, const char *view, bool *hangs)
{
    struct clickhouse_text rest = {0};
    struct clickhouse_result *result = NULL;
    if (clickhouse_text_add(&rest, "AND arrayExists((a, b) -> a = ") &&
        clickhouse_text_literal(&rest, view_database, strlen(view_database)) &&
        clickhouse_text_add(&rest, " AND b = ") && clickhouse_text_literal(&rest, view, strlen(view)) &&
        clickhouse_text_add(&rest, ", dependencies_database, dependencies_table)")) {
        result = schema_ask(reading, "SELECT count() FROM system.tables", "database", database, "name", table, rest.at);
    } else {
        schema_no_memory(reading);
    }
    *hangs = result && clickhouse_result_int(result, 0, 0) > 0;
    clickhouse_text_finish(&rest);
    bool done = result != NULL;
    clickhouse_result_free(result);
    return done;
}

static bool add_unseen(struct schema_reading *reading, struct table_schema *schema, const char *database,
    const char *view)
{
    struct table_view_target *added = add_name(reading, schema, database, view);
    if (!added) {
        return false;
    }
    added->target = strdup("");
    added->engine = strdup("");
    return (added->target && added->engine) || schema_no_memory(reading);
}

// A view that hangs on the table, with what it fills.
static bool read_view(struct schema_reading *reading, struct table_schema *schema, const char *database,
    const char *table, const char *view_database, const char *view)
{
    struct clickhouse_result *described = schema_ask(reading,
        "SELECT engine, extract(create_table_query, ' TO ((?:`[^`]+`|[^ `.(]+)[.](?:`[^`]+`|[^ `.(]+))'), "
        "toString(uuid) "
        "FROM system.tables",
        "database", view_database, "name", view, "");
    if (!described) {
        return false;
    }
    bool done = true, hangs = false;
    const char *engine = clickhouse_result_text(described, 0, 0, NULL);
    if (!engine) {
        done = still_hangs(reading, database, table, view_database, view, &hangs) &&
            (!hangs || add_unseen(reading, schema, view_database, view));
    } else if (strcmp(engine, "MaterializedView") == 0) {
        done = add_view(reading, schema, view_database, view, described);
    }
    clickhouse_result_free(described);
    return done;
}

// Reads the materialized views that hang on one table and adds those that are new.
static bool read_views_of(struct schema_reading *reading, struct table_schema *schema, const char *database,
    const char *table)
{
    struct clickhouse_result *result = schema_ask(reading,
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
            done = schema_no_memory(reading);
            break;
        }
        bool known = is_known(schema, name);
        free(name);
        if (!known) {
            done = read_view(reading, schema, database, table, view_database, view);
        }
    }
    clickhouse_result_free(result);
    return done;
}

// Block numbers only grow, and those of a replicated table are its partition's, those of another the table's. Who may
// not see parts goes without.
#define NEWEST(place)                                                                                                  \
    "SELECT concat(toString(arrayPushBack(groupArray(place), '')), ', ', toString(arrayPushBack(groupArray(newest), "  \
    "toInt64(-1)))) FROM (SELECT " place " AS place, max(max_block_number) AS newest FROM system.parts"

static bool read_newest(struct schema_reading *reading, const char *database, const char *table, bool replicated,
    char **newest)
{
    struct clickhouse_result *result = schema_ask(reading,
        replicated ? NEWEST("partition_id") : NEWEST(TABLE_ALL_PLACES), "database", database, "table", table,
        "GROUP BY place)");
    if (!result) {
        return reading->error->class == RELAY_CLASS_OPERATOR;
    }
    bool done = clickhouse_result_rows(result) == 0 || (*newest = schema_copy(reading, result, 0, 0)) != NULL;
    clickhouse_result_free(result);
    return done;
}

bool table_views_read(struct schema_reading *reading, struct table_schema *schema)
{
    if (!read_views_of(reading, schema, schema->database, schema->table)) {
        return false;
    }
    for (size_t i = 0; i < schema->view_count; i++) { // grows while it is walked
        char *database = NULL, *table = NULL;
        const char *dot = strchr(schema->views[i].target, '.');
        bool done = !dot; // nothing is known of what it fills
        if (dot) {
            database = strndup(schema->views[i].target, (size_t)(dot - schema->views[i].target));
            table = strdup(dot + 1);
            done = database && table ? read_views_of(reading, schema, database, table) : schema_no_memory(reading);
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
    // Also without views: one may be made before the table is read again.
    return !schema->is_mergetree ||
        read_newest(reading, schema->database, schema->table, schema->is_replicated, &schema->newest);
}
