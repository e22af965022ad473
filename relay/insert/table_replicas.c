// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/table_replicas.h"

#include "relay/insert/schema_reading.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT DURATION_S(5) // of one question: a server that is frozen is not waited for long

// What a server has under the table's name.
struct twin {
    char *keeper_path; // "" where it is not replicated, or not there
    char *engine;      // "" where it is not there
};

// false: nothing can be said of it.
static bool look(struct clickhouse_client *client, const struct table_schema *schema, int endpoint, struct twin *twin,
    struct relay_error *error)
{
    struct schema_reading reading = {.client = client,
        .request = {.endpoint = endpoint, .timeout = LIMIT},
        .error = error};
    twin->keeper_path = schema_read_keeper_path(&reading, schema->database, schema->table);
    if (!twin->keeper_path) {
        return false;
    }
    struct clickhouse_result *result = schema_ask(&reading, "SELECT engine FROM system.tables", "database",
        schema->database, "name", schema->table, "");
    if (!result) {
        return false;
    }
    twin->engine = schema_copy(&reading, result, 0, 0);
    clickhouse_result_free(result);
    return twin->engine != NULL;
}

static bool judge(struct clickhouse_client *client, const struct table_schema *schema, int endpoint,
    const struct twin *twin, struct table_findings *findings)
{
    char what[700];
    const char *here = clickhouse_client_url(client, schema->endpoint),
               *there = clickhouse_client_url(client, endpoint);
    if (twin->keeper_path[0] != '\0' && strcmp(twin->keeper_path, schema->keeper_path) != 0) {
        snprintf(what, sizeof(what),
            "the urls have no replicas of one table, so each gets a part of the rows: its path in Keeper is %.150s at "
            "%.120s, and %.150s at %.120s",
            schema->keeper_path, here, twin->keeper_path, there);
    } else if (twin->engine[0] != '\0' && !schema_is_replicated(twin->engine)) {
        snprintf(what, sizeof(what),
            "the urls have no replicas of one table, so each gets a part of the rows: it is a %.60s at %.120s, and a "
            "%.60s at %.120s",
            schema->engine, here, twin->engine, there);
    } else {
        return true;
    }
    return table_findings_add(findings, true, true, what,
        "name replicas of one shard only in [clickhouse] url, or create the table anew, Replicated and with one Keeper "
        "path for all of them");
}

bool table_replicas_judge(struct clickhouse_client *client, const struct table_schema *schema,
    struct table_findings *findings, struct relay_error *error)
{
    size_t count = clickhouse_client_endpoints(client);
    bool done = true;
    for (size_t i = 0; done && schema->keeper_path[0] != '\0' && i < count; i++) {
        struct relay_error silent;
        struct twin twin = {0};
        int endpoint = (int)i;
        if (endpoint == schema->endpoint || !clickhouse_endpoint_usable(client, endpoint)) {
            continue;
        }
        if (look(client, schema, endpoint, &twin, &silent)) {
            done = judge(client, schema, endpoint, &twin, findings) || error_no_memory(error, "comparing replicas");
        }
        free(twin.keeper_path);
        free(twin.engine);
    }
    return done;
}
