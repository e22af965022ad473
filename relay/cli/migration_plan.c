// SPDX-License-Identifier: Apache-2.0
//
// See migration_plan.h. Nothing here waits; the only failures are a missing down file and lack of memory.
#include "relay/cli/migration_plan.h"

#include "relay/cli/sql_split.h"

#include <stdlib.h>
#include <string.h>

static void copy(char *to, size_t room, const char *from)
{
    snprintf(to, room, "%s", from ? from : "");
}

bool migration_records_add(struct migration_records *records, const char *name, const char *checksum, const char *at,
    const char *by)
{
    struct migration_record *grown = realloc(records->items, (records->count + 1) * sizeof(*grown));
    if (!grown) {
        return false;
    }
    records->items = grown;
    struct migration_record *record = &grown[records->count++];
    record->lost = false;
    copy(record->name, sizeof(record->name), name);
    copy(record->checksum, sizeof(record->checksum), checksum);
    copy(record->at, sizeof(record->at), at);
    copy(record->by, sizeof(record->by), by);
    return true;
}

void migration_records_finish(struct migration_records *records)
{
    free(records->items);
    *records = (struct migration_records){0};
}

const struct migration_record *migration_records_find(const struct migration_records *records, const char *name)
{
    for (size_t i = 0; i < records->count; i++) {
        if (strcmp(records->items[i].name, name) == 0) {
            return &records->items[i];
        }
    }
    return NULL;
}

static bool plan_up(struct migration_plan *plan, const struct migration_files *files,
    const struct migration_records *records, int to)
{
    for (size_t i = 0; i < files->count; i++) {
        const struct migration_file *file = &files->items[i];
        const struct migration_record *record = migration_records_find(records, file->name);
        if ((to == MIGRATION_ALL || file->number <= to) && (!record || record->lost)) {
            plan->files[plan->count++] = file;
        }
    }
    return true;
}

static bool plan_down(struct migration_plan *plan, const struct migration_files *files,
    const struct migration_records *records, int to, struct relay_error *error)
{
    // Records need not be in the order of their numbers.
    for (size_t i = 0; i < records->count; i++) {
        const char *name = records->items[i].name;
        if ((to == MIGRATION_ALL || strtol(name, NULL, 10) > to) && !migration_files_find(files, name)) {
            return error_set(error, RELAY_ERROR_CONFIG,
                "%s was applied, but %s has no such file: take it back with the version of outbox-relay that applied "
                "it",
                name, files->folder);
        }
    }
    for (size_t i = files->count; i > 0; i--) {
        const struct migration_file *file = &files->items[i - 1];
        if (file->number <= to || !migration_records_find(records, file->name)) {
            continue;
        }
        if (!file->down) {
            return error_set(error, RELAY_ERROR_CONFIG, "%s cannot be taken back: there is no %s/%s.down.sql",
                file->name, files->folder, file->name);
        }
        plan->files[plan->count++] = file;
        if (to == MIGRATION_ALL) {
            break;
        }
    }
    return true;
}

bool migration_plan_make(struct migration_plan *plan, const struct migration_files *files,
    const struct migration_records *records, bool up, int to, struct relay_error *error)
{
    *plan = (struct migration_plan){.up = up, .to = to};
    plan->files = calloc(files->count, sizeof(const struct migration_file *));
    if (!plan->files) {
        return error_no_memory(error, "planning the migration");
    }
    if (up ? plan_up(plan, files, records, to) : plan_down(plan, files, records, to, error)) {
        return true;
    }
    migration_plan_finish(plan);
    return false;
}

void migration_plan_finish(struct migration_plan *plan)
{
    free(plan->files);
    *plan = (struct migration_plan){0};
}

enum migration_state migration_state_of(const struct migration_file *file, const struct migration_records *records)
{
    const struct migration_record *record = migration_records_find(records, file->name);
    return !record                                      ? MIGRATION_PENDING
        : record->lost                                  ? MIGRATION_MISSING
        : strcmp(record->checksum, file->checksum) == 0 ? MIGRATION_APPLIED
                                                        : MIGRATION_CHANGED;
}

void migration_count(const struct migration_files *files, const struct migration_records *records, size_t *pending,
    size_t *drifted)
{
    *pending = *drifted = 0;
    for (size_t i = 0; i < files->count; i++) {
        enum migration_state state = migration_state_of(&files->items[i], records);
        *pending += state == MIGRATION_PENDING;
        *drifted += state == MIGRATION_CHANGED;
    }
    for (size_t i = 0; i < records->count; i++) {
        *drifted += migration_files_find(files, records->items[i].name) == NULL;
    }
}

void migration_print_status(FILE *to, const struct migration_files *files, const struct migration_records *records)
{
    static const char *const words[] = {"applied", "CHANGED", "pending", "MISSING"};
    for (size_t i = 0; i < files->count; i++) {
        const struct migration_record *record = migration_records_find(records, files->items[i].name);
        fprintf(to, "%-8s %-28s", words[migration_state_of(&files->items[i], records)], files->items[i].name);
        if (record) {
            fprintf(to, " %s by %s", record->at, record->by);
        }
        fputc('\n', to);
    }
    for (size_t i = 0; i < records->count; i++) {
        const struct migration_record *record = &records->items[i];
        if (!migration_files_find(files, record->name)) {
            fprintf(to, "%-8s %-28s %s by %s\n", "NO FILE", record->name, record->at, record->by);
        }
    }
}

void migration_print_drift(FILE *to, const struct migration_files *files, const struct migration_records *records)
{
    for (size_t i = 0; i < records->count; i++) {
        const struct migration_record *record = &records->items[i];
        const struct migration_file *file = migration_files_find(files, record->name);
        if (!file) {
            fprintf(to, "warning: %s was applied on %s and is not in %s: a newer outbox-relay was here\n", record->name,
                record->at, files->folder);
        } else if (strcmp(file->checksum, record->checksum) != 0) {
            fprintf(to,
                "warning: %s has changed since it was applied on %s (SHA-256 then %.12s..., now %.12s...); "
                "it is not run again\n",
                record->name, record->at, record->checksum, file->checksum);
        }
    }
}

void migration_print_nothing(FILE *to, const struct migration_plan *plan)
{
    if (!plan->up) {
        fprintf(to, "nothing to do: no file to take back\n");
    } else if (plan->to == MIGRATION_ALL) {
        fprintf(to, "nothing to do: every file is applied\n");
    } else {
        fprintf(to, "nothing to do: every file up to %d is applied; down --to takes files back\n", plan->to);
    }
}

bool migration_print_plan(FILE *to, const struct migration_plan *plan, bool clickhouse, struct relay_error *error)
{
    for (size_t i = 0; i < plan->count; i++) {
        const struct migration_file *file = plan->files[i];
        bool whole = plan->up ? file->up_in_transaction : file->down_in_transaction;
        fprintf(to, "would run %s.%s.sql%s\n", file->name, plan->up ? "up" : "down",
            clickhouse  ? ""
                : whole ? ", in one transaction"
                        : ", outside a transaction");
        struct sql_splitter splitter;
        struct sql_statement statement;
        sql_split_start(&splitter, clickhouse ? SQL_CLICKHOUSE : SQL_POSTGRES, plan->up ? file->up : file->down);
        while (sql_split_next(&splitter, &statement, error)) {
            const char *end = memchr(statement.at, '\n', statement.length);
            size_t length = end ? (size_t)(end - statement.at) : statement.length;
            fprintf(to, "    line %-4d %.*s%s\n", statement.line, (int)(length > 200 ? 200 : length), statement.at,
                end || length > 200 ? " ..." : "");
        }
        if (error->code != RELAY_ERROR_NONE) {
            return error_prefix(error, "%s.%s.sql", file->name, plan->up ? "up" : "down");
        }
    }
    return true;
}
