// SPDX-License-Identifier: Apache-2.0
//
// Happy path: for each table that the configuration needs and a file on record has made, one question whether it is
// there. Failures: the server's own words, with the table's name in front.
#include "relay/cli/migrate_lost_tables.h"

#include <ctype.h>
#include <string.h>

// The length of the words at the beginning, with the white space behind them; 0: it begins otherwise.
static size_t begins(const char *at, size_t length, const char *words)
{
    size_t used = 0;
    while (*words != '\0') {
        size_t word = strcspn(words, " ");
        if (length - used < word || strncasecmp(at + used, words, word) != 0) {
            return 0;
        }
        used += word;
        size_t blank = used;
        while (used < length && isspace((unsigned char)at[used])) {
            used++;
        }
        if (used == blank) {
            return 0;
        }
        words += word + (words[word] == ' ');
    }
    return used;
}

// A table's name without the database, where it names this one.
static const char *within(const char *name, const char *database)
{
    size_t own = strlen(database);
    return own > 0 && strncmp(name, database, own) == 0 && name[own] == '.' ? name + own + 1 : name;
}

bool migrate_table_of(const struct sql_statement *statement, const char *database, char *name, size_t room,
    bool *creates)
{
    static const struct {
        const char *words;
        bool creates;
    } kinds[] = {{"CREATE TABLE IF NOT EXISTS", true}, {"CREATE OR REPLACE TABLE", true}, {"CREATE TABLE", true},
        {"ALTER TABLE", false}};
    const char *at = statement->at, *end = statement->at + statement->length;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && at == statement->at; i++) {
        at += begins(statement->at, statement->length, kinds[i].words);
        *creates = kinds[i].creates;
    }
    if (at == statement->at) {
        return false;
    }
    size_t length = 0;
    for (; at < end && !isspace((unsigned char)*at) && *at != '('; at++) {
        if (*at == '`' || *at == '"') {
            continue;
        }
        if (length + 1 >= room) {
            return false;
        }
        name[length++] = *at;
    }
    name[length] = '\0';
    const char *in_it = within(name, database);
    memmove(name, in_it, strlen(in_it) + 1);
    return true;
}

// Whether a statement of the file makes this table, or, unless only that counts, alters it.
static bool concerns(const struct migration_file *file, const char *database, const char *table, bool only_creates)
{
    struct sql_splitter splitter;
    struct sql_statement statement;
    struct relay_error ignored;
    sql_split_start(&splitter, SQL_CLICKHOUSE, file->up);
    while (sql_split_next(&splitter, &statement, &ignored)) {
        char name[512];
        bool creates;
        if (migrate_table_of(&statement, database, name, sizeof(name), &creates) && (creates || !only_creates) &&
            strcmp(name, table) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_there(struct clickhouse_client *client, int endpoint, const char *table, bool *there,
    struct relay_error *error)
{
    const struct clickhouse_request request = {.endpoint = endpoint};
    struct clickhouse_text statement = {0};
    struct clickhouse_result *result = NULL;
    bool done = (clickhouse_text_add(&statement, "EXISTS TABLE ") && clickhouse_text_table(&statement, table)) ||
        error_no_memory(error, "looking for a table");
    if (done && !clickhouse_query(client, &request, statement.at, &result, NULL, error)) {
        done = error_prefix(error, "looking for table %s", table);
    }
    *there = done && clickhouse_result_int(result, 0, 0) > 0;
    clickhouse_result_free(result);
    clickhouse_text_finish(&statement);
    return done;
}

static bool mark(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct migration_files *files, struct migration_records *records, const char *table, struct name_set *tables,
    struct relay_error *error)
{
    const char *database = context->config->clickhouse.database, *maker = NULL;
    table = within(table, database);
    for (size_t i = 0; !maker && i < files->count; i++) {
        bool recorded = migration_records_find(records, files->items[i].name) != NULL;
        maker = recorded && concerns(&files->items[i], database, table, true) ? files->items[i].name : NULL;
    }
    bool there = true;
    if (!maker) {
        return true; // nobody's here: check asks the operator for it
    }
    if (!is_there(client, endpoint, table, &there, error)) {
        return false;
    }
    for (size_t i = 0; !there && i < records->count; i++) {
        const struct migration_file *file = migration_files_find(files, records->items[i].name);
        records->items[i].lost = records->items[i].lost || (file && concerns(file, database, table, false));
    }
    if (!there) {
        fprintf(stderr,
            "warning: table %s is not there, which %s made and the configuration needs: up makes it anew, without "
            "rows. With its rows, for 8 minutes after the DROP: UNDROP TABLE %s (rename a new one of that name "
            "first)\n",
            table, maker, table);
    }
    return there || name_set_add(tables, table, error);
}

bool migrate_lost_tables_mark(const struct relay_context *context, struct clickhouse_client *client, int endpoint,
    const struct migration_files *files, struct migration_records *records, struct name_set *tables,
    struct relay_error *error)
{
    const struct config *config = context->config;
    if (records->count == 0) {
        return true;
    }
    for (size_t i = 0; i < config->route_count; i++) {
        bool needed = config->routes[i].enabled;
        for (size_t j = 0; needed && j < i; j++) { // several routes may fill one table
            needed = !config->routes[j].enabled || strcmp(config->routes[j].table, config->routes[i].table) != 0;
        }
        if (needed && !mark(context, client, endpoint, files, records, config->routes[i].table, tables, error)) {
            return false;
        }
    }
    return mark(context, client, endpoint, files, records, config->insert.dead_letter_table, tables, error);
}

// CREATE TABLE IF NOT EXISTS, CREATE MATERIALIZED VIEW IF NOT EXISTS: nothing is done to what is there.
static bool creates_if_missing(const struct sql_statement *statement)
{
    size_t used = begins(statement->at, statement->length, "CREATE");
    for (int word = 0; used > 0 && word < 2; word++) {
        while (used < statement->length && isalpha((unsigned char)statement->at[used])) {
            used++;
        }
        while (used < statement->length && isspace((unsigned char)statement->at[used])) {
            used++;
        }
        if (begins(statement->at + used, statement->length - used, "IF NOT EXISTS") > 0) {
            return true;
        }
    }
    return false;
}

// UPDATE, DELETE, DROP PARTITION, REPLACE PARTITION FROM, MOVE PARTITION TO TABLE: the daemon fills the new table while
// the files run.
static bool changes_rows(const struct sql_statement *statement)
{
    static const char *const words[] = {"UPDATE", "DELETE", "PARTITION", "PART"};
    bool found = false;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        found = found || sql_has_word(SQL_CLICKHOUSE, statement, words[i]);
    }
    return found;
}

// NULL: the statement may be run again.
static const char *why_not_again(const struct sql_statement *statement, const struct name_set *tables,
    const char *database)
{
    char name[512];
    bool creates = begins(statement->at, statement->length, "CREATE") > 0, of_table;
    if (!creates && begins(statement->at, statement->length, "ALTER TABLE") == 0) {
        return "is neither CREATE nor ALTER TABLE";
    }
    if (begins(statement->at, statement->length, "CREATE OR REPLACE") > 0) {
        return "replaces what may be there";
    }
    bool of_missing = migrate_table_of(statement, database, name, sizeof(name), &of_table) &&
        name_set_has(tables, name);
    if (creates) {
        return of_missing || creates_if_missing(statement) ? NULL : "creates, without IF NOT EXISTS, what may be there";
    }
    return !of_missing            ? "alters a table that is not missing"
        : changes_rows(statement) ? "changes, moves or deletes rows"
                                  : NULL;
}

bool migrate_lost_tables_repeatable(const struct migration_files *files, const struct migration_records *records,
    const struct name_set *tables, const char *database, struct relay_error *error)
{
    for (size_t i = 0; i < records->count; i++) {
        const struct migration_file *file = migration_files_find(files, records->items[i].name);
        if (!records->items[i].lost || !file) {
            continue;
        }
        if (strcmp(file->checksum, records->items[i].checksum) != 0) {
            return error_set(error, RELAY_ERROR_CONFIG,
                "%s.up.sql has changed since it was applied, so it is not run again: create the missing table by hand",
                file->name);
        }
        struct sql_splitter splitter;
        struct sql_statement statement;
        sql_split_start(&splitter, SQL_CLICKHOUSE, file->up);
        while (sql_split_next(&splitter, &statement, error)) {
            const char *reason = why_not_again(&statement, tables, database);
            if (reason) {
                return error_set(error, RELAY_ERROR_CONFIG,
                    "%s.up.sql, line %d, %s, so the file is not run again: create the missing table by hand",
                    file->name, statement.line, reason);
            }
        }
    }
    error_clear(error);
    return true;
}
