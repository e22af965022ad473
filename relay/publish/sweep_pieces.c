// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/sweep_pieces.h"

#define WIDEST    (UINT64_C(1) << 63) // from the least number to 0
#define NARROWEST 64

void sweep_pieces_init(struct sweep_pieces *pieces)
{
    *pieces = (struct sweep_pieces){.from = INT64_MIN, .width = WIDEST, .width_at_min = WIDEST};
}

static uint64_t left_of(const struct sweep_pieces *pieces, int64_t watermark)
{
    return watermark > pieces->from ? (uint64_t)watermark - (uint64_t)pieces->from : 0;
}

static uint64_t *width_of(struct sweep_pieces *pieces)
{
    return pieces->from == INT64_MIN ? &pieces->width_at_min : &pieces->width;
}

int64_t sweep_pieces_end(const struct sweep_pieces *pieces, int64_t watermark)
{
    uint64_t width = pieces->from == INT64_MIN ? pieces->width_at_min : pieces->width;
    return left_of(pieces, watermark) <= width ? watermark : (int64_t)((uint64_t)pieces->from + width);
}

bool sweep_pieces_done(struct sweep_pieces *pieces, int64_t end, int64_t watermark, struct duration took,
    struct duration wanted)
{
    uint64_t *width = width_of(pieces);
    if (took.ns > wanted.ns && *width / 2 >= NARROWEST) {
        *width /= 2;
    } else if (took.ns < wanted.ns / 2) {
        *width = *width < WIDEST / 2 ? *width * 2 : WIDEST;
    }
    pieces->from = end < watermark ? end : INT64_MIN;
    return end >= watermark;
}

bool sweep_pieces_narrow(struct sweep_pieces *pieces, int64_t watermark)
{
    uint64_t *width = width_of(pieces), left = left_of(pieces, watermark);
    uint64_t tried = *width < left ? *width : left;
    *width = tried / 16 > NARROWEST ? tried / 16 : NARROWEST;
    return tried > NARROWEST;
}
