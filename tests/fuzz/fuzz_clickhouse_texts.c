// SPDX-License-Identifier: Apache-2.0
//
// What a server or an operator may write: answers, exceptions, types, sources of routes, paths. The first byte chooses.
#include "relay/clickhouse/clickhouse_error.h"
#include "relay/clickhouse/clickhouse_result.h"
#include "relay/clickhouse/clickhouse_type.h"
#include "relay/json/json_paths.h"
#include "relay/config/route_source.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_result(const char *text, size_t length)
{
    char *body = malloc(length + 1);
    assert(body);
    memcpy(body, text, length);
    struct clickhouse_result *result = clickhouse_result_new(body, length, NULL);
    for (size_t row = 0; result && row < clickhouse_result_rows(result); row++) {
        for (size_t column = 0; column < clickhouse_result_columns(result); column++) {
            size_t cell;
            const char *at = clickhouse_result_text(result, row, column, &cell);
            assert(!at || at[cell] == '\0');
            (void)clickhouse_result_int(result, row, column);
        }
    }
    clickhouse_result_free(result);
}

static void read_exception(const char *text, size_t length)
{
    const char *message = text;
    size_t message_length = 0;
    struct relay_error error;
    int code = clickhouse_exception_parse(text, length, true, &message, &message_length);
    if (code != 0) {
        assert(message >= text && message + message_length <= text + length);
        clickhouse_error_set(&error, code, message, message_length);
        assert(!strchr(error.text, '\n'));
    }
}

// What was parsed can be written, and what was written parses to the same.
static void read_type(const char *text, size_t length)
{
    struct clickhouse_type *type = clickhouse_type_parse(text, length, NULL);
    char *wire = type ? clickhouse_type_wire(type) : NULL;
    if (wire) {
        struct clickhouse_type *again = clickhouse_type_parse(wire, strlen(wire), NULL);
        assert(again);
        char *wire_again = clickhouse_type_wire(again);
        assert(wire_again && strcmp(wire, wire_again) == 0);
        free(wire_again);
        clickhouse_type_free(again);
    }
    free(wire);
    clickhouse_type_free(type);
}

static void read_source(const char *text, size_t length)
{
    struct route_source source;
    char *copy = strndup(text, length);
    assert(copy);
    if (route_source_parse(copy, &source, NULL)) {
        if (source.place == ROUTE_PATH) {
            struct json_paths *paths = json_paths_new(NULL);
            size_t index;
            json_paths_add(paths, source.name.at, source.name.length, &index, NULL);
            json_paths_free(paths);
        }
        route_source_finish(&source);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    switch (data[0] % 4) {
    case 0: read_result(text, size - 1); break;
    case 1: read_exception(text, size - 1); break;
    case 2: read_type(text, size - 1); break;
    default: read_source(text, size - 1);
    }
    return 0;
}
