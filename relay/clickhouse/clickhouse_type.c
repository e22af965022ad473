// SPDX-License-Identifier: Apache-2.0
//
// Recursive descent over the text of a type as system.columns writes it: Name, Name(arguments), arguments being types,
// numbers, quoted texts, `name Type` (tuples) or 'name' = number (enums). The first thing that is not understood ends
// it with an error that quotes the whole type. Depth is bounded, so that no text can exhaust the stack.
#include "relay/clickhouse/clickhouse_type.h"

#include "relay/clickhouse/clickhouse_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH        24
#define MAX_FIXED_STRING 0xFFFFFF // as the server's own limit

struct parser {
    const char *text, *at, *end;
    int depth;
    struct relay_error *error;
};

static struct clickhouse_type *parse_type(struct parser *parser);

static void skip_spaces(struct parser *parser)
{
    while (parser->at < parser->end && (*parser->at == ' ' || *parser->at == '\n')) {
        parser->at++;
    }
}

static bool take(struct parser *parser, char c)
{
    skip_spaces(parser);
    if (parser->at < parser->end && *parser->at == c) {
        parser->at++;
        return true;
    }
    return false;
}

static bool fail(struct parser *parser, const char *what)
{
    int shown = parser->end - parser->text > 200 ? 200 : (int)(parser->end - parser->text);
    return error_set(parser->error, RELAY_ERROR_CLICKHOUSE_OPERATOR, "type %.*s: %s", shown, parser->text, what);
}

static bool no_memory(struct parser *parser)
{
    return error_no_memory(parser->error, "reading a ClickHouse type");
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static size_t take_word(struct parser *parser, const char **word)
{
    skip_spaces(parser);
    *word = parser->at;
    while (parser->at < parser->end && is_word(*parser->at)) {
        parser->at++;
    }
    return (size_t)(parser->at - *word);
}

static bool take_number(struct parser *parser, long long low, long long high, long long *number)
{
    skip_spaces(parser);
    bool negative = parser->at < parser->end && *parser->at == '-';
    const char *digit = parser->at + (negative ? 1 : 0);
    long long value = 0;
    const char *first = digit;
    for (; digit < parser->end && *digit >= '0' && *digit <= '9' && value < 100000000; digit++) {
        value = value * 10 + (*digit - '0');
    }
    value = negative ? -value : value;
    if (digit == first || value < low || value > high) {
        return fail(parser, "a number is missing or out of range");
    }
    parser->at = digit;
    *number = value;
    return true;
}

// 'text' or `name` with the server's backslash escapes; malloc'd.
static char *take_quoted(struct parser *parser, char quote, size_t *length)
{
    char *text = malloc((size_t)(parser->end - parser->at) + 1);
    if (!text) {
        no_memory(parser);
        return NULL;
    }
    size_t used = 0;
    const char *at = parser->at + 1; // past the quote
    while (at < parser->end && *at != quote) {
        char c = *at++;
        if (c == '\\' && at < parser->end) {
            c = *at++;
            c = c == 'n'   ? '\n'
                : c == 't' ? '\t'
                : c == 'r' ? '\r'
                : c == 'b' ? '\b'
                : c == 'f' ? '\f'
                : c == '0' ? '\0'
                           : c;
        }
        text[used++] = c;
    }
    if (at >= parser->end) {
        free(text);
        fail(parser, "a quote is not closed");
        return NULL;
    }
    text[used] = '\0';
    parser->at = at + 1;
    if (length) {
        *length = used;
    }
    return text;
}

static bool add_inner(struct parser *parser, struct clickhouse_type *type, char *name)
{
    struct clickhouse_type *inner = parse_type(parser);
    if (!inner) {
        free(name);
        return false;
    }
    struct clickhouse_type **inners = reallocarray(type->inner, type->inner_count + 1,
        sizeof(struct clickhouse_type *));
    if (inners) {
        type->inner = inners;
    }
    char **names = inners && name ? reallocarray(type->names, type->inner_count + 1, sizeof(char *)) : NULL;
    if (names) {
        type->names = names;
    }
    if (!inners || (name && !names)) {
        free(name);
        clickhouse_type_free(inner);
        return no_memory(parser);
    }
    if (name) {
        names[type->inner_count] = name;
    }
    inners[type->inner_count++] = inner;
    return true;
}

// The `name` of `name Type`, or NULL with *named = false when a type stands here.
static bool take_element_name(struct parser *parser, char **name)
{
    *name = NULL;
    skip_spaces(parser);
    if (parser->at < parser->end && *parser->at == '`') {
        *name = take_quoted(parser, '`', NULL);
        return *name != NULL;
    }
    struct parser ahead = *parser;
    const char *word;
    size_t length = take_word(&ahead, &word);
    if (length == 0 || ahead.at >= ahead.end || *ahead.at != ' ') {
        return true;
    }
    skip_spaces(&ahead);
    if (ahead.at >= ahead.end || !(is_word(*ahead.at) || *ahead.at == '`')) {
        return true;
    }
    *name = strndup(word, length);
    parser->at = ahead.at;
    return *name != NULL || no_memory(parser);
}

static bool parse_tuple(struct parser *parser, struct clickhouse_type *type)
{
    do {
        char *name;
        if (!take_element_name(parser, &name)) {
            return false;
        }
        if (type->inner_count > 0 && (name != NULL) != (type->names != NULL)) {
            free(name);
            return fail(parser, "some elements of the tuple have names and some have not");
        }
        if (!add_inner(parser, type, name)) {
            return false;
        }
    } while (take(parser, ','));
    return true;
}

// In the order of bytes; a name may hold any of them.
static int by_name(const void *a, const void *b)
{
    const struct clickhouse_enum_value *one = a, *other = b;
    int order = memcmp(one->name, other->name, one->length < other->length ? one->length : other->length);
    return order != 0 ? order : (one->length > other->length) - (one->length < other->length);
}

static bool parse_enum(struct parser *parser, struct clickhouse_type *type)
{
    do {
        skip_spaces(parser);
        if (parser->at >= parser->end || *parser->at != '\'') {
            return fail(parser, "a name is missing in the Enum");
        }
        struct clickhouse_enum_value *enums = reallocarray(type->enums, type->enum_count + 1, sizeof(*enums));
        if (!enums) {
            return no_memory(parser);
        }
        type->enums = enums;
        struct clickhouse_enum_value *value = &enums[type->enum_count];
        value->name = take_quoted(parser, '\'', &value->length);
        if (!value->name) {
            return false;
        }
        type->enum_count++;
        long long number;
        if (!take(parser, '=')) {
            return fail(parser, "a number is missing in the Enum");
        }
        if (!take_number(parser, type->width == 1 ? -128 : -32768, type->width == 1 ? 127 : 32767, &number)) {
            return false;
        }
        value->value = (int16_t)number;
    } while (take(parser, ','));
    qsort(type->enums, type->enum_count, sizeof(*type->enums), by_name);
    return true;
}

static bool parse_timezone(struct parser *parser, struct clickhouse_type *type)
{
    skip_spaces(parser);
    if (parser->at >= parser->end || *parser->at != '\'') {
        return fail(parser, "a time zone is missing");
    }
    type->timezone = take_quoted(parser, '\'', NULL);
    return type->timezone != NULL;
}

static bool parse_decimal(struct parser *parser, struct clickhouse_type *type)
{
    long long number;
    if (type->precision == 0) {
        if (!take_number(parser, 1, 76, &number)) {
            return false;
        }
        type->precision = (uint32_t)number;
        if (!take(parser, ',')) {
            return fail(parser, "the scale is missing");
        }
    }
    if (!take_number(parser, 0, type->precision, &number)) {
        return false;
    }
    type->scale = (uint32_t)number;
    type->width = type->precision <= 9 ? 4 : type->precision <= 18 ? 8 : type->precision <= 38 ? 16 : 32;
    return true;
}

// Passes over an argument that we do not need: the function of SimpleAggregateFunction, the hints of JSON, in which
// quoted names and expressions may hold anything.
static bool skip_argument(struct parser *parser)
{
    int depth = 0;
    while (parser->at < parser->end) {
        char c = *parser->at;
        if (c == '\'' || c == '`') {
            char *passed = take_quoted(parser, c, NULL);
            free(passed);
            if (!passed) {
                return false;
            }
            continue;
        }
        if (depth == 0 && (c == ',' || c == ')')) {
            return true;
        }
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        parser->at++;
    }
    return true;
}

// What may stand between the parentheses.
enum arguments {
    NO_ARGUMENTS,
    ONE_TYPE,
    TWO_TYPES,
    ELEMENTS,
    NESTED,
    ENUMS,
    LENGTH,
    TIMEZONE,
    PRECISION_TIMEZONE,
    DECIMAL,
    DISSOLVE,
    AGGREGATE,
    SKIP
};

static const struct {
    const char *name;
    enum clickhouse_kind kind;
    uint32_t width;
    uint32_t precision;
    enum arguments arguments;
} kinds[] = {
    {"Int8", CLICKHOUSE_INT, 1, 0, NO_ARGUMENTS},
    {"Int16", CLICKHOUSE_INT, 2, 0, NO_ARGUMENTS},
    {"Int32", CLICKHOUSE_INT, 4, 0, NO_ARGUMENTS},
    {"Int64", CLICKHOUSE_INT, 8, 0, NO_ARGUMENTS},
    {"Int128", CLICKHOUSE_INT, 16, 0, NO_ARGUMENTS},
    {"Int256", CLICKHOUSE_INT, 32, 0, NO_ARGUMENTS},
    {"UInt8", CLICKHOUSE_UINT, 1, 0, NO_ARGUMENTS},
    {"UInt16", CLICKHOUSE_UINT, 2, 0, NO_ARGUMENTS},
    {"UInt32", CLICKHOUSE_UINT, 4, 0, NO_ARGUMENTS},
    {"UInt64", CLICKHOUSE_UINT, 8, 0, NO_ARGUMENTS},
    {"UInt128", CLICKHOUSE_UINT, 16, 0, NO_ARGUMENTS},
    {"UInt256", CLICKHOUSE_UINT, 32, 0, NO_ARGUMENTS},
    {"Float32", CLICKHOUSE_FLOAT, 4, 0, NO_ARGUMENTS},
    {"Float64", CLICKHOUSE_FLOAT, 8, 0, NO_ARGUMENTS},
    {"Bool", CLICKHOUSE_BOOL, 1, 0, NO_ARGUMENTS},
    {"String", CLICKHOUSE_STRING, 0, 0, NO_ARGUMENTS},
    {"FixedString", CLICKHOUSE_FIXED_STRING, 0, 0, LENGTH},
    {"UUID", CLICKHOUSE_UUID, 16, 0, NO_ARGUMENTS},
    {"Date", CLICKHOUSE_DATE, 2, 0, NO_ARGUMENTS},
    {"Date32", CLICKHOUSE_DATE32, 4, 0, NO_ARGUMENTS},
    {"DateTime", CLICKHOUSE_DATETIME, 4, 0, TIMEZONE},
    {"DateTime64", CLICKHOUSE_DATETIME64, 8, 0, PRECISION_TIMEZONE},
    {"Decimal", CLICKHOUSE_DECIMAL, 0, 0, DECIMAL},
    {"Decimal32", CLICKHOUSE_DECIMAL, 0, 9, DECIMAL},
    {"Decimal64", CLICKHOUSE_DECIMAL, 0, 18, DECIMAL},
    {"Decimal128", CLICKHOUSE_DECIMAL, 0, 38, DECIMAL},
    {"Decimal256", CLICKHOUSE_DECIMAL, 0, 76, DECIMAL},
    {"Enum8", CLICKHOUSE_ENUM, 1, 0, ENUMS},
    {"Enum16", CLICKHOUSE_ENUM, 2, 0, ENUMS},
    {"IPv4", CLICKHOUSE_IPV4, 4, 0, NO_ARGUMENTS},
    {"IPv6", CLICKHOUSE_IPV6, 16, 0, NO_ARGUMENTS},
    {"JSON", CLICKHOUSE_JSON, 0, 0, SKIP},
    {"Object", CLICKHOUSE_JSON, 0, 0, SKIP},
    {"Nullable", CLICKHOUSE_NULLABLE, 0, 0, ONE_TYPE},
    {"Array", CLICKHOUSE_ARRAY, 0, 0, ONE_TYPE},
    {"Map", CLICKHOUSE_MAP, 0, 0, TWO_TYPES},
    {"Tuple", CLICKHOUSE_TUPLE, 0, 0, ELEMENTS},
    {"Nested", CLICKHOUSE_ARRAY, 0, 0, NESTED},
    {"LowCardinality", CLICKHOUSE_STRING, 0, 0, DISSOLVE},
    {"SimpleAggregateFunction", CLICKHOUSE_STRING, 0, 0, AGGREGATE},
};

// Nested(a T, b U) is Array(Tuple(a T, b U)).
static bool parse_nested(struct parser *parser, struct clickhouse_type *type)
{
    struct clickhouse_type *tuple = calloc(1, sizeof(*tuple));
    type->inner = calloc(1, sizeof(struct clickhouse_type *));
    if (!tuple || !type->inner) {
        free(tuple);
        return no_memory(parser);
    }
    tuple->kind = CLICKHOUSE_TUPLE;
    type->inner[0] = tuple;
    type->inner_count = 1;
    return parse_tuple(parser, tuple);
}

static bool parse_arguments(struct parser *parser, struct clickhouse_type *type, enum arguments arguments)
{
    long long number = 0;
    switch (arguments) {
    case ONE_TYPE: return add_inner(parser, type, NULL);
    case TWO_TYPES:
        return add_inner(parser, type, NULL) &&
            (take(parser, ',') ? add_inner(parser, type, NULL) : fail(parser, "the value's type is missing"));
    case ELEMENTS: return parse_tuple(parser, type);
    case NESTED: return parse_nested(parser, type);
    case ENUMS: return parse_enum(parser, type);
    case LENGTH:
        if (!take_number(parser, 1, MAX_FIXED_STRING, &number)) {
            return false;
        }
        type->width = (uint32_t)number;
        return true;
    case TIMEZONE: return parse_timezone(parser, type);
    case PRECISION_TIMEZONE:
        if (!take_number(parser, 0, 9, &number)) {
            return false;
        }
        type->scale = (uint32_t)number;
        return !take(parser, ',') || parse_timezone(parser, type);
    case DECIMAL: return parse_decimal(parser, type);
    case SKIP:
        do {
            if (!skip_argument(parser)) {
                return false;
            }
        } while (take(parser, ','));
        return true;
    case NO_ARGUMENTS:
    case DISSOLVE:
    case AGGREGATE: break;
    }
    return fail(parser, "arguments where none belong");
}

static bool needs_arguments(enum arguments arguments)
{
    return arguments != NO_ARGUMENTS && arguments != TIMEZONE && arguments != SKIP;
}

// LowCardinality(T), SimpleAggregateFunction(f, T): T.
static struct clickhouse_type *parse_dissolved(struct parser *parser, bool aggregate)
{
    if (!take(parser, '(')) {
        fail(parser, "arguments are missing");
        return NULL;
    }
    if (aggregate) {
        if (!skip_argument(parser)) {
            return NULL;
        }
        if (!take(parser, ',')) {
            fail(parser, "the aggregate function has no type");
            return NULL;
        }
    }
    struct clickhouse_type *type = parse_type(parser);
    if (type && !take(parser, ')')) {
        clickhouse_type_free(type);
        fail(parser, "a parenthesis is not closed");
        return NULL;
    }
    return type;
}

static struct clickhouse_type *parse_kind(struct parser *parser, size_t index)
{
    enum arguments arguments = kinds[index].arguments;
    struct clickhouse_type *type = calloc(1, sizeof(*type));
    if (!type) {
        no_memory(parser);
        return NULL;
    }
    type->kind = kinds[index].kind;
    type->width = kinds[index].width;
    type->precision = kinds[index].precision;
    if (take(parser, '(')) {
        if (!parse_arguments(parser, type, arguments)) {
            goto failed;
        }
        if (!take(parser, ')')) {
            fail(parser, "a parenthesis is not closed");
            goto failed;
        }
    } else if (needs_arguments(arguments)) {
        fail(parser, "arguments are missing");
        goto failed;
    }
    return type;

failed:
    clickhouse_type_free(type);
    return NULL;
}

static struct clickhouse_type *parse_type(struct parser *parser)
{
    const char *word;
    size_t length = take_word(parser, &word);
    if (parser->depth >= MAX_DEPTH) {
        fail(parser, "nested too deeply");
        return NULL;
    }
    parser->depth++;
    struct clickhouse_type *type = NULL;
    size_t i = 0;
    size_t count = sizeof(kinds) / sizeof(kinds[0]);
    while (i < count && !(strlen(kinds[i].name) == length && memcmp(kinds[i].name, word, length) == 0)) {
        i++;
    }
    if (i == count) {
        char what[120];
        snprintf(what, sizeof(what), "\"%.*s\" cannot be filled by outbox-relay", length > 60 ? 60 : (int)length, word);
        fail(parser, length > 0 ? what : "a type is missing");
    } else if (kinds[i].arguments == DISSOLVE || kinds[i].arguments == AGGREGATE) {
        type = parse_dissolved(parser, kinds[i].arguments == AGGREGATE);
    } else {
        type = parse_kind(parser, i);
    }
    parser->depth--;
    return type;
}

struct clickhouse_type *clickhouse_type_parse(const char *text, size_t length, struct relay_error *error)
{
    struct parser parser = {.text = text, .at = text, .end = text + length, .error = error};
    struct clickhouse_type *type = parse_type(&parser);
    skip_spaces(&parser);
    if (type && parser.at != parser.end) {
        fail(&parser, "something follows the type");
        clickhouse_type_free(type);
        return NULL;
    }
    return type;
}

void clickhouse_type_free(struct clickhouse_type *type)
{
    if (!type) {
        return;
    }
    for (size_t i = 0; i < type->inner_count; i++) {
        clickhouse_type_free(type->inner[i]);
        if (type->names) {
            free(type->names[i]);
        }
    }
    for (size_t i = 0; i < type->enum_count; i++) {
        free(type->enums[i].name);
    }
    free(type->inner);
    free(type->names);
    free(type->enums);
    free(type->timezone);
    free(type);
}

static bool write_type(const struct clickhouse_type *type, struct clickhouse_text *to);

static bool write_inner(const struct clickhouse_type *type, const char *name, struct clickhouse_text *to)
{
    if (!clickhouse_text_add(to, "%s(", name)) {
        return false;
    }
    for (size_t i = 0; i < type->inner_count; i++) {
        if ((i > 0 && !clickhouse_text_add(to, ", ")) ||
            (type->names && (!clickhouse_text_name(to, type->names[i]) || !clickhouse_text_add(to, " "))) ||
            !write_type(type->inner[i], to)) {
            return false;
        }
    }
    return clickhouse_text_add(to, ")");
}

static bool write_enum(const struct clickhouse_type *type, struct clickhouse_text *to)
{
    if (!clickhouse_text_add(to, "Enum%u(", type->width * 8)) {
        return false;
    }
    for (size_t i = 0; i < type->enum_count; i++) {
        if ((i > 0 && !clickhouse_text_add(to, ", ")) ||
            !clickhouse_text_literal(to, type->enums[i].name, type->enums[i].length) ||
            !clickhouse_text_add(to, " = %d", type->enums[i].value)) {
            return false;
        }
    }
    return clickhouse_text_add(to, ")");
}

static bool write_timezone(const struct clickhouse_type *type, struct clickhouse_text *to, const char *before,
    const char *after)
{
    return !type->timezone ||
        (clickhouse_text_add(to, "%s", before) && clickhouse_text_literal(to, type->timezone, strlen(type->timezone)) &&
            clickhouse_text_add(to, "%s", after));
}

static bool write_type(const struct clickhouse_type *type, struct clickhouse_text *to)
{
    switch (type->kind) {
    case CLICKHOUSE_INT: return clickhouse_text_add(to, "Int%u", type->width * 8);
    case CLICKHOUSE_UINT: return clickhouse_text_add(to, "UInt%u", type->width * 8);
    case CLICKHOUSE_FLOAT: return clickhouse_text_add(to, "Float%u", type->width * 8);
    case CLICKHOUSE_BOOL: return clickhouse_text_add(to, "Bool");
    case CLICKHOUSE_STRING:
    case CLICKHOUSE_JSON: return clickhouse_text_add(to, "String");
    case CLICKHOUSE_FIXED_STRING: return clickhouse_text_add(to, "FixedString(%u)", type->width);
    case CLICKHOUSE_UUID: return clickhouse_text_add(to, "UUID");
    case CLICKHOUSE_DATE: return clickhouse_text_add(to, "Date");
    case CLICKHOUSE_DATE32: return clickhouse_text_add(to, "Date32");
    case CLICKHOUSE_DATETIME: return clickhouse_text_add(to, "DateTime") && write_timezone(type, to, "(", ")");
    case CLICKHOUSE_DATETIME64:
        return clickhouse_text_add(to, "DateTime64(%u", type->scale) && write_timezone(type, to, ", ", "") &&
            clickhouse_text_add(to, ")");
    case CLICKHOUSE_DECIMAL: return clickhouse_text_add(to, "Decimal(%u, %u)", type->precision, type->scale);
    case CLICKHOUSE_ENUM: return write_enum(type, to);
    case CLICKHOUSE_IPV4: return clickhouse_text_add(to, "IPv4");
    case CLICKHOUSE_IPV6: return clickhouse_text_add(to, "IPv6");
    case CLICKHOUSE_NULLABLE: return write_inner(type, "Nullable", to);
    case CLICKHOUSE_ARRAY: return write_inner(type, "Array", to);
    case CLICKHOUSE_MAP: return write_inner(type, "Map", to);
    case CLICKHOUSE_TUPLE: return write_inner(type, "Tuple", to);
    }
    return false;
}

const struct clickhouse_enum_value *clickhouse_type_enum(const struct clickhouse_type *type, const char *name,
    size_t length)
{
    const struct clickhouse_enum_value sought = {.name = (char *)(uintptr_t)name, .length = length};
    return bsearch(&sought, type->enums, type->enum_count, sizeof(*type->enums), by_name);
}

char *clickhouse_type_wire(const struct clickhouse_type *type)
{
    struct clickhouse_text text = {0};
    if (!write_type(type, &text)) {
        clickhouse_text_finish(&text);
        return NULL;
    }
    return text.at;
}
