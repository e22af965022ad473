// SPDX-License-Identifier: Apache-2.0
//
// One transaction of PostgreSQL and, exactly_once, of Kafka with it. It carries one batch when the outbox is quiet and
// several while it is behind, since what a transaction costs at its end (the receipt, the number, the commits, a broker
// with nothing to do meanwhile) does not grow with its rows. This is what outlives its batches until the commit: which
// rows were handed to Kafka, for the receipt, and what is to be counted once they are out. One thread at a time.
#ifndef RELAY_PUBLISH_PUBLISH_TRANSACTION_H
#define RELAY_PUBLISH_PUBLISH_TRANSACTION_H

#include "relay/base/clock.h"
#include "relay/base/metrics.h"
#include "relay/kafka/kafka_producer.h"
#include "relay/publish/outbox_batch.h"
#include "relay/publish/outbox_sql.h"
#include "relay/publish/receipt.h"
#include "relay/publish/seq_holes.h"

// Events one after another of one topic and one moment.
struct publish_run {
    struct metric_series *published;
    int64_t created_at_us;
    enum created_at_kind created_at_kind;
    size_t events;
};

struct publish_transaction {
    bool open;                   // begun in PostgreSQL, and its end is not known yet
    bool in_kafka;               // begun there, too
    size_t batches;              // begun in it
    size_t rows;                 // of the batches whose rows have been taken
    struct mono_time began;      // in PostgreSQL
    struct mono_time limit_from; // Kafka's limit counts from here: its first rows are in memory, then: begun in Kafka
    struct duration awaited;     // how long reports of Kafka were waited for
    struct seq_holes *before;    // the holes as they were before it

    struct receipt_row *sent; // ascending once the receipt is made
    size_t sent_count, sent_capacity;
    struct publish_run *runs;
    size_t run_count, run_capacity;

    bool receipt_sent;          // with it the transaction is complete
    uint8_t *receipt;           // must live until it is delivered
    char key[RECEIPT_KEY_SIZE]; // so must this
    struct kafka_flight flight; // of the receipt
    struct kafka_slot slot;     // of its report
    struct batch_number number; // its place in the order of all transactions, once the receipt is made
};

bool publish_transaction_init(struct publish_transaction *transaction, int64_t ranges, struct relay_error *error);
void publish_transaction_finish(struct publish_transaction *transaction);
void publish_transaction_begin(struct publish_transaction *transaction, struct mono_time now,
    const struct seq_holes *holes);

// Notes the rows of a batch that is handed to Kafka now; they must be sorted, routed and have their topics. NO_MEMORY.
bool publish_transaction_add(struct publish_transaction *transaction, const struct outbox_batch *batch, bool receipt,
    struct relay_error *error);
// The receipt of all rows noted; its key is filled in. 0: NO_MEMORY.
size_t publish_transaction_receipt(struct publish_transaction *transaction, const struct receipt_header *header,
    struct relay_error *error);
// After its commit: adds its events to the counters, and how long they took until `now`.
void publish_transaction_count(struct publish_transaction *transaction, struct metric_series *latency,
    struct wall_time now);

#endif
