// SPDX-License-Identifier: Apache-2.0
//
// Reads the bytes that an LZ4 frame, given as a list of pieces, was made of: for servers that do not take the frame
// that a batch was compressed into. One thread.
#ifndef RELAY_CLICKHOUSE_LZ4_UNPACK_H
#define RELAY_CLICKHOUSE_LZ4_UNPACK_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct lz4_unpack;

// pieces are borrowed until the last read. NULL: out of memory.
struct lz4_unpack *lz4_unpack_new(const struct iovec *pieces, size_t count);
void lz4_unpack_free(struct lz4_unpack *unpack); // accepts NULL
// Up to room bytes into buffer; 0 at the end of the frame, -1 when LZ4 failed (out of memory, or no whole frame).
ssize_t lz4_unpack_read(struct lz4_unpack *unpack, char *buffer, size_t room);

#endif
