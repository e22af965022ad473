// SPDX-License-Identifier: Apache-2.0
//
// Memory for what is made out of the rows of one batch: taken by moving a pointer, given back all at once. Chunks are
// kept over a reset, so that a steady load allocates nothing; what one exceptional batch took beyond `keep` bytes is
// freed. One thread at a time.
#ifndef RELAY_PUBLISH_EVENT_ARENA_H
#define RELAY_PUBLISH_EVENT_ARENA_H

#include <stddef.h>

struct event_arena;

// keep: how many bytes of chunks survive a reset. NULL: out of memory.
struct event_arena *event_arena_new(size_t keep);
void event_arena_free(struct event_arena *arena); // accepts NULL
// size bytes, fit for any type, not cleared; valid until the next reset. NULL: out of memory. size 0 gives a
// pointer, too.
void *event_arena_alloc(struct event_arena *arena, size_t size);
void event_arena_reset(struct event_arena *arena);
void event_arena_shrink(struct event_arena *arena);       // a reset that keeps no more than a chunk of 256 KiB
size_t event_arena_used(const struct event_arena *arena); // bytes given out since the reset, rounding included
size_t event_arena_held(const struct event_arena *arena); // bytes of its chunks

#endif
