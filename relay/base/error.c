// SPDX-License-Identifier: Apache-2.0
//
// See error.h. Nothing here can fail: a text that is too long is cut and ends in "...". A control character becomes a
// blank: one error is one log line, and what a server quotes of somebody's data commands no terminal.
#define RELAY_BASE_ERROR_C
#include "relay/base/error.h"

#include "relay/base/utf8.h"

#include <stdio.h>
#include <string.h>

static const struct {
    enum relay_error_class class;
    enum relay_server server;
    const char *name;
    const char *text;
} error_table[] = {
#define X(code, class, server, name, text) {RELAY_CLASS_##class, RELAY_SERVER_##server, name, text},
    RELAY_ERRORS(X)
#undef X
};

static void finish_text(struct relay_error *error, int wanted)
{
    size_t room = sizeof(error->text);
    if (wanted >= 0 && (size_t)wanted >= room) {
        memcpy(error->text + utf8_cut(error->text, room - 4), "...", 4);
    }
    char text[sizeof(error->text)];
    size_t length = utf8_clean(text, sizeof(text), error->text);
    memcpy(error->text, text, length + 1);
    while (length > 0 && error->text[length - 1] == ' ') {
        error->text[--length] = '\0';
    }
}

bool error_set_v(struct relay_error *error, enum relay_error_code code, const char *format, va_list arguments)
{
    if (error == NULL) {
        return false;
    }
    error->code = code;
    error->class = error_table[code].class;
    error->server = error_table[code].server;
    error->detail = 0;
    int wanted;
    if (format[0] == '\0') {
        wanted = snprintf(error->text, sizeof(error->text), "%s", error_table[code].text);
    } else {
        wanted = vsnprintf(error->text, sizeof(error->text), format, arguments);
    }
    finish_text(error, wanted);
    return false;
}

bool error_set(struct relay_error *error, enum relay_error_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_set_v(error, code, format, arguments);
    va_end(arguments);
    return false;
}

bool error_set_detail(struct relay_error *error, enum relay_error_code code, int detail, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_set_v(error, code, format, arguments);
    va_end(arguments);
    if (error != NULL) {
        error->detail = detail;
    }
    return false;
}

bool error_set_class(struct relay_error *error, enum relay_error_code code, enum relay_error_class class, int detail,
    const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_set_v(error, code, format, arguments);
    va_end(arguments);
    if (error != NULL) {
        error->class = class;
        error->detail = detail;
    }
    return false;
}

bool error_no_memory(struct relay_error *error, const char *what)
{
    return error_set(error, RELAY_ERROR_NO_MEMORY, "out of memory: %s", what);
}

bool error_prefix(struct relay_error *error, const char *format, ...)
{
    if (error == NULL) {
        return false;
    }
    char text[sizeof(error->text)];
    memcpy(text, error->text, sizeof(text));
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof(error->text)) {
        int rest = snprintf(error->text + used, sizeof(error->text) - (size_t)used, ": %s", text);
        used = rest < 0 ? used : used + rest;
    }
    finish_text(error, used);
    return false;
}

void error_clear(struct relay_error *error)
{
    if (error != NULL) {
        memset(error, 0, sizeof(*error));
    }
}

const char *error_code_name(enum relay_error_code code)
{
    return error_table[code].name;
}

const char *error_class_name(enum relay_error_class class)
{
    switch (class) {
    case RELAY_CLASS_NONE: return "none";
    case RELAY_CLASS_RETRIABLE: return "retriable";
    case RELAY_CLASS_OPERATOR: return "operator";
    case RELAY_CLASS_POISON: return "poison";
    case RELAY_CLASS_FATAL: return "fatal";
    case RELAY_CLASS_UNKNOWN: return "unknown";
    case RELAY_CLASS_BUG: return "bug";
    }
    return "bug";
}
