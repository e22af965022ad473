// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/row_plan.h"

#include "relay/insert/column_zone.h"
#include "relay/insert/value_encoder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The columns of the default table. Those that are `lenient` are left out where the table does not have them.
static const struct {
    const char *column, *source;
    bool lenient;
} default_columns[] = {
    {"event_id", "header.event_id", false}, {"event_type", "header.event_type", false},
    {"aggregate_type", "header.aggregate_type", false}, {"aggregate_id", "header.aggregate_id", false},
    {"payload", "kafka.value?", false}, {"created_at", "header.created_at", false},
    {"seq", "header.seq?", true}, // publishers other than ours have none
};
// Every table that has them gets them: they are what exactly_once reads back.
static const struct {
    const char *column, *source;
    enum route_place place;
} offset_columns[] = {
    {"kafka_topic", "kafka.topic", ROUTE_TOPIC},
    {"kafka_partition", "kafka.partition", ROUTE_PARTITION},
    {"kafka_offset", "kafka.offset", ROUTE_OFFSET},
};

// While compiling.
struct compiler {
    struct row_plan *plan;
    struct value_encoder value;      // for constants
    struct table_findings *findings; // may be NULL
    size_t fatal;
    struct relay_error *error;
};

static bool add_finding(struct compiler *compiler, bool fatal, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool add_finding(struct compiler *compiler, bool fatal, const char *hint, const char *format, ...)
{
    char what[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    if (fatal && compiler->fatal++ == 0) {
        const struct table_schema *schema = compiler->plan->schema;
        error_set(compiler->error, RELAY_ERROR_CLICKHOUSE_OPERATOR, "table %s.%s: %s", schema->database, schema->table,
            what);
    }
    if (!compiler->findings) {
        return true;
    }
    return table_findings_add(compiler->findings, fatal, false, what, hint) ||
        error_no_memory(compiler->error, "compiling a route");
}

static enum datum_kind datum_of(const struct route_source *source)
{
    if (source->mapped) {
        return DATUM_TEXT;
    }
    switch (source->place) {
    case ROUTE_PATH: return DATUM_JSON;
    case ROUTE_PARTITION:
    case ROUTE_OFFSET: return DATUM_INTEGER;
    case ROUTE_TIMESTAMP: return DATUM_MILLIS;
    case ROUTE_HEADER:
    case ROUTE_TOPIC:
    case ROUTE_KEY:
    case ROUTE_VALUE:
    case ROUTE_CONSTANT: break;
    }
    return DATUM_TEXT;
}

// Tries a constant text (of the source or of its map) on the column. An unfit one is a finding.
static bool try_constant(struct compiler *compiler, const struct plan_column *column, const struct route_text *text)
{
    struct native_block *block = native_block_new(compiler->error);
    struct native_column *target = block
        ? native_block_add_column(block, column->table->name, column->table->type, compiler->error)
        : NULL;
    if (!target) {
        native_block_free(block);
        return false;
    }
    struct datum datum = {.kind = DATUM_TEXT, .text = text->at, .length = text->length};
    enum encode_reason reason;
    bool done = value_encode(&compiler->value, target, &datum, &reason);
    if (!done && reason != ENCODE_NONE) {
        done = add_finding(compiler, true, "change the route", "column %s (%s) cannot take the constant '%.60s': %s",
            column->table->name, column->table->type_text, text->at, encode_reason_text(reason));
    } else if (!done) {
        error_no_memory(compiler->error, "compiling a route");
    }
    native_block_free(block);
    return done;
}

static bool check_constants(struct compiler *compiler, const struct plan_column *column)
{
    const struct route_source *source = &column->source;
    if (!source->mapped) {
        return source->place != ROUTE_CONSTANT || try_constant(compiler, column, &source->name);
    }
    for (size_t i = 0; i < source->entry_count; i++) {
        if (!try_constant(compiler, column, &source->to[i])) {
            return false;
        }
    }
    return !source->has_otherwise || try_constant(compiler, column, &source->otherwise);
}

// CREATE TABLE makes columns `name.x`, `name.y` of a Nested, unless told otherwise.
static bool is_flattened(const struct table_schema *schema, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < schema->column_count; i++) {
        if (strncmp(schema->columns[i].name, name, length) == 0 && schema->columns[i].name[length] == '.') {
            return true;
        }
    }
    return false;
}

static bool report_missing_column(struct compiler *compiler, const char *name)
{
    char hint[300];
    if (is_flattened(compiler->plan->schema, name)) {
        return add_finding(compiler, true,
            "fill an Array(Tuple(...)) column of another name, or make the table with SET flatten_nested = 0",
            "the route fills column %s, of which the table has a column for each element (a Nested, flattened)", name);
    }
    snprintf(hint, sizeof(hint), "ALTER TABLE ... ADD COLUMN `%.100s` ..., or take it out of the route", name);
    return add_finding(compiler, true, hint, "the route fills column %s, which the table does not have", name);
}

// Whether the column can be filled at all; a finding if not. *fit tells.
static bool check_column(struct compiler *compiler, const char *name, const struct table_column *table,
    const struct route_source *source, bool *fit)
{
    *fit = false;
    if (!table) {
        return report_missing_column(compiler, name);
    }
    if (table->default_kind == TABLE_DEFAULT_MATERIALIZED || table->default_kind == TABLE_DEFAULT_ALIAS) {
        return add_finding(compiler, true, "take it out of the route", "column %s is computed by the server", name);
    }
    if (!table->type) {
        return add_finding(compiler, true, "change the column's type or take it out of the route", "column %s: %s",
            name, table->type_problem);
    }
    if (!value_fits(datum_of(source), table->type)) {
        return add_finding(compiler, true, "change the route or the column's type",
            "column %s (%s) cannot be filled from %s", name, table->type_text, source->written);
    }
    for (size_t i = 0; i < compiler->plan->column_count; i++) {
        if (compiler->plan->columns[i].table == table) {
            return add_finding(compiler, true, "keep one of them", "the route fills column %s twice", name);
        }
    }
    *fit = true;
    return true;
}

// Adds `name = text` to the plan, or a finding. false: out of memory.
static bool add_column(struct compiler *compiler, const char *name, const char *text)
{
    struct row_plan *plan = compiler->plan;
    struct relay_error why;
    struct plan_column column = {.table = table_schema_column(plan->schema, name)};
    if (!route_source_parse(text, &column.source, &why)) {
        return why.code != RELAY_ERROR_NO_MEMORY
            ? add_finding(compiler, true, "see docs/routes.md", "column %s: %s", name, why.text)
            : error_no_memory(compiler->error, "compiling a route");
    }
    bool fit = false;
    bool done = check_column(compiler, name, column.table, &column.source, &fit);
    if (!done || !fit) {
        route_source_finish(&column.source);
        return done;
    }
    if (column.source.place == ROUTE_PATH &&
        !json_paths_add(plan->paths, column.source.name.at, column.source.name.length, &column.path, &why)) {
        done = why.code != RELAY_ERROR_NO_MEMORY
            ? add_finding(compiler, true, "see docs/routes.md", "column %s: %s", name, why.text)
            : error_no_memory(compiler->error, "compiling a route");
        route_source_finish(&column.source);
        return done;
    }
    struct plan_column *columns = reallocarray(plan->columns, plan->column_count + 1, sizeof(*columns));
    if (!columns) {
        route_source_finish(&column.source);
        return error_no_memory(compiler->error, "compiling a route");
    }
    plan->columns = columns;
    columns[plan->column_count++] = column;
    plan->reads_headers = plan->reads_headers || column.source.place == ROUTE_HEADER;
    return check_constants(compiler, &columns[plan->column_count - 1]);
}

// NULL: nothing fills it.
static const struct plan_column *planned(const struct row_plan *plan, const struct table_column *column)
{
    for (size_t i = 0; i < plan->column_count; i++) {
        if (plan->columns[i].table == column) {
            return &plan->columns[i];
        }
    }
    return NULL;
}

static bool add_columns(struct compiler *compiler, const struct config_route *route)
{
    const struct table_schema *schema = compiler->plan->schema;
    for (size_t i = 0; i < route->column_count; i++) {
        if (!add_column(compiler, route->columns[i].name, route->columns[i].value)) {
            return false;
        }
    }
    for (size_t i = 0; route->column_count == 0 && i < sizeof(default_columns) / sizeof(default_columns[0]); i++) {
        bool leave_out = default_columns[i].lenient && !table_schema_column(schema, default_columns[i].column);
        if (!leave_out && !add_column(compiler, default_columns[i].column, default_columns[i].source)) {
            return false;
        }
    }
    for (size_t i = 0; schema->has_offset_columns && i < sizeof(offset_columns) / sizeof(offset_columns[0]); i++) {
        if (!planned(compiler->plan, table_schema_column(schema, offset_columns[i].column)) &&
            !add_column(compiler, offset_columns[i].column, offset_columns[i].source)) {
            return false;
        }
    }
    return true;
}

// A route may fill these columns from elsewhere (the topic that a mirror copies, say); its rows cannot be found again.
static bool report_foreign_offsets(struct compiler *compiler)
{
    const struct table_schema *schema = compiler->plan->schema;
    size_t count = schema->has_offset_columns && compiler->findings ? sizeof(offset_columns) / sizeof(offset_columns[0])
                                                                    : 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = offset_columns[i].column;
        const struct plan_column *column = planned(compiler->plan, table_schema_column(schema, name));
        if (!column || (column->source.place == offset_columns[i].place && !column->source.mapped)) {
            continue;
        }
        char what[400];
        snprintf(what, sizeof(what), "the route fills column %s from %.100s%s, not from %s: rows cannot be found again",
            name, column->source.written, column->source.mapped ? " by a map" : "", offset_columns[i].source);
        if (!table_findings_add(compiler->findings, false, true, what,
                "take it out of the route; a column of another name can hold that value")) {
            return error_no_memory(compiler->error, "compiling a route");
        }
    }
    return true;
}

// Whether the route means to fill it; where it is not planned all the same, a finding has said why.
static bool is_named(const struct config_route *route, const char *column)
{
    for (size_t i = 0; i < route->column_count; i++) {
        if (strcmp(route->columns[i].name, column) == 0) {
            return true;
        }
    }
    for (size_t i = 0; route->column_count == 0 && i < sizeof(default_columns) / sizeof(default_columns[0]); i++) {
        if (strcmp(default_columns[i].column, column) == 0) {
            return true;
        }
    }
    return false;
}

// Columns of the table that nobody fills: the server puts their default there; worth a word where they have none.
static bool report_unfilled(struct compiler *compiler, const struct config_route *route)
{
    const struct table_schema *schema = compiler->plan->schema;
    for (size_t i = 0; i < schema->column_count; i++) {
        const struct table_column *column = &schema->columns[i];
        if (column->default_kind == TABLE_DEFAULT_NONE && !planned(compiler->plan, column) &&
            !is_named(route, column->name) &&
            !add_finding(compiler, false, "fill it in the route, or give it a DEFAULT",
                "column %s (%s) is not filled by the route and has no DEFAULT: it will be empty", column->name,
                column->type_text)) {
            return false;
        }
    }
    return true;
}

bool row_plan_reads_value(const struct row_plan *plan, const struct route_source *source)
{
    return plan->tombstones == CONFIG_TOMBSTONES_ROW && (source->place == ROUTE_PATH || source->place == ROUTE_VALUE);
}

// A missing value is stored, so the server's DEFAULT does not apply; what is stored may decide over the whole row.
static bool report_stored_defaults(struct compiler *compiler)
{
    const struct row_plan *plan = compiler->plan;
    for (size_t i = 0; i < plan->column_count; i++) {
        const struct plan_column *column = &plan->columns[i];
        const struct table_column *table = column->table;
        if (table->type->kind == CLICKHOUSE_NULLABLE ||
            !(column->source.optional || row_plan_reads_value(plan, &column->source))) {
            continue;
        }
        const char *harm = table_schema_lives_by(plan->schema, table) ? "by which the TTL may remove the row at once"
            : table->in_partition_key                                 ? "which chooses the row's partition"
            : table->default_kind == TABLE_DEFAULT                    ? "and not the column's DEFAULT"
                                                                      : NULL;
        if (harm &&
            !add_finding(compiler, false,
                "make the column Nullable, or fill it from what every message has (of times, kafka.timestamp)",
                "column %s (%s): where %.100s is missing, the type's default (0, '', 1970-01-01) is stored, %s",
                table->name, table->type_text, column->source.written, harm)) {
            return false;
        }
    }
    return true;
}

static bool report_zones(struct compiler *compiler)
{
    const struct row_plan *plan = compiler->plan;
    for (size_t i = 0; i < plan->column_count; i++) {
        const struct plan_column *column = &plan->columns[i];
        const char *zone = column_zone_differs(column->table->type, &column->source);
        if (zone &&
            !add_finding(compiler, false,
                "send times with an offset; or fill a String column, from which the server computes the time",
                "column %s (%s): times without an offset from %.100s are read as UTC, not in %.60s as ClickHouse does",
                column->table->name, column->table->type_text, column->source.written, zone)) {
            return false;
        }
    }
    return true;
}

static bool compile(struct compiler *compiler, const struct config_route *route)
{
    if (!add_columns(compiler, route) || !report_unfilled(compiler, route) || !report_stored_defaults(compiler) ||
        !report_zones(compiler) || !report_foreign_offsets(compiler)) {
        return false;
    }
    if (compiler->fatal > 1) {
        return error_prefix(compiler->error, "route %s: %zu mistakes, the first", route->name, compiler->fatal);
    }
    return compiler->fatal == 0 || error_prefix(compiler->error, "route %s", route->name);
}

bool row_plan_compile(struct row_plan *plan, const struct config_route *route, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error)
{
    struct compiler compiler = {.plan = plan, .findings = findings, .error = error};
    *plan = (struct row_plan){.schema = schema, .tombstones = route->tombstones, .paths = json_paths_new(error)};
    if (!plan->paths) {
        return false;
    }
    value_encoder_init(&compiler.value);
    bool done = compile(&compiler, route);
    value_encoder_finish(&compiler.value);
    return done;
}

void row_plan_finish(struct row_plan *plan)
{
    for (size_t i = 0; i < plan->column_count; i++) {
        route_source_finish(&plan->columns[i].source);
    }
    free(plan->columns);
    json_paths_free(plan->paths);
}
