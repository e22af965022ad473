// SPDX-License-Identifier: Apache-2.0
//
// The bytes of one INSERT, compressed into one LZ4 frame, ready to be sent. So an INSERT that follows another need not
// be compressed first when that one is answered, and a batch that waits, or is under way, takes the room of its
// compressed form. One frame per body is what makes a cut body all-or-nothing on every server: the frame's end mark is
// missing. One thread at a time.
#ifndef RELAY_INSERT_INSERT_BODY_H
#define RELAY_INSERT_INSERT_BODY_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct insert_body;

// Empty, as after a reset. NULL: NO_MEMORY.
struct insert_body *insert_body_new(struct relay_error *error);
void insert_body_free(struct insert_body *body); // accepts NULL
// Compresses the pieces, which are all of it; what was there before is gone. false: NO_MEMORY, the body is empty then.
bool insert_body_fill(struct insert_body *body, const struct iovec *pieces, size_t count, struct relay_error *error);
void insert_body_reset(struct insert_body *body); // empty again; the memory is kept for the next one
// They are the body's, until it is filled, reset or freed.
const struct iovec *insert_body_pieces(const struct insert_body *body, size_t *count);
size_t insert_body_memory(const struct insert_body *body);

#endif
