// SPDX-License-Identifier: Apache-2.0
//
// A route without columns of its own takes each of the default table's columns from a header. An outbox that lacks one
// of them, or whose ids do not fit the table, gets all its events into the dead letters, while every server is well.
// What cannot be asked here is passed over: the parts about the servers and the tables report it.
#include "relay/cli/check.h"

#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/table_schema.h"
#include "relay/publish/outbox_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct route_check {
    struct check *check;
    const struct config_route *route;
    char what[160];
};

static void check_columns(struct route_check *at, const struct config_outbox *outbox)
{
    if (outbox->columns[CONFIG_COLUMN_CREATED_AT][0] == '\0') {
        check_add(at->check->report, CHECK_WARN, at->what,
            "name a column of the time with column.created_at, or give the route columns of its own, with created_at = "
            "kafka.timestamp",
            "no column.created_at in outbox %s: the route takes header.created_at, and without it each event becomes a "
            "dead letter (missing_header)",
            outbox->name);
    }
    if (outbox->columns[CONFIG_COLUMN_AGGREGATE_TYPE][0] == '\0') {
        check_add(at->check->report, CHECK_WARN, at->what,
            "give the route columns of its own, without aggregate_type or with a constant ('order')",
            "no column.aggregate_type in outbox %s: the route takes header.aggregate_type, and without it each event "
            "becomes a dead letter (missing_header)",
            outbox->name);
    }
}

// The type of the outbox's ids where none of them can be a UUID, malloc'd; NULL: they may be, or it is not known.
static char *foreign_id_type(struct check *check, const struct config_outbox *outbox)
{
    const struct pg_value values[] = {PG_TEXT(outbox->table), PG_TEXT(outbox->columns[CONFIG_COLUMN_ID])};
    if (!check->connection || pg_broken(check->connection)) {
        return NULL;
    }
    PGresult *result = pg_query(check->connection,
        "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a "
        "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped "
        "AND " OUTBOX_TABLE_BASE_TYPE " NOT IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype, "
        "'bpchar'::regtype, 'bytea'::regtype)",
        values, 2, false, check_deadline(check), NULL);
    char *type = result && PQntuples(result) > 0 ? strdup(pg_cell(result, 0, 0)) : NULL;
    PQclear(result);
    return type;
}

// By the first server that answers.
static bool takes_uuids(struct check *check, const struct config_route *route)
{
    bool uuids = false;
    struct table_schema *schema = NULL;
    struct clickhouse_client *client = clickhouse_client_new(check->context, NULL);
    for (size_t i = 0; client && !schema && i < clickhouse_client_endpoints(client); i++) {
        const struct clickhouse_request request = {.endpoint = (int)i, .timeout = CHECK_TIMEOUT};
        schema = table_schema_read(client, &request, NULL, route->table, NULL);
    }
    const struct table_column *column = schema ? table_schema_column(schema, "event_id") : NULL;
    const struct clickhouse_type *type = column ? column->type : NULL;
    if (type) {
        uuids = (type->kind == CLICKHOUSE_NULLABLE ? type->inner[0] : type)->kind == CLICKHOUSE_UUID;
    }
    table_schema_free(schema);
    clickhouse_client_free(client);
    return uuids;
}

static void check_ids(struct route_check *at, const struct config_outbox *outbox)
{
    char *type = foreign_id_type(at->check, outbox);
    if (type && takes_uuids(at->check, at->route)) {
        check_add(at->check->report, CHECK_WARN, at->what,
            "create the table anew with event_id String (docs/schema.md, \"Ids of another type\"), or give the route "
            "columns and a table of its own",
            "ids of outbox %s are %s, column event_id of table %s takes UUIDs only: each event becomes a dead letter "
            "(bad_uuid)",
            outbox->name, type, at->route->table);
    }
    free(type);
}

void check_default_route(struct check *check)
{
    const struct config *config = check->context->config;
    for (size_t i = 0; i < config->route_count; i++) {
        struct route_check at = {.check = check, .route = &config->routes[i]};
        if (!at.route->enabled || at.route->column_count > 0) {
            continue;
        }
        snprintf(at.what, sizeof(at.what), "route %s", at.route->name);
        for (size_t j = 0; j < config->outbox_count; j++) {
            const struct config_outbox *outbox = &config->outboxes[j];
            // With [publish] enabled = false another process publishes them.
            if (outbox->publish.enabled || !config->publish.enabled) {
                check_columns(&at, outbox);
                check_ids(&at, outbox);
            }
        }
    }
}
