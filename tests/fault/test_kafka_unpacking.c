// SPDX-License-Identifier: Apache-2.0
//
// What compressed record sets come to when librdkafka unpacks them for a consumer, with a mock cluster.
#include "mock_kafka.h"
#include "relay/kafka/kafka_consumer.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC "events"
#define MB    1000000

static struct config config;
static struct relay_context context = {.config = &config, .instance = "0123456789abcdef0123456789abcdef"};
static struct mock_kafka mock;
static struct relay_error error;

struct seen {
    int messages, refusals;
    int64_t bytes, next;
};

static struct mono_time in_seconds(int64_t seconds)
{
    return mono_add(clock_mono(clock_system()), DURATION_S(seconds));
}

// Beside the servers.
static void give(char *name, char *value)
{
    static struct config_pair pairs[2];
    pairs[0] = mock.servers;
    pairs[1] = (struct config_pair){.name = name, .value = value};
    config.kafka = pairs;
    config.kafka_count = 2;
}

static void start(void)
{
    mock_kafka_start(&mock, 1, TOPIC, &config);
    context.clock = clock_system();
}

static void stop(void)
{
    mock_kafka_stop(&mock);
}

TestSuite(kafka_unpacking, .init = start, .fini = stop);

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[200];
    cr_assert_eq(rd_kafka_conf_set(conf, name, value, why, sizeof(why)), RD_KAFKA_CONF_OK, "%s", why);
}

// Messages of zeros; a set has `batch` of them.
static void produce(const char *codec, size_t count, size_t bytes, const char *batch)
{
    char why[200], *zeros = calloc(1, bytes);
    cr_assert_not_null(zeros);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", mock.servers.value);
    set(conf, "compression.codec", codec);
    set(conf, "message.max.bytes", "100000000");
    set(conf, "batch.size", "100000000");
    set(conf, "batch.num.messages", batch);
    set(conf, "linger.ms", "60000"); // a set goes when it is full, however long that takes
    set(conf, "queue.buffering.max.messages", "1000000");
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    cr_assert_not_null(client, "%s", why);
    for (size_t i = 0; i < count; i++) {
        rd_kafka_resp_err_t code = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(TOPIC), RD_KAFKA_V_PARTITION(0),
            RD_KAFKA_V_VALUE(zeros, bytes), RD_KAFKA_V_END);
        cr_assert_eq(code, RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_err2str(code));
    }
    cr_assert_eq(rd_kafka_flush(client, 60000), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(client);
    free(zeros);
}

static void note_message(void *state, const rd_kafka_message_t *message)
{
    struct seen *seen = state;
    cr_assert_eq(message->offset, seen->next++, "none is passed over");
    seen->messages++;
    seen->bytes += (int64_t)message->len;
}

static void note_trouble(void *state, const char *topic, int32_t partition, const struct relay_error *why)
{
    struct seen *seen = state;
    cr_assert(partition == 0 && strcmp(topic, TOPIC) == 0);
    cr_assert_eq(why->detail, RD_KAFKA_RESP_ERR__BAD_COMPRESSION, "%s", why->text);
    seen->refusals++;
}

static void ignore_trouble(void *state, const struct relay_error *why, bool finished)
{
    (void)state;
    cr_assert_not(finished, "%s", why->text);
}

// Until there are so many messages, or so many refusals.
static struct seen consume(int messages, int refusals)
{
    struct seen seen = {0};
    const struct kafka_consumer_options options = {.group_id = "g", .memory = 64 << 20, .wake_fd = -1};
    const struct kafka_consumer_listener listener = {.context = &seen,
        .message = note_message,
        .partition_end = mock_kafka_ignore_end,
        .partition_troubled = note_trouble,
        .trouble = ignore_trouble};
    struct kafka_consumer *consumer = kafka_consumer_new(&context, &options, &listener, &error);
    cr_assert_not_null(consumer, "%s", error.text);
    mock_kafka_take(consumer, TOPIC);
    for (struct mono_time until = in_seconds(60); seen.messages < messages || seen.refusals < refusals;) {
        cr_assert(!mono_reached(clock_mono(clock_system()), until), "%d messages, %d refusals", seen.messages,
            seen.refusals);
        kafka_consumer_serve(consumer, 100, NULL);
        poll(NULL, 0, 1);
    }
    cr_assert(kafka_consumer_close(consumer, in_seconds(20)));
    return seen;
}

static void expect_refused(const char *codec)
{
    give((char[]){"receive.message.max.bytes"}, (char[]){"33554432"});
    produce(codec, 1, 40 * (size_t)MB, "1");
    struct seen seen = consume(0, 2);
    cr_assert_eq(seen.messages, 0, "%s", codec);
}

Test(kafka_unpacking, a_set_of_gzip_that_comes_to_more_than_may_be_received_is_refused)
{
    expect_refused("gzip");
}

Test(kafka_unpacking, a_set_of_lz4_that_comes_to_more_than_may_be_received_is_refused)
{
    expect_refused("lz4");
}

Test(kafka_unpacking, a_set_of_snappy_that_comes_to_more_than_may_be_received_is_refused)
{
    expect_refused("snappy");
}

Test(kafka_unpacking, a_set_of_zstd_that_comes_to_more_than_may_be_received_is_refused)
{
    expect_refused("zstd");
}

Test(kafka_unpacking, a_set_of_messages_without_number_is_refused)
{
    give((char[]){"receive.message.max.bytes"}, (char[]){"33554432"});
    produce("lz4", 400000, 1, "400000");
    cr_assert_eq(consume(0, 2).messages, 0);
}

Test(kafka_unpacking, sets_of_tens_of_megabytes_are_read)
{
    static const char *const codecs[] = {"gzip", "lz4", "snappy", "zstd"};
    for (size_t i = 0; i < 4; i++) {
        produce(codecs[i], 30, MB, "30");
    }
    struct seen seen = consume(120, 0);
    cr_assert_eq(seen.bytes, 120 * (int64_t)MB);
    cr_assert_eq(seen.refusals, 0);
}

Test(kafka_unpacking, what_the_largest_message_is_set_to_is_read)
{
    give((char[]){"message.max.bytes"}, (char[]){"50000000"});
    produce("gzip", 1, 49 * (size_t)MB, "1");
    produce("lz4", 1, 49 * (size_t)MB, "1");
    struct seen seen = consume(2, 0);
    cr_assert_eq(seen.bytes, 98 * (int64_t)MB);
}
