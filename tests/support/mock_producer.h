// SPDX-License-Identifier: Apache-2.0
//
// A producer of a term and the store of its receipts at a mock cluster, for one test program each: everything in it is
// its own.
#ifndef TESTS_SUPPORT_MOCK_PRODUCER_H
#define TESTS_SUPPORT_MOCK_PRODUCER_H

#include "mock_kafka.h"
#include "relay/kafka/kafka_producer.h"
#include "relay/publish/receipt_store.h"

#define TOPIC "receipts"

static const uint8_t identity[16] = {1, 2, 3};

static struct relay_error error;
static struct config config;
static struct relay_context context = {.config = &config, .instance = "0123456789abcdef0123456789abcdef"};
static struct mock_kafka mock;
static struct kafka_producer *producer;
static struct receipt_store store;
static int ticks;

static void count_tick(void *unused)
{
    (void)unused;
    ticks++;
}

static const struct kafka_tick tick = {.function = count_tick};

static struct mono_time in_seconds(int64_t seconds)
{
    return mono_add(clock_mono(clock_system()), DURATION_S(seconds));
}

static void mock_producer_start(void)
{
    mock_kafka_start(&mock, 2, TOPIC, &config);
    // All on broker 1: while the other one is up, librdkafka has no reason to say that all are down.
    rd_kafka_mock_partition_set_leader(mock.cluster, TOPIC, 0, 1);
    rd_kafka_mock_coordinator_set(mock.cluster, "transaction", "t", 1);
    context.clock = clock_system();
    context.metrics = metrics_new(&error);
    cr_assert_not_null(context.metrics, "%s", error.text);
    struct kafka_producer_options options = {.transactional_id = "t", .batch_rows = 10, .batch_bytes = 1 << 20};
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert(kafka_producer_init(producer, in_seconds(20), &error), "%s", error.text);
}

// Flushes until the flight is empty. Whether everything was delivered.
static bool wait_for_reports(struct kafka_flight *flight)
{
    struct mono_time deadline = in_seconds(20);
    while (flight->pending > 0) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "%zu messages without a report",
            flight->pending);
        kafka_producer_flush(producer, DURATION_MS(100));
    }
    return flight->failed == 0;
}

// Sends the message, in the transaction that was begun, and awaits its report.
static void deliver(const struct kafka_message *message)
{
    struct kafka_flight flight = {0};
    struct kafka_slot slot;
    cr_assert(kafka_producer_send(producer, message, &flight, &slot, in_seconds(20), &error), "%s", error.text);
    cr_assert(wait_for_reports(&flight), "%s", rd_kafka_err2str((rd_kafka_resp_err_t)flight.first_error));
}

static void write_receipt(void)
{
    uint8_t value[200];
    char key[RECEIPT_KEY_SIZE];
    struct receipt_header header = {.generation = 1, .number = 7};
    memcpy(header.identity, identity, sizeof(identity));
    struct receipt_row row = {.seq = 1, .hash = 2};
    cr_assert_leq(receipt_size(1), sizeof(value));
    struct kafka_message message = {.topic = store.handle,
        .key = key,
        .key_length = receipt_key(identity, 7, key),
        .value = (const char *)value,
        .value_length = receipt_encode(&header, &row, 1, value)};
    cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
    deliver(&message);
    cr_assert(kafka_producer_commit(producer, in_seconds(20), &error), "%s", error.text);
}

#endif
