// SPDX-License-Identifier: Apache-2.0
//
// Why a message cannot become a row: the words of dead letters (column `reason`), metrics and docs. Pure.
#ifndef RELAY_INSERT_ENCODE_REASON_H
#define RELAY_INSERT_ENCODE_REASON_H

#include "relay/base/reason.h"

// reason, its name in metrics, dead letters and docs, sentence
#define ENCODE_REASONS(X)                                                                                              \
    X(NONE, "none", "the row was encoded")                                                                             \
    X(MISSING_HEADER, "missing_header", "a header that the route needs is not there")                                  \
    X(MISSING_PATH, "missing_path", "a member that the route needs is not in the payload")                             \
    X(MISSING_VALUE, "missing_value", "the message has no key, value or timestamp")                                    \
    X(NULL_VALUE, "null_value", "null for a column that is not Nullable")                                              \
    X(BAD_JSON, "bad_json", "the payload is not JSON")                                                                 \
    X(BAD_UTF8, "bad_utf8", "the payload is not UTF-8")                                                                \
    X(TOO_DEEP, "too_deep", "the payload is nested too deeply")                                                        \
    X(WRONG_KIND, "wrong_kind", "the value is of a kind that the column cannot take")                                  \
    X(OUT_OF_RANGE, "out_of_range", "the number is outside of the column's range")                                     \
    X(NOT_EXACT, "not_exact", "the number would lose digits in the column")                                            \
    X(BAD_NUMBER, "bad_number", "the text is not a number")                                                            \
    X(BAD_UUID, "bad_uuid", "the text is not a UUID")                                                                  \
    X(BAD_DATE, "bad_date", "the text is not a date or time")                                                          \
    X(DATE_RANGE, "date_range", "the date or time is outside of the column's range")                                   \
    X(BAD_ADDRESS, "bad_address", "the text is not an IP address")                                                     \
    X(UNKNOWN_ENUM, "unknown_enum", "the column's Enum has no such value")                                             \
    X(TOO_LONG, "too_long", "the text is longer than the column")                                                      \
    X(NOT_MAPPED, "not_mapped", "the route's map has no entry for the value")                                          \
    X(TUPLE_SHAPE, "tuple_shape", "the value does not have the tuple's elements")                                      \
    X(REJECTED, "rejected", "ClickHouse refused the row")

enum encode_reason {
#define X(id, name, text) ENCODE_##id,
    ENCODE_REASONS(X)
#undef X
        ENCODE_REASON_COUNT
};
REASON_LOOKUPS(encode_reason, ENCODE_REASONS)

#endif
