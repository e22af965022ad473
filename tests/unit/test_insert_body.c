// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_body.h"

#include "relay/clickhouse/lz4_unpack.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH ((size_t)1200000)

static char *bytes;

// Half of it text that repeats, half of it noise.
static void start(void)
{
    uint32_t noise = 7;
    bytes = malloc(LENGTH);
    cr_assert_not_null(bytes);
    for (size_t i = 0; i < LENGTH; i++) {
        noise = noise * 1664525 + 1013904223;
        bytes[i] = i < LENGTH / 2 ? "the order was changed "[i % 22] : (char)(noise >> 24);
    }
}

static void finish(void)
{
    free(bytes);
}

TestSuite(insert_body, .init = start, .fini = finish);

static void fill(struct insert_body *body, size_t length)
{
    struct relay_error error;
    struct iovec pieces[] = {{bytes, length / 3}, {bytes, 0}, {bytes + length / 3, length - length / 3}};
    cr_assert(insert_body_fill(body, pieces, 3, &error), "%s", error.text);
}

static size_t length_of(const struct insert_body *body)
{
    size_t count, length = 0;
    const struct iovec *pieces = insert_body_pieces(body, &count);
    for (size_t i = 0; i < count; i++) {
        length += pieces[i].iov_len;
    }
    return length;
}

// What is in the frame, read in pieces of that size.
static void expect_unpacked(const struct insert_body *body, size_t length, size_t room)
{
    size_t count, at = 0;
    const struct iovec *pieces = insert_body_pieces(body, &count);
    struct lz4_unpack *unpack = lz4_unpack_new(pieces, count);
    char *read = malloc(LENGTH + room);
    cr_assert(unpack && read);
    for (ssize_t got; (got = lz4_unpack_read(unpack, read + at, room)) != 0; at += (size_t)got) {
        cr_assert_gt(got, 0);
        cr_assert_leq(at, length);
    }
    cr_assert_eq(at, length, "%zu bytes, not %zu", at, length);
    cr_assert_arr_eq(read, bytes, length);
    free(read);
    lz4_unpack_free(unpack);
}

Test(insert_body, all_of_it_is_one_frame)
{
    struct insert_body *body = insert_body_new(NULL);
    fill(body, LENGTH);
    cr_assert_lt(length_of(body), LENGTH * 6 / 10);
    expect_unpacked(body, LENGTH, 1);
    expect_unpacked(body, LENGTH, 300001);
    insert_body_free(body);
}

Test(insert_body, its_memory_serves_the_next_one)
{
    struct insert_body *body = insert_body_new(NULL);
    fill(body, LENGTH);
    size_t memory = insert_body_memory(body);
    fill(body, 1000);
    expect_unpacked(body, 1000, 65536);
    insert_body_reset(body);
    cr_assert_eq(length_of(body), 0);
    fill(body, LENGTH);
    cr_assert_eq(insert_body_memory(body), memory);
    expect_unpacked(body, LENGTH, 65536);
    insert_body_free(body);
}

Test(insert_body, of_nothing_it_is_a_frame_too)
{
    struct insert_body *body = insert_body_new(NULL);
    fill(body, 0);
    expect_unpacked(body, 0, 10);
    insert_body_free(body);
}

Test(insert_body, a_frame_that_is_cut_is_no_frame)
{
    struct insert_body *body = insert_body_new(NULL);
    char read[4096];
    size_t count;
    fill(body, 5000);
    struct iovec cut = insert_body_pieces(body, &count)[0];
    cr_assert_eq(count, 1);
    cut.iov_len -= 1;
    struct lz4_unpack *unpack = lz4_unpack_new(&cut, 1);
    cr_assert_eq(lz4_unpack_read(unpack, read, sizeof(read)), sizeof(read));
    cr_assert_eq(lz4_unpack_read(unpack, read, sizeof(read)), -1);
    lz4_unpack_free(unpack);
    insert_body_free(body);
}
