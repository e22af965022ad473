// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_error.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    int code;
    enum clickhouse_failure failure;
    const char *name;
} exceptions[] = {
#define X(code, failure, name) {code, CLICKHOUSE_##failure, #name},
    CLICKHOUSE_EXCEPTIONS(X)
#undef X
};

enum clickhouse_failure clickhouse_failure_of(int exception_code)
{
    if (exception_code == 0) {
        return CLICKHOUSE_DONE;
    }
    for (size_t i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++) {
        if (exceptions[i].code == exception_code) {
            return exceptions[i].failure;
        }
    }
    return CLICKHOUSE_UNKNOWN_CODE;
}

const char *clickhouse_exception_name(int exception_code)
{
    for (size_t i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++) {
        if (exceptions[i].code == exception_code) {
            return exceptions[i].name;
        }
    }
    return "";
}

const char *clickhouse_failure_name(enum clickhouse_failure failure)
{
    switch (failure) {
    case CLICKHOUSE_DONE: return "done";
    case CLICKHOUSE_NOT_SENT: return "not_sent";
    case CLICKHOUSE_OUTCOME_UNKNOWN: return "outcome_unknown";
    case CLICKHOUSE_TRANSIENT: return "transient";
    case CLICKHOUSE_BACK_PRESSURE: return "back_pressure";
    case CLICKHOUSE_MEMORY: return "memory";
    case CLICKHOUSE_OPERATOR: return "operator";
    case CLICKHOUSE_SCHEMA_DRIFT: return "schema_drift";
    case CLICKHOUSE_BAD_ROW: return "bad_row";
    case CLICKHOUSE_UNKNOWN_CODE: return "unknown_code";
    case CLICKHOUSE_FAILURES: break;
    }
    return "?";
}

// "Code: NN" at `at`, followed by "." or ",": the code, else 0.
static int code_at(const char *at, const char *end, const char **after)
{
    if (end - at < 8 || memcmp(at, "Code: ", 6) != 0) {
        return 0;
    }
    int code = 0;
    const char *digit = at + 6;
    for (; digit < end && *digit >= '0' && *digit <= '9' && code < 1000000; digit++) {
        code = code * 10 + (*digit - '0');
    }
    if (digit == at + 6 || digit == end || (*digit != '.' && *digit != ',')) {
        return 0;
    }
    *after = digit + 1;
    return code;
}

int clickhouse_exception_parse(const char *body, size_t length, bool tail, const char **message, size_t *message_length)
{
    const char *end = body + length;
    for (const char *line = body; line < end;) {
        const char *after = NULL;
        int code = code_at(line, end, &after);
        if (code != 0) {
            while (after < end && *after == ' ') {
                after++;
            }
            const char *stop = after < end ? memmem(after, (size_t)(end - after), "\n__exception__", 14) : NULL;
            stop = stop ? stop : end;
            while (stop > after && (stop[-1] == '\n' || stop[-1] == '\r' || stop[-1] == ' ')) {
                stop--;
            }
            if (message) {
                *message = after;
                *message_length = (size_t)(stop - after);
            }
            return code;
        }
        const char *next = tail ? memchr(line, '\n', (size_t)(end - line)) : NULL;
        if (!next) {
            break;
        }
        line = next + 1;
    }
    return 0;
}

// The last ": while pushing to view ..." of the server's own. NULL: there is none.
static const char *pushed_to(const char *message, size_t length)
{
    static const char words[] = ": while pushing to view ";
    const char *end = message + length, *last = NULL;
    for (const char *at = message; (at = memmem(at, (size_t)(end - at), words, sizeof(words) - 1)) != NULL;) {
        last = at;
        at += sizeof(words) - 1;
    }
    return last != NULL && memchr(last, '\'', (size_t)(end - last)) == NULL ? last : NULL;
}

bool clickhouse_exception_in_view(const char *message, size_t length)
{
    return pushed_to(message, length) != NULL;
}

static enum relay_error_code code_of(enum clickhouse_failure failure)
{
    switch (failure) {
    case CLICKHOUSE_NOT_SENT: return RELAY_ERROR_CLICKHOUSE_UNREACHABLE;
    case CLICKHOUSE_OUTCOME_UNKNOWN: return RELAY_ERROR_CLICKHOUSE_UNKNOWN;
    case CLICKHOUSE_OPERATOR:
    case CLICKHOUSE_SCHEMA_DRIFT: return RELAY_ERROR_CLICKHOUSE_OPERATOR;
    case CLICKHOUSE_BAD_ROW: return RELAY_ERROR_CLICKHOUSE_POISON;
    case CLICKHOUSE_DONE:
    case CLICKHOUSE_TRANSIENT:
    case CLICKHOUSE_BACK_PRESSURE:
    case CLICKHOUSE_MEMORY:
    case CLICKHOUSE_UNKNOWN_CODE:
    case CLICKHOUSE_FAILURES: break;
    }
    return RELAY_ERROR_CLICKHOUSE_RETRIABLE;
}

bool clickhouse_error_no_table(const struct relay_error *error)
{
    return error->detail == CLICKHOUSE_CODE_UNKNOWN_TABLE || error->detail == CLICKHOUSE_CODE_UNKNOWN_DATABASE;
}

bool clickhouse_error_lacks(const struct relay_error *error)
{
    static const int codes[] = {CLICKHOUSE_CODE_UNKNOWN_TABLE, CLICKHOUSE_CODE_UNKNOWN_DATABASE,
        CLICKHOUSE_CODE_UNKNOWN_USER, CLICKHOUSE_CODE_WRONG_PASSWORD, CLICKHOUSE_CODE_REQUIRED_PASSWORD,
        CLICKHOUSE_CODE_IP_ADDRESS_NOT_ALLOWED, CLICKHOUSE_CODE_DATABASE_ACCESS_DENIED, CLICKHOUSE_CODE_ACCESS_DENIED,
        CLICKHOUSE_CODE_AUTHENTICATION_FAILED};
    for (size_t i = 0; error->code == RELAY_ERROR_CLICKHOUSE_OPERATOR && i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (error->detail == codes[i]) {
            return true;
        }
    }
    return false;
}

static bool says(const char *message, size_t length, const char *words)
{
    return length > 0 && memmem(message, length, words, strlen(words)) != NULL;
}

// Where the code alone does not tell.
static enum clickhouse_failure failure_by_text(int code, const char *message, size_t length)
{
    switch (code) {
    case CLICKHOUSE_CODE_TOO_MANY_PARTS:
        if (says(message, length, "partitions for single INSERT")) {
            return CLICKHOUSE_OPERATOR; // max_partitions_per_insert_block is fixed by a profile: waiting never helps
        }
        break;
    case CLICKHOUSE_CODE_ATTEMPT_TO_READ_AFTER_EOF:
    case CLICKHOUSE_CODE_CANNOT_CONVERT_TYPE:
    case CLICKHOUSE_CODE_TOO_LARGE_ARRAY_SIZE:
    case CLICKHOUSE_CODE_CANNOT_READ_ARRAY_FROM_TEXT:
        if (says(message, length, "while executing 'FUNCTION ")) {
            return CLICKHOUSE_BAD_ROW; // of a MATERIALIZED column, a DEFAULT, a view
        }
        break;
    default: break;
    }
    return clickhouse_failure_of(code);
}

void clickhouse_exception_line(char *line, size_t room, const char *message, size_t length)
{
    length = length < room - 1 ? length : room - 1;
    for (size_t i = 0; i < length; i++) {
        line[i] = (unsigned char)message[i] < 0x20 ? ' ' : message[i];
    }
    line[length] = '\0';
}

// Errors go into the log, onto pages without a password and to those who are alerted; what stands in a row does not.
// The text ends before the first value, which is quoted, in braces or listed, and goes on with the view.
static void without_values(char *line, size_t room, const char *message, size_t length)
{
    static const char listed[] = ". Column values:";
    size_t head = 0;
    while (head < length && strchr("'\"{", message[head]) == NULL) {
        head++;
    }
    const char *values = head > 0 ? memmem(message, head, listed, sizeof(listed) - 1) : NULL;
    head = values != NULL ? (size_t)(values - message) : head;
    if (head == length) {
        clickhouse_exception_line(line, room, message, length);
        return;
    }
    size_t half = room / 2;
    clickhouse_exception_line(line, head < half ? head + 1 : half, message, head);
    const char *view = pushed_to(message, length);
    size_t filled = strlen(line);
    memcpy(line + filled, "...", 4);
    if (view != NULL && view >= message + head) {
        clickhouse_exception_line(line + filled + 3, room - filled - 3, view, (size_t)(message + length - view));
    }
}

enum clickhouse_failure clickhouse_error_set(struct relay_error *error, int exception_code, const char *message,
    size_t message_length)
{
    enum clickhouse_failure failure = failure_by_text(exception_code, message, message_length);
    char line[400];
    if (failure == CLICKHOUSE_BAD_ROW) {
        without_values(line, sizeof(line), message, message_length);
    } else {
        clickhouse_exception_line(line, sizeof(line), message, message_length);
    }
    error_set_detail(error, code_of(failure), exception_code, "ClickHouse code %d: %s", exception_code,
        line[0] != '\0' ? line : clickhouse_exception_name(exception_code));
    return failure;
}
