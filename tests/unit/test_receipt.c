// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/receipt.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const struct receipt_header header = {
    .identity = {0x6f, 0x1c, 0x0a, 0x52, 0x8f, 0x0e, 0x4f, 0x1e, 0x9d, 0x1f, 0x2a, 0x8f, 0x3b, 0x6c, 0x7d, 0x10},
    .generation = 3,
    .number = 4711,
    .system_identifier = 7300000000000000001,
    .timeline = 2};

static uint64_t state = 0x9e3779b97f4a7c15; // of the generator: the same rows in each run
static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void check_round_trip(const struct receipt_row *rows, size_t count)
{
    uint8_t *bytes = malloc(receipt_size(count));
    size_t length = receipt_encode(&header, rows, count, bytes);
    cr_assert_leq(length, receipt_size(count));
    struct receipt receipt;
    struct relay_error error;
    cr_assert(receipt_decode(bytes, length, &receipt, &error), "%s", error.text);
    cr_assert_eq(receipt.row_count, count);
    cr_assert_eq(memcmp(receipt.header.identity, header.identity, 16), 0);
    cr_assert(receipt.header.generation == header.generation && receipt.header.number == header.number &&
        receipt.header.system_identifier == header.system_identifier && receipt.header.timeline == header.timeline);
    for (size_t i = 0; i < count; i++) {
        cr_assert(receipt.rows[i].seq == rows[i].seq && receipt.rows[i].hash == rows[i].hash, "row %zu", i);
    }
    receipt_finish(&receipt);
    free(bytes);
}

Test(receipt, comes_back_as_it_was)
{
    check_round_trip(NULL, 0);
    check_round_trip((struct receipt_row[]){{1, 0}}, 1);
    check_round_trip((struct receipt_row[]){{1, 7}, {1, 8}, {2, 9}}, 3);
    check_round_trip((struct receipt_row[]){{INT64_MIN, 1}, {-1, 2}, {0, 3}, {1, 4}, {INT64_MAX, UINT64_MAX}}, 5);
    check_round_trip((struct receipt_row[]){{INT64_MIN, 1}, {INT64_MAX, 2}}, 2);
    for (int round = 0; round < 200; round++) {
        struct receipt_row rows[300];
        size_t count = next_random() % 300;
        int64_t seq = (int64_t)(next_random() >> (next_random() % 60 + 2));
        for (size_t i = 0; i < count; i++) {
            rows[i] = (struct receipt_row){seq, next_random()};
            seq += (int64_t)(next_random() % (1ull << next_random() % 40)) + 1;
        }
        check_round_trip(rows, count);
    }
}

Test(receipt, its_bytes_do_not_change_between_versions)
{
    uint8_t bytes[128];
    struct receipt_row rows[] = {{100, 0x1122334455667788}, {300, 0}};
    size_t length = receipt_encode(&header, rows, 2, bytes);
    static const uint8_t expected[] = {'O', 'B', 'R', 'C', 1, 0, 0x6f, 0x1c, 0x0a, 0x52, 0x8f, 0x0e, 0x4f, 0x1e, 0x9d,
        0x1f, 0x2a, 0x8f, 0x3b, 0x6c, 0x7d, 0x10, 3, 0, 0, 0, 0, 0, 0, 0, 0x67, 0x12, 0, 0, 0, 0, 0, 0, 0x01, 0x80,
        0x4f, 0x6a, 0x70, 0xc6, 0x4e, 0x65, 2, 0, 0, 0, 2, 0, 0, 0, 0xc8, 0x01, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
        0x22, 0x11, 0xc8, 0x01, 0, 0, 0, 0, 0, 0, 0, 0};
    cr_assert_eq(length, sizeof(expected) + 8);
    for (size_t i = 0; i < sizeof(expected); i++) {
        if (i < 38 || i >= 46) { // the system identifier is looked at below
            cr_assert_eq(bytes[i], expected[i], "byte %zu is %#x", i, bytes[i]);
        }
    }
    uint64_t identifier;
    memcpy(&identifier, bytes + 38, 8);
    cr_assert_eq(identifier, header.system_identifier);
    // Values of XXH3-64 that other implementations give, too.
    cr_assert_eq(receipt_row_hash((struct text_view){"", 0}, CREATED_AT_NONE, 0),
        XXH3_64bits_withSeed("", 0, XXH3_64bits("\0\0\0\0\0\0\0\0\0", 9)));
}

Test(receipt, what_is_none_is_told_from_one_that_is_broken)
{
    uint8_t bytes[128];
    size_t length = receipt_encode(&header, NULL, 0, bytes);
    cr_assert(receipt_begins(bytes, length));
    cr_assert(receipt_begins("OBRC", 4), "cut off");
    cr_assert(receipt_begins("OBRC\002", 5), "of another version");
    cr_assert_not(receipt_begins("OBR", 3));
    cr_assert_not(receipt_begins("", 0));
    cr_assert_not(receipt_begins("{\"a\": 1}", 8));
}

Test(receipt, a_hash_tells_rows_apart)
{
    struct text_view id = {"6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10", 36},
                     other = {"6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d11", 36};
    uint64_t hash = receipt_row_hash(id, CREATED_AT_FINITE, 1767225600000000);
    cr_assert_eq(receipt_row_hash(id, CREATED_AT_FINITE, 1767225600000000), hash);
    cr_assert_neq(receipt_row_hash(other, CREATED_AT_FINITE, 1767225600000000), hash);
    cr_assert_neq(receipt_row_hash(id, CREATED_AT_FINITE, 1767225600000001), hash);
    cr_assert_neq(receipt_row_hash(id, CREATED_AT_INFINITY, 0), receipt_row_hash(id, CREATED_AT_MINUS_INFINITY, 0));
    cr_assert_eq(receipt_row_hash(id, CREATED_AT_INFINITY, 5), receipt_row_hash(id, CREATED_AT_INFINITY, 6),
        "no time to compare");
    cr_assert_eq(receipt_row_hash((struct text_view){NULL, 7}, CREATED_AT_NONE, 0),
        receipt_row_hash((struct text_view){"", 0}, CREATED_AT_NONE, 0));
}

static void refuses(const uint8_t *bytes, size_t length, const char *message)
{
    struct receipt receipt;
    struct relay_error error;
    cr_assert_not(receipt_decode(bytes, length, &receipt, &error), "expected: %s", message);
    cr_assert_eq(error.code, RELAY_ERROR_PROTOCOL);
    cr_assert(strstr(error.text, message), "'%s' instead of '%s'", error.text, message);
}

static void seal(uint8_t *bytes, size_t length)
{
    uint64_t check = XXH3_64bits(bytes, length - 8);
    memcpy(bytes + length - 8, &check, 8); // the tests' machines are little-endian
}

Test(receipt, every_damaged_one_is_refused)
{
    uint8_t bytes[256], damaged[256];
    struct receipt_row rows[] = {{100, 1}, {300, 2}, {301, 3}};
    size_t length = receipt_encode(&header, rows, 3, bytes);
    for (size_t cut = 0; cut < length; cut++) {
        refuses(bytes, cut, "receipt");
    }
    for (size_t bit = 0; bit < length * 8; bit++) {
        memcpy(damaged, bytes, length);
        damaged[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refuses(damaged, length, "receipt");
    }
    refuses(NULL, 0, "without a value");
    refuses((const uint8_t *)"{\"a\": 1}", 8, "do not begin with OBRC");
}

Test(receipt, a_good_checksum_does_not_make_it_true)
{
    static const struct {
        size_t offset;
        uint8_t value;
        const char *message;
    } cases[] = {
        {4, 2, "version 2"},
        {5, 1, "unknown flags 1"},
        {50, 200, "cannot hold the 200 rows"},
        {50, 2, "behind its last row"},
        {50, 4, "cannot hold"},
        {64, 0x8A, "row 2 of a receipt is malformed, at byte 64"},
        {73, 0x80, "malformed"},
    };
    struct receipt_row rows[] = {{100, 1}, {110, 256}, {115, 3}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[256];
        size_t length = receipt_encode(&header, rows, 3, bytes);
        bytes[cases[i].offset] = cases[i].value;
        seal(bytes, length);
        refuses(bytes, length, cases[i].message);
    }
    // A distance past the end of 64 bits, and one that is longer than it needs to be.
    uint8_t bytes[256];
    struct receipt_row far[] = {{INT64_MAX - 1, 1}, {INT64_MAX, 2}};
    size_t length = receipt_encode(&header, far, 2, bytes);
    bytes[length - 8 - 9] = 2;
    seal(bytes, length);
    refuses(bytes, length, "row 2");
    struct receipt_row one[] = {{100, 1}};
    length = receipt_encode(&header, one, 1, bytes);
    bytes[54] = 0x80 | bytes[54];
    bytes[55] = 0x80;
    bytes[56] = 0;
    seal(bytes, length);
    refuses(bytes, length, "row 1");
}

Test(receipt, a_receipt_of_so_many_rows_fits_its_record)
{
    cr_assert_eq(receipt_rows_within(0), 0);
    cr_assert_eq(receipt_rows_within(200), 0);
    size_t rows = receipt_rows_within(1000000);
    cr_assert_gt(rows, 50000);
    cr_assert_eq(receipt_rows_within(RECEIPT_BYTES) / 2, 27772, "what docs/configuration.md says of batch_rows");
    cr_assert_leq(61 + 36 + 39 + receipt_size(rows), 1000000);
    cr_assert_gt(61 + 36 + 40 + receipt_size(rows + 1), 1000000);
}

Test(receipt, keys_name_outbox_and_slot_and_foreign_ones_are_refused)
{
    char key[RECEIPT_KEY_SIZE];
    uint8_t identity[16];
    unsigned slot;
    for (uint64_t number = 0; number < 200; number++) {
        size_t length = receipt_key(header.identity, number, key);
        cr_assert_eq(strlen(key), length);
        cr_assert(receipt_key_parse(key, length, identity, &slot));
        cr_assert_eq(slot, number % RECEIPT_RING);
        cr_assert_eq(memcmp(identity, header.identity, 16), 0);
    }
    receipt_key(header.identity, 64 + 7, key);
    cr_assert_str_eq(key, "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10/7");
    static const char *const foreign[] = {"", "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10",
        "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10/", "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10/64",
        "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10/07", "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10/x",
        "6F1C0A52-8F0E-4F1E-9D1F-2A8F3B6C7D10/7", "6f1c0a52a8f0e-4f1e-9d1f-2a8f3b6c7d10/7",
        "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10/100"};
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        cr_assert_not(receipt_key_parse(foreign[i], strlen(foreign[i]), identity, &slot), "%s", foreign[i]);
    }
    cr_assert_not(receipt_key_parse(NULL, 0, identity, &slot));
}
