// SPDX-License-Identifier: Apache-2.0
//
// The value of a record with `value = envelope`: one JSON object, compact, in this order:
//   {"id":"...","type":"...","aggregate_type":"...","aggregate_id":"...","created_at":"...","seq":1,ADDITIONAL...,
//    "payload":...}
// Members of columns that are NULL are null. An additional column is a number, true or false, or JSON as it is where
// its type says so (additional_types of the row), else a string. The payload stands in it byte for byte. No I/O, no
// state.
#ifndef RELAY_PUBLISH_EVENT_ENVELOPE_H
#define RELAY_PUBLISH_EVENT_ENVELOPE_H

#include "relay/config/config.h"
#include "relay/publish/event_arena.h"
#include "relay/publish/outbox_row.h"

#include <stdbool.h>

// Whether name is one of the members that every envelope has.
bool event_envelope_has(const char *name);
// created_at: RFC 3339, or NULL. The payload must be JSON, or NULL. false: out of memory.
bool event_envelope_make(const struct config_publish *publish, const struct outbox_row *row,
    struct text_view created_at, struct event_arena *arena, struct text_view *out);

#endif
