// SPDX-License-Identifier: Apache-2.0
#include "relay/base/utf8.h"

#include <stdbool.h>
#include <string.h>

static bool continues(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

size_t utf8_character(const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) {
        return 1;
    }
    if (at[0] >= 0xC2 && at[0] <= 0xDF) {
        return length >= 2 && continues(at[1]) ? 2 : 0;
    }
    if (at[0] >= 0xE0 && at[0] <= 0xEF) {
        unsigned char low = at[0] == 0xE0 ? 0xA0 : 0x80;  // below: overlong
        unsigned char high = at[0] == 0xED ? 0x9F : 0xBF; // above: surrogates
        return length >= 3 && at[1] >= low && at[1] <= high && continues(at[2]) ? 3 : 0;
    }
    if (at[0] >= 0xF0 && at[0] <= 0xF4) {
        unsigned char low = at[0] == 0xF0 ? 0x90 : 0x80;  // below: overlong
        unsigned char high = at[0] == 0xF4 ? 0x8F : 0xBF; // above: beyond U+10FFFF
        return length >= 4 && at[1] >= low && at[1] <= high && continues(at[2]) && continues(at[3]) ? 4 : 0;
    }
    return 0;
}

size_t utf8_cut(const char *text, size_t at)
{
    size_t cut = at;
    while (cut > 0 && at - cut < 3 && continues((unsigned char)text[cut])) {
        cut--;
    }
    return continues((unsigned char)text[cut]) ? at : cut; // no character that could lose its end
}

// Those of ASCII, and U+0080 to U+009F, of which a terminal takes some for the start of a command as well.
static bool is_control(const char *text, size_t width)
{
    const unsigned char *at = (const unsigned char *)text;
    return (width == 1 && (at[0] < 0x20 || at[0] == 0x7F)) || (width == 2 && at[0] == 0xC2 && at[1] < 0xA0);
}

size_t utf8_clean(char *out, size_t room, const char *text)
{
    size_t written = 0;
    size_t left = text == NULL ? 0 : strlen(text);
    while (left > 0) {
        size_t width = utf8_character(text, left);
        bool control = is_control(text, width);
        size_t needs = width == 0 || control ? 1 : width;
        if (written + needs >= room) {
            break;
        }
        if (width == 0) {
            out[written] = '?';
        } else if (control) {
            out[written] = ' ';
        } else {
            memcpy(out + written, text, width);
        }
        written += needs;
        text += width == 0 ? 1 : width;
        left -= width == 0 ? 1 : width;
    }
    out[written] = '\0';
    return written;
}

size_t utf8_printable(char out[UTF8_PRINTABLE], const char *text, size_t length)
{
    size_t width = utf8_character(text, length);
    if (width == 0) {
        memcpy(out, "?", 2);
        return 1;
    }
    if (*text == '\n') {
        memcpy(out, "\\n", 3);
    } else if (is_control(text, width)) {
        snprintf(out, UTF8_PRINTABLE, "\\u%04x", (unsigned char)text[width - 1]);
    } else {
        memcpy(out, text, width);
        out[width] = '\0';
    }
    return width;
}

void utf8_print(FILE *out, const char *text, size_t length)
{
    char printable[UTF8_PRINTABLE];
    for (size_t taken; length > 0; text += taken, length -= taken) {
        taken = utf8_printable(printable, text, length);
        fputs(printable, out);
    }
}
