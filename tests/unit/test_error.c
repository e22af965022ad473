// SPDX-License-Identifier: Apache-2.0
#include "relay/base/error.h"
#include "relay/base/utf8.h"

#include <criterion/criterion.h>
#include <string.h>

Test(error, takes_the_usual_class_of_its_code)
{
    struct relay_error error;
    cr_assert_not(error_set(&error, RELAY_ERROR_KAFKA_FENCED, "producer %d", 3));
    cr_assert_eq(error.class, RELAY_CLASS_FATAL);
    cr_assert_str_eq(error.text, "producer 3");
    cr_assert_str_eq(error_code_name(error.code), "kafka_fenced");
}

Test(error, layers_prefix_and_text_stays_one_line)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_TIMEOUT, "line one\nline two\n");
    error_prefix(&error, "outbox %s", "main");
    cr_assert_str_eq(error.text, "outbox main: line one line two");
}

Test(error, a_text_commands_no_terminal)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_POSTGRES_QUERY,
        "a\x1b]0;x\x07"
        "b\x7f\xc2\x9b"
        "31m\xc3\xa9\xff");
    cr_assert_str_eq(error.text, "a ]0;x b  31m\xc3\xa9?");
    error_prefix(&error, "\x1b[2J%s", "outbox");
    cr_assert_str_eq(error.text, " [2Joutbox: a ]0;x b  31m\xc3\xa9?");
}

Test(error, too_long_a_text_is_cut_visibly)
{
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct relay_error error;
    error_set(&error, RELAY_ERROR_SYSTEM, "%s", text);
    cr_assert_eq(strlen(error.text), sizeof(error.text) - 1);
    cr_assert_str_eq(error.text + sizeof(error.text) - 4, "...");
    error_prefix(&error, "%s", text);
    cr_assert_str_eq(error.text + sizeof(error.text) - 4, "...");
}

Test(error, no_character_is_cut_in_two)
{
    char text[2000] = "";
    for (size_t before = 0; before < 4; before++) {
        memset(text, 'x', before);
        for (size_t at = before; at + 4 < sizeof(text); at += 3) {
            memcpy(text + at, "\xe2\x82\xac", 4);
        }
        struct relay_error error;
        error_set(&error, RELAY_ERROR_SYSTEM, "%s", text);
        for (size_t at = 0, width; error.text[at] != '\0'; at += width) {
            width = utf8_character(error.text + at, strlen(error.text + at));
            cr_assert(width > 0, "%zu: %s", before, error.text);
        }
        cr_assert_str_eq(error.text + strlen(error.text) - 3, "...");
    }
}

Test(error, an_empty_format_takes_the_codes_sentence_and_null_is_allowed)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_BREAKER_OPEN, "%s", "");
    cr_assert_str_eq(error.text, "");
    cr_assert_not(error_set(NULL, RELAY_ERROR_BUG, "x"));
    cr_assert_not(error_prefix(NULL, "x"));
}
