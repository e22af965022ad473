// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_type.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct clickhouse_type *parse(const char *text)
{
    struct relay_error error;
    struct clickhouse_type *type = clickhouse_type_parse(text, strlen(text), &error);
    cr_assert_not_null(type, "%s", error.text);
    return type;
}

Test(clickhouse_type, every_supported_type_goes_over_the_wire_as)
{
    static const char *const pairs[][2] = {{"Int8", NULL}, {"UInt256", NULL}, {"Int128", NULL}, {"Float32", NULL},
        {"Bool", NULL}, {"String", NULL}, {"FixedString(16)", NULL}, {"UUID", NULL}, {"Date", NULL}, {"Date32", NULL},
        {"DateTime", NULL}, {"DateTime('Europe/Berlin')", NULL}, {"DateTime64(6)", NULL},
        {"DateTime64(3, 'UTC')", NULL}, {"Decimal(38, 10)", NULL}, {"Decimal64(4)", "Decimal(18, 4)"}, {"IPv4", NULL},
        {"IPv6", NULL}, {"Nullable(Int32)", NULL}, {"LowCardinality(String)", "String"},
        {"LowCardinality(Nullable(FixedString(2)))", "Nullable(FixedString(2))"},
        {"Array(Array(Nullable(UInt8)))", NULL}, {"Map(String, Array(Int64))", NULL},
        {"Map(LowCardinality(String), UInt8)", "Map(String, UInt8)"}, {"Tuple(Int8, String)", NULL},
        {"Tuple(a Int8, `b c` Array(String))", "Tuple(`a` Int8, `b c` Array(String))"},
        {"Tuple(a Tuple(x DateTime('UTC')))", "Tuple(`a` Tuple(`x` DateTime('UTC')))"},
        {"Nested(a Int8, b String)", "Array(Tuple(`a` Int8, `b` String))"}, {"JSON", "String"},
        {"JSON(max_dynamic_paths=8, a.b UInt32, SKIP c)", "String"}, {"Object('json')", "String"},
        {"JSON(SKIP REGEXP '[)]')", "String"}, {"JSON(SKIP REGEXP '\\(\\'')", "String"},
        {"JSON(`a)b` String)", "String"}, {"Tuple(JSON(SKIP REGEXP ',)'), UInt8)", "Tuple(String, UInt8)"},
        {"SimpleAggregateFunction(sum, UInt64)", "UInt64"},
        {"SimpleAggregateFunction(groupArrayArray(5), Array(String))", "Array(String)"},
        {"Enum8('a' = 1, 'b\\'c' = -2)", NULL}, {"Enum16('' = 0, 'z' = 30000)", NULL}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct clickhouse_type *type = parse(pairs[i][0]);
        char *wire = clickhouse_type_wire(type);
        cr_assert_str_eq(wire, pairs[i][1] ? pairs[i][1] : pairs[i][0]);
        free(wire);
        clickhouse_type_free(type);
    }
}

Test(clickhouse_type, widths_follow_the_precision)
{
    static const struct {
        const char *text;
        uint32_t width;
    } decimals[] = {{"Decimal(9, 0)", 4}, {"Decimal(10, 2)", 8}, {"Decimal(18, 18)", 8}, {"Decimal(19, 1)", 16},
        {"Decimal(38, 1)", 16}, {"Decimal(76, 3)", 32}};
    for (size_t i = 0; i < sizeof(decimals) / sizeof(decimals[0]); i++) {
        struct clickhouse_type *type = parse(decimals[i].text);
        cr_assert_eq(type->width, decimals[i].width, "%s", decimals[i].text);
        clickhouse_type_free(type);
    }
}

Test(clickhouse_type, what_cannot_be_filled_is_named)
{
    static const char *const bad[] = {"", "Foo", "AggregateFunction(sum, UInt8)", "Variant(String)", "Dynamic", "Array",
        "Array()", "Array(", "Array(Int8", "Array(Int8))", "Int8(3)", "FixedString(0)", "FixedString(x)",
        "Decimal(77, 1)", "Decimal(5)", "Decimal(5, 6)", "Enum8('a' = 200)", "Enum8(a = 1)", "Enum8('a')", "Enum8('a",
        "DateTime64", "DateTime64(10)", "Tuple(a Int8, String)", "Tuple()", "Map(String)", "Nullable(Foo)",
        "LowCardinality", "SimpleAggregateFunction(sum)",
        "Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array(Array("
        "Array(Array(Array("
        "Array(Array(Array(Array(Int8)))))))))))))))))))))))))"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct relay_error error;
        cr_assert_null(clickhouse_type_parse(bad[i], strlen(bad[i]), &error), "%s", bad[i]);
        cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    }
    struct relay_error error;
    cr_assert_null(clickhouse_type_parse("Array(Dynamic)", 14, &error));
    cr_assert_not_null(strstr(error.text, "\"Dynamic\" cannot be filled"), "%s", error.text);
}

Test(clickhouse_type, an_enum_is_looked_up_by_the_whole_name)
{
    struct clickhouse_type *type = parse("Enum16('b' = 2, '' = 0, 'a\\0z' = 3, 'ab' = -4, 'a' = 1, '\xff' = 5)");
    static const struct {
        const char *name;
        size_t length;
        int value; // 0x10000: none
    } names[] = {{"", 0, 0}, {"a", 1, 1}, {"b", 1, 2}, {"a\0z", 3, 3}, {"ab", 2, -4}, {"\xff", 1, 5},
        {"a\0", 2, 0x10000}, {"a\0y", 3, 0x10000}, {"abc", 3, 0x10000}, {"ab", 3, 0x10000}, {"B", 1, 0x10000},
        {"\xff\xff", 2, 0x10000}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct clickhouse_enum_value *found = clickhouse_type_enum(type, names[i].name, names[i].length);
        cr_assert_eq(found ? found->value : 0x10000, names[i].value, "%zu", i);
    }
    clickhouse_type_free(type);
}

Test(clickhouse_type, each_of_many_names_of_an_enum_is_found)
{
    enum { NAMES = 1000 };
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    for (int i = 0; i < NAMES; i++) {
        fprintf(out, "%s'name %d' = %d", i == 0 ? "Enum16(" : ", ", i * 7 % NAMES, i - NAMES / 2);
    }
    fputc(')', out);
    fclose(out);
    struct clickhouse_type *type = parse(text);
    for (int i = 0; i < NAMES; i++) {
        char name[20];
        int written = snprintf(name, sizeof(name), "name %d", i * 7 % NAMES);
        const struct clickhouse_enum_value *found = clickhouse_type_enum(type, name, (size_t)written);
        cr_assert_not_null(found, "%s", name);
        cr_assert_eq(found->value, i - NAMES / 2, "%s", name);
    }
    cr_assert_null(clickhouse_type_enum(type, "name 1000", 9));
    clickhouse_type_free(type);
    free(text);
}
