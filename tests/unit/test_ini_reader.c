// SPDX-License-Identifier: Apache-2.0
#include "relay/config/ini_reader.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static char told[4096];
static char text[4096];

static void on_section(void *context, int line, char *name)
{
    (void)context;
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%d[%s] ", line, name);
}

static void on_entry(void *context, int line, char *key, char *value)
{
    (void)context;
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%d%s=<%s> ", line, key, value);
}

static void on_mistake(void *context, int line, const char *what)
{
    (void)context;
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%d!%.16s ", line, what);
}

static const char *read_bytes(const char *bytes, size_t length)
{
    static const struct ini_handler handler = {.section = on_section, .entry = on_entry, .mistake = on_mistake};
    told[0] = '\0';
    memcpy(text, bytes, length);
    ini_read(text, length, &handler);
    return told;
}

#define READ(bytes) read_bytes(bytes, sizeof(bytes) - 1)

Test(ini_reader, sections_keys_and_comments)
{
    cr_assert_str_eq(READ("; c\n# c\n[a]\nk = v\n\n [ b c ] \nx=1"), "3[a] 4k=<v> 6[b c] 7x=<1> ");
    cr_assert_str_eq(READ(""), "");
    cr_assert_str_eq(READ("\n\n"), "");
}

Test(ini_reader, a_value_is_taken_as_it_is)
{
    cr_assert_str_eq(READ("p = a=b:c;d ;e #f \"g\"\t \n"), "1p=<a=b:c;d ;e #f \"g\"> ");
    cr_assert_str_eq(READ("p=\nq =   \n"), "1p=<> 2q=<> ");
}

Test(ini_reader, deeper_lines_continue_the_value)
{
    cr_assert_str_eq(READ("k = a,\n  b,\n\tc\nl = d"), "1k=<a, b, c> 4l=<d> ");
    cr_assert_str_eq(READ("k =\n  b\n"), "1k=<b> ");
    cr_assert_str_eq(READ("k = a\n  ; comment\n  b\n\n  c = d\n"), "1k=<a b> 5c=<d> ");
}

Test(ini_reader, indented_keys_are_keys)
{
    cr_assert_str_eq(READ("[a]\n  k = 1\n  l = 2\n"), "1[a] 2k=<1> 3l=<2> ");
}

Test(ini_reader, other_systems_line_ends_and_marks)
{
    cr_assert_str_eq(READ("\xef\xbb\xbf[a]\r\nk = v\r\n  w\r\n"), "1[a] 2k=<v w> ");
}

Test(ini_reader, every_broken_line_is_told)
{
    cr_assert_str_eq(READ("[a\nk\n= v\n[]\n[a] b\n[ ]\nk = v\n"),
        "1!the ] of the sec 2!expected [sectio 3!a key is missing 4!the section has  5!nothing may foll 6!the section "
        "has  7k=<v> ");
}

Test(ini_reader, bytes_that_no_text_has)
{
    cr_assert_str_eq(READ("[a]\nk = \xff\nl = \x01\nm = \xc3\xa9\n"),
        "1[a] 2!a byte that is n 3!a control charac 4m=<\xc3\xa9> ");
    cr_assert_str_eq(READ("[a]\n[\0b\0]\0\nk = v\n"), "1[a] 2!a NUL byte: this ");
    cr_assert_str_eq(READ("\xff\xfe[\0a\0]\0"), "1!a byte that is n ");
}
