// SPDX-License-Identifier: Apache-2.0
//
// Golden bytes of the Native format; the engine itself judges them in the integration tests.
#include "relay/clickhouse/native_block.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct clickhouse_type *types[8];
static size_t type_count;

static struct native_column *add(struct native_block *block, const char *name, const char *text)
{
    types[type_count] = clickhouse_type_parse(text, strlen(text), NULL);
    cr_assert_not_null(types[type_count]);
    struct native_column *column = native_block_add_column(block, name, types[type_count++], NULL);
    cr_assert_not_null(column);
    return column;
}

static void finish(struct native_block *block)
{
    native_block_free(block);
    while (type_count > 0) {
        clickhouse_type_free(types[--type_count]);
    }
}

static void expect(struct native_block *block, const char *bytes, size_t length)
{
    size_t count, at = 0;
    const struct iovec *pieces = native_block_body(block, &count, NULL);
    cr_assert_not_null(pieces);
    for (size_t i = 0; i < count; i++) {
        cr_assert_leq(at + pieces[i].iov_len, length);
        cr_assert_arr_eq(pieces[i].iov_base, bytes + at, pieces[i].iov_len, "piece %zu", i);
        at += pieces[i].iov_len;
    }
    cr_assert_eq(at, length, "%zu bytes, not %zu", at, length);
}

Test(native_block, a_block_of_two_rows)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *id = add(block, "id", "UInt16"), *text = add(block, "t", "String");
    uint16_t one = 1, two = 0x0203;
    cr_assert(native_put_fixed(id, &one, 2) && native_put_string(text, "ab", 2));
    native_block_end_row(block);
    cr_assert(native_put_fixed(id, &two, 2) && native_put_string(text, "", 0));
    native_block_end_row(block);
    static const char golden[] = "\x02\x02\x02id\x06UInt16\x01\x00\x03\x02\x01t\x06String\x02\x61\x62\x00";
    expect(block, golden, sizeof(golden) - 1);
    cr_assert_eq(native_block_bytes(block), 8);
    finish(block);
}

Test(native_block, nested_types)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *n = add(block, "n", "Nullable(UInt8)"), *a = add(block, "a", "Array(Array(UInt8))"),
                         *m = add(block, "m", "Map(String, UInt8)"),
                         *t = add(block, "t", "Tuple(UInt8, FixedString(2))");
    uint8_t seven = 7;
    for (int row = 0; row < 2; row++) {
        if (row == 0) {
            cr_assert(native_put_null(n));
        } else {
            cr_assert(native_put_not_null(n) && native_put_fixed(native_inner(n, 0), &seven, 1));
            struct native_column *inner = native_inner(a, 0);
            cr_assert(native_put_fixed(native_inner(inner, 0), &seven, 1) && native_put_array_end(inner));
            cr_assert(native_put_array_end(inner)); // [[7], []]
            cr_assert(native_put_string(native_inner(m, 0), "k", 1) && native_put_fixed(native_inner(m, 1), &seven, 1));
        }
        cr_assert(native_put_array_end(a) && native_put_array_end(m));
        cr_assert(
            native_put_fixed(native_inner(t, 0), &seven, 1) && native_put_fixed_string(native_inner(t, 1), "x", 1));
        native_block_end_row(block);
    }
    static const char golden[] = "\x04\x02"
                                 "\x01n\x0fNullable(UInt8)"
                                 "\x01\x00"
                                 "\x00\x07"
                                 "\x01"
                                 "a\x13"
                                 "Array(Array(UInt8))"
                                 "\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
                                 "\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
                                 "\x07"
                                 "\x01m\x12Map(String, UInt8)"
                                 "\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
                                 "\x01k"
                                 "\x07"
                                 "\x01t\x1cTuple(UInt8, FixedString(2))"
                                 "\x07\x07"
                                 "x\0x\0";
    expect(block, golden, sizeof(golden) - 1);
    finish(block);
}

// A tuple has no count of its own.
Test(native_block, tuples_in_a_map_and_in_an_array)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *m = add(block, "m", "Map(String, Tuple(Tuple(UInt8, String), UInt8))"),
                         *a = add(block, "a", "Array(Tuple(UInt8, Nullable(UInt8)))"),
                         *e = add(block, "e", "Map(String, Tuple(UInt8, String))");
    struct native_column *value = native_inner(m, 1), *pair = native_inner(value, 0), *element = native_inner(a, 0);
    uint8_t seven = 7;
    for (int i = 0; i < 2; i++) {
        cr_assert(native_put_string(native_inner(m, 0), i == 0 ? "k" : "l", 1));
        cr_assert(
            native_put_fixed(native_inner(pair, 0), &seven, 1) && native_put_string(native_inner(pair, 1), "x", 1));
        cr_assert(native_put_fixed(native_inner(value, 1), &seven, 1));
        cr_assert(native_put_fixed(native_inner(element, 0), &seven, 1) && native_put_null(native_inner(element, 1)));
    }
    cr_assert(native_put_array_end(m) && native_put_array_end(a) && native_put_default(e));
    native_block_end_row(block);
    static const char golden[] = "\x03\x01"
                                 "\x01m/Map(String, Tuple(Tuple(UInt8, String), UInt8))"
                                 "\x02\0\0\0\0\0\0\0"
                                 "\x01k\x01l"
                                 "\x07\x07"
                                 "\x01x\x01x"
                                 "\x07\x07"
                                 "\x01"
                                 "a$Array(Tuple(UInt8, Nullable(UInt8)))"
                                 "\x02\0\0\0\0\0\0\0"
                                 "\x07\x07"
                                 "\x01\x01\0\0"
                                 "\x01"
                                 "e!Map(String, Tuple(UInt8, String))"
                                 "\0\0\0\0\0\0\0\0";
    expect(block, golden, sizeof(golden) - 1);
    finish(block);
}

Test(native_block, a_cancelled_row_leaves_nothing)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *a = add(block, "a", "Array(Tuple(String, Nullable(UInt8)))"), *s = add(block, "s", "String");
    cr_assert(native_put_array_end(a) && native_put_string(s, "one", 3));
    native_block_end_row(block);
    size_t bytes = native_block_bytes(block);
    struct native_column *tuple = native_inner(a, 0);
    for (int i = 0; i < 100; i++) {
        cr_assert(native_put_string(native_inner(tuple, 0), "xyz", 3) && native_put_null(native_inner(tuple, 1)));
    }
    cr_assert(native_put_array_end(a));
    native_block_cancel_row(block);
    cr_assert_eq(native_block_bytes(block), bytes);
    cr_assert(native_put_default(a) && native_put_default(s));
    native_block_end_row(block);
    static const char golden[] = "\x02\x02"
                                 "\x01"
                                 "a%Array(Tuple(String, Nullable(UInt8)))"
                                 "\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0"
                                 "\x01s\x06String\x03one\x00";
    expect(block, golden, sizeof(golden) - 1);
    finish(block);
}

Test(native_block, memory_is_kept)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *s = add(block, "s", "String");
    char large[5000];
    memset(large, 'x', sizeof(large));
    cr_assert(native_put_string(s, large, sizeof(large)));
    native_block_end_row(block);
    cr_assert_eq(native_block_bytes(block), 5002);
    size_t memory = native_block_memory(block), count;
    native_block_reset(block);
    cr_assert_eq(native_block_rows(block), 0);
    cr_assert_eq(native_block_memory(block), memory);
    cr_assert_not_null(native_block_body(block, &count, NULL));
    cr_assert_eq(count, 0);
    cr_assert(native_put_string(s, "a", 1));
    native_block_end_row(block);
    char *structure = native_block_structure(block, NULL);
    cr_assert_str_eq(structure, "`s` String");
    free(structure);
    finish(block);
}

// The heap has no holes where it was while it grew.
Test(native_block, a_large_column_has_pages_of_its_own)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *text = add(block, "t", "String");
    char value[5000];
    size_t rows = 0, count;
    while (native_block_bytes(block) < ((size_t)5 << 20)) {
        memset(value, 'a' + (int)(rows % 26), sizeof(value));
        cr_assert(native_put_string(text, value, sizeof(value)));
        native_block_end_row(block);
        rows++;
    }
    const struct iovec *pieces = native_block_body(block, &count, NULL);
    cr_assert_eq(count, 3, "%zu pieces: head, header, data", count);
    const char *data = pieces[2].iov_base;
    cr_assert_eq((uintptr_t)data % (uintptr_t)sysconf(_SC_PAGESIZE), 0, "%p is not the beginning of a page", data);
    for (size_t row = 0; row < rows; row++) {
        const char *at = data + row * (sizeof(value) + 2); // and two bytes for the length
        cr_assert(at[2] == (char)('a' + row % 26) && at[1 + sizeof(value)] == at[2], "row %zu", row);
    }
    native_block_reset(block);
    cr_assert_geq(native_block_memory(block), (size_t)5 << 20, "it is kept for the next rows");
    cr_assert(native_put_string(text, "ab", 2) && (native_block_end_row(block), true));
    static const char golden[] = "\x01\x01\x01t\x06String\x02\x61\x62";
    expect(block, golden, sizeof(golden) - 1);
    finish(block);
}

Test(native_block, defaults_are_what_the_server_would_store)
{
    struct native_block *block = native_block_new(NULL);
    struct native_column *e = add(block, "e", "Enum16('a' = 5, 'b' = -2)"), *j = add(block, "j", "JSON"),
                         *u = add(block, "u", "IPv4");
    cr_assert(native_put_default(e) && native_put_default(j) && native_put_default(u));
    native_block_end_row(block);
    static const char golden[] = "\x03\x01"
                                 "\x01"
                                 "e\x19"
                                 "Enum16('a' = 5, 'b' = -2)"
                                 "\xfe\xff"
                                 "\x01j\x06String\x02{}"
                                 "\x01u\x04IPv4\0\0\0\0";
    expect(block, golden, sizeof(golden) - 1);
    finish(block);
}
