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
