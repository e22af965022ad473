// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_transaction.h"

#include <stdlib.h>

bool publish_transaction_init(struct publish_transaction *transaction, int64_t ranges, struct relay_error *error)
{
    *transaction = (struct publish_transaction){0};
    transaction->before = seq_holes_new(INT64_MIN, (size_t)ranges, error);
    return transaction->before != NULL;
}

void publish_transaction_finish(struct publish_transaction *transaction)
{
    seq_holes_free(transaction->before);
    free(transaction->sent);
    free(transaction->runs);
    free(transaction->receipt);
    *transaction = (struct publish_transaction){0};
}

void publish_transaction_begin(struct publish_transaction *transaction, struct mono_time now,
    const struct seq_holes *holes)
{
    seq_holes_copy(transaction->before, holes);
    transaction->open = true;
    transaction->in_kafka = transaction->receipt_sent = false;
    transaction->batches = transaction->rows = transaction->sent_count = transaction->run_count = 0;
    transaction->began = now;
    transaction->awaited = DURATION_NS(0);
    transaction->flight = (struct kafka_flight){0};
}

// Makes room for `more` entries behind `count` of them. NULL: out of memory, and the old ones stay as they are.
static void *with_room(void *entries, size_t size, size_t count, size_t more, size_t *capacity,
    struct relay_error *error)
{
    if (count + more <= *capacity) {
        return entries;
    }
    size_t wanted = (count + more) * 2 + 64;
    void *larger = realloc(entries, wanted * size);
    if (larger == NULL) {
        error_no_memory(error, "the rows of a transaction");
        return NULL;
    }
    *capacity = wanted;
    return larger;
}

static bool add_sent(struct publish_transaction *transaction, const struct outbox_batch *batch,
    struct relay_error *error)
{
    struct receipt_row *sent = with_room(transaction->sent, sizeof(*sent), transaction->sent_count, batch->count,
        &transaction->sent_capacity, error);
    if (sent == NULL) {
        return false;
    }
    transaction->sent = sent;
    outbox_batch_receipt_rows(batch, sent + transaction->sent_count);
    transaction->sent_count += batch->count;
    return true;
}

static bool belongs(const struct publish_run *run, const struct outbox_row *row, const struct kafka_topic *topic)
{
    return run->published == topic->published && run->created_at_kind == row->created_at_kind &&
        run->created_at_us == row->created_at_us;
}

static bool add_runs(struct publish_transaction *transaction, const struct outbox_batch *batch,
    struct relay_error *error)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct outbox_row *row = &batch->rows[i];
        if (transaction->run_count > 0 &&
            belongs(&transaction->runs[transaction->run_count - 1], row, batch->topics[i])) {
            transaction->runs[transaction->run_count - 1].events++;
            continue;
        }
        struct publish_run *runs = with_room(transaction->runs, sizeof(*runs), transaction->run_count, 1,
            &transaction->run_capacity, error);
        if (runs == NULL) {
            return false;
        }
        transaction->runs = runs;
        runs[transaction->run_count++] = (struct publish_run){
            .published = batch->topics[i]->published,
            .created_at_us = row->created_at_us,
            .created_at_kind = row->created_at_kind,
            .events = 1,
        };
    }
    return true;
}

bool publish_transaction_add(struct publish_transaction *transaction, const struct outbox_batch *batch, bool receipt,
    struct relay_error *error)
{
    return (!receipt || add_sent(transaction, batch, error)) && add_runs(transaction, batch, error);
}

static int by_seq(const void *a, const void *b)
{
    const struct receipt_row *left = a, *right = b;
    return left->seq < right->seq ? -1 : left->seq > right->seq;
}

// Each batch is ascending. A row that committed late stands behind higher ones of the batch before.
static void sort(struct receipt_row *rows, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (rows[i].seq < rows[i - 1].seq) {
            qsort(rows, count, sizeof(*rows), by_seq);
            return;
        }
    }
}

size_t publish_transaction_receipt(struct publish_transaction *transaction, const struct receipt_header *header,
    struct relay_error *error)
{
    uint8_t *receipt = realloc(transaction->receipt, receipt_size(transaction->sent_count));
    if (receipt == NULL) {
        error_no_memory(error, "a receipt");
        return 0;
    }
    transaction->receipt = receipt;
    sort(transaction->sent, transaction->sent_count);
    return receipt_encode(header, transaction->sent, transaction->sent_count, receipt);
}

void publish_transaction_count(struct publish_transaction *transaction, struct metric_series *latency,
    struct wall_time now)
{
    for (size_t i = 0; i < transaction->run_count; i++) {
        const struct publish_run *run = &transaction->runs[i];
        metric_add(run->published, run->events);
        if (run->created_at_kind == CREATED_AT_FINITE) {
            metric_observe_many(latency, (double)(now.us - run->created_at_us) / 1e6, run->events);
        }
    }
    transaction->run_count = 0;
}
