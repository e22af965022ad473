// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_result.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cell {
    const char *text; // NULL = SQL NULL
    size_t length;
};

struct clickhouse_result {
    char *body; // unescaped in place, cells NUL-terminated
    struct cell *cells;
    size_t rows, columns, room;
};

static bool add_cell(struct clickhouse_result *result, size_t used, char *start, char *end, bool null)
{
    if (used == result->room) {
        size_t room = result->room ? result->room * 2 : 64;
        struct cell *cells = reallocarray(result->cells, room, sizeof(*cells));
        if (!cells) {
            return false;
        }
        result->cells = cells;
        result->room = room;
    }
    result->cells[used] = (struct cell){.text = null ? NULL : start, .length = null ? 0 : (size_t)(end - start)};
    return true;
}

static char unescape(char c)
{
    switch (c) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'r': return '\r';
    case 'n': return '\n';
    case 't': return '\t';
    case '0': return '\0';
    default: return c; // \\ \' and what future versions may escape
    }
}

// Reads one cell from *at on, unescaping in place. The byte that ended it (tab, line end or NUL at the body's end) is
// returned and overwritten by NUL.
static char read_cell(char **at, char *end, char **cell_end, bool *null)
{
    char *from = *at, *to = *at;
    *null = end - from >= 2 && from[0] == '\\' && from[1] == 'N' &&
        (from + 2 == end || from[2] == '\t' || from[2] == '\n');
    while (from < end && *from != '\t' && *from != '\n') {
        if (*from == '\\' && from + 1 < end) {
            *to++ = unescape(from[1]);
            from += 2;
        } else {
            *to++ = *from++;
        }
    }
    char ended_by = from < end ? *from : '\0';
    *to = '\0';
    *cell_end = to;
    *at = from < end ? from + 1 : from;
    return ended_by;
}

static bool parse(struct clickhouse_result *result, size_t length, struct relay_error *error)
{
    char *at = result->body, *end = result->body + length;
    size_t used = 0, in_row = 0;
    while (at < end || in_row > 0) {
        char *start = at, *cell_end;
        bool null;
        char ended_by = read_cell(&at, end, &cell_end, &null);
        if (!add_cell(result, used, start, cell_end, null)) {
            return error_no_memory(error, "reading an answer of ClickHouse");
        }
        used++;
        in_row++;
        if (ended_by == '\0') {
            return error_set(error, RELAY_ERROR_PROTOCOL, "ClickHouse's answer ends within row %zu", result->rows + 1);
        }
        if (ended_by == '\n') {
            if (result->rows > 0 && in_row != result->columns) {
                return error_set(error, RELAY_ERROR_PROTOCOL, "row %zu of ClickHouse's answer has %zu columns, not %zu",
                    result->rows + 1, in_row, result->columns);
            }
            result->columns = in_row;
            result->rows++;
            in_row = 0;
        }
    }
    return true;
}

struct clickhouse_result *clickhouse_result_new(char *body, size_t length, struct relay_error *error)
{
    struct clickhouse_result *result = calloc(1, sizeof(*result));
    if (!result) {
        free(body);
        error_no_memory(error, "reading an answer of ClickHouse");
        return NULL;
    }
    result->body = body;
    if (!parse(result, length, error)) {
        clickhouse_result_free(result);
        return NULL;
    }
    return result;
}

void clickhouse_result_free(struct clickhouse_result *result)
{
    if (result) {
        free(result->cells);
        free(result->body);
        free(result);
    }
}

size_t clickhouse_result_rows(const struct clickhouse_result *result)
{
    return result->rows;
}

size_t clickhouse_result_columns(const struct clickhouse_result *result)
{
    return result->columns;
}

const char *clickhouse_result_text(const struct clickhouse_result *result, size_t row, size_t column, size_t *length)
{
    if (length) {
        *length = 0;
    }
    if (row >= result->rows || column >= result->columns) {
        return NULL;
    }
    const struct cell *cell = &result->cells[row * result->columns + column];
    if (length) {
        *length = cell->length;
    }
    return cell->text;
}

int64_t clickhouse_result_int(const struct clickhouse_result *result, size_t row, size_t column)
{
    const char *text = clickhouse_result_text(result, row, column, NULL);
    if (!text) {
        return 0;
    }
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' ? value : 0;
}

uint64_t clickhouse_result_uint(const struct clickhouse_result *result, size_t row, size_t column)
{
    const char *text = clickhouse_result_text(result, row, column, NULL);
    if (!text || *text == '-') {
        return 0;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' ? value : 0;
}
