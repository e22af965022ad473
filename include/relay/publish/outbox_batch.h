// SPDX-License-Identifier: Apache-2.0
//
// The rows of one batch, from PostgreSQL's result to the last delivery report. It owns the results (payloads are never
// copied: Kafka's queue points into them), the arena with what is made out of the rows, the routed events and the slots
// of the reports; all of it is kept over a reset, so that a steady load allocates nothing. A batch whose flight is not
// empty must not be reset or freed (unless the producer is gone). One thread at a time.
#ifndef RELAY_PUBLISH_OUTBOX_BATCH_H
#define RELAY_PUBLISH_OUTBOX_BATCH_H

#include "relay/kafka/kafka_producer.h"
#include "relay/publish/event_arena.h"
#include "relay/publish/event_router.h"
#include "relay/publish/outbox_row.h"
#include "relay/publish/outbox_table.h"
#include "relay/publish/receipt.h"

#define OUTBOX_BATCH_RESULTS 2 // new rows; rows found in holes

struct outbox_batch {
    PGresult *results[OUTBOX_BATCH_RESULTS];
    size_t result_count;
    struct event_arena *arena;
    size_t count, capacity;
    struct outbox_row *rows;           // ascending by seq after outbox_batch_sort()
    struct routed_event *events;       // after outbox_batch_route()
    const struct kafka_topic **topics; // of each event, once checked
    struct kafka_slot *slots;          // one for each event
    struct kafka_flight flight;
    size_t bytes; // of the rows' values
};

struct outbox_batch *outbox_batch_new(size_t keep_bytes, struct relay_error *error);
void outbox_batch_free(struct outbox_batch *batch); // accepts NULL
void outbox_batch_reset(struct outbox_batch *batch);
void outbox_batch_shrink(struct outbox_batch *batch); // a reset that gives its memory back: the next one may be far off

// Decodes and takes over a binary result that begins with the columns of outbox_table.row (also on failure; NULL is not
// allowed). guarded: of guarded_row, and then a column with outbox_row.above. Errors: NO_MEMORY, PROTOCOL.
bool outbox_batch_add(struct outbox_batch *batch, const struct outbox_table *table, size_t additional_count,
    bool guarded, PGresult *result, struct relay_error *error);
void outbox_batch_sort(struct outbox_batch *batch);

// Routes the rows from *next on; stops at the first that cannot be: *next is its index, and reason and error say why
// (POISON), or NO_MEMORY with reason NONE. true: all are routed.
bool outbox_batch_route(struct outbox_batch *batch, struct event_router *router, size_t *next,
    enum publish_reason *reason, struct relay_error *error);

// Of sorted rows. rows: room for all of the batch.
void outbox_batch_receipt_rows(const struct outbox_batch *batch, struct receipt_row *rows);

#endif
