// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/dead_letter_table.h"

#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/dead_letter_block.h"

#include <string.h>

static bool add_name(struct clickhouse_text *text, const char *table, const char *name_column)
{
    const char *dot = strchr(table, '.'), *name = dot ? dot + 1 : table;
    return clickhouse_text_add(text, " AND %s = ", name_column) && clickhouse_text_literal(text, name, strlen(name)) &&
        clickhouse_text_add(text, " AND database = ") &&
        (dot ? clickhouse_text_literal(text, table, (size_t)(dot - table))
             : clickhouse_text_add(text, "currentDatabase()"));
}

bool dead_letter_table_read(struct clickhouse_client *client, const struct clickhouse_request *request,
    const char *table, struct dead_letter_table *found, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    struct clickhouse_result *result = NULL;
    bool built = clickhouse_text_add(&text,
                     "SELECT (SELECT count() FROM system.tables WHERE (startsWith(engine, 'Replicated') OR "
                     "startsWith(engine, 'Shared'))") &&
        add_name(&text, table, "name") &&
        clickhouse_text_add(&text, "), (SELECT count() FROM system.columns WHERE name = '" DEAD_LETTER_TIMESTAMP "'") &&
        add_name(&text, table, "table") && clickhouse_text_add(&text, ")");
    bool done = built ? clickhouse_query(client, request, text.at, &result, NULL, error)
                      : error_no_memory(error, "reading the dead-letter table");
    *found = (struct dead_letter_table){.is_replicated = done && clickhouse_result_uint(result, 0, 0) > 0,
        .has_timestamp = done && clickhouse_result_uint(result, 0, 1) > 0};
    clickhouse_result_free(result);
    clickhouse_text_finish(&text);
    return done || error_prefix(error, "dead-letter table %s", table);
}
