// SPDX-License-Identifier: Apache-2.0
//
// FNV-1a, 32 bits: spreads short names over buckets and partitions, and tags names in query ids. Not against an
// adversary. Its values are kept elsewhere (receipts stand in the partition it gives), so it must never change. Pure.
#ifndef RELAY_BASE_FNV_H
#define RELAY_BASE_FNV_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FNV_START 2166136261u

// Goes on from `hash`: FNV_START, or what an earlier call gave.
static inline uint32_t fnv_bytes(uint32_t hash, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ at[i]) * 16777619u;
    }
    return hash;
}

static inline uint32_t fnv_text(uint32_t hash, const char *text)
{
    return fnv_bytes(hash, text, strlen(text));
}

#endif
