// SPDX-License-Identifier: Apache-2.0
//
// Whether a buffer lies in the heap or in pages of its own follows from its room alone.
#include "relay/clickhouse/native_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Larger buffers grow by a quarter: what [insert] memory_limit must allow for the next message stays small.
#define DOUBLE_BELOW 4096
#define PAGES_FROM   ((size_t)1 << 20)

static size_t whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

static char *map_pages(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

// From the heap into pages, or into more of them. NULL: the buffer is as it was.
static char *grow_in_pages(struct native_buffer *buffer, size_t room)
{
    if (buffer->room >= PAGES_FROM) {
        void *at = mremap(buffer->at, buffer->room, room, MREMAP_MAYMOVE);
        return at == MAP_FAILED ? NULL : at;
    }
    char *at = map_pages(room);
    if (at && buffer->length > 0) {
        memcpy(at, buffer->at, buffer->length);
    }
    if (at) {
        free(buffer->at);
    }
    return at;
}

bool native_buffer_grow(struct native_buffer *buffer, size_t more)
{
    size_t room = buffer->room ? buffer->room : 256;
    while (room - buffer->length < more) {
        room += room < DOUBLE_BELOW ? room : room / 4;
    }
    room = room < PAGES_FROM ? room : whole_pages(room);
    char *at = room < PAGES_FROM ? realloc(buffer->at, room) : grow_in_pages(buffer, room);
    if (!at) {
        return false;
    }
    buffer->at = at;
    buffer->room = room;
    return true;
}

void native_buffer_free(struct native_buffer *buffer)
{
    if (buffer->room < PAGES_FROM) {
        free(buffer->at);
    } else {
        munmap(buffer->at, buffer->room);
    }
    *buffer = (struct native_buffer){0};
}
