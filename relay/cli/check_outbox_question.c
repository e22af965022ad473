// SPDX-License-Identifier: Apache-2.0
//
// See check_outbox.h. A question that fails is a finding: the parts go on with the next one.
#include "relay/cli/check_outbox.h"

#include <stdarg.h>
#include <stdio.h>

void outbox_find(struct outbox_check *at, enum check_level level, const char *hint, const char *format, ...)
{
    char text[900];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    at->clean = false;
    at->failed = at->failed || level == CHECK_FAIL;
    check_add(at->check->report, level, at->what, hint, "%s", text);
}

PGresult *outbox_ask(struct outbox_check *at, const char *sql, const struct pg_value *values, int count)
{
    struct relay_error error;
    PGresult *result = pg_query(at->check->connection, sql, values, count, false, check_deadline(at->check), &error);
    if (!result) {
        outbox_find(at, CHECK_FAIL, "", "%s", error.text);
    }
    return result;
}

bool outbox_has_column(struct outbox_check *at, const char *column)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(column)};
    PGresult *result = outbox_ask(at,
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND "
        "a.attname = $2 "
        "AND a.attnum > 0 AND NOT a.attisdropped)",
        values, 2);
    bool has = result == NULL || pg_cell_true(result, 0, 0);
    PQclear(result);
    return has;
}
