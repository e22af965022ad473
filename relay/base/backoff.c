// SPDX-License-Identifier: Apache-2.0
//
// See backoff.h. Nothing here fails: if getrandom cannot answer at once, the clock and the address of the object seed
// the generator, which is enough to keep two processes out of step.
#include "relay/base/backoff.h"

#include <assert.h>
#include <sys/random.h>

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15U;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

// Evenly from 0 to limit inclusive; the bias of at most limit / 2^64 does not matter here.
static int64_t random_up_to(uint64_t *state, int64_t limit)
{
    return (int64_t)(((unsigned __int128)next_random(state) * ((uint64_t)limit + 1)) >> 64);
}

void backoff_init_seeded(struct backoff *backoff, struct duration base, struct duration cap, uint64_t seed)
{
    assert(base.ns > 0 && cap.ns >= base.ns);
    *backoff = (struct backoff){.base = base, .cap = cap, .previous = base, .random = seed};
}

void backoff_init(struct backoff *backoff, struct duration base, struct duration cap)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
        seed = (uint64_t)clock_mono(clock_system()).ns ^ (uint64_t)(uintptr_t)backoff;
    }
    backoff_init_seeded(backoff, base, cap, seed);
}

struct duration backoff_next(struct backoff *backoff)
{
    // cap / 3 is compared, not previous * 3, which could overflow.
    int64_t high = backoff->previous.ns >= backoff->cap.ns / 3 + 1 ? backoff->cap.ns : backoff->previous.ns * 3;
    if (high > backoff->cap.ns) {
        high = backoff->cap.ns;
    }
    if (high < backoff->base.ns) {
        high = backoff->base.ns;
    }
    backoff->previous.ns = backoff->base.ns + random_up_to(&backoff->random, high - backoff->base.ns);
    return backoff->previous;
}

void backoff_reset(struct backoff *backoff)
{
    backoff->previous = backoff->base;
}
