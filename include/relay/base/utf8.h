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

// Copies text into out, at most room-1 bytes and a NUL, never cutting a character: malformed bytes become '?', control
// characters a space. NULL text counts as "". room must be at least 1. Returns the length without the NUL.
size_t utf8_clean(char *out, size_t room, const char *text);

// Writes text[0..length), which may hold NUL, for a terminal: malformed bytes as '?', control characters as JSON has
// them (\n, \u001b), so that no text can break a line or command the terminal.
void utf8_print(FILE *out, const char *text, size_t length);

#endif
