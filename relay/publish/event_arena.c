// SPDX-License-Identifier: Apache-2.0
//
// A list of chunks, filled in order. After a reset the kept ones are filled again; a request that the next kept chunk
// cannot take gets a chunk of its own in between, so nothing kept is lost to it.
#include "relay/publish/event_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#define CHUNK_SIZE ((size_t)256 * 1024)

struct chunk {
    struct chunk *next;
    size_t room, used; // of the bytes behind this header
};
#define CHUNK_HEADER ((sizeof(struct chunk) + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t))

struct event_arena {
    struct chunk *first, *current; // NULL: none yet
    size_t keep, used, held;
};

struct event_arena *event_arena_new(size_t keep)
{
    struct event_arena *arena = calloc(1, sizeof(*arena));
    if (arena) {
        arena->keep = keep;
    }
    return arena;
}

void event_arena_free(struct event_arena *arena)
{
    if (arena) {
        for (struct chunk *chunk = arena->first; chunk;) {
            struct chunk *next = chunk->next;
            free(chunk);
            chunk = next;
        }
        free(arena);
    }
}

// The chunk to take size bytes from, made current; NULL: out of memory.
static struct chunk *chunk_for(struct event_arena *arena, size_t size)
{
    struct chunk *next = arena->current ? arena->current->next : arena->first;
    if (!next || next->room < size) {
        size_t room = size > CHUNK_SIZE - CHUNK_HEADER ? size : CHUNK_SIZE - CHUNK_HEADER;
        struct chunk *made = malloc(CHUNK_HEADER + room);
        if (!made) {
            return NULL;
        }
        *made = (struct chunk){.next = next, .room = room};
        if (arena->current) {
            arena->current->next = made;
        } else {
            arena->first = made;
        }
        arena->held += CHUNK_HEADER + room;
        next = made;
    }
    next->used = 0;
    arena->current = next;
    return next;
}

void *event_arena_alloc(struct event_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = size ? (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t)
                : alignof(max_align_t);
    struct chunk *chunk = arena->current;
    if (!chunk || chunk->room - chunk->used < size) {
        chunk = chunk_for(arena, size);
        if (!chunk) {
            return NULL;
        }
    }
    void *at = (char *)chunk + CHUNK_HEADER + chunk->used;
    chunk->used += size;
    arena->used += size;
    return at;
}

// Frees what does not fit into `keep` bytes.
static void reset_to(struct event_arena *arena, size_t keep)
{
    size_t held = 0;
    for (struct chunk **link = &arena->first; *link;) {
        struct chunk *chunk = *link;
        if (held + CHUNK_HEADER + chunk->room > keep) {
            *link = chunk->next;
            free(chunk);
        } else {
            held += CHUNK_HEADER + chunk->room;
            link = &chunk->next;
        }
    }
    arena->held = held;
    arena->used = 0;
    arena->current = NULL;
}

void event_arena_reset(struct event_arena *arena)
{
    reset_to(arena, arena->keep);
}

void event_arena_shrink(struct event_arena *arena)
{
    reset_to(arena, arena->keep < CHUNK_SIZE ? arena->keep : CHUNK_SIZE);
}

size_t event_arena_used(const struct event_arena *arena)
{
    return arena->used;
}

size_t event_arena_held(const struct event_arena *arena)
{
    return arena->held;
}
