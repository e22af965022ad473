// SPDX-License-Identifier: Apache-2.0
#include "relay/base/utf8.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char *clean(const char *text)
{
    static char out[64];
    cr_assert_eq(utf8_clean(out, sizeof(out), text), strlen(out));
    return out;
}

Test(utf8, well_formed_text_stays)
{
    cr_assert_str_eq(clean("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf"),
        "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf");
}

Test(utf8, malformed_bytes_and_control_characters_are_replaced)
{
    cr_assert_str_eq(clean("\xc0\xaf"), "??");           // overlong
    cr_assert_str_eq(clean("\xed\xa0\x80"), "???");      // surrogate
    cr_assert_str_eq(clean("\xf4\x90\x80\x80"), "????"); // above U+10FFFF
    cr_assert_str_eq(clean("x\xe2\x82"), "x??");         // cut
    cr_assert_str_eq(clean("a\n\tb\x7f"), "a  b ");
    cr_assert_str_eq(clean("a\xc2\x9b"
                           "1mb\xc2\xa0"),
        "a 1mb\xc2\xa0");
    cr_assert_str_eq(clean(NULL), "");
}

Test(utf8, what_is_printed_cannot_command_a_terminal)
{
    static const char text[] = "a\0b\xff\x1b]0;\xc3\xa9\n\x7f\xc2\x9bm\xc2";
    char *printed = NULL;
    size_t length;
    FILE *out = open_memstream(&printed, &length);
    cr_assert_not_null(out);
    utf8_print(out, text, sizeof(text) - 1);
    fclose(out);
    cr_assert_str_eq(printed, "a\\u0000b?\\u001b]0;\xc3\xa9\\n\\u007f\\u009bm?");
    free(printed);
}

Test(utf8, a_character_is_never_cut)
{
    static const char text[] = "a\xf0\x9f\x98\x80z";
    static const size_t cuts[] = {0, 1, 1, 1, 1, 5, 6};
    for (size_t at = 0; at < sizeof(cuts) / sizeof(cuts[0]); at++) {
        cr_assert_eq(utf8_cut(text, at), cuts[at], "%zu", at);
    }
    cr_assert_eq(utf8_cut("\x80\x80\x80\x80\x80", 4), 4, "no character");
    char out[4];
    cr_assert_eq(utf8_clean(out, sizeof(out), "ab\xc3\xa9"), 2);
    cr_assert_str_eq(out, "ab");
    cr_assert_eq(utf8_clean(out, 1, "ab"), 0);
}
