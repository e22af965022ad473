// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_transaction.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 600

// A batch as far as a transaction looks at it.
struct rows {
    struct outbox_batch batch;
    struct outbox_row rows[MOST];
    const struct kafka_topic *topics[MOST];
    char ids[MOST][24];
};

static struct publish_transaction transaction;
static struct seq_holes *holes;
static struct rows rows;
static struct relay_error error;

static void begin(void)
{
    holes = seq_holes_new(100, 16, &error);
    cr_assert_not_null(holes);
    cr_assert(publish_transaction_init(&transaction, 16, &error));
    publish_transaction_begin(&transaction, (struct mono_time){5}, holes);
}

static void finish(void)
{
    publish_transaction_finish(&transaction);
    seq_holes_free(holes);
}

TestSuite(publish_transaction, .init = begin, .fini = finish);

// Rows from `first` on, created at the same moment.
static struct outbox_batch *batch_of(int64_t first, size_t count, const struct kafka_topic *topic,
    int64_t created_at_us)
{
    cr_assert_leq(count, MOST);
    rows.batch = (struct outbox_batch){.rows = rows.rows, .topics = rows.topics, .count = count};
    for (size_t i = 0; i < count; i++) {
        int64_t seq = first + (int64_t)i;
        int length = snprintf(rows.ids[i], sizeof(rows.ids[i]), "event %lld", (long long)seq);
        rows.rows[i] = (struct outbox_row){.seq = seq,
            .id = {rows.ids[i], (size_t)length},
            .created_at_kind = CREATED_AT_FINITE,
            .created_at_us = created_at_us};
        rows.topics[i] = topic;
    }
    return &rows.batch;
}

static const struct kafka_topic *topic_of(struct metrics *metrics, const char *name, struct kafka_topic *topic)
{
    *topic = (struct kafka_topic){.published = metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, name), .name = name};
    return topic;
}

Test(publish_transaction, its_receipt_names_the_rows_of_all_batches_in_their_order)
{
    struct kafka_topic topic = {0};
    cr_assert(publish_transaction_add(&transaction, batch_of(1000, 500, &topic, 1), true, &error));
    cr_assert(publish_transaction_add(&transaction, batch_of(1500, 500, &topic, 2), true, &error));
    cr_assert(publish_transaction_add(&transaction, batch_of(700, 3, &topic, 3), true, &error)); // these committed late
    struct receipt_header header = {.generation = 1, .number = 7};
    size_t size = publish_transaction_receipt(&transaction, &header, &error);
    struct receipt receipt;
    cr_assert(receipt_decode(transaction.receipt, size, &receipt, &error), "%s", error.text);
    cr_assert_eq(receipt.row_count, 1003);
    for (size_t i = 0; i < receipt.row_count; i++) {
        int64_t seq = i < 3 ? 700 + (int64_t)i : 997 + (int64_t)i;
        char id[24];
        int length = snprintf(id, sizeof(id), "event %lld", (long long)seq);
        int64_t created_at_us = i < 3 ? 3 : i < 503 ? 1 : 2;
        cr_assert_eq(receipt.rows[i].seq, seq);
        cr_assert_eq(receipt.rows[i].hash,
            receipt_row_hash((struct text_view){id, (size_t)length}, CREATED_AT_FINITE, created_at_us));
    }
    receipt_finish(&receipt);
}

Test(publish_transaction, the_next_one_on_the_connection_knows_nothing_of_it)
{
    struct kafka_topic topic = {0};
    cr_assert(publish_transaction_add(&transaction, batch_of(1, 500, &topic, 1), true, &error));
    transaction.in_kafka = transaction.receipt_sent = true;
    publish_transaction_begin(&transaction, (struct mono_time){6}, holes);
    cr_assert(transaction.open && !transaction.in_kafka && !transaction.receipt_sent);
    cr_assert(publish_transaction_add(&transaction, batch_of(2000, 1, &topic, 1), true, &error));
    struct receipt receipt;
    struct receipt_header header = {0};
    size_t size = publish_transaction_receipt(&transaction, &header, &error);
    cr_assert(receipt_decode(transaction.receipt, size, &receipt, &error));
    cr_assert(receipt.row_count == 1 && receipt.rows[0].seq == 2000);
    receipt_finish(&receipt);
    cr_assert_eq(transaction.run_count, 1);
    cr_assert_eq(transaction.runs[0].events, 1);
}

Test(publish_transaction, its_events_are_counted_by_topic_once_it_is_committed)
{
    struct metrics *metrics = metrics_new(&error);
    cr_assert_not_null(metrics);
    struct kafka_topic a, b;
    topic_of(metrics, "a", &a);
    topic_of(metrics, "b", &b);
    struct metric_series *latency = metrics_series0(metrics, METRIC_PUBLISH_LATENCY_SECONDS);
    cr_assert(publish_transaction_add(&transaction, batch_of(1, 400, &a, 1000000), false, &error));
    cr_assert(publish_transaction_add(&transaction, batch_of(401, 200, &b, 2000000), false, &error));
    cr_assert(publish_transaction_add(&transaction, batch_of(601, 50, &a, 2000000), false, &error));
    cr_assert_eq(transaction.sent_count, 0, "no receipt was wanted");
    cr_assert_eq(metric_value(a.published), 0, "nothing is out yet");
    for (int i = 0; i < 2; i++) { // the second time there is nothing left to count
        publish_transaction_count(&transaction, latency, (struct wall_time){3000000});
        cr_assert_eq(metric_value(a.published), 450);
        cr_assert_eq(metric_value(b.published), 200);
        cr_assert_eq(metric_value(latency), 650);
    }
    size_t length;
    char *text = metrics_render(metrics, &length);
    cr_assert_not_null(text);
    cr_assert_not_null(strstr(text, "latency_seconds_bucket{le=\"1\"} 250\n"), "250 took 1 s, 400 took 2 s:\n%s", text);
    free(text);
    metrics_free(metrics);
}
