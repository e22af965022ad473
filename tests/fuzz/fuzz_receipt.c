// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a receipt: what is taken encodes to the same bytes again, everything else is refused with an error. The
// first byte says whether the checksum is put right first, without which nothing would get past it; all of the input is
// also read as a key.
#include "relay/publish/receipt.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_receipt(const uint8_t *bytes, size_t length)
{
    struct receipt receipt;
    struct relay_error error;
    if (!receipt_decode(bytes, length, &receipt, &error)) {
        assert(error.code == RELAY_ERROR_PROTOCOL && !receipt.rows);
        return;
    }
    uint8_t *again = malloc(receipt_size(receipt.row_count));
    assert(again);
    size_t again_length = receipt_encode(&receipt.header, receipt.rows, receipt.row_count, again);
    assert(again_length == length && memcmp(again, bytes, length) == 0);
    free(again);
    receipt_finish(&receipt);
}

static void read_key(const char *text, size_t length)
{
    uint8_t identity[16];
    unsigned slot;
    char key[RECEIPT_KEY_SIZE];
    if (receipt_key_parse(text, length, identity, &slot)) {
        assert(receipt_key(identity, slot, key) == length && memcmp(key, text, length) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t length = size - 1;
    uint8_t *bytes = malloc(length ? length : 1); // of exactly this size, so that reading past it is seen
    assert(bytes);
    memcpy(bytes, data + 1, length);
    if (data[0] % 2 && length > 8) {
        uint64_t check = XXH3_64bits(bytes, length - 8);
        memcpy(bytes + length - 8, &check, sizeof(check));
    }
    read_receipt(bytes, length);
    read_key((const char *)bytes, length);
    free(bytes);
    return 0;
}
