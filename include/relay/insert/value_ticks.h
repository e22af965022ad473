// SPDX-License-Identifier: Apache-2.0
//
// What a Date, Date32, DateTime or DateTime64 column stores: a count of its unit since 1970, out of a text, a number or
// a time. Refuses what is no time and what is outside of the type's range. Pure.
#ifndef RELAY_INSERT_VALUE_TICKS_H
#define RELAY_INSERT_VALUE_TICKS_H

#include "relay/clickhouse/clickhouse_type.h"
#include "relay/insert/encode_reason.h"
#include "relay/insert/value_parse.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool value_is_time(const struct clickhouse_type *type); // one of these four

// Out of a JSON number, or of the text of a string, header or key (in_string). NONE: *ticks is set.
enum encode_reason value_ticks(const struct clickhouse_type *type, const char *text, size_t length, bool in_string,
    int64_t *ticks);
// The same out of a time; finer digits than the type has are dropped.
enum encode_reason value_ticks_of_time(const struct clickhouse_type *type, const struct value_time *time,
    int64_t *ticks);
// Out of milliseconds since 1970, such as a record's timestamp.
enum encode_reason value_ticks_of_millis(const struct clickhouse_type *type, int64_t millis, int64_t *ticks);

#endif
