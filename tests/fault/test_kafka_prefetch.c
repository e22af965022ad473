// SPDX-License-Identifier: Apache-2.0
//
// What a consumer holds while it is slower than its brokers: each of them answers a fetch of its own, and librdkafka
// counts what is fetched ahead only when it is unpacked.
#include "mock_kafka.h"

#include <malloc.h>
#include <poll.h>

#define TOPIC      "packed"
#define BROKERS    8
#define PARTITIONS 160
#define MESSAGE    ((size_t)10 << 10) // a tenth of it when it is packed
#define BATCH      "64"               // messages of a record set
#define MESSAGES   64                 // of a partition: one set

static struct config config;
static struct relay_context context = {.config = &config, .instance = "0123456789abcdef0123456789abcdef"};
static struct mock_kafka mock;
static int taken;

static size_t held(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[200];
    cr_assert_eq(rd_kafka_conf_set(conf, name, value, why, sizeof(why)), RD_KAFKA_CONF_OK, "%s", why);
}

static void produce(void)
{
    static char value[MESSAGE];
    char why[200];
    uint64_t random = 1;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", mock.servers.value);
    set(conf, "compression.codec", "lz4");
    set(conf, "batch.size", "1000000");
    set(conf, "batch.num.messages", BATCH);
    set(conf, "linger.ms", "1000");
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    cr_assert_not_null(client, "%s", why);
    for (int i = 0; i < PARTITIONS * MESSAGES; i++) {
        for (size_t j = 0; j < MESSAGE / 10; j++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            value[j] = (char)(random >> 40);
        }
        for (size_t j = MESSAGE / 10; j < MESSAGE; j++) {
            value[j] = value[j - MESSAGE / 10];
        }
        rd_kafka_resp_err_t code;
        do {
            code = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(TOPIC), RD_KAFKA_V_PARTITION(i / MESSAGES),
                RD_KAFKA_V_VALUE(value, MESSAGE), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
            rd_kafka_poll(client, code ? 100 : 0);
        } while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        cr_assert_eq(code, RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_err2str(code));
    }
    cr_assert_eq(rd_kafka_flush(client, 60000), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(client);
}

static void count_message(void *unused, const rd_kafka_message_t *message)
{
    (void)unused;
    taken += message->len == MESSAGE;
}

static void ignore_trouble(void *unused, const struct relay_error *why, bool finished)
{
    (void)unused;
    cr_assert_not(finished, "%s", why->text);
}

static void take_all(struct kafka_consumer *consumer)
{
    struct relay_error error;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int i = 0; i < PARTITIONS; i++) {
        rd_kafka_topic_partition_list_add(list, TOPIC, i)->offset = 0;
    }
    cr_assert(kafka_consumer_take(consumer, list, &error), "%s", error.text);
    rd_kafka_topic_partition_list_destroy(list);
}

Test(kafka_prefetch, a_fetch_of_each_broker_together_is_no_multiple_of_the_limit)
{
    struct relay_error error;
    static struct config_pair pairs[2];
    mock_kafka_start(&mock, BROKERS, "other", &config);
    cr_assert_eq(rd_kafka_mock_topic_create(mock.cluster, TOPIC, PARTITIONS, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    pairs[0] = mock.servers;
    pairs[1] = (struct config_pair){.name = (char[]){"message.max.bytes"}, .value = (char[]){"100000"}};
    config.kafka = pairs;
    config.kafka_count = 2;
    context.clock = clock_system();
    produce();
    const struct kafka_consumer_options options = {.group_id = "g", .memory = 2 << 20, .wake_fd = -1};
    const struct kafka_consumer_listener listener = {.message = count_message,
        .partition_end = mock_kafka_ignore_end,
        .trouble = ignore_trouble};
    size_t before = held(), most = before;
    struct kafka_consumer *consumer = kafka_consumer_new(&context, &options, &listener, &error);
    cr_assert_not_null(consumer, "%s", error.text);
    take_all(consumer);
    struct mono_time until = mono_add(clock_mono(context.clock), DURATION_S(90));
    while (taken < PARTITIONS * MESSAGES / 4) {
        cr_assert(!mono_reached(clock_mono(context.clock), until), "%d messages", taken);
        kafka_consumer_serve(consumer, 1, NULL);
        poll(NULL, 0, 1);
        most = held() > most ? held() : most;
    }
    cr_assert_lt(most - before, (size_t)28 << 20, "%zu KiB", (most - before) >> 10);
    cr_assert(kafka_consumer_close(consumer, mono_add(clock_mono(context.clock), DURATION_S(20))));
    mock_kafka_stop(&mock);
}
