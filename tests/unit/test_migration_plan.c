// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/migration_plan.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static struct migration_files files;
static struct migration_records records;
static struct relay_error error;

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/postgres/%s", folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

static void setup(void)
{
    snprintf(folder, sizeof(folder), "/tmp/relay-migrations-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    char path[128];
    snprintf(path, sizeof(path), "%s/postgres", folder);
    cr_assert_eq(mkdir(path, 0700), 0);
    write_file("002_two.up.sql", "-- relay:no-transaction\nSELECT 2;\n");
    write_file("002_two.down.sql", "SELECT -2;\n");
    write_file("001_one.up.sql", "abc");
    write_file("001_one.down.sql", "-- relay:no-transaction\nSELECT -1;");
    write_file("010_ten.up.sql", "SELECT 10;");
    write_file("roles.sql", "SELECT 0;");
}

static void teardown(void)
{
    migration_files_finish(&files);
    migration_records_finish(&records);
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(migration_plan, .init = setup, .fini = teardown);

static void read_files(void)
{
    cr_assert(migration_files_read(&files, folder, "postgres", &error), "%s", error.text);
}

static void applied(const char *name)
{
    const struct migration_file *file = migration_files_find(&files, name);
    cr_assert(migration_records_add(&records, name, file ? file->checksum : "?", "2026-01-01", "me"));
}

// The names of the plan, joined by blanks; the error's text if there is no plan.
static const char *plan(bool up, int to)
{
    static char names[512];
    struct migration_plan made;
    names[0] = '\0';
    if (!migration_plan_make(&made, &files, &records, up, to, &error)) {
        return error.text;
    }
    for (size_t i = 0; i < made.count; i++) {
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i > 0 ? " " : "", made.files[i]->name);
    }
    migration_plan_finish(&made);
    return names;
}

Test(migration_plan, files_are_read_in_order_with_their_marks)
{
    read_files();
    cr_assert_eq(files.count, 3);
    cr_assert_str_eq(files.items[0].name, "001_one");
    cr_assert(files.items[0].up_in_transaction && !files.items[0].down_in_transaction);
    cr_assert_str_eq(files.items[0].checksum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cr_assert(!files.items[1].up_in_transaction && files.items[1].down_in_transaction);
    cr_assert_eq(files.items[2].number, 10);
    cr_assert_null(files.items[2].down);
}

Test(migration_plan, a_missing_folder_is_named)
{
    cr_assert_not(migration_files_read(&files, "/nowhere", "postgres", &error));
    cr_assert_not_null(strstr(error.text, "/nowhere/postgres"), "%s", error.text);
}

Test(migration_plan, two_of_one_number_and_a_lone_down_are_refused)
{
    write_file("002_other.up.sql", "");
    cr_assert_not(migration_files_read(&files, folder, "postgres", &error));
    cr_assert_not_null(strstr(error.text, "002_other and 002_two have the same number"), "%s", error.text);
    char path[128];
    snprintf(path, sizeof(path), "%s/postgres/002_other.up.sql", folder);
    unlink(path);
    write_file("003_three.down.sql", "");
    cr_assert_not(migration_files_read(&files, folder, "postgres", &error));
    cr_assert_not_null(strstr(error.text, "003_three.down.sql has no up file"), "%s", error.text);
}

Test(migration_plan, up_runs_what_is_not_applied)
{
    read_files();
    cr_assert_str_eq(plan(true, MIGRATION_ALL), "001_one 002_two 010_ten");
    applied("002_two");
    cr_assert_str_eq(plan(true, MIGRATION_ALL), "001_one 010_ten");
    cr_assert_str_eq(plan(true, 9), "001_one");
    cr_assert_str_eq(plan(true, 0), "");
}

Test(migration_plan, down_takes_back_the_last_or_all_above_a_number)
{
    read_files();
    cr_assert_str_eq(plan(false, MIGRATION_ALL), "");
    applied("001_one");
    applied("002_two");
    cr_assert_str_eq(plan(false, MIGRATION_ALL), "002_two");
    cr_assert_str_eq(plan(false, 0), "002_two 001_one");
    cr_assert_str_eq(plan(false, 1), "002_two");
    cr_assert_str_eq(plan(false, 2), "");
}

Test(migration_plan, down_without_a_file_is_refused)
{
    read_files();
    applied("010_ten");
    cr_assert_not_null(strstr(plan(false, MIGRATION_ALL), "010_ten cannot be taken back"));
    applied("011_newer");
    cr_assert_not_null(strstr(plan(false, 5), "011_newer was applied, but"));
}

Test(migration_plan, changed_and_missing_files_are_counted_and_told)
{
    read_files();
    cr_assert(migration_records_add(&records, "001_one", "0000", "2026-01-01", "me"));
    applied("011_newer");
    size_t pending, drifted;
    migration_count(&files, &records, &pending, &drifted);
    cr_assert_eq(pending, 2);
    cr_assert_eq(drifted, 2);
    char text[2048] = "";
    FILE *to = fmemopen(text, sizeof(text), "w");
    migration_print_status(to, &files, &records);
    migration_print_drift(to, &files, &records);
    fclose(to);
    cr_assert_not_null(strstr(text, "CHANGED  001_one"), "%s", text);
    cr_assert_not_null(strstr(text, "pending  002_two"), "%s", text);
    cr_assert_not_null(strstr(text, "NO FILE  011_newer"), "%s", text);
    cr_assert_not_null(strstr(text, "001_one has changed since"), "%s", text);
}

Test(migration_plan, the_plan_shows_each_statement)
{
    read_files();
    struct migration_plan made;
    cr_assert(migration_plan_make(&made, &files, &records, true, MIGRATION_ALL, &error));
    char text[2048] = "";
    FILE *to = fmemopen(text, sizeof(text), "w");
    cr_assert(migration_print_plan(to, &made, false, &error));
    fclose(to);
    migration_plan_finish(&made);
    cr_assert_not_null(strstr(text, "would run 002_two.up.sql, outside a transaction\n    line 2    SELECT 2\n"), "%s",
        text);
}

static const char *nothing_of(bool up, int to)
{
    static char text[200];
    struct migration_plan empty = {.up = up, .to = to};
    FILE *stream = fmemopen(text, sizeof(text), "w");
    cr_assert_not_null(stream);
    migration_print_nothing(stream, &empty);
    fclose(stream);
    return text;
}

Test(migration_plan, nothing_to_do_is_said_of_what_was_asked_for)
{
    cr_assert_str_eq(nothing_of(true, MIGRATION_ALL), "nothing to do: every file is applied\n");
    cr_assert_str_eq(nothing_of(true, 3), "nothing to do: every file up to 3 is applied; down --to takes files back\n");
    cr_assert_str_eq(nothing_of(false, 3), "nothing to do: no file to take back\n");
}
