// SPDX-License-Identifier: Apache-2.0
//
// By the words of the key's functions, the shortest first. Of what says nothing a month, the commonest. Guessed too
// long it costs parts, too short it costs INSERTs.
#include "relay/insert/table_period.h"

#include <string.h>

#define SECOND INT64_C(1000)

static const struct {
    const char *word;
    int64_t length;
} words[] = {
    {"Minute", 60 * SECOND}, // toStartOfMinute, toStartOfFifteenMinutes, toIntervalMinute
    {"Hour", 3600 * SECOND}, // toStartOfHour, toIntervalHour
    {"toYYYYMMDD", 86400 * SECOND},
    {"toDate", 86400 * SECOND},
    {"Day", 86400 * SECOND}, // toStartOfDay, toDayOfYear, toRelativeDayNum, toIntervalDay
    {"toMonday", 7 * 86400 * SECOND},
    {"Week", 7 * 86400 * SECOND},
};

// One expression of the key is this column itself.
static bool is_bare(const char *key, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = key; (at = strstr(at, name)) != NULL; at += length) {
        const char *before = at, *after = at + length;
        before -= before > key && before[-1] == '`';
        after += *after == '`';
        bool begins = before == key || (before - key >= 2 && before[-1] == ' ' && before[-2] == ',') ||
            (before == key + 1 && *key == '(');
        bool ends = *after == '\0' || *after == ',' || (*after == ')' && after[1] == '\0');
        if (begins && ends) {
            return true;
        }
    }
    return false;
}

int64_t table_period(const struct table_schema *schema)
{
    const char *key = schema->partition_key;
    if (!key || !key[0]) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strstr(key, words[i].word)) {
            return words[i].length;
        }
    }
    for (size_t i = 0; i < schema->column_count; i++) {
        const struct table_column *column = &schema->columns[i];
        bool is_day = column->type &&
            (column->type->kind == CLICKHOUSE_DATE || column->type->kind == CLICKHOUSE_DATE32);
        if (is_day && is_bare(key, column->name)) {
            return 86400 * SECOND;
        }
    }
    return 28 * 86400 * SECOND;
}
