// SPDX-License-Identifier: Apache-2.0
//
// Any payload, any headers: the encoder takes the row or refuses it with a reason, leaves whole rows only, and never
// crashes. The first byte says how much of the input is a header's value; the rest is the payload.
#include "encoder_fixture.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const columns[] = {"i8", "Int8", "u256", "UInt256", "f", "Float32", "b", "Bool", "s", "String", "fs",
    "FixedString(4)", "u", "UUID", "d", "Date", "d32", "Date32", "t", "DateTime", "t64", "DateTime64(9)", "dec",
    "Decimal(20, 5)", "e", "Enum8('a' = 1, 'b' = 2)", "v4", "IPv4", "v6", "IPv6", "n", "Nullable(Int64)", "arr",
    "Array(Array(Nullable(UInt16)))", "m", "Map(String, Array(String))", "mt", "Map(String, Tuple(x Int8, y String))",
    "at", "Array(Map(String, Tuple(Tuple(Int8, Nullable(Date)))))", "tup", "Tuple(x Int8, y String, z Nullable(Date))",
    "j", "JSON", "h", "UInt64", "ht", "DateTime64(3)", NULL};
static const char *const every[] = {"i8", "$.a?", "u256", "$.a?", "f", "$.a?", "b", "$.b?", "s", "$", "fs", "$.c?", "u",
    "$.u?", "d", "$.d?", "d32", "$.d?", "t", "$.d?", "t64", "$.d?", "dec", "$.a?", "e", "$.e?", "v4", "$.v4?", "v6",
    "$.v4?", "n", "$.a?", "arr", "$.arr?", "m", "$.m?", "mt", "$.mt?", "at", "$.at?", "tup", "$.tup?", "j", "$.j?", "h",
    "header.h?", "ht", "header.t?", NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct table_schema *schema;
    static struct row_encoder *encoder;
    static struct native_block *block;
    static struct config_pair pairs[32];
    if (!encoder) {
        struct config_route route = fixture_route(every, pairs);
        schema = fixture_schema(columns);
        encoder = row_encoder_new(&route, schema, NULL, NULL);
        block = encoder ? row_encoder_block(encoder, NULL) : NULL;
        assert(block);
    }
    if (size == 0) {
        return 0;
    }
    size_t header_length = data[0] % 48 < size - 1 ? data[0] % 48 : size - 1;
    const char *text = (const char *)data + 1;
    struct source_header headers[] = {{"h", text, header_length}, {"t", text, header_length}};
    struct source_message message = {.topic = "t",
        .value = text + header_length,
        .value_length = size - 1 - header_length,
        .headers = headers,
        .header_count = 2};
    enum encode_reason reason;
    struct relay_error error;
    size_t rows = native_block_rows(block), bytes = native_block_bytes(block);
    bool done = row_encoder_add(encoder, block, &message, &reason, &error);
    assert(done == (reason == ENCODE_NONE));
    assert(native_block_rows(block) == rows + (done ? 1 : 0));
    assert(done ? native_block_bytes(block) > bytes : error.text[0] != '\0');
    size_t count, total = 0;
    const struct iovec *pieces = native_block_body(block, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        total += pieces[i].iov_len;
    }
    assert(total >= native_block_bytes(block));
    if (native_block_rows(block) >= 64) {
        native_block_reset(block);
    }
    return 0;
}
