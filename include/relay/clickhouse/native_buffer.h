// SPDX-License-Identifier: Apache-2.0
//
// Bytes of one column of a native_block, appended to. A large buffer has pages of its own, beside malloc: it grows in
// place or by moving its pages, and whole pages go back to the system when it is freed. By realloc it would copy itself
// through a heap that librdkafka's messages share, and leave holes as large as itself.
#ifndef RELAY_CLICKHOUSE_NATIVE_BUFFER_H
#define RELAY_CLICKHOUSE_NATIVE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

// All zero: empty, without memory.
struct native_buffer {
    char *at;
    size_t length, room;
    size_t marked; // length after the last whole row
};

void native_buffer_free(struct native_buffer *buffer); // leaves it empty
bool native_buffer_grow(struct native_buffer *buffer, size_t more);

// Room for `more` bytes behind length. false: out of memory, and the buffer is as it was.
static inline bool native_buffer_reserve(struct native_buffer *buffer, size_t more)
{
    return buffer->room - buffer->length >= more || native_buffer_grow(buffer, more);
}

#endif
