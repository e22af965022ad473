// SPDX-License-Identifier: Apache-2.0
//
// The producer of a term, the reading of receipts, where a consumer begins and what the insert stage's group says of
// its health, against librdkafka's mock cluster, which closes connections and refuses requests when a test wants it.
#include "mock_producer.h"
#include "relay/cli/kafka_probe.h"
#include "relay/insert/insert_group.h"
#include "relay/insert/insert_health.h"
#include "relay/kafka/kafka_consumer.h"
#include "relay/kafka/kafka_rights.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PRODUCE          0 // ApiKeys
#define FETCH            1
#define LIST_OFFSETS     2
#define OFFSET_FETCH     9
#define FIND_COORDINATOR 10
#define INIT_PRODUCER_ID 22

static void stop(void)
{
    kafka_producer_free(producer);
    receipt_store_finish(&store);
    mock_kafka_stop(&mock);
    metrics_free(context.metrics);
}

TestSuite(fault_kafka, .init = mock_producer_start, .fini = stop);

Test(fault_kafka, a_connection_that_was_closed_in_a_transaction_is_told_every_time)
{
    struct kafka_message message = {.partition = 0, .value = "x", .value_length = 1};
    message.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error);
    cr_assert_not_null(message.topic, "%s", error.text);
    for (int i = 0; i < 3; i++) { // librdkafka keeps silent about what is like its last error
        cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
        cr_assert_not(kafka_producer_suspicious(producer), "round %d", i);
        deliver(&message);
        rd_kafka_mock_broker_set_down(mock.cluster, 1);
        struct mono_time deadline = in_seconds(20);
        while (!kafka_producer_suspicious(producer)) {
            cr_assert_not(mono_reached(clock_mono(clock_system()), deadline), "round %d", i);
            kafka_producer_poll(producer, DURATION_MS(5));
        }
        rd_kafka_mock_broker_set_up(mock.cluster, 1);
        cr_assert(kafka_producer_commit(producer, in_seconds(40), &error), "round %d: %s", i, error.text);
        cr_assert(kafka_producer_suspicious(producer), "it stays told, round %d", i);
    }
    struct mono_time deadline = in_seconds(20);
    do { // until the connections that went with the broker are replaced
        cr_assert_not(mono_reached(clock_mono(clock_system()), deadline), "told without need");
        cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
        deliver(&message);
        cr_assert(kafka_producer_commit(producer, in_seconds(20), &error), "%s", error.text);
    } while (kafka_producer_suspicious(producer));
}

static int socket_option(int descriptor, int level, int option)
{
    int value = 0;
    socklen_t size = sizeof(value);
    return getsockopt(descriptor, level, option, &value, &size) == 0 ? value : 0;
}

// What stands between forgets a connection that is silent for some minutes; the kernel's default is two hours.
Test(fault_kafka, a_connection_that_is_idle_is_kept_alive)
{
    size_t kept = 0;
    for (int descriptor = 0; descriptor < 1024; descriptor++) {
        if (socket_option(descriptor, SOL_SOCKET, SO_KEEPALIVE)) {
            cr_assert_leq(socket_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE), 15);
            cr_assert_leq(socket_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL), 5);
            kept++;
        }
    }
    cr_assert_gt(kept, 0);
}

static size_t receipts_read;

static bool count_receipt(void *unused, const struct receipt *receipt, const struct receipt_place *place,
    struct relay_error *why)
{
    (void)unused;
    (void)place;
    (void)why;
    receipts_read += receipt->header.number == 7;
    return true;
}

static bool read_receipts(int64_t offset, int64_t seconds)
{
    receipts_read = 0;
    return receipt_store_read(&store, identity, 0, offset, count_receipt, NULL, tick, DURATION_S(seconds), &error);
}

Test(fault_kafka, what_ends_at_its_deadline_says_what_is_wrong_with_the_brokers)
{
    char trouble[200];
    kafka_producer_free(producer);
    mock_kafka_move(&mock);
    struct kafka_producer_options options = {.transactional_id = "t", .batch_rows = 10, .batch_bytes = 1 << 20};
    producer = kafka_producer_new(&context, &options, tick, &error); // knows the addresses of the first cluster
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert_not(kafka_producer_init(producer, in_seconds(1), &error));
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_UNREACHABLE);
    cr_assert_not_null(strstr(error.text, "init_transactions: no outcome until the deadline"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "; 127.0.0.1:"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "Connection refused"), "%s", error.text);
    cr_assert(kafka_producer_trouble(producer, trouble, sizeof(trouble)));
    cr_assert_null(strstr(trouble, " (after "), "%s", trouble);
}

// As a coordinator answers while a partition that the transaction before wrote to does not take the marker of its end.
Test(fault_kafka, a_transaction_that_kafka_cannot_end_is_no_silence_of_kafka)
{
    static const rd_kafka_resp_err_t ending[] = {[0 ... 399] = RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS};
    struct kafka_producer_options options = {.transactional_id = "t", .batch_rows = 10, .batch_bytes = 1 << 20};
    kafka_producer_free(producer);
    rd_kafka_mock_push_request_errors_array(mock.cluster, INIT_PRODUCER_ID, 400, ending);
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert_not(kafka_producer_init(producer, in_seconds(3), &error));
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_OPERATOR, "%s", error.text);
    cr_assert(kafka_producer_unended(&error));
    cr_assert_not_null(strstr(error.text, "--unavailable-partitions"), "%s", error.text);
    rd_kafka_mock_clear_request_errors(mock.cluster, INIT_PRODUCER_ID);
    cr_assert(kafka_producer_init(producer, in_seconds(20), &error), "%s", error.text);
    mock_kafka_move(&mock);
    kafka_producer_free(producer);
    producer = kafka_producer_new(&context, &options, tick, &error); // knows the addresses of the first cluster
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert_not(kafka_producer_init(producer, in_seconds(1), &error));
    cr_assert_not(kafka_producer_unended(&error), "%s", error.text);
}

// An idempotent producer has nothing to fence: a term without transactions would begin, and tell everybody that Kafka
// is well, before anybody has heard of it.
Test(fault_kafka, a_producer_without_transactions_has_heard_of_a_broker_once_it_is_begun)
{
    struct kafka_producer_options options = {.batch_rows = 10, .batch_bytes = 1 << 20};
    kafka_producer_free(producer);
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert(kafka_producer_init(producer, in_seconds(20), &error), "%s", error.text);
    struct kafka_message message = {.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error),
        .partition = RD_KAFKA_PARTITION_UA};
    cr_assert_not_null(message.topic, "%s", error.text);
    deliver(&message);
    kafka_producer_free(producer);
    mock_kafka_move(&mock);
    producer = kafka_producer_new(&context, &options, tick, &error); // knows the addresses of the first cluster
    cr_assert_not_null(producer, "%s", error.text);
    ticks = 0;
    cr_assert_not(kafka_producer_init(producer, in_seconds(1), &error));
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_UNREACHABLE, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "Connection refused"), "%s", error.text);
    cr_assert_gt(ticks, 0);
}

// Else a consumer would see what is behind it first, and then the refused one's neighbours.
Test(fault_kafka, behind_a_record_that_is_refused_without_transactions_nothing_is_delivered)
{
    struct config_pair pairs[] = {mock.servers, {.name = (char[]){"batch.num.messages"}, .value = (char[]){"1"}}};
    // The mock cluster knows no sequence numbers: this is how a broker answers what was in flight behind the refused.
    static const rd_kafka_resp_err_t refusals[] = {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER};
    struct kafka_producer_options options = {.batch_rows = 10, .batch_bytes = 1 << 20};
    kafka_producer_free(producer);
    config.kafka = pairs;
    config.kafka_count = 2;
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    for (int round = 0; round < 2; round++) { // the client that comes after it refuses as well
        struct kafka_message message = {.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error),
            .partition = RD_KAFKA_PARTITION_UA};
        cr_assert_not_null(message.topic, "%s", error.text);
        deliver(&message);
        struct kafka_flight flight = {0};
        struct kafka_slot slots[2];
        rd_kafka_mock_push_request_errors_array(mock.cluster, PRODUCE, 2, refusals);
        for (int i = 0; i < 2; i++) {
            cr_assert(kafka_producer_send(producer, &message, &flight, &slots[i], in_seconds(20), &error), "%s",
                error.text);
        }
        cr_assert_not(wait_for_reports(&flight));
        cr_assert_eq(slots[0].error, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        cr_assert_eq(flight.failed, 2, "what is behind it was not delivered");
        rd_kafka_mock_clear_request_errors(mock.cluster, PRODUCE);
        cr_assert(kafka_producer_abort(producer, in_seconds(20), &error), "%s", error.text);
    }
}

static void stop_while_it_begins(const char *transactional_id)
{
    struct kafka_producer_options options = {.transactional_id = transactional_id,
        .batch_rows = 10,
        .batch_bytes = 1 << 20};
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert_not(kafka_producer_init(producer, in_seconds(600), &error));
    cr_assert_eq(error.code, RELAY_ERROR_STOPPED, "%s", error.text);
    kafka_producer_free(producer);
    producer = NULL;
}

Test(fault_kafka, a_stop_ends_the_waiting_for_init_transactions)
{
    kafka_producer_free(producer);
    mock_kafka_move(&mock);
    struct stop stop;
    cr_assert(stop_init(&stop, &error), "%s", error.text);
    context.stop = &stop;
    stop_raise(&stop, in_seconds(600));
    stop_while_it_begins("t");
    stop_while_it_begins(NULL);
    stop_finish(&stop);
    context.stop = NULL;
}

Test(kafka_cluster, a_coordinator_that_moves_is_asked_again_for_the_offsets_of_the_group, .init = mock_producer_start,
    .fini = stop)
{
    rd_kafka_mock_coordinator_set(mock.cluster, "group", "g", 1);
    struct kafka_probe *probe = kafka_probe_open(&context, "status", DURATION_S(20), &error);
    cr_assert_not_null(probe, "%s", error.text);
    static const rd_kafka_resp_err_t moved[] = {[0 ... 4] = RD_KAFKA_RESP_ERR_NOT_COORDINATOR};
    rd_kafka_mock_push_request_errors_array(mock.cluster, OFFSET_FETCH, 5, moved);
    rd_kafka_topic_partition_list_t *committed = kafka_probe_committed(probe, "g", DURATION_S(20), &error);
    cr_assert_not_null(committed, "%s", error.text);
    rd_kafka_topic_partition_list_destroy(committed);
    kafka_probe_close(probe);
}

// As on a busy machine, where a millisecond is as long as the answer takes.
Test(fault_kafka, a_start_of_init_transactions_that_was_answered_at_once_is_no_failure)
{
    struct kafka_producer_options options = {.transactional_id = "t", .batch_rows = 10, .batch_bytes = 1 << 20};
    kafka_producer_free(producer);
    producer = kafka_producer_new(&context, &options, tick, &error);
    cr_assert_not_null(producer, "%s", error.text);
    kafka_producer_init_start(producer, DURATION_S(20));
    cr_assert(kafka_producer_init(producer, in_seconds(20), &error), "%s", error.text);
    struct kafka_message message = {.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error)};
    cr_assert_not_null(message.topic, "%s", error.text);
    cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
    deliver(&message);
    cr_assert(kafka_producer_commit(producer, in_seconds(20), &error), "%s", error.text);
}

// The mock cluster makes a topic that is looked up, as stock brokers do, unless the client forbids it.
Test(fault_kafka, a_topic_that_is_looked_up_is_not_made)
{
    for (int i = 0; i < 2; i++) {
        cr_assert_null(kafka_producer_topic(producer, "nowhere", in_seconds(20), &error));
        cr_assert_eq(error.code, RELAY_ERROR_KAFKA_OPERATOR, "%s", error.text);
        cr_assert_eq(error.detail, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "%s", error.text);
    }
    cr_assert_not(receipt_store_open(&store, &context, producer, "nowhere", tick, in_seconds(1), &error));
    cr_assert_not_null(strstr(error.text, "cannot be created"), "what may make it asks for a compacted one: %s",
        error.text);
    cr_assert_eq(rd_kafka_mock_topic_create(mock.cluster, "nowhere", 3, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    const struct kafka_topic *topic = kafka_producer_topic(producer, "nowhere", in_seconds(20), &error);
    cr_assert_not_null(topic, "%s", error.text);
    cr_assert_eq(topic->partitions, 3);
}

// The mock cluster does not answer what describes a topic.
Test(fault_kafka, who_asks_for_rights_or_the_id_of_a_topic_beats_meanwhile)
{
    ticks = 0;
    cr_assert(kafka_may_write(kafka_producer_client(producer), TOPIC, tick, clock_system(), in_seconds(1)));
    cr_assert_gt(ticks, 2);
    cr_assert_not_null(kafka_producer_topic(producer, TOPIC, in_seconds(20), &error), "%s", error.text);
    ticks = 0;
    cr_assert(receipt_store_open(&store, &context, producer, TOPIC, tick, in_seconds(1), &error), "%s", error.text);
    cr_assert_gt(ticks, 2);
}

// Each answer brings one record set of the mock cluster, and takes its time, as with a quota of the consumer.
Test(fault_kafka, receipts_are_read_for_as_long_as_they_come)
{
    enum { RECEIPTS = 8, SLOWLY_MS = 1000, PATIENCE_S = 5 };
    cr_assert(receipt_store_open(&store, &context, producer, TOPIC, tick, in_seconds(20), &error), "%s", error.text);
    for (int i = 0; i < RECEIPTS; i++) {
        write_receipt();
        rd_kafka_mock_broker_push_request_error_rtts(mock.cluster, 1, FETCH, 1, RD_KAFKA_RESP_ERR_NO_ERROR, SLOWLY_MS);
    }
    cr_assert(read_receipts(-1, PATIENCE_S), "%s", error.text);
    cr_assert_eq(receipts_read, RECEIPTS);
}

Test(fault_kafka, receipts_that_cannot_be_read_say_why)
{
    static const rd_kafka_resp_err_t corrupt[] = {[0 ... 399] = RD_KAFKA_RESP_ERR_INVALID_MSG};
    cr_assert(receipt_store_open(&store, &context, producer, TOPIC, tick, in_seconds(20), &error), "%s", error.text);
    write_receipt();
    rd_kafka_mock_push_request_errors_array(mock.cluster, FETCH, 400, corrupt);
    cr_assert_not(read_receipts(-1, 5));
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_RETRIABLE, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "; partition 0: "), "%s", error.text);
    cr_assert_not_null(strstr(error.text, rd_kafka_err2str(RD_KAFKA_RESP_ERR_INVALID_MSG)), "%s", error.text);
    rd_kafka_mock_clear_request_errors(mock.cluster, FETCH);
    cr_assert(read_receipts(-1, 20), "%s", error.text);
    cr_assert_eq(receipts_read, 1);
}

// What a broker says of the end may be old: one that was replaced as the leader does not know it yet.
Test(fault_kafka, where_the_receipts_end_is_what_brokers_acknowledge_and_not_what_one_says)
{
    rd_kafka_resp_err_t refused[400];
    for (size_t i = 0; i < 400; i++) {
        refused[i] = RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    }
    cr_assert(receipt_store_open(&store, &context, producer, TOPIC, tick, in_seconds(20), &error), "%s", error.text);
    write_receipt();
    rd_kafka_mock_push_request_errors_array(mock.cluster, LIST_OFFSETS, 400, refused);
    cr_assert(read_receipts(0, 20), "nobody asks: %s", error.text);
    cr_assert_eq(receipts_read, 1);

    rd_kafka_mock_push_request_errors_array(mock.cluster, PRODUCE, 400, refused);
    ticks = 0;
    cr_assert_not(read_receipts(0, 2), "the end is not known");
    cr_assert_not_null(strstr(error.text, "the end of partition 0 of the receipt topic " TOPIC), "%s", error.text);
    cr_assert_gt(ticks, 1, "heartbeats while it waits");
    rd_kafka_mock_clear_request_errors(mock.cluster, PRODUCE);
}

// A seek to the beginning by name would lie still for half a second.
Test(fault_kafka, a_consumer_is_sent_to_the_offset_where_the_log_begins)
{
    const struct kafka_consumer_options options = {.group_id = "g", .memory = 4 << 20, .wake_fd = -1};
    const struct kafka_consumer_listener listener = {0};
    struct kafka_consumer *consumer = kafka_consumer_new(&context, &options, &listener, &error);
    cr_assert_not_null(consumer, "%s", error.text);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(list, TOPIC, 0);
    element->offset = 7; // after the end of the log: nothing comes meanwhile
    cr_assert(kafka_consumer_take(consumer, list, &error), "%s", error.text);
    element->offset = RD_KAFKA_OFFSET_BEGINNING;
    cr_assert(kafka_consumer_begin(consumer, list, &error), "%s", error.text);
    cr_assert_eq(element->offset, 0, "%lld", (long long)element->offset);
    // Nobody to ask: the name stays.
    rd_kafka_mock_push_request_errors(mock.cluster, LIST_OFFSETS, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    element->offset = RD_KAFKA_OFFSET_BEGINNING;
    cr_assert(kafka_consumer_begin(consumer, list, &error), "%s", error.text);
    cr_assert_eq(element->offset, RD_KAFKA_OFFSET_BEGINNING);
    rd_kafka_topic_partition_list_destroy(list);
    cr_assert(kafka_consumer_close(consumer, in_seconds(20)));
}

static void count_trouble(void *troubles, const char *topic, int32_t partition, const struct relay_error *why)
{
    (void)why;
    *(int *)troubles += partition == 0 && strcmp(topic, TOPIC) == 0;
}

static void ignore_trouble(void *troubles, const struct relay_error *why, bool finished)
{
    (void)troubles;
    (void)why;
    cr_assert(!finished);
}

// As brokers answer where a disk or tiered storage cannot be read: librdkafka repeats it by itself.
Test(fault_kafka, a_partition_that_cannot_be_read_is_told_again_and_again)
{
    int troubles = 0;
    const struct kafka_consumer_options options = {.group_id = "g", .memory = 4 << 20, .wake_fd = -1};
    const struct kafka_consumer_listener listener = {.context = &troubles,
        .partition_end = mock_kafka_ignore_end,
        .partition_troubled = count_trouble,
        .trouble = ignore_trouble};
    // The first ones may be answers that a change of the assignment has overtaken.
    const rd_kafka_resp_err_t unknown[6] = {RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR_UNKNOWN,
        RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR_UNKNOWN};
    rd_kafka_mock_push_request_errors_array(mock.cluster, FETCH, 6, unknown);
    struct kafka_consumer *consumer = kafka_consumer_new(&context, &options, &listener, &error);
    cr_assert_not_null(consumer, "%s", error.text);
    mock_kafka_take(consumer, TOPIC);
    for (struct mono_time until = in_seconds(20); troubles < 3;) {
        cr_assert(!mono_reached(clock_mono(clock_system()), until), "told %d times", troubles);
        kafka_consumer_serve(consumer, 100, NULL);
        poll(NULL, 0, 10);
    }
    cr_assert(kafka_consumer_close(consumer, in_seconds(20)));
}

struct refused {
    struct kafka_consumer *consumer;
    int told, messages;
};

static void count_refusal(void *state, const char *topic, int32_t partition, const struct relay_error *why)
{
    struct refused *refused = state;
    cr_assert(partition == 0 && strcmp(topic, TOPIC) == 0);
    refused->told += why->detail == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

static void count_message(void *state, const rd_kafka_message_t *message)
{
    struct refused *refused = state;
    (void)message;
    refused->messages++;
}

static void serve_until(struct refused *refused, const int *count, int least)
{
    for (struct mono_time until = in_seconds(30); *count < least;) {
        cr_assert(!mono_reached(clock_mono(clock_system()), until), "told %d times", *count);
        kafka_consumer_serve(refused->consumer, 100, NULL);
        poll(NULL, 0, 10);
    }
}

static void write_message(void)
{
    struct kafka_message message = {.partition = 0, .value = "x", .value_length = 1};
    message.topic = kafka_producer_topic(producer, TOPIC, in_seconds(20), &error);
    cr_assert_not_null(message.topic, "%s", error.text);
    cr_assert(kafka_producer_begin(producer, &error), "%s", error.text);
    deliver(&message);
    cr_assert(kafka_producer_commit(producer, in_seconds(20), &error), "%s", error.text);
}

// librdkafka goes on asking in silence. The insert stage has it begin anew, which says it again.
Test(fault_kafka, a_partition_that_may_not_be_read_is_told_again_when_it_is_resumed)
{
    struct refused refused = {0};
    const struct kafka_consumer_options options = {.group_id = "g", .memory = 4 << 20, .wake_fd = -1};
    const struct kafka_consumer_listener listener = {.context = &refused,
        .message = count_message,
        .partition_end = mock_kafka_ignore_end,
        .partition_troubled = count_refusal,
        .trouble = ignore_trouble};
    rd_kafka_resp_err_t denied[100];
    for (size_t i = 0; i < 100; i++) {
        denied[i] = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    }
    write_message();
    rd_kafka_mock_push_request_errors_array(mock.cluster, FETCH, 100, denied);
    refused.consumer = kafka_consumer_new(&context, &options, &listener, &error);
    cr_assert_not_null(refused.consumer, "%s", error.text);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, TOPIC, 0)->offset = 0;
    cr_assert(kafka_consumer_take(refused.consumer, list, &error), "%s", error.text);
    for (int i = 1; i <= 3; i++) {
        serve_until(&refused, &refused.told, i);
        kafka_consumer_pause(refused.consumer, list);
        kafka_consumer_resume(refused.consumer, list);
    }
    cr_assert_eq(refused.messages, 0);
    rd_kafka_mock_clear_request_errors(mock.cluster, FETCH);
    serve_until(&refused, &refused.messages, 1);
    rd_kafka_topic_partition_list_destroy(list);
    cr_assert(kafka_consumer_close(refused.consumer, in_seconds(20)));
}

// A group of the insert stage that has no tables.
struct member {
    struct config_route route;
    struct insert_lease lease;
    struct insert_group group;
};

static void begin_member(struct member *member, char *topic)
{
    static char name[] = "r", table[] = "t", group_id[] = "g", *topics[1];
    topics[0] = topic;
    *member = (struct member){.route = {.name = name, .table = table, .enabled = true, .topics = {.items = topics}}};
    member->route.topics.count = 1;
    config.routes = &member->route;
    config.route_count = 1;
    config.insert = (struct config_insert){.group_id = group_id, .memory_limit = 64 << 20};
    rd_kafka_mock_coordinator_set(mock.cluster, "group", group_id, 1);
    rd_kafka_mock_group_initial_rebalance_delay_ms(mock.cluster, 0);
    context.board = status_board_new(context.clock, &error);
    insert_lease_init(&member->lease, context.clock, DURATION_S(20), NULL, NULL);
    insert_group_init(&member->group);
    member->group.context = &context;
    member->group.lease = &member->lease;
    member->group.wake_fd = -1;
    member->group.routes = insert_routes_new(&config, &error);
    cr_assert(context.board && member->group.routes, "%s", error.text);
}

static void end_member(struct member *member)
{
    insert_group_drain(&member->group, in_seconds(20));
    insert_group_finish(&member->group);
    insert_routes_free((struct insert_routes *)(uintptr_t)member->group.routes);
    insert_lease_finish(&member->lease);
    status_board_free(context.board);
    context.board = NULL;
}

static bool board_says(enum status_level level, const char *words)
{
    size_t count = 0;
    struct status_entry *entries = status_board_entries(context.board, &count);
    bool says = count == 1 && entries->level == level && strstr(entries->reason, words);
    free(entries);
    return says;
}

static void serve_until_told(struct member *member, enum status_level level, const char *words)
{
    struct mono_time deadline = in_seconds(20);
    while (!board_says(level, words)) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "not told: %s", words);
        insert_group_work(&member->group, clock_mono(context.clock));
        insert_group_serve(&member->group, 100);
        kafka_producer_poll(producer, DURATION_MS(5));
    }
}

// Asked for metadata, which needs no right to the group, a broker answers all the same.
Test(fault_kafka, a_group_that_is_refused_is_not_well_until_it_works)
{
    static char topic[] = TOPIC;
    static const char refused[] = "Group authorization failed";
    struct member member;
    rd_kafka_resp_err_t no[400];
    for (size_t i = 0; i < 400; i++) {
        no[i] = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    }
    rd_kafka_mock_push_request_errors_array(mock.cluster, FIND_COORDINATOR, 400, no);
    begin_member(&member, topic);
    serve_until_told(&member, STATUS_DEGRADED, refused);
    insert_health_work(&member.group, in_seconds(60));
    cr_assert(board_says(STATUS_DEGRADED, refused));
    insert_health_tell(&member.group, STATUS_DOWN, "away");
    struct mono_time deadline = in_seconds(20);
    while (board_says(STATUS_DOWN, "away")) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "no answer");
        insert_health_work(&member.group, in_seconds(60));
    }
    cr_assert(board_says(STATUS_DEGRADED, refused));
    cr_assert_not(insert_health_up(&member.group));

    rd_kafka_mock_clear_request_errors(mock.cluster, FIND_COORDINATOR);
    serve_until_told(&member, STATUS_OK, "");
    cr_assert(insert_health_up(&member.group));
    size_t length;
    char *text = metrics_render(context.metrics, &length);
    cr_assert(text && strstr(text, "outbox_relay_messages_lost_total{topic=\"" TOPIC "\"} 0"), "%s", text);
    free(text);
    end_member(&member);
}

// As long as a topic's name cannot be, and longer than librdkafka's message about it.
Test(fault_kafka, topics_of_a_long_expression_that_come_later_are_found)
{
    static const size_t lengths[] = {20, 300, 1000};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        char expression[1100] = "^(", topic[16];
        struct member member;
        snprintf(topic, sizeof(topic), "late%zu", i);
        for (size_t used = 2; used < lengths[i]; used += strlen("other|")) {
            strcat(expression, "other|");
        }
        strcat(strcat(expression, topic), ")$");
        begin_member(&member, expression);
        serve_until_told(&member, STATUS_DEGRADED, "no visible topic");
        cr_assert_eq(member.group.health.absent->cnt, 1);
        cr_assert_str_eq(member.group.health.absent->elems[0].topic, expression);
        cr_assert_eq(rd_kafka_mock_topic_create(mock.cluster, topic, 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
        struct mono_time deadline = in_seconds(20);
        while (member.group.health.absent->cnt > 0) {
            cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "not found: %s", expression);
            insert_health_work(&member.group, in_seconds(60));
        }
        cr_assert(board_says(STATUS_OK, ""));
        end_member(&member);
    }
}

static void was_assigned(void *taken, const rd_kafka_topic_partition_list_t *partitions)
{
    *(int *)taken += partitions->cnt;
}

static bool was_revoked(void *taken, const rd_kafka_topic_partition_list_t *partitions, bool lost)
{
    (void)lost;
    *(int *)taken -= partitions->cnt;
    return true;
}

static void was_troubled(void *taken, const struct relay_error *why, bool finished)
{
    (void)taken;
    (void)why;
    (void)finished;
}

// What it was assigned waits to be served when the closing begins: one of the calls that followed waited for ever, or
// found no group any more.
Test(fault_kafka, a_member_may_leave_before_it_has_heard_of_its_partitions)
{
    static const char *const topics[] = {TOPIC};
    rd_kafka_mock_group_initial_rebalance_delay_ms(mock.cluster, 0);
    for (int i = 0; i < 20; i++) {
        int taken = 0;
        char group_id[16];
        snprintf(group_id, sizeof(group_id), "g%d", i);
        struct pollfd wake = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = POLLIN};
        const struct kafka_consumer_options options = {.group_id = group_id,
            .topics = topics,
            .topic_count = 1,
            .memory = 4 << 20,
            .wake_fd = wake.fd,
            .member = true};
        const struct kafka_consumer_listener listener = {.context = &taken,
            .assigned = was_assigned,
            .revoked = was_revoked,
            .trouble = was_troubled};
        rd_kafka_mock_coordinator_set(mock.cluster, "group", group_id, 1);
        struct kafka_consumer *consumer = kafka_consumer_new(&context, &options, &listener, &error);
        cr_assert_not_null(consumer, "%s", error.text);
        cr_assert_eq(poll(&wake, 1, 20000), 1, "nothing was assigned");
        cr_assert(kafka_consumer_close(consumer, in_seconds(20)));
        cr_assert_leq(taken, 0, "what was assigned was revoked");
        close(wake.fd);
    }
}
