// SPDX-License-Identifier: Apache-2.0
//
// A receipt: the last record of a batch's Kafka transaction. It says which batch of which outbox this was and which
// rows were in it, so that a relay that comes after a crash between Kafka's commit and PostgreSQL's can finish exactly
// those: by number, and by a hash of id and created_at, because a sequence can go back after a failover and give the
// same number to another event. Encodes, decodes, names keys; no I/O. Any thread.
//
// Value, integers little-endian: "OBRC", version (1 byte), flags (1 byte, 0), identity (16), generation (8), number
// (8), system identifier (8), timeline (4), rows (4); then for each row, ascending, the distance of its seq from the
// one before (LEB128; the first one's seq itself, zigzag-coded) and its hash (8); at last XXH3-64 of all before (8). A
// reader refuses versions it does not know.
#ifndef RELAY_PUBLISH_RECEIPT_H
#define RELAY_PUBLISH_RECEIPT_H

#include "relay/base/error.h"
#include "relay/publish/outbox_row.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECEIPT_BYTES    1000000 // what every topic takes unless somebody lowered it: no receipt is made larger
#define RECEIPT_RING     64      // the keys one outbox uses in turn, so that compaction keeps this many receipts
#define RECEIPT_KEY_SIZE 40      // room for a key and its NUL: 36 of the uuid, '/', 2 digits

struct receipt_header {
    uint8_t identity[16]; // of the outbox
    uint64_t generation, number;
    uint64_t system_identifier; // of the PostgreSQL cluster
    uint32_t timeline;
};

struct receipt_row {
    int64_t seq;
    uint64_t hash; // receipt_row_hash()
};

struct receipt {
    struct receipt_header header;
    struct receipt_row *rows; // ascending by seq
    size_t row_count;
};

// XXH3-64 over id's bytes, created_at's kind and its microseconds.
uint64_t receipt_row_hash(struct text_view id, enum created_at_kind kind, int64_t created_at_us);

// Never less than what a receipt of so many rows takes.
size_t receipt_size(size_t rows);
// The most rows whose receipt, as a record, stays below message.max.bytes = `bytes`; 0 if not even one.
size_t receipt_rows_within(size_t bytes);
// rows: ascending by seq (else it asserts); doubles are possible in a table without a unique index. out:
// receipt_size(count) bytes. Returns the length.
size_t receipt_encode(const struct receipt_header *header, const struct receipt_row *rows, size_t count, uint8_t *out);
// Whether it begins as receipts of every version do: else somebody else wrote it.
bool receipt_begins(const void *data, size_t length);
// Errors: PROTOCOL (what is wrong with it, at which byte), NO_MEMORY; *receipt needs no finishing then.
bool receipt_decode(const void *data, size_t length, struct receipt *receipt, struct relay_error *error);
void receipt_finish(struct receipt *receipt);

// "<identity as uuid>/<number mod 64>", NUL-terminated. Returns its length.
size_t receipt_key(const uint8_t identity[16], uint64_t number, char out[RECEIPT_KEY_SIZE]);
// A key back into its parts. false: not one of ours (somebody else's record, ignore it).
bool receipt_key_parse(const char *key, size_t length, uint8_t identity[16], unsigned *slot);
// A uuid's text (as PostgreSQL prints it) into bytes and back (37 bytes with NUL).
bool receipt_identity_parse(const char *text, size_t length, uint8_t identity[16]);
void receipt_identity_format(const uint8_t identity[16], char out[37]);

#endif
