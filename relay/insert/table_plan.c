// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/table_plan.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/insert/dead_letter_block.h"
#include "relay/insert/insert_deadline.h"
#include "relay/insert/table_replicas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_findings(const struct config_route *route, const struct table_findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct table_finding *finding = &findings->items[i];
        if (finding->fatal || finding->prevents_exactly_once) {
            log_event(LOG_LEVEL_WARNING, "insert.table_finding", finding->what, LOG_TEXT("table", route->table),
                LOG_TEXT("route", route->name), LOG_TEXT("hint", finding->hint));
        }
    }
}

// What the server and the table allow, of what the operator wants.
static bool judge_guarantee(const struct relay_context *context, struct clickhouse_client *client,
    struct table_plan *plan, bool has_input, struct table_findings *findings, struct relay_error *error)
{
    size_t count;
    const char *const *columns = row_encoder_columns(plan->encoder, &count);
    bool possible = false;
    if (!table_replicas_judge(client, plan->schema, findings, error) ||
        !table_schema_exactly_once(plan->schema, clickhouse_client_endpoints(client), columns, count, &possible,
            findings, error)) {
        return false;
    }
    if (possible && !has_input &&
        !table_findings_add(findings, false, true,
            "the server has no input() table function, so an INSERT can carry no deadline",
            "ClickHouse 19.10 or later")) {
        return error_no_memory(error, "judging a table");
    }
    plan->exactly_once = possible && has_input && context->config->insert.guarantee == CONFIG_EXACTLY_ONCE;
    plan->guarded = plan->exactly_once && safeguard_active(SAFEGUARD_LEASE);
    return true;
}

static bool write_statements(const struct relay_context *context, struct table_plan *plan, bool has_input,
    struct relay_error *error)
{
    const char *condition = plan->guarded ? INSERT_DEADLINE_GUARD : NULL;
    plan->statement = row_encoder_statement(plan->encoder, has_input, condition, error);
    struct dead_letter_block *block = plan->statement ? dead_letter_block_new(plan->dead_letters.has_timestamp, error)
                                                      : NULL;
    if (block) {
        plan->dead_letter_statement = dead_letter_statement(block, context->config->insert.dead_letter_table, has_input,
            condition, error);
    }
    dead_letter_block_free(block);
    return plan->dead_letter_statement != NULL;
}

struct table_plan *table_plan_read(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct config_route *route, struct relay_error *error)
{
    struct clickhouse_request request = {.endpoint = endpoint, .timeout = CLICKHOUSE_QUESTION_LIMIT};
    struct table_findings findings = {0};
    struct clickhouse_server server;
    struct table_plan *plan = calloc(1, sizeof(*plan));
    if (!plan) {
        error_no_memory(error, "reading a table");
        return NULL;
    }
    atomic_init(&plan->references, 1);
    plan->schema = table_schema_read(client, &request, context->config->clickhouse.database, route->table, error);
    bool done = plan->schema && clickhouse_server_info(client, endpoint, DURATION_S(10), &server, error);
    plan->encoder = done ? row_encoder_new(route, plan->schema, &findings, error) : NULL;
    done = plan->encoder && judge_guarantee(context, client, plan, server.has_input_function, &findings, error) &&
        dead_letter_table_read(client, &request, context->config->insert.dead_letter_table, &plan->dead_letters,
            error) &&
        write_statements(context, plan, server.has_input_function, error);
    log_findings(route, &findings);
    table_findings_finish(&findings);
    if (!done) {
        table_plan_release(plan);
        return NULL;
    }
    return plan;
}

struct table_plan *table_plan_hold(struct table_plan *plan)
{
    atomic_fetch_add(&plan->references, 1);
    return plan;
}

void table_plan_release(struct table_plan *plan)
{
    if (!plan || atomic_fetch_sub(&plan->references, 1) != 1) {
        return;
    }
    row_encoder_free(plan->encoder);
    table_schema_free(plan->schema);
    free(plan->statement);
    free(plan->dead_letter_statement);
    free(plan);
}
