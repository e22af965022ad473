// SPDX-License-Identifier: Apache-2.0
//
// A ClickHouse type as a tree, parsed from the text that system.columns gives. It refuses what the encoder cannot fill
// (AggregateFunction, Variant, Dynamic, geometry, ...) with an error that names the type. The tree owns its memory and
// never changes: any thread may read it. LowCardinality and SimpleAggregateFunction are dissolved into their inner
// type, because the server converts on INSERT ... SELECT FROM input(...); clickhouse_type_wire() writes the type as
// sent.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_TYPE_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_TYPE_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum clickhouse_kind {
    CLICKHOUSE_INT,   // width 1, 2, 4, 8, 16, 32
    CLICKHOUSE_UINT,  // width 1, 2, 4, 8, 16, 32
    CLICKHOUSE_FLOAT, // width 4, 8
    CLICKHOUSE_BOOL,  // width 1
    CLICKHOUSE_STRING,
    CLICKHOUSE_FIXED_STRING, // width = N
    CLICKHOUSE_UUID,         // width 16
    CLICKHOUSE_DATE,         // width 2, days from 1970-01-01
    CLICKHOUSE_DATE32,       // width 4
    CLICKHOUSE_DATETIME,     // width 4, seconds
    CLICKHOUSE_DATETIME64,   // width 8, 10^-scale seconds
    CLICKHOUSE_DECIMAL,      // width 4, 8, 16, 32; precision, scale
    CLICKHOUSE_ENUM,         // width 1, 2; enums
    CLICKHOUSE_IPV4,         // width 4
    CLICKHOUSE_IPV6,         // width 16
    CLICKHOUSE_JSON,         // JSON or Object('json'): sent as String, the server parses it
    CLICKHOUSE_NULLABLE,     // inner[0]
    CLICKHOUSE_ARRAY,        // inner[0]
    CLICKHOUSE_MAP,          // inner[0] key, inner[1] value
    CLICKHOUSE_TUPLE,        // inner[0..count), names[] or NULL
};

struct clickhouse_enum_value {
    char *name;
    size_t length;
    int16_t value;
};

struct clickhouse_type {
    enum clickhouse_kind kind;
    uint32_t width;                      // bytes of one value on the wire; 0 where it varies
    uint32_t precision;                  // DECIMAL: digits
    uint32_t scale;                      // DECIMAL and DATETIME64: digits after the point
    char *timezone;                      // DATETIME, DATETIME64: as written, or NULL
    struct clickhouse_enum_value *enums; // ENUM, sorted by name
    size_t enum_count;
    struct clickhouse_type **inner;
    char **names; // TUPLE with names, else NULL
    size_t inner_count;
};

// length bytes of text. Errors: CLICKHOUSE_OPERATOR (unknown or unfit type, or text that is no type), NO_MEMORY.
struct clickhouse_type *clickhouse_type_parse(const char *text, size_t length, struct relay_error *error);
void clickhouse_type_free(struct clickhouse_type *type); // accepts NULL

// The value of an ENUM by its name. NULL: it has no such name.
const struct clickhouse_enum_value *clickhouse_type_enum(const struct clickhouse_type *type, const char *name,
    size_t length);

// The type as it goes over the wire: malloc'd, the caller frees. NULL: out of memory.
char *clickhouse_type_wire(const struct clickhouse_type *type);

#endif
