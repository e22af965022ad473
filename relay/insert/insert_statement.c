// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_statement.h"

#include <stdlib.h>
#include <string.h>

static bool write_names(struct clickhouse_text *text, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((i > 0 && !clickhouse_text_add(text, ", ")) || !clickhouse_text_name(text, names[i])) {
            return false;
        }
    }
    return true;
}

char *insert_statement(const struct clickhouse_text *table, const char *const *names, size_t count,
    const struct native_block *block, bool use_input, const char *guard, struct relay_error *error)
{
    struct clickhouse_text text = {0};
    char *structure = native_block_structure(block, error);
    bool done = structure && clickhouse_text_add(&text, "INSERT INTO %s (", table->at) &&
        write_names(&text, names, count) && clickhouse_text_add(&text, ")");
    if (done && use_input) {
        done = clickhouse_text_add(&text, " SELECT ") && write_names(&text, names, count) &&
            clickhouse_text_add(&text, " FROM input(") &&
            clickhouse_text_literal(&text, structure, strlen(structure)) && clickhouse_text_add(&text, ")") &&
            (!guard || clickhouse_text_add(&text, " WHERE %s", guard));
    }
    done = done && clickhouse_text_add(&text, " FORMAT Native");
    free(structure);
    if (!done) {
        clickhouse_text_finish(&text);
        error_no_memory(error, "writing an INSERT");
        return NULL;
    }
    return text.at;
}
