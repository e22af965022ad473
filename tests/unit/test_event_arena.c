// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/event_arena.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

Test(event_arena, blocks_do_not_overlap_and_are_aligned)
{
    struct event_arena *arena = event_arena_new(1 << 20);
    unsigned char *blocks[2000];
    for (int round = 0; round < 3; round++) {
        size_t sum = 0;
        for (size_t i = 0; i < 2000; i++) {
            size_t size = i * 7 % 900;
            blocks[i] = event_arena_alloc(arena, size);
            cr_assert_not_null(blocks[i]);
            cr_assert_eq((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
            memset(blocks[i], (int)(i % 251), size);
            sum += size;
        }
        for (size_t i = 0; i < 2000; i++) {
            for (size_t k = 0; k < i * 7 % 900; k++) {
                cr_assert_eq(blocks[i][k], i % 251);
            }
        }
        cr_assert_geq(event_arena_used(arena), sum);
        cr_assert_geq(event_arena_held(arena), event_arena_used(arena));
        event_arena_reset(arena);
        cr_assert_eq(event_arena_used(arena), 0);
    }
    event_arena_free(arena);
}

Test(event_arena, a_steady_load_keeps_its_chunks)
{
    struct event_arena *arena = event_arena_new(4 << 20);
    size_t held = 0;
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < 1000; i++) {
            cr_assert_not_null(event_arena_alloc(arena, 1000));
        }
        cr_assert_not_null(event_arena_alloc(arena, 600000)); // no kept chunk of the usual size takes this
        if (round == 0) {
            held = event_arena_held(arena);
        }
        cr_assert_leq(event_arena_held(arena), held);
        event_arena_reset(arena);
    }
    event_arena_free(arena);
}

Test(event_arena, a_shrunk_one_holds_a_chunk_and_works_on)
{
    struct event_arena *arena = event_arena_new(8 << 20);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 7000; i++) {
            cr_assert_not_null(event_arena_alloc(arena, 1000));
        }
        event_arena_reset(arena);
        cr_assert_gt(event_arena_held(arena), 6u << 20, "over a reset it is kept");
        event_arena_shrink(arena);
        cr_assert_leq(event_arena_held(arena), 256u << 10);
        cr_assert_gt(event_arena_held(arena), 0);
        cr_assert_eq(event_arena_used(arena), 0);
    }
    event_arena_free(arena);
}

Test(event_arena, what_is_beyond_keep_is_given_back)
{
    struct event_arena *arena = event_arena_new(1 << 20);
    cr_assert_not_null(event_arena_alloc(arena, 100));
    cr_assert_not_null(event_arena_alloc(arena, 50 << 20));
    cr_assert_gt(event_arena_held(arena), 50u << 20);
    event_arena_reset(arena);
    cr_assert_leq(event_arena_held(arena), 1u << 20);
    cr_assert_gt(event_arena_held(arena), 0);
    cr_assert_null(event_arena_alloc(arena, SIZE_MAX - 5), "a size that cannot be");
    event_arena_free(arena);
    event_arena_free(NULL);
}
