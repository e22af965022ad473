// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_error.h"

#include <criterion/criterion.h>
#include <string.h>

Test(clickhouse_error, both_forms_of_exceptions_are_found)
{
    const char *message;
    size_t length;
    static const char old[] = "Code: 27, e.displayText() = DB::Exception: Cannot parse\n";
    cr_assert_eq(clickhouse_exception_parse(old, strlen(old), false, &message, &length), 27);
    static const char late[] = "1\t2\n3\nCode: 241. DB::Exception: Memory\n__exception__\r\nabc";
    cr_assert_eq(clickhouse_exception_parse(late, strlen(late), false, &message, &length), 0);
    cr_assert_eq(clickhouse_exception_parse(late, strlen(late), true, &message, &length), 241);
    cr_assert_eq(length, strlen("DB::Exception: Memory"));
    static const char *const none[] = {"", "Code", "Code: ", "Code: 12", "Code: x. y", "code: 5. x"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        cr_assert_eq(clickhouse_exception_parse(none[i], strlen(none[i]), true, NULL, NULL), 0, "%s", none[i]);
    }
    cr_assert_eq(clickhouse_failure_of(987654), CLICKHOUSE_UNKNOWN_CODE);
    struct relay_error error;
    static const char partitions[] = "Too many partitions for single INSERT block (more than 100)";
    cr_assert_eq(clickhouse_error_set(&error, 252, partitions, strlen(partitions)), CLICKHOUSE_OPERATOR);
}

Test(clickhouse_error, an_exception_behind_the_table_is_told_from_a_value_that_looks_like_one)
{
    static const struct {
        const char *message;
        bool in_view;
    } cases[] = {
        {"DB::Exception: Invalid IPv4 value: while pushing to view db.v (id). (CANNOT_PARSE_IPV4)", true},
        {"DB::Exception: Cannot parse string 'a' as UInt32: while pushing to view v: while pushing to view w", true},
        {"DB::Exception: Cannot parse string ': while pushing to view ' as UInt32: while pushing to view db.v", true},
        {"DB::Exception: Constraint `c` is violated. Column values: a = 'x: while pushing to view db.v'. (X)", false},
        {"DB::Exception: Invalid IPv4 value: while pushing to view", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(clickhouse_exception_in_view(cases[i].message, strlen(cases[i].message)), cases[i].in_view, "%s",
            cases[i].message);
    }
}

Test(clickhouse_error, a_value_that_a_function_refuses_is_a_bad_row)
{
    static const char cut[] = "DB::Exception: Attempt to read after eof: While executing Native.",
                      value[] =
                          "DB::Exception: Attempt to read after eof: Cannot parse UInt64 from String, because value "
                          "is too short: while executing 'FUNCTION toUInt64(JSONExtractString(payload, ";
    static const int codes[] = {32, 70, 128, 130};
    struct relay_error error;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        cr_assert_eq(clickhouse_error_set(&error, codes[i], cut, strlen(cut)), CLICKHOUSE_UNKNOWN_CODE);
        cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
        cr_assert_eq(clickhouse_error_set(&error, codes[i], value, strlen(value)), CLICKHOUSE_BAD_ROW);
        cr_assert_eq(error.class, RELAY_CLASS_POISON);
    }
    cr_assert_eq(clickhouse_error_set(&error, 36, value, strlen(value)), CLICKHOUSE_UNKNOWN_CODE,
        "a dictionary that is not there");
    cr_assert_eq(clickhouse_error_set(&error, 675, value, strlen(value)), CLICKHOUSE_BAD_ROW, "by its code alone");
    cr_assert_eq(clickhouse_error_set(&error, 32, NULL, 0), CLICKHOUSE_UNKNOWN_CODE);
}

Test(clickhouse_error, of_a_row_that_is_refused_no_value_is_told)
{
    static const struct {
        int code;
        const char *message, *told;
    } cases[] = {
        {469,
            "DB::Exception: Constraint `c` for table db.t is violated at row 3. Expression: (length(email) < 60). "
            "Column values: email = 'jane@example.org'. (VIOLATED_CONSTRAINT)",
            "DB::Exception: Constraint `c` for table db.t is violated at row 3. Expression: (length(email) < 60)..."},
        {469,
            "DB::Exception: Constraint `c` for table db.t is violated at row 3. Expression: (n < 9). Column values: n "
            "= 12",
            "DB::Exception: Constraint `c` for table db.t is violated at row 3. Expression: (n < 9)..."},
        {6,
            "DB::Exception: Cannot parse string 'O'Brien: while pushing to view ' as UInt32: while executing 'FUNCTION "
            "f()': while pushing to view db.v (id)",
            "DB::Exception: Cannot parse string ...: while pushing to view db.v (id)"},
        {117, "DB::Exception: Cannot parse JSON object here: {\"card\": 4111}",
            "DB::Exception: Cannot parse JSON object here: ..."},
        {675, "DB::Exception: Invalid IPv4 value: while pushing to view db.v (id)",
            "DB::Exception: Invalid IPv4 value: while pushing to view db.v (id)"},
        {60, "DB::Exception: Unknown table 'x'", "DB::Exception: Unknown table 'x'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct relay_error error;
        clickhouse_error_set(&error, cases[i].code, cases[i].message, strlen(cases[i].message));
        const char *text = strstr(error.text, "DB::");
        cr_assert_not_null(text);
        cr_assert_str_eq(text, cases[i].told);
    }
    char message[2000];
    memset(message, 'm', sizeof(message));
    message[1000] = '\'';
    memcpy(message + 1500, ": while pushing to view v", 25);
    struct relay_error error;
    clickhouse_error_set(&error, 6, message, sizeof(message));
    cr_assert_not_null(strstr(error.text, "m...: while pushing to view vmm"), "%s", error.text);
}
