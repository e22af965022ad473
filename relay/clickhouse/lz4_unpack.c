// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/lz4_unpack.h"

#include <lz4frame.h>
#include <stdbool.h>
#include <stdlib.h>

struct lz4_unpack {
    LZ4F_dctx *context;
    const struct iovec *pieces;
    size_t count, piece, offset;
    bool ended; // LZ4 has seen the end mark and has nothing left
};

struct lz4_unpack *lz4_unpack_new(const struct iovec *pieces, size_t count)
{
    struct lz4_unpack *unpack = calloc(1, sizeof(*unpack));
    if (!unpack || LZ4F_isError(LZ4F_createDecompressionContext(&unpack->context, LZ4F_VERSION))) {
        lz4_unpack_free(unpack);
        return NULL;
    }
    unpack->pieces = pieces;
    unpack->count = count;
    return unpack;
}

void lz4_unpack_free(struct lz4_unpack *unpack)
{
    if (unpack) {
        LZ4F_freeDecompressionContext(unpack->context);
        free(unpack);
    }
}

ssize_t lz4_unpack_read(struct lz4_unpack *unpack, char *buffer, size_t room)
{
    size_t filled = 0;
    while (filled < room && !unpack->ended) {
        const struct iovec *piece = unpack->piece < unpack->count ? &unpack->pieces[unpack->piece] : NULL;
        size_t made = room - filled, taken = piece ? piece->iov_len - unpack->offset : 0;
        const char *from = piece ? (const char *)piece->iov_base + unpack->offset : "";
        size_t hint = LZ4F_decompress(unpack->context, buffer + filled, &made, from, &taken, NULL);
        if (LZ4F_isError(hint) || (!piece && made == 0 && hint != 0)) {
            return -1;
        }
        unpack->ended = hint == 0;
        filled += made;
        unpack->offset += taken;
        if (piece && unpack->offset == piece->iov_len) {
            unpack->piece++;
            unpack->offset = 0;
        }
    }
    return (ssize_t)filled;
}
