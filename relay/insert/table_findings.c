// SPDX-License-Identifier: Apache-2.0
//
// What stands between a table and exactly-once, and what fixes it. The rules: the rows must be findable by their
// offsets and stay findable, repeated blocks must be dropped by table and view targets, and a repeated block must fall
// into the same table partitions.
#include "relay/insert/table_findings.h"

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/table_schema.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool table_findings_add(struct table_findings *findings, bool fatal, bool prevents_exactly_once, const char *what,
    const char *hint)
{
    struct table_finding *items = reallocarray(findings->items, findings->count + 1, sizeof(*items));
    if (!items) {
        return false;
    }
    findings->items = items;
    struct table_finding finding = {.fatal = fatal,
        .prevents_exactly_once = prevents_exactly_once,
        .what = strdup(what),
        .hint = strdup(hint)};
    if (!finding.what || !finding.hint) {
        free(finding.what);
        free(finding.hint);
        return false;
    }
    items[findings->count++] = finding;
    return true;
}

void table_findings_finish(struct table_findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        free(findings->items[i].what);
        free(findings->items[i].hint);
    }
    free(findings->items);
    *findings = (struct table_findings){0};
}

const struct table_finding *table_findings_against_exactly_once(const struct table_findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        if (findings->items[i].prevents_exactly_once) {
            return &findings->items[i];
        }
    }
    return NULL;
}

struct judgement {
    const struct table_schema *schema;
    struct table_findings *findings;
    struct clickhouse_text name; // `database`.`table`
};

static bool add(struct judgement *judgement, bool prevents, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool add(struct judgement *judgement, bool prevents, const char *what, const char *format, ...)
{
    char hint[800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(hint, sizeof(hint), format, arguments);
    va_end(arguments);
    return table_findings_add(judgement->findings, false, prevents, what, hint);
}

static bool judge_columns(struct judgement *judgement)
{
    const struct table_schema *schema = judgement->schema;
    if (!schema->has_offset_columns) {
        return add(judgement, true,
            "the table has no columns kafka_topic, kafka_partition and kafka_offset of fit types",
            "ALTER TABLE %s ADD COLUMN IF NOT EXISTS kafka_topic LowCardinality(String), ADD COLUMN IF NOT EXISTS "
            "kafka_partition "
            "Int32, ADD COLUMN IF NOT EXISTS kafka_offset Int64, ADD INDEX IF NOT EXISTS kafka_offset_range "
            "kafka_offset TYPE minmax "
            "GRANULARITY 1; ALTER TABLE %s MATERIALIZE INDEX kafka_offset_range",
            judgement->name.at, judgement->name.at);
    }
    if (!schema->offset_has_index) {
        return add(judgement, false, "reading back offsets after a crash scans whole columns",
            "ALTER TABLE %s ADD INDEX IF NOT EXISTS kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1; "
            "ALTER TABLE %s MATERIALIZE INDEX kafka_offset_range",
            judgement->name.at, judgement->name.at);
    }
    return true;
}

// Engines that merge rows away keep them apart only when the offsets are part of the key.
static bool keeps_every_row(const struct table_schema *schema)
{
    static const char *const plain[] = {"MergeTree", "ReplicatedMergeTree", "SharedMergeTree"};
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (strcmp(schema->engine, plain[i]) == 0) {
            return true;
        }
    }
    static const char *const names[] = {"kafka_topic", "kafka_partition", "kafka_offset"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct table_column *column = table_schema_column(schema, names[i]);
        if (!column || !column->in_sorting_key) {
            return false;
        }
    }
    return true;
}

bool table_schema_merges_rows(const struct table_schema *schema)
{
    const char *lifetime = strstr(schema->engine_full, " TTL ");
    return schema->is_mergetree && (!keeps_every_row(schema) || (lifetime && strstr(lifetime, " GROUP BY ")));
}

// One expression of a TTL: whether it ends rows, and does not only move or recompress their parts.
static bool ends_rows(const char *expression, size_t length)
{
    static const char *const others[] = {" TO DISK ", " TO VOLUME ", " RECOMPRESS "};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (memmem(expression, length, others[i], strlen(others[i]))) {
            return false;
        }
    }
    return true;
}

bool table_schema_ttl_removes_rows(const struct table_schema *schema)
{
    const char *at = strstr(schema->engine_full, " TTL ");
    if (!at) {
        return false;
    }
    at += strlen(" TTL ");
    const char *settings = strstr(at, " SETTINGS "), *end = settings ? settings : at + strlen(at), *begin = at;
    int depth = 0;
    for (; at < end; at++) {
        depth += (*at == '(') - (*at == ')');
        if (*at == ',' && depth == 0) {
            if (ends_rows(begin, (size_t)(at - begin))) {
                return true;
            }
            begin = at;
        }
    }
    return ends_rows(begin, (size_t)(end - begin));
}

static bool judge_engine(struct judgement *judgement, size_t endpoints)
{
    const struct table_schema *schema = judgement->schema;
    char what[320];
    if (strcmp(schema->engine, "Buffer") == 0) {
        return add(judgement, true,
            "engine Buffer acknowledges rows that it has in memory only: a crash of the server loses them",
            "fill the table behind it; the relay sends large INSERTs by itself");
    }
    if (!schema->is_mergetree) {
        snprintf(what, sizeof(what), "engine %.60s keeps no log of inserted blocks", schema->engine);
        return add(judgement, true, what, "fill a MergeTree table; of a Distributed table, the local one");
    }
    if (!keeps_every_row(schema)) {
        snprintf(what, sizeof(what), "engine %.60s merges rows away, so that their offsets can no longer be found",
            schema->engine);
        if (!add(judgement, true, what, "fill a plain MergeTree table and feed %s from it by a materialized view",
                judgement->name.at)) {
            return false;
        }
    }
    if (!schema->is_replicated && endpoints > 1) {
        return add(judgement, true,
            "several ClickHouse URLs, but the table is not replicated: a retry could land where the first "
            "attempt is not known",
            "give one URL, or make the table ReplicatedMergeTree");
    }
    if (table_schema_is_shared(schema) && endpoints == 1) {
        snprintf(what, sizeof(what),
            "engine %.60s behind one url: where several replicas answer, as in ClickHouse Cloud (with one replica "
            "during each upgrade and scaling, for up to an hour), rows may be doubled after an INSERT in doubt",
            schema->engine);
        return add(judgement, false, what,
            "count on at least once there: LIMIT 1 BY kafka_topic, kafka_partition, kafka_offset in queries that must "
            "not count doubles (docs/guarantees-insert.md)");
    }
    return true;
}

static bool judge_window(struct judgement *judgement)
{
    const struct table_schema *schema = judgement->schema;
    const char *setting = schema->is_replicated ? "replicated_deduplication_window"
                                                : "non_replicated_deduplication_window";
    if (schema->is_mergetree && schema->dedup_window <= 0) {
        return add(judgement, true,
            "the table does not remember inserted blocks (deduplication window 0), so a repeated INSERT doubles",
            "ALTER TABLE %s MODIFY SETTING %s = 100000", judgement->name.at, setting);
    }
    return true;
}

static bool is_sent(const char *name, const char *const *sent, size_t sent_count)
{
    for (size_t i = 0; i < sent_count; i++) {
        if (strcmp(sent[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static size_t name_length(const char *text)
{
    size_t length = 0;
    while (isalnum((unsigned char)text[length]) || text[length] == '_') {
        length++;
    }
    return length;
}

// Whether a function is called that may give something else at the next attempt. Its name begins so.
static bool calls_unsteady(const char *text)
{
    static const char *const functions[] = {"now", "today", "yesterday", "cur", "utc_timestamp", "UTCTimestamp", "rand",
        "fuzz", "generate", "hostName", "serverUUID", "uptime", "queryID", "initialQuery", "connectionId",
        "blockNumber", "rowNumber", "runningDiff", "runningAcc", "neighbor", "dict", "joinGet"};
    for (size_t length; *text != '\0'; text += length > 0 ? length : 1) {
        length = name_length(text);
        for (size_t i = 0; text[length] == '(' && i < sizeof(functions) / sizeof(functions[0]); i++) {
            if (strncasecmp(text, functions[i], strlen(functions[i])) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool speaks_of(const char *text, const char *name)
{
    size_t wanted = strlen(name);
    for (const char *at = text; (at = strstr(at, name)) != NULL; at++) {
        if ((at == text || name_length(at - 1) == 0) && name_length(at + wanted) == 0) {
            return true;
        }
    }
    return false;
}

bool table_schema_lives_by(const struct table_schema *schema, const struct table_column *column)
{
    const char *lifetime = schema->engine_full ? strstr(schema->engine_full, " TTL ") : NULL;
    return lifetime && table_schema_ttl_removes_rows(schema) && speaks_of(lifetime, column->name);
}

// It follows from what we send, over `steps` other columns at most.
static bool is_steady(const struct table_schema *schema, const struct table_column *column, const char *const *sent,
    size_t sent_count, size_t steps)
{
    if (is_sent(column->name, sent, sent_count)) {
        return true;
    }
    if (steps == 0 || calls_unsteady(column->default_expression)) {
        return false;
    }
    for (size_t i = 0; i < schema->column_count; i++) {
        const struct table_column *other = &schema->columns[i];
        if (other != column && speaks_of(column->default_expression, other->name) &&
            !is_steady(schema, other, sent, sent_count, steps - 1)) {
            return false;
        }
    }
    return true;
}

static bool judge_partition_key(struct judgement *judgement, const char *const *sent, size_t sent_count)
{
    const struct table_schema *schema = judgement->schema;
    char what[300];
    for (size_t i = 0; i < schema->column_count; i++) {
        const struct table_column *column = &schema->columns[i];
        if (column->in_partition_key && !is_steady(schema, column, sent, sent_count, 8)) {
            snprintf(what, sizeof(what),
                "the partition key depends on column %.100s, which the server fills anew at each attempt",
                column->name);
            if (!add(judgement, true, what, "fill %.100s in the route, or partition by a column that it fills",
                    column->name)) {
                return false;
            }
        }
    }
    if (calls_unsteady(schema->partition_key)) {
        snprintf(what, sizeof(what), "the partition key %.100s changes from attempt to attempt", schema->partition_key);
        return add(judgement, true, what, "partition by a column of the row");
    }
    return true;
}

// A replica that takes over cannot know what another one's plain table has.
static bool judge_replication(struct judgement *judgement, const struct table_view_target *view, size_t endpoints)
{
    char what[400];
    if (!view->is_mergetree || view->is_replicated || endpoints < 2) {
        return true;
    }
    snprintf(what, sizeof(what),
        "view %.120s fills %.120s, which is not replicated: after a crash in the middle of an INSERT it may lack rows "
        "that the table has",
        view->view, view->target);
    return add(judgement, false, what, "make %.200s a Replicated%.40s", view->target, view->engine);
}

// Whether it remembers inserted blocks, and whether it lacks some, cannot be told.
static bool judge_unseen(struct judgement *judgement, const struct table_view_target *view)
{
    const char *hidden = view->target[0] != '\0' ? view->target : view->view, *dot = strchr(hidden, '.');
    char what[400];
    snprintf(what, sizeof(what), "view %.120s hangs on the table, but [clickhouse] user may not see %s%.120s",
        view->view, view->target[0] != '\0' ? "what it fills, " : "it: ", hidden);
    return add(judgement, true, what, "GRANT SHOW TABLES ON %.*s.*, and on the database of the table that it fills",
        (int)(dot ? dot - hidden : 0), hidden);
}

static bool judge_views(struct judgement *judgement, size_t endpoints)
{
    const struct table_schema *schema = judgement->schema;
    for (size_t i = 0; i < schema->view_count; i++) {
        const struct table_view_target *view = &schema->views[i];
        if (!judge_replication(judgement, view, endpoints)) {
            return false;
        }
        if (view->has_window) {
            continue;
        }
        if (view->engine[0] == '\0') {
            if (!judge_unseen(judgement, view)) {
                return false;
            }
            continue;
        }
        char what[400];
        snprintf(what, sizeof(what), "view %.120s fills %.120s (%.40s), which does not remember inserted blocks",
            view->view, view->target, view->engine);
        bool done = view->is_mergetree
            ? add(judgement, true, what, "ALTER TABLE %s MODIFY SETTING %s = 100000", view->target,
                  view->is_replicated ? "replicated_deduplication_window" : "non_replicated_deduplication_window")
            : add(judgement, true, what, "let the view fill a MergeTree table");
        if (!done) {
            return false;
        }
    }
    return true;
}

static bool judge_lifetime(struct judgement *judgement)
{
    if (table_schema_ttl_removes_rows(judgement->schema)) {
        return add(judgement, false,
            "the table has a TTL: rows that it removed cannot be found when Kafka delivers them again",
            "keep rows in ClickHouse longer than offsets and messages in Kafka");
    }
    return true;
}

bool table_schema_exactly_once(const struct table_schema *schema, size_t endpoints, const char *const *sent,
    size_t sent_count, bool *possible, struct table_findings *findings, struct relay_error *error)
{
    struct judgement judgement = {.schema = schema, .findings = findings};
    bool done = table_schema_add_name(&judgement.name, schema) && judge_columns(&judgement) &&
        judge_engine(&judgement, endpoints) && judge_window(&judgement) &&
        judge_partition_key(&judgement, sent, sent_count) && judge_views(&judgement, endpoints) &&
        judge_lifetime(&judgement);
    clickhouse_text_finish(&judgement.name);
    *possible = done && !table_findings_against_exactly_once(findings);
    return done || error_no_memory(error, "judging a table");
}
