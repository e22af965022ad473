// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/sql_split.h"

#include <criterion/criterion.h>
#include <string.h>

// The statements joined by '|', or "line N: ..." of the error.
static const char *split(enum sql_dialect dialect, const char *text)
{
    static char joined[1024];
    size_t used = 0;
    struct sql_splitter splitter;
    struct sql_statement statement;
    struct relay_error error;
    joined[0] = '\0';
    sql_split_start(&splitter, dialect, text);
    while (sql_split_next(&splitter, &statement, &error)) {
        if (used > 0) {
            joined[used++] = '|';
        }
        cr_assert_lt(used + statement.length, sizeof(joined));
        memcpy(joined + used, statement.at, statement.length);
        used += statement.length;
        joined[used] = '\0';
    }
    return error.code == RELAY_ERROR_NONE ? joined : strcpy(joined, error.text);
}

Test(sql_split, cuts_at_semicolons_and_leaves_blanks_and_leading_comments_out)
{
    cr_assert_str_eq(split(SQL_POSTGRES, " -- one;\n SELECT 1 ;\n;/* two; */ SELECT 2\n"), "SELECT 1|SELECT 2");
    cr_assert_str_eq(split(SQL_POSTGRES, ""), "");
    cr_assert_str_eq(split(SQL_POSTGRES, "-- only a comment"), "");
}

Test(sql_split, quotes_keep_their_semicolons)
{
    cr_assert_str_eq(split(SQL_POSTGRES, "SELECT 'a;''b', \"c;d\", E'\\';', 'x\\';SELECT 2"),
        "SELECT 'a;''b', \"c;d\", E'\\';', 'x\\'|SELECT 2");
    cr_assert_str_eq(split(SQL_CLICKHOUSE, "SELECT 'a\\';b', `c;\\`d`; SELECT 2"),
        "SELECT 'a\\';b', `c;\\`d`|SELECT 2");
}

Test(sql_split, a_name_that_ends_in_e_is_no_escape_string)
{
    cr_assert_str_eq(split(SQL_POSTGRES, "SELECT date'a\\';SELECT 2"), "SELECT date'a\\'|SELECT 2");
}

Test(sql_split, dollar_quotes)
{
    cr_assert_str_eq(split(SQL_POSTGRES, "DO $$ BEGIN; $x$; END $$; DO $b1$;$$;$b1$;"),
        "DO $$ BEGIN; $x$; END $$|DO $b1$;$$;$b1$");
    cr_assert_str_eq(split(SQL_POSTGRES, "SELECT $1; SELECT a$b; SELECT c$d"), "SELECT $1|SELECT a$b|SELECT c$d");
}

Test(sql_split, comments)
{
    cr_assert_str_eq(split(SQL_POSTGRES, "SELECT /* a /* b; */ c; */ 1; SELECT 2 -- x;\n + 1"),
        "SELECT /* a /* b; */ c; */ 1|SELECT 2 -- x;\n + 1");
    cr_assert_str_eq(split(SQL_CLICKHOUSE, "SELECT /* a /* b; */ 1; # x;\nSELECT 2"),
        "SELECT /* a /* b; */ 1|SELECT 2");
    cr_assert_str_eq(split(SQL_POSTGRES, "SELECT 1 # 2; SELECT 3"), "SELECT 1 # 2|SELECT 3");
}

Test(sql_split, says_where_an_endless_quote_begins)
{
    cr_assert_str_eq(split(SQL_POSTGRES, "SELECT 1;\nSELECT 'a"), "line 2: a quote begins here and never ends");
    cr_assert_str_eq(split(SQL_POSTGRES, "DO $x$ a $y$"), "line 1: a dollar quote begins here and never ends");
    cr_assert_str_eq(split(SQL_POSTGRES, "\n\n/* /* */"), "line 3: a comment begins here and never ends");
}

Test(sql_split, tells_the_line_of_the_first_word)
{
    struct sql_splitter splitter;
    struct sql_statement statement;
    struct relay_error error;
    sql_split_start(&splitter, SQL_POSTGRES, "-- a\n\nSELECT\n1;\n/*\n*/ SELECT 2");
    cr_assert(sql_split_next(&splitter, &statement, &error));
    cr_assert_eq(statement.line, 3);
    cr_assert(sql_split_next(&splitter, &statement, &error));
    cr_assert_eq(statement.line, 6);
    cr_assert_not(sql_split_next(&splitter, &statement, &error));
    cr_assert_eq(error.code, RELAY_ERROR_NONE);
}

Test(sql_split, a_word_counts_outside_of_quotes_and_comments_only)
{
    struct sql_splitter splitter;
    struct sql_statement statement;
    struct relay_error error;
    sql_split_start(&splitter, SQL_CLICKHOUSE,
        "ALTER TABLE t/*drop*/Delete WHERE x_y = 'drop' AND `drop`; DROP TABLE t");
    cr_assert(sql_split_next(&splitter, &statement, &error));
    cr_assert(sql_has_word(SQL_CLICKHOUSE, &statement, "ALTER"));
    cr_assert(sql_has_word(SQL_CLICKHOUSE, &statement, "DELETE"));
    cr_assert_not(sql_has_word(SQL_CLICKHOUSE, &statement, "DROP"));
    cr_assert_not(sql_has_word(SQL_CLICKHOUSE, &statement, "x"));
}
