// SPDX-License-Identifier: Apache-2.0
//
// How long to wait before the next attempt: capped, with decorrelated jitter, so that many relays that lost the same
// server do not come back in step. next = min(cap, random between base and 3 * previous). Holds no memory and no lock:
// one for each retry loop, owned by its thread. It says how long; waiting is the caller's job (stop_wait).
#ifndef RELAY_BASE_BACKOFF_H
#define RELAY_BASE_BACKOFF_H

#include "relay/base/clock.h"

#include <stdint.h>

struct backoff {
    struct duration base, cap;
    struct duration previous;
    uint64_t random; // state of the generator (splitmix64): spreads load, keeps no secret
};

// base: the shortest wait, above 0; cap: the longest, not below base. The generator is seeded by getrandom(2).
void backoff_init(struct backoff *backoff, struct duration base, struct duration cap);
// The same with the seed given: tests get the same waits every time.
void backoff_init_seeded(struct backoff *backoff, struct duration base, struct duration cap, uint64_t seed);

// The next wait, from base to cap inclusive.
struct duration backoff_next(struct backoff *backoff);
// After a success: the next wait starts near base again.
void backoff_reset(struct backoff *backoff);

#endif
