// SPDX-License-Identifier: Apache-2.0
//
// Reads a list of pieces as one LZ4 frame, compressed a slice at a time as it is asked for: into an INSERT's body
// when its batch is full, or, dead letters, as the network takes them. One frame per body is what makes a cut body
// all-or-nothing on every server: the frame's end mark is missing. Memory is kept from body to body. One thread.
#ifndef RELAY_CLICKHOUSE_LZ4_STREAM_H
#define RELAY_CLICKHOUSE_LZ4_STREAM_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include <sys/types.h>

struct lz4_stream;

struct lz4_stream *lz4_stream_new(struct relay_error *error);
void lz4_stream_free(struct lz4_stream *stream); // accepts NULL
// pieces are borrowed until the last read.
void lz4_stream_start(struct lz4_stream *stream, const struct iovec *pieces, size_t count);
// Up to room bytes of the frame into buffer; 0 at its end, -1 when LZ4 failed (an error of ours or out of memory).
ssize_t lz4_stream_read(struct lz4_stream *stream, char *buffer, size_t room);

#endif
