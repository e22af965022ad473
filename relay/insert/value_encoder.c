// SPDX-License-Identifier: Apache-2.0
//
// What fits where:
// - text and JSON strings: every scalar type, parsed by it; a number in a string is fine for number and time columns;
// - JSON numbers: numbers, decimals, String (their text), times (value_ticks.c), Enum by value, Bool;
// - true, false: Bool, integers (1, 0), String;
// - arrays: Array, Tuple (same length), String (their text);
// - objects: Map, Tuple with names, JSON, String (their text);
// - null: Nullable.
#include "relay/insert/value_encoder.h"

#include "relay/json/json_members.h"
#include "relay/json/json_walk.h"
#include "relay/insert/value_parse.h"
#include "relay/insert/value_ticks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A scalar's text and whether it stood there as a JSON number or literal rather than as text.
struct scalar {
    const char *text;
    size_t length;
    enum json_kind kind; // STRING for texts
};

void value_encoder_init(struct value_encoder *encoder)
{
    *encoder = (struct value_encoder){0};
}

void value_encoder_finish(struct value_encoder *encoder)
{
    free(encoder->scratch);
    *encoder = (struct value_encoder){0};
}

static bool refuse(struct value_encoder *encoder, const struct scalar *scalar, enum encode_reason why,
    enum encode_reason *reason)
{
    encoder->refused = scalar->text;
    encoder->refused_length = scalar->length;
    *reason = why;
    return false;
}

static bool memory(bool put, enum encode_reason *reason)
{
    *reason = ENCODE_NONE;
    return put;
}

static enum encode_reason reason_of(enum value_problem problem)
{
    return problem == VALUE_OUT_OF_RANGE ? ENCODE_OUT_OF_RANGE
        : problem == VALUE_NOT_EXACT     ? ENCODE_NOT_EXACT
                                         : ENCODE_BAD_NUMBER;
}

static bool is_bool(const struct scalar *scalar)
{
    return scalar->kind == JSON_KIND_TRUE || scalar->kind == JSON_KIND_FALSE;
}

static bool put_number(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    unsigned char bytes[32];
    enum value_problem problem;
    bool integer = type->kind == CLICKHOUSE_INT || type->kind == CLICKHOUSE_UINT;
    const char *text = scalar->text;
    size_t length = scalar->length;
    if (is_bool(scalar)) {
        if (!integer) {
            return refuse(encoder, scalar, ENCODE_WRONG_KIND, reason);
        }
        text = scalar->kind == JSON_KIND_TRUE ? "1" : "0";
        length = 1;
    }
    if (integer) {
        problem = value_integer(text, length, type->kind == CLICKHOUSE_INT, type->width, bytes);
    } else if (type->kind == CLICKHOUSE_DECIMAL) {
        problem = value_decimal(text, length, type->precision, type->scale, type->width, bytes);
    } else {
        problem = value_float(text, length, type->width, bytes);
    }
    if (problem != VALUE_FINE) {
        return refuse(encoder, scalar, reason_of(problem), reason);
    }
    return memory(native_put_fixed(column, bytes, type->width), reason);
}

static bool put_bool(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason *reason)
{
    bool yes = (scalar->length == 4 && memcmp(scalar->text, "true", 4) == 0) ||
        (scalar->length == 1 && scalar->text[0] == '1');
    bool no = (scalar->length == 5 && memcmp(scalar->text, "false", 5) == 0) ||
        (scalar->length == 1 && scalar->text[0] == '0');
    if (!yes && !no) {
        return refuse(encoder, scalar, ENCODE_WRONG_KIND, reason);
    }
    unsigned char byte = yes ? 1 : 0;
    return memory(native_put_fixed(column, &byte, 1), reason);
}

static bool put_ticks(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason judged, const int64_t *ticks, enum encode_reason *reason)
{
    if (judged != ENCODE_NONE) {
        return refuse(encoder, scalar, judged, reason);
    }
    // Little endian: the low bytes come first.
    return memory(native_put_fixed(column, ticks, native_column_type(column)->width), reason);
}

static bool put_time(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason *reason)
{
    int64_t ticks = 0;
    enum encode_reason judged = is_bool(scalar) ? ENCODE_WRONG_KIND
                                                : value_ticks(native_column_type(column), scalar->text, scalar->length,
                                                      scalar->kind == JSON_KIND_STRING, &ticks);
    return put_ticks(encoder, column, scalar, judged, &ticks, reason);
}

static bool put_millis(struct value_encoder *encoder, struct native_column *column, int64_t millis,
    enum encode_reason *reason)
{
    const struct scalar no_text = {0};
    int64_t ticks = 0;
    enum encode_reason judged = value_ticks_of_millis(native_column_type(column), millis, &ticks);
    return put_ticks(encoder, column, &no_text, judged, &ticks, reason);
}

static bool find_enum(const struct clickhouse_type *type, const struct scalar *scalar, int16_t *value)
{
    if (scalar->kind == JSON_KIND_NUMBER) {
        if (value_integer(scalar->text, scalar->length, true, 2, value) != VALUE_FINE) {
            return false;
        }
        for (size_t i = 0; i < type->enum_count; i++) {
            if (type->enums[i].value == *value) {
                return true;
            }
        }
        return false;
    }
    const struct clickhouse_enum_value *found = clickhouse_type_enum(type, scalar->text, scalar->length);
    *value = found ? found->value : 0;
    return found != NULL;
}

static bool put_enum(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    int16_t value;
    if (!find_enum(type, scalar, &value)) {
        return refuse(encoder, scalar, ENCODE_UNKNOWN_ENUM, reason);
    }
    return memory(native_put_fixed(column, &value, type->width), reason);
}

static bool put_parsed(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    unsigned char bytes[16];
    bool text = scalar->kind == JSON_KIND_STRING;
    if (type->kind == CLICKHOUSE_UUID) {
        if (!text || !value_uuid(scalar->text, scalar->length, bytes)) {
            return refuse(encoder, scalar, text ? ENCODE_BAD_UUID : ENCODE_WRONG_KIND, reason);
        }
    } else if (!text ||
        !(type->kind == CLICKHOUSE_IPV4 ? value_ipv4(scalar->text, scalar->length, bytes)
                                        : value_ipv6(scalar->text, scalar->length, bytes))) {
        return refuse(encoder, scalar, text ? ENCODE_BAD_ADDRESS : ENCODE_WRONG_KIND, reason);
    }
    return memory(native_put_fixed(column, bytes, type->width), reason);
}

static bool put_scalar(struct value_encoder *encoder, struct native_column *column, const struct scalar *scalar,
    enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    switch (type->kind) {
    case CLICKHOUSE_STRING: return memory(native_put_string(column, scalar->text, scalar->length), reason);
    case CLICKHOUSE_FIXED_STRING:
        if (scalar->length > type->width) {
            return refuse(encoder, scalar, ENCODE_TOO_LONG, reason);
        }
        return memory(native_put_fixed_string(column, scalar->text, scalar->length), reason);
    case CLICKHOUSE_INT:
    case CLICKHOUSE_UINT:
    case CLICKHOUSE_FLOAT:
    case CLICKHOUSE_DECIMAL: return put_number(encoder, column, scalar, reason);
    case CLICKHOUSE_BOOL: return put_bool(encoder, column, scalar, reason);
    case CLICKHOUSE_DATE:
    case CLICKHOUSE_DATE32:
    case CLICKHOUSE_DATETIME:
    case CLICKHOUSE_DATETIME64: return put_time(encoder, column, scalar, reason);
    case CLICKHOUSE_ENUM: return put_enum(encoder, column, scalar, reason);
    case CLICKHOUSE_UUID:
    case CLICKHOUSE_IPV4:
    case CLICKHOUSE_IPV6: return put_parsed(encoder, column, scalar, reason);
    case CLICKHOUSE_JSON:
    case CLICKHOUSE_NULLABLE:
    case CLICKHOUSE_ARRAY:
    case CLICKHOUSE_MAP:
    case CLICKHOUSE_TUPLE: break;
    }
    return refuse(encoder, scalar, ENCODE_WRONG_KIND, reason);
}

static bool unescape(struct value_encoder *encoder, struct json_value *value)
{
    if (value->kind != JSON_KIND_STRING || value->text) {
        return true;
    }
    if (value->raw_length > encoder->scratch_room) {
        char *scratch = realloc(encoder->scratch, value->raw_length * 2);
        if (!scratch) {
            return false;
        }
        encoder->scratch = scratch;
        encoder->scratch_room = value->raw_length * 2;
    }
    json_unescape(value, encoder->scratch);
    return true;
}

static bool put_json(struct value_encoder *encoder, struct native_column *column, struct json_value *value,
    enum encode_reason *reason);

static bool put_array(struct value_encoder *encoder, struct native_column *column, const struct json_value *value,
    enum encode_reason *reason)
{
    struct json_walk walk;
    struct json_value element;
    json_walk_start(&walk, value);
    while (json_walk_next(&walk, NULL, &element)) {
        if (!put_json(encoder, native_inner(column, 0), &element, reason)) {
            return false;
        }
    }
    return memory(native_put_array_end(column), reason);
}

static bool put_map(struct value_encoder *encoder, struct native_column *column, const struct json_value *value,
    enum encode_reason *reason)
{
    struct json_members members;
    bool done = json_members_read(&members, value) || memory(false, reason);
    for (size_t i = 0; done && i < members.count; i++) {
        struct json_member *member = &members.items[i];
        done = member->overridden ||
            (put_json(encoder, native_inner(column, 0), &member->name, reason) &&
                put_json(encoder, native_inner(column, 1), &member->value, reason));
    }
    json_members_finish(&members);
    return done && memory(native_put_array_end(column), reason);
}

static bool put_tuple_from_array(struct value_encoder *encoder, struct native_column *column,
    const struct json_value *value, enum encode_reason *reason)
{
    size_t count = native_column_type(column)->inner_count, i = 0;
    struct scalar whole = {value->raw, value->raw_length, value->kind};
    struct json_walk walk;
    struct json_value element;
    json_walk_start(&walk, value);
    for (; json_walk_next(&walk, NULL, &element); i++) {
        if (i >= count) {
            return refuse(encoder, &whole, ENCODE_TUPLE_SHAPE, reason);
        }
        if (!put_json(encoder, native_inner(column, i), &element, reason)) {
            return false;
        }
    }
    return i == count || refuse(encoder, &whole, ENCODE_TUPLE_SHAPE, reason);
}

// The last member of that name. 1: found, 0: none, -1: out of memory.
static int find_member(struct value_encoder *encoder, const struct json_value *object, const char *name,
    struct json_value *found)
{
    struct json_walk walk;
    struct json_value member_name, member;
    size_t length = strlen(name);
    int result = 0;
    json_walk_start(&walk, object);
    while (json_walk_next(&walk, &member_name, &member)) {
        if (!unescape(encoder, &member_name)) {
            return -1;
        }
        if (member_name.length == length && memcmp(member_name.text, name, length) == 0) {
            *found = member;
            result = 1;
        }
    }
    return result;
}

static bool put_tuple_from_object(struct value_encoder *encoder, struct native_column *column,
    const struct json_value *value, enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    struct scalar whole = {value->raw, value->raw_length, value->kind};
    for (size_t i = 0; i < type->inner_count; i++) {
        struct json_value member;
        int found = find_member(encoder, value, type->names[i], &member);
        if (found < 0) {
            return memory(false, reason);
        }
        struct native_column *inner = native_inner(column, i);
        if (found == 0 && type->inner[i]->kind != CLICKHOUSE_NULLABLE) {
            return refuse(encoder, &whole, ENCODE_TUPLE_SHAPE, reason);
        }
        if (found == 0 ? !memory(native_put_null(inner), reason) : !put_json(encoder, inner, &member, reason)) {
            return false;
        }
    }
    return true;
}

static bool put_container(struct value_encoder *encoder, struct native_column *column, const struct json_value *value,
    enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    struct scalar whole = {value->raw, value->raw_length, value->kind};
    bool object = value->kind == JSON_KIND_OBJECT;
    if (type->kind == CLICKHOUSE_STRING || (type->kind == CLICKHOUSE_JSON && object)) {
        return memory(native_put_string(column, value->raw, value->raw_length), reason);
    }
    if (type->kind == CLICKHOUSE_MAP && object) {
        return put_map(encoder, column, value, reason);
    }
    if (type->kind == CLICKHOUSE_ARRAY && !object) {
        return put_array(encoder, column, value, reason);
    }
    if (type->kind == CLICKHOUSE_TUPLE && !object) {
        return put_tuple_from_array(encoder, column, value, reason);
    }
    if (type->kind == CLICKHOUSE_TUPLE && type->names) {
        return put_tuple_from_object(encoder, column, value, reason);
    }
    return refuse(encoder, &whole, ENCODE_WRONG_KIND, reason);
}

// Recursion is bounded by the depth of the type.
static bool put_json(struct value_encoder *encoder, struct native_column *column, struct json_value *value,
    enum encode_reason *reason)
{
    const struct clickhouse_type *type = native_column_type(column);
    struct scalar scalar = {value->raw, value->raw_length, value->kind};
    if (type->kind == CLICKHOUSE_NULLABLE) {
        if (value->kind == JSON_KIND_NULL) {
            return memory(native_put_null(column), reason);
        }
        return memory(native_put_not_null(column), reason) && put_json(encoder, native_inner(column, 0), value, reason);
    }
    if (value->kind == JSON_KIND_NULL) {
        return refuse(encoder, &scalar, ENCODE_NULL_VALUE, reason);
    }
    if (value->kind == JSON_KIND_ARRAY || value->kind == JSON_KIND_OBJECT) {
        return put_container(encoder, column, value, reason);
    }
    if (!unescape(encoder, value)) {
        return memory(false, reason);
    }
    scalar.text = value->text;
    scalar.length = value->length;
    return put_scalar(encoder, column, &scalar, reason);
}

static bool put_integer(struct value_encoder *encoder, struct native_column *column, const struct datum *datum,
    enum encode_reason *reason)
{
    if (datum->kind == DATUM_MILLIS && value_is_time(native_column_type(column))) {
        return put_millis(encoder, column, datum->integer, reason);
    }
    const struct clickhouse_type *type = native_column_type(column);
    bool fits = type->kind == CLICKHOUSE_INT &&
        (type->width == 8 || (type->width == 4 && datum->integer == (int32_t)datum->integer));
    if (fits) { // offsets and partitions of every row
        int32_t narrow = (int32_t)datum->integer;
        encoder->refused_length = 0;
        return memory(type->width == 8 ? native_put_fixed(column, &datum->integer, 8)
                                       : native_put_fixed(column, &narrow, 4),
            reason);
    }
    char text[24];
    struct scalar scalar = {text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)datum->integer),
        JSON_KIND_NUMBER};
    bool put = put_scalar(encoder, column, &scalar, reason);
    encoder->refused_length = 0; // the text is gone
    return put;
}

bool value_encode(struct value_encoder *encoder, struct native_column *column, const struct datum *datum,
    enum encode_reason *reason)
{
    encoder->refused_length = 0;
    if (datum->kind == DATUM_JSON) {
        struct json_value value = datum->json;
        return put_json(encoder, column, &value, reason);
    }
    if (native_column_type(column)->kind == CLICKHOUSE_NULLABLE) {
        if (!native_put_not_null(column)) {
            return memory(false, reason);
        }
        column = native_inner(column, 0);
    }
    if (datum->kind == DATUM_TEXT) {
        struct scalar scalar = {datum->text, datum->length, JSON_KIND_STRING};
        return put_scalar(encoder, column, &scalar, reason);
    }
    return put_integer(encoder, column, datum, reason);
}

bool value_fits(enum datum_kind kind, const struct clickhouse_type *type)
{
    if (type->kind == CLICKHOUSE_NULLABLE) {
        type = type->inner[0];
    }
    bool container = type->kind == CLICKHOUSE_ARRAY || type->kind == CLICKHOUSE_MAP || type->kind == CLICKHOUSE_TUPLE ||
        type->kind == CLICKHOUSE_JSON;
    bool number = type->kind == CLICKHOUSE_INT || type->kind == CLICKHOUSE_UINT || type->kind == CLICKHOUSE_FLOAT ||
        type->kind == CLICKHOUSE_DECIMAL;
    switch (kind) {
    case DATUM_TEXT: return !container;
    case DATUM_JSON: return true;
    case DATUM_INTEGER: return number || type->kind == CLICKHOUSE_STRING;
    case DATUM_MILLIS: return number || value_is_time(type) || type->kind == CLICKHOUSE_STRING;
    }
    return false;
}
