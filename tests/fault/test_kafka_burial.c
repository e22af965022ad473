// SPDX-License-Identifier: Apache-2.0
//
// The end of a term's clients while a name server does not answer: the thread that owns the outbox goes on beating.
#include "mock_kafka.h"
#include "relay/kafka/kafka_producer.h"
#include "relay/publish/receipt_store.h"
#include "slow_resolver.h"

#include <criterion/criterion.h>

#define TOPIC   "receipts"
#define BROKERS "127.0.0.1" // as the mock cluster names them

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

static void start_producer(void)
{
    mock_kafka_start(&mock, 2, TOPIC, &config);
    rd_kafka_mock_partition_set_leader(mock.cluster, TOPIC, 0, 1);
    rd_kafka_mock_coordinator_set(mock.cluster, "transaction", "t", 1);
    rd_kafka_mock_coordinator_set(mock.cluster, "group", "outbox-relay-receipts", 2);
    context.clock = clock_system();
    context.metrics = metrics_new(&error);
    cr_assert_not_null(context.metrics, "%s", error.text);
    struct kafka_producer_options options = {.transactional_id = "t", .batch_rows = 10, .batch_bytes = 1 << 20};
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert(kafka_producer_init(producer, in_seconds(20), &error), "%s", error.text);
    slow_resolver_start(NULL, NULL);
}

// From here on the brokers are away, and the producer waits for the address of one. It keeps addresses for a second.
static void lose_brokers(void)
{
    slow_resolver_hold(BROKERS);
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    rd_kafka_mock_broker_set_down(mock.cluster, 2);
    while (slow_resolver_hanging() == 0) {
        kafka_producer_reach(producer, mono_add(clock_mono(clock_system()), DURATION_MS(100)), &error);
    }
}

// Sends the message in a transaction of its own, which is left open, and awaits its report.
static void deliver(const struct kafka_message *message)
{
    struct kafka_flight flight = {0};
    struct kafka_slot slot;
    cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
    cr_assert(kafka_producer_send(producer, message, &flight, &slot, in_seconds(20), &error), "%s", error.text);
    while (flight.pending > 0) { // the test's own time limit ends it
        kafka_producer_flush(producer, DURATION_MS(100));
    }
}

Test(fault_kafka_burial, a_producer_is_left_to_a_resolver_that_hangs, .timeout = 60)
{
    start_producer();
    struct kafka_message message = {.value = "x", .value_length = 1};
    message.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error);
    cr_assert_not_null(message.topic, "%s", error.text);
    deliver(&message);
    lose_brokers();
    ticks = 0;
    cr_assert_not(kafka_producer_free(producer));
    cr_assert_gt(slow_resolver_hanging(), 0, "it was waited for");
    cr_assert_gt(ticks, 0);
    slow_resolver_end();
}

static bool lose_coordinator(void *unused, const struct receipt *receipt, const struct receipt_place *place,
    struct relay_error *why)
{
    (void)unused;
    (void)receipt;
    (void)place;
    (void)why;
    slow_resolver_hold(BROKERS);
    rd_kafka_mock_broker_set_down(mock.cluster, 2);
    slow_resolver_wait_asked();
    return true;
}

static void write_receipt(void)
{
    uint8_t value[200];
    char key[RECEIPT_KEY_SIZE];
    struct receipt_header header = {.generation = 1, .number = 7};
    memcpy(header.identity, identity, sizeof(identity));
    struct receipt_row row = {.seq = 1, .hash = 2};
    struct kafka_message message = {.topic = store.handle,
        .key = key,
        .key_length = receipt_key(identity, 7, key),
        .value = (const char *)value,
        .value_length = receipt_encode(&header, &row, 1, value)};
    deliver(&message);
    cr_assert(kafka_producer_commit(producer, in_seconds(20), &error), "%s", error.text);
}

Test(fault_kafka_burial, the_receipts_are_read_though_the_name_of_a_coordinator_that_nobody_needs_hangs, .timeout = 60)
{
    start_producer();
    cr_assert(receipt_store_open(&store, &context, producer, TOPIC, tick, in_seconds(20), &error), "%s", error.text);
    write_receipt();
    cr_assert(receipt_store_read(&store, identity, 0, -1, lose_coordinator, NULL, tick, DURATION_S(20), &error), "%s",
        error.text);
    cr_assert_gt(slow_resolver_hanging(), 0, "it was waited for");
    slow_resolver_end();
}
