// SPDX-License-Identifier: Apache-2.0
//
// How the sweep cuts the numbers below the watermark into pieces. What a piece costs cannot be known before: dead rows
// that an old snapshot keeps cost as much as rows, and nobody counts them. So a piece is a range of numbers, and the
// next one is wider or narrower by the time that this one took. A round covers every number once, from the least to the
// watermark. Not thread-safe.
#ifndef RELAY_PUBLISH_SWEEP_PIECES_H
#define RELAY_PUBLISH_SWEEP_PIECES_H

#include "relay/base/clock.h"

#include <stdbool.h>
#include <stdint.h>

struct sweep_pieces {
    int64_t from;          // looked through up to it; INT64_MIN: the next piece begins a round
    uint64_t width;        // numbers in the next piece
    uint64_t width_at_min; // in the first one of a round: identities begin at 1, so that it usually is empty
};

void sweep_pieces_init(struct sweep_pieces *pieces); // a round begins; nothing is known of what a piece costs
// The last number of the next piece, which is every number above pieces->from up to it.
int64_t sweep_pieces_end(const struct sweep_pieces *pieces, int64_t watermark);
// The piece was looked through up to `end`, in this time. true: that ends the round.
bool sweep_pieces_done(struct sweep_pieces *pieces, int64_t end, int64_t watermark, struct duration took,
    struct duration wanted);
// The piece took too long to be looked through. false: it cannot be made any smaller.
bool sweep_pieces_narrow(struct sweep_pieces *pieces, int64_t watermark);

#endif
