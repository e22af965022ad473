// SPDX-License-Identifier: Apache-2.0
//
// Decoding trusts nothing: the checksum is looked at first, and then every length, distance and count all the same,
// since a checksum says only that the bytes are those that somebody wrote.
#include "relay/publish/receipt.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define RECEIPT_VERSION 1
#define FIXED_SIZE      54 // everything before the rows
#define CHECK_SIZE      8
#define HASH_SIZE       8
#define VARINT_MAX      10
#define ROW_MIN         (1 + HASH_SIZE)
#define RECORD_OVERHEAD (61 + 36 + RECEIPT_KEY_SIZE) // batch header, record header, key

static const uint8_t magic[4] = {'O', 'B', 'R', 'C'};

uint64_t receipt_row_hash(struct text_view id, enum created_at_kind kind, int64_t created_at_us)
{
    uint8_t time[9] = {(uint8_t)kind};
    uint64_t micros = htole64(kind == CREATED_AT_FINITE ? (uint64_t)created_at_us : 0);
    memcpy(time + 1, &micros, sizeof(micros));
    return XXH3_64bits_withSeed(id.at ? id.at : "", id.at ? id.length : 0, XXH3_64bits(time, sizeof(time)));
}

size_t receipt_size(size_t rows)
{
    return FIXED_SIZE + rows * (VARINT_MAX + HASH_SIZE) + CHECK_SIZE;
}

size_t receipt_rows_within(size_t bytes)
{
    size_t fixed = RECORD_OVERHEAD + FIXED_SIZE + CHECK_SIZE;
    size_t rows = bytes > fixed ? (bytes - fixed) / (VARINT_MAX + HASH_SIZE) : 0;
    return rows > UINT32_MAX ? UINT32_MAX : rows;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    return put(at, &value, sizeof(value));
}

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    return put(at, &value, sizeof(value));
}

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)((value >> 1) ^ ((value & 1) ? UINT64_MAX : 0));
}

size_t receipt_encode(const struct receipt_header *header, const struct receipt_row *rows, size_t count, uint8_t *out)
{
    assert(count <= UINT32_MAX);
    uint8_t *at = put(out, magic, sizeof(magic));
    *at++ = RECEIPT_VERSION;
    *at++ = 0; // flags
    at = put(at, header->identity, sizeof(header->identity));
    at = put_u64(at, header->generation);
    at = put_u64(at, header->number);
    at = put_u64(at, header->system_identifier);
    at = put_u32(at, header->timeline);
    at = put_u32(at, (uint32_t)count);
    assert(at == out + FIXED_SIZE);
    for (size_t i = 0; i < count; i++) {
        assert(i == 0 || rows[i].seq >= rows[i - 1].seq);
        at = put_varint(at, i == 0 ? zigzag(rows[i].seq) : (uint64_t)rows[i].seq - (uint64_t)rows[i - 1].seq);
        at = put_u64(at, rows[i].hash);
    }
    at = put_u64(at, XXH3_64bits(out, (size_t)(at - out)));
    return (size_t)(at - out);
}

struct cursor {
    const uint8_t *start, *at, *end;
};

static uint64_t take_u64(struct cursor *cursor)
{
    uint64_t value;
    memcpy(&value, cursor->at, sizeof(value));
    cursor->at += sizeof(value);
    return le64toh(value);
}

static uint32_t take_u32(struct cursor *cursor)
{
    uint32_t value;
    memcpy(&value, cursor->at, sizeof(value));
    cursor->at += sizeof(value);
    return le32toh(value);
}

// false: cut off, longer than it needs to be, or beyond 64 bits.
static bool take_varint(struct cursor *cursor, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (cursor->at == cursor->end) {
            return false;
        }
        uint8_t byte = *cursor->at++;
        if ((shift == 63 && byte > 1) || (shift > 0 && byte == 0)) {
            return false;
        }
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

static bool take_row(struct cursor *cursor, const struct receipt_row *before, struct receipt_row *row)
{
    uint64_t distance;
    if (!take_varint(cursor, &distance) || cursor->end - cursor->at < HASH_SIZE) {
        return false;
    }
    if (!before) {
        row->seq = unzigzag(distance);
    } else if (distance > (uint64_t)INT64_MAX - (uint64_t)before->seq) {
        return false;
    } else {
        row->seq = (int64_t)((uint64_t)before->seq + distance);
    }
    row->hash = take_u64(cursor);
    return true;
}

bool receipt_begins(const void *data, size_t length)
{
    return length >= sizeof(magic) && memcmp(data, magic, sizeof(magic)) == 0;
}

// What can be said before any row is read. cursor->end is where the rows end afterwards.
static bool decode_header(struct cursor *cursor, struct receipt *receipt, uint32_t *rows, struct relay_error *error)
{
    size_t length = (size_t)(cursor->end - cursor->start);
    if (length < sizeof(magic) + 1 || !receipt_begins(cursor->at, length)) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "not a receipt: %zu bytes that do not begin with OBRC", length);
    }
    uint8_t version = cursor->at[sizeof(magic)];
    if (version != RECEIPT_VERSION) {
        return error_set(error, RELAY_ERROR_PROTOCOL,
            "a receipt of version %u, this relay reads version %d: it was written by another "
            "version of outbox-relay",
            version, RECEIPT_VERSION);
    }
    if (length < FIXED_SIZE + CHECK_SIZE) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "a receipt cut off after %zu bytes, at least %d are needed",
            length, FIXED_SIZE + CHECK_SIZE);
    }
    cursor->end -= CHECK_SIZE;
    struct cursor check = {.at = cursor->end};
    if (take_u64(&check) != XXH3_64bits(cursor->start, length - CHECK_SIZE)) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "a receipt of %zu bytes whose checksum is wrong", length);
    }
    if (cursor->at[5] != 0) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "a receipt with unknown flags %u", cursor->at[5]);
    }
    cursor->at += sizeof(magic) + 2;
    memcpy(receipt->header.identity, cursor->at, sizeof(receipt->header.identity));
    cursor->at += sizeof(receipt->header.identity);
    receipt->header.generation = take_u64(cursor);
    receipt->header.number = take_u64(cursor);
    receipt->header.system_identifier = take_u64(cursor);
    receipt->header.timeline = take_u32(cursor);
    *rows = take_u32(cursor);
    if (*rows > (size_t)(cursor->end - cursor->at) / ROW_MIN) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "a receipt of %zu bytes cannot hold the %u rows it names", length,
            *rows);
    }
    return true;
}

bool receipt_decode(const void *data, size_t length, struct receipt *receipt, struct relay_error *error)
{
    struct cursor cursor = {data, data, data ? (const uint8_t *)data + length : NULL};
    uint32_t rows = 0;
    *receipt = (struct receipt){0};
    if (!data) {
        return error_set(error, RELAY_ERROR_PROTOCOL, "not a receipt: a record without a value");
    }
    if (!decode_header(&cursor, receipt, &rows, error)) {
        return false;
    }
    receipt->rows = malloc(((size_t)rows + 1) * sizeof(*receipt->rows));
    if (!receipt->rows) {
        return error_no_memory(error, "reading a receipt");
    }
    for (size_t i = 0; i < rows; i++) {
        size_t place = (size_t)(cursor.at - cursor.start);
        if (!take_row(&cursor, i ? &receipt->rows[i - 1] : NULL, &receipt->rows[i])) {
            receipt_finish(receipt);
            return error_set(error, RELAY_ERROR_PROTOCOL, "row %zu of a receipt is malformed, at byte %zu", i + 1,
                place);
        }
    }
    if (cursor.at != cursor.end) {
        receipt_finish(receipt);
        return error_set(error, RELAY_ERROR_PROTOCOL, "a receipt with %zu bytes behind its last row",
            (size_t)(cursor.end - cursor.at));
    }
    receipt->row_count = rows;
    return true;
}

void receipt_finish(struct receipt *receipt)
{
    free(receipt->rows);
    *receipt = (struct receipt){0};
}

static bool is_dash(size_t position)
{
    return position == 8 || position == 13 || position == 18 || position == 23;
}

void receipt_identity_format(const uint8_t identity[16], char out[37])
{
    static const char digits[] = "0123456789abcdef";
    size_t byte = 0;
    for (size_t i = 0; i < 36;) {
        if (is_dash(i)) {
            out[i++] = '-';
            continue;
        }
        out[i++] = digits[identity[byte] >> 4];
        out[i++] = digits[identity[byte++] & 15];
    }
    out[36] = '\0';
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool receipt_identity_parse(const char *text, size_t length, uint8_t identity[16])
{
    if (length != 36) {
        return false;
    }
    size_t byte = 0;
    for (size_t i = 0; i < 36;) {
        if (is_dash(i)) {
            if (text[i++] != '-') {
                return false;
            }
            continue;
        }
        int high = hex_digit(text[i++]), low = hex_digit(text[i++]);
        if (high < 0 || low < 0) {
            return false;
        }
        identity[byte++] = (uint8_t)(high << 4 | low);
    }
    return true;
}

size_t receipt_key(const uint8_t identity[16], uint64_t number, char out[RECEIPT_KEY_SIZE])
{
    unsigned slot = (unsigned)(number % RECEIPT_RING);
    receipt_identity_format(identity, out);
    char *at = out + 36;
    *at++ = '/';
    if (slot >= 10) {
        *at++ = (char)('0' + slot / 10);
    }
    *at++ = (char)('0' + slot % 10);
    *at = '\0';
    return (size_t)(at - out);
}

bool receipt_key_parse(const char *key, size_t length, uint8_t identity[16], unsigned *slot)
{
    if (!key || length < 38 || length > 39 || key[36] != '/' || !receipt_identity_parse(key, 36, identity)) {
        return false;
    }
    *slot = 0;
    for (size_t i = 37; i < length; i++) {
        if (key[i] < '0' || key[i] > '9') {
            return false;
        }
        *slot = *slot * 10 + (unsigned)(key[i] - '0');
    }
    return *slot < RECEIPT_RING && (length == 38 || key[37] != '0');
}
