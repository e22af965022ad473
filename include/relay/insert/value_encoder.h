// SPDX-License-Identifier: Apache-2.0
//
// Puts one value, as a message gives it, into one column of a block, by the column's type: the table of what fits
// where. Strict: what does not fit is refused with a reason; nothing is put then that native_block_cancel_row does not
// take back. A value_encoder holds scratch memory and what the last refusal was about; one thread.
#ifndef RELAY_INSERT_VALUE_ENCODER_H
#define RELAY_INSERT_VALUE_ENCODER_H

#include "relay/insert/encode_reason.h"
#include "relay/json/json_reader.h"
#include "relay/clickhouse/native_block.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// TEXT: bytes of a header, key, constant. MILLIS: a time in milliseconds since 1970. MISSING and NULL are the caller's
// to judge at the top; within JSON they are judged here.
enum datum_kind { DATUM_TEXT, DATUM_JSON, DATUM_INTEGER, DATUM_MILLIS };

struct datum {
    enum datum_kind kind;
    const char *text; // TEXT
    size_t length;
    struct json_value json; // JSON, not missing
    int64_t integer;        // INTEGER, MILLIS
};

struct value_encoder {
    char *scratch; // unescaped strings
    size_t scratch_room;
    const char *refused; // the part of the value that was refused; valid as long as the value
    size_t refused_length;
};

void value_encoder_init(struct value_encoder *encoder);
void value_encoder_finish(struct value_encoder *encoder);

// true: put. false with *reason NONE: out of memory; else the reason, and refused says what.
bool value_encode(struct value_encoder *encoder, struct native_column *column, const struct datum *datum,
    enum encode_reason *reason);

// Whether values of that kind can ever fit the type (a UUID column takes no INTEGER).
bool value_fits(enum datum_kind kind, const struct clickhouse_type *type);

#endif
