// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/migrate_lost_tables.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char *table_of(const char *text)
{
    static char name[64], shown[80];
    const struct sql_statement statement = {.at = text, .length = strlen(text)};
    bool creates;
    if (!migrate_table_of(&statement, "shop", name, sizeof(name), &creates)) {
        return "";
    }
    snprintf(shown, sizeof(shown), "%c %s", creates ? '+' : '~', name);
    return shown;
}

Test(migrate_lost_tables, the_table_of_a_statement)
{
    cr_assert_str_eq(table_of("CREATE TABLE IF NOT EXISTS t\n(\n i Int64)"), "+ t");
    cr_assert_str_eq(table_of("create  table\n t(i Int64)"), "+ t");
    cr_assert_str_eq(table_of("CREATE OR REPLACE TABLE t ON CLUSTER c (i Int64)"), "+ t");
    cr_assert_str_eq(table_of("CREATE TABLE `shop`.`t` (i Int64)"), "+ t");
    cr_assert_str_eq(table_of("CREATE TABLE shop.t AS u"), "+ t");
    cr_assert_str_eq(table_of("CREATE TABLE shopping.t AS u"), "+ shopping.t");
    cr_assert_str_eq(table_of("CREATE TABLE t"), "+ t");
    cr_assert_str_eq(table_of("ALTER TABLE \"t\" ADD COLUMN c String"), "~ t");
}

Test(migrate_lost_tables, other_statements_have_none)
{
    cr_assert_str_eq(table_of("CREATE MATERIALIZED VIEW IF NOT EXISTS v TO t AS SELECT 1"), "");
    cr_assert_str_eq(table_of("CREATE TABLES t"), "");
    cr_assert_str_eq(table_of("CREATE TABLE"), "");
    cr_assert_str_eq(table_of("DROP TABLE t"), "");
    cr_assert_str_eq(
        table_of("CREATE TABLE a_name_for_which_the_caller_of_this_function_has_by_far_too_little_room (i Int64)"), "");
}

// What is wrong with a file of this text, if table `a` is lost; "": nothing.
static const char *why_not(const char *text)
{
    static struct relay_error error;
    static char name[] = "004_own";
    struct migration_file file = {.name = name, .up = (char *)(uintptr_t)text};
    const struct migration_files files = {.items = &file, .count = 1};
    struct migration_record record = {.name = "004_own", .lost = true};
    const struct migration_records records = {.items = &record, .count = 1};
    struct name_set tables = {0};
    cr_assert(name_set_add(&tables, "a", &error));
    bool may = migrate_lost_tables_repeatable(&files, &records, &tables, "shop", &error);
    name_set_finish(&tables);
    return may ? "" : error.text;
}

Test(migrate_lost_tables, a_file_that_touches_lost_tables_alone_may_run_again)
{
    cr_assert_str_eq(why_not("CREATE TABLE a (i Int64);\nALTER TABLE shop.a ADD COLUMN j Int64, DROP COLUMN i"), "");
    cr_assert_str_eq(why_not("CREATE TABLE IF NOT EXISTS a (i Int64); create table if not exists b (i Int64)"), "");
    cr_assert_str_eq(why_not("CREATE MATERIALIZED VIEW\n IF NOT EXISTS v TO b AS SELECT i FROM a"), "");
    cr_assert_str_eq(why_not("ALTER TABLE a ADD COLUMN `part` String COMMENT 'DELETE me' /* UPDATE */"), "");
}

Test(migrate_lost_tables, a_file_that_may_touch_others_may_not)
{
    static const char *const unsafe[][2] = {
        {"CREATE OR REPLACE TABLE b (i Int64)", "replaces"},
        {"CREATE OR REPLACE TABLE a (i Int64)", "replaces"},
        {"CREATE or\treplace VIEW IF NOT EXISTS v AS SELECT 1", "replaces"},
        {"CREATE /* */ OR REPLACE TABLE b (i Int64)", "IF NOT EXISTS"},
        {"CREATE TABLE b (i Int64)", "IF NOT EXISTS"},
        {"CREATE TABLE other.a (i Int64)", "IF NOT EXISTS"},
        {"CREATE MATERIALIZED VIEW v TO b AS SELECT i FROM a", "IF NOT EXISTS"},
        {"CREATE VIEW v AS SELECT 'IF NOT EXISTS '", "IF NOT EXISTS"},
        {"ALTER TABLE b UPDATE x = x * 100 WHERE 1", "alters"},
        {"ALTER TABLE b ADD COLUMN IF NOT EXISTS x Int64", "alters"},
        {"ALTER TABLE a update x = x * 100 WHERE 1", "rows"},
        {"ALTER TABLE a DELETE WHERE 1", "rows"},
        {"ALTER TABLE a DROP PARTITION 1", "rows"},
        {"ALTER TABLE a MOVE PART 'p' TO TABLE b", "rows"},
        {"INSERT INTO a VALUES (1)", "neither"},
    };
    for (size_t i = 0; i < sizeof(unsafe) / sizeof(unsafe[0]); i++) {
        const char *why = why_not(unsafe[i][0]);
        cr_assert(strstr(why, "004_own.up.sql, line 1") && strstr(why, unsafe[i][1]), "%s: %s", unsafe[i][0], why);
    }
}
