// SPDX-License-Identifier: Apache-2.0
//
// The end of a term's clients while a name server does not answer: the thread that owns the outbox goes on beating.
#include "mock_producer.h"
#include "slow_resolver.h"

#include <criterion/criterion.h>

#define BROKERS "127.0.0.1" // as the mock cluster names them

static void start(void)
{
    mock_producer_start();
    rd_kafka_mock_coordinator_set(mock.cluster, "group", "outbox-relay-receipts", 2);
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

Test(fault_kafka_burial, a_producer_is_left_to_a_resolver_that_hangs, .timeout = 60)
{
    start();
    struct kafka_message message = {.value = "x", .value_length = 1};
    message.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error);
    cr_assert_not_null(message.topic, "%s", error.text);
    cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
    deliver(&message); // the transaction is left open
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

Test(fault_kafka_burial, the_receipts_are_read_though_the_name_of_a_coordinator_that_nobody_needs_hangs, .timeout = 60)
{
    start();
    cr_assert(receipt_store_open(&store, &context, producer, TOPIC, tick, in_seconds(20), &error), "%s", error.text);
    write_receipt();
    cr_assert(receipt_store_read(&store, identity, 0, -1, lose_coordinator, NULL, tick, DURATION_S(20), &error), "%s",
        error.text);
    cr_assert_gt(slow_resolver_hanging(), 0, "it was waited for");
    slow_resolver_end();
}
