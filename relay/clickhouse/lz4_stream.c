// SPDX-License-Identifier: Apache-2.0
#include "relay/clickhouse/lz4_stream.h"

#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#define SLICE ((size_t)256 << 10) // raw bytes compressed in one go: LZ4's own block size, small enough for the cache

struct lz4_stream {
    LZ4F_cctx *context;
    char *staged; // compressed, not yet read: [staged_at, staged_end)
    size_t staged_room, staged_at, staged_end;
    const struct iovec *pieces;
    size_t count, piece, offset;
    size_t taken; // since the frame began
    enum { AT_HEADER, IN_BODY, AT_END } state;
};

static const LZ4F_preferences_t preferences = {
    .frameInfo = {.blockSizeID = LZ4F_max256KB,
        .blockMode = LZ4F_blockLinked,
        .contentChecksumFlag = LZ4F_contentChecksumEnabled},
};

struct lz4_stream *lz4_stream_new(struct relay_error *error)
{
    struct lz4_stream *stream = calloc(1, sizeof(*stream));
    if (!stream) {
        goto failed;
    }
    stream->staged_room = LZ4F_compressBound(SLICE, &preferences) + LZ4F_HEADER_SIZE_MAX;
    stream->staged = malloc(stream->staged_room);
    if (!stream->staged || LZ4F_isError(LZ4F_createCompressionContext(&stream->context, LZ4F_VERSION))) {
        goto failed;
    }
    stream->state = AT_END;
    return stream;

failed:
    lz4_stream_free(stream);
    error_no_memory(error, "preparing to compress");
    return NULL;
}

void lz4_stream_free(struct lz4_stream *stream)
{
    if (stream) {
        LZ4F_freeCompressionContext(stream->context);
        free(stream->staged);
        free(stream);
    }
}

void lz4_stream_start(struct lz4_stream *stream, const struct iovec *pieces, size_t count)
{
    stream->pieces = pieces;
    stream->count = count;
    stream->piece = stream->offset = stream->taken = 0;
    stream->staged_at = stream->staged_end = 0;
    stream->state = AT_HEADER;
}

// Compresses the next slice, or the header, or the end mark, into staged. false: LZ4 refused.
static bool stage_more(struct lz4_stream *stream)
{
    size_t made = 0;
    stream->staged_at = stream->staged_end = 0;
    if (stream->state == AT_HEADER) {
        made = LZ4F_compressBegin(stream->context, stream->staged, stream->staged_room, &preferences);
        stream->state = IN_BODY;
    } else {
        while (stream->piece < stream->count && stream->offset == stream->pieces[stream->piece].iov_len) {
            stream->piece++;
            stream->offset = 0;
        }
        if (stream->piece == stream->count) {
            made = LZ4F_compressEnd(stream->context, stream->staged, stream->staged_room, NULL);
            stream->state = AT_END;
        } else {
            const struct iovec *piece = &stream->pieces[stream->piece];
            // LZ4 keeps what does not fill a block, and copies what completes it; whole blocks, and what they refer to
            // before them, it takes where they lie.
            static const LZ4F_compressOptions_t options = {.stableSrc = 1};
            size_t take = piece->iov_len - stream->offset, most = SLICE - stream->taken % SLICE;
            take = take < most ? take : most;
            made = LZ4F_compressUpdate(stream->context, stream->staged, stream->staged_room,
                (const char *)piece->iov_base + stream->offset, take, &options);
            stream->offset += take;
            stream->taken += take;
        }
    }
    if (LZ4F_isError(made)) {
        return false;
    }
    stream->staged_end = made;
    return true;
}

ssize_t lz4_stream_read(struct lz4_stream *stream, char *buffer, size_t room)
{
    size_t filled = 0;
    while (filled < room) {
        if (stream->staged_at == stream->staged_end) {
            if (stream->state == AT_END) {
                break;
            }
            if (!stage_more(stream)) {
                return -1;
            }
            continue;
        }
        size_t take = stream->staged_end - stream->staged_at;
        take = take < room - filled ? take : room - filled;
        memcpy(buffer + filled, stream->staged + stream->staged_at, take);
        stream->staged_at += take;
        filled += take;
    }
    return (ssize_t)filled;
}
