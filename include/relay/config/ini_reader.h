// SPDX-License-Identifier: Apache-2.0
//
// The syntax of the configuration file, told to a handler line by line:
//   [section]         key = value         ; comment, or # comment, on a line of its own
// A value goes from the first = to the end of the line, literally, without the blanks around it: no quotes, no escapes,
// no comment behind it, so that any password can be written. A line that is indented deeper than its key continues the
// value (joined by one blank); an empty line ends it. Windows line ends and a UTF-8 mark at the start are taken.
// (libinih, as distributions build it, gives no line numbers, cuts lines at 200 bytes and does not tell empty
// sections.) Reads and changes the text in place; what it tells points into it. Any thread.
#ifndef RELAY_CONFIG_INI_READER_H
#define RELAY_CONFIG_INI_READER_H

#include <stddef.h>

struct ini_handler {
    void *context;
    void (*section)(void *context, int line, char *name);
    void (*entry)(void *context, int line, char *key, char *value);
    void (*mistake)(void *context, int line, const char *what);
};

// text[length] must be writable; it becomes NUL. Text that is not UTF-8, or holds control characters, is a mistake.
void ini_read(char *text, size_t length, const struct ini_handler *handler);

#endif
