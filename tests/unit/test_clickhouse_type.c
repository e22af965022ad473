// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/clickhouse_type.h"

#include <criterion/criterion.h>
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
