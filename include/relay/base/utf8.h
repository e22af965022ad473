// SPDX-License-Identifier: Apache-2.0
//
// Text from outside (topic names, server messages) made fit for JSON, HTML and the Prometheus format, all of which
// refuse bytes that are not UTF-8. Any thread.
#ifndef RELAY_BASE_UTF8_H
#define RELAY_BASE_UTF8_H

#include <stddef.h>
#include <stdio.h>

// Length in bytes (1 to 4) of the well-formed UTF-8 character at text[0..length), 0 if there is none: overlong forms,
// surrogates and code points above U+10FFFF are refused (RFC 3629). length must be at least 1.
size_t utf8_character(const char *text, size_t length);

// Where text may be cut at or before text[at], so that no character loses its end. text[at] is read.
size_t utf8_cut(const char *text, size_t at);

// Copies text into out, at most room-1 bytes and a NUL, never cutting a character: malformed bytes become '?', control
// characters a space. NULL text counts as "". room must be at least 1. Returns the length without the NUL.
size_t utf8_clean(char *out, size_t room, const char *text);

// The first character of text[0..length) as a terminal may have it, with a NUL behind: a malformed byte as '?', a
// control character as JSON has it (\n, \u001b, \u009b), so that no text can break a line or command the terminal.
// length must be at least 1. Returns how many bytes of text it stands for.
#define UTF8_PRINTABLE 8
size_t utf8_printable(char out[UTF8_PRINTABLE], const char *text, size_t length);

// Writes text[0..length), which may hold NUL, as that.
void utf8_print(FILE *out, const char *text, size_t length);

#endif
