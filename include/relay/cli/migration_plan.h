// SPDX-License-Identifier: Apache-2.0
//
// What was applied, what there is on disk, and hence what to do: the part of `migrate` that needs no server, the same
// for PostgreSQL and ClickHouse. Records and plans belong to their maker; start them with {0}. One thread.
#ifndef RELAY_CLI_MIGRATION_PLAN_H
#define RELAY_CLI_MIGRATION_PLAN_H

#include "relay/cli/migration_files.h"

#include <stdio.h>

#define MIGRATION_ALL (-1)

// One applied file, as the server has it on record.
struct migration_record {
    char name[128];
    char checksum[SHA256_TEXT];
    char at[64]; // when, as the server prints it
    char by[128];
    bool lost; // a table that it made is gone: to be run again
};
struct migration_records {
    struct migration_record *items;
    size_t count;
};
// Copies; longer texts are cut. false: out of memory. NULL counts as "".
bool migration_records_add(struct migration_records *records, const char *name, const char *checksum, const char *at,
    const char *by);
void migration_records_finish(struct migration_records *records);
const struct migration_record *migration_records_find(const struct migration_records *records,
    const char *name); // NULL: none

// The files to run, in this order. Borrows the list of files.
struct migration_plan {
    bool up;
    int to;
    const struct migration_file **files;
    size_t count;
};
// up: every file that is not applied, or whose table is lost, up to number `to` (MIGRATION_ALL: all). down: the applied
// ones above `to`, last first (MIGRATION_ALL: the last one only). Errors: CONFIG (an applied file to be taken back is
// not on disk or has no down file), NO_MEMORY.
bool migration_plan_make(struct migration_plan *plan, const struct migration_files *files,
    const struct migration_records *records, bool up, int to, struct relay_error *error);
void migration_plan_finish(struct migration_plan *plan);
// Of a plan without files: why there is nothing to do.
void migration_print_nothing(FILE *to, const struct migration_plan *plan);

enum migration_state { MIGRATION_APPLIED, MIGRATION_CHANGED, MIGRATION_PENDING, MIGRATION_MISSING };
enum migration_state migration_state_of(const struct migration_file *file, const struct migration_records *records);

// How many files are pending, and how many applied ones differ from disk or are not there.
void migration_count(const struct migration_files *files, const struct migration_records *records, size_t *pending,
    size_t *drifted);
// One line a file: state, name, when and by whom; applied ones that are not on disk come last.
void migration_print_status(FILE *to, const struct migration_files *files, const struct migration_records *records);
// One line for each applied file that differs from disk or is not there.
void migration_print_drift(FILE *to, const struct migration_files *files, const struct migration_records *records);
// What would be run: each file, and the first line of each of its statements.
bool migration_print_plan(FILE *to, const struct migration_plan *plan, bool clickhouse, struct relay_error *error);

#endif
