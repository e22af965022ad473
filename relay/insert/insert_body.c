// SPDX-License-Identifier: Apache-2.0
//
// The bytes lie in chunks of one size: nothing is moved while a body grows. What compresses them is there only as long
// as they are: bodies wait by the dozen where there are many tables.
#include "relay/insert/insert_body.h"

#include "relay/clickhouse/lz4_stream.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)64 << 10)

struct insert_body {
    struct iovec *chunks; // [0, used) hold bytes, [0, count) have memory
    size_t used, count, room;
};

struct insert_body *insert_body_new(struct relay_error *error)
{
    struct insert_body *body = calloc(1, sizeof(*body));
    if (!body) {
        error_no_memory(error, "preparing an INSERT");
    }
    return body;
}

void insert_body_free(struct insert_body *body)
{
    if (!body) {
        return;
    }
    for (size_t i = 0; i < body->count; i++) {
        free(body->chunks[i].iov_base);
    }
    free(body->chunks);
    free(body);
}

// The next chunk, empty, in use.
static struct iovec *next_chunk(struct insert_body *body)
{
    if (body->used == body->room) {
        size_t room = body->room ? body->room * 2 : 16;
        struct iovec *chunks = reallocarray(body->chunks, room, sizeof(*chunks));
        if (!chunks) {
            return NULL;
        }
        body->chunks = chunks;
        body->room = room;
    }
    if (body->used == body->count) {
        char *memory = malloc(CHUNK);
        if (!memory) {
            return NULL;
        }
        body->chunks[body->count++].iov_base = memory;
    }
    struct iovec *chunk = &body->chunks[body->used++];
    chunk->iov_len = 0;
    return chunk;
}

static bool compress(struct insert_body *body, const struct iovec *pieces, size_t count, struct relay_error *error)
{
    struct lz4_stream *stream = lz4_stream_new(error);
    struct iovec *chunk = NULL;
    ssize_t made = stream ? 1 : -1;
    if (stream) {
        lz4_stream_start(stream, pieces, count);
    }
    while (made > 0) {
        chunk = next_chunk(body);
        made = chunk ? lz4_stream_read(stream, chunk->iov_base, CHUNK) : -1;
        if (made > 0) {
            chunk->iov_len = (size_t)made;
        }
    }
    lz4_stream_free(stream);
    body->used -= made == 0; // the last one stayed empty
    return made == 0;
}

bool insert_body_fill(struct insert_body *body, const struct iovec *pieces, size_t count, struct relay_error *error)
{
    insert_body_reset(body);
    if (compress(body, pieces, count, error)) {
        return true;
    }
    insert_body_reset(body);
    return error_no_memory(error, "filling an INSERT");
}

void insert_body_reset(struct insert_body *body)
{
    body->used = 0;
}

const struct iovec *insert_body_pieces(const struct insert_body *body, size_t *count)
{
    *count = body->used;
    return body->chunks;
}

size_t insert_body_memory(const struct insert_body *body)
{
    return body->count * CHUNK;
}
