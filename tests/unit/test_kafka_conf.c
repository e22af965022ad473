// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_conf.h"

#include "relay/config/kafka_properties.h"
#include "relay/kafka/kafka_consumer_conf.h"
#include "relay/kafka/kafka_error.h"
#include "relay/kafka/kafka_producer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static char text[512];

static const char *value_of(rd_kafka_conf_t *conf, const char *name)
{
    size_t room = sizeof(text);
    return rd_kafka_conf_get(conf, name, text, &room) == RD_KAFKA_CONF_OK ? text : NULL;
}

static rd_kafka_conf_t *make(enum kafka_client_kind kind, struct config_pair *pairs, size_t count,
    struct relay_error *error)
{
    static struct config config;
    static struct relay_context context;
    config = (struct config){.kafka = pairs, .kafka_count = count};
    context = (struct relay_context){.config = &config, .instance = "0123456789abcdef0123456789abcdef"};
    return kafka_conf_new(&context, kind, "publish", error);
}

Test(kafka_conf, each_client_gets_its_own_properties)
{
    struct config_pair pairs[] = {
        {.name = (char[]){"fetch.wait.max.ms"}, .value = (char[]){"77"}},
        {.name = (char[]){"linger.ms"}, .value = (char[]){"33"}},
        {.name = (char[]){"socket.timeout.ms"}, .value = (char[]){"9000"}},
    };
    struct relay_error error;
    rd_kafka_conf_t *producer = make(KAFKA_CLIENT_PRODUCER, pairs, 3, &error);
    cr_assert_not_null(producer, "%s", error.text);
    cr_assert_str_eq(value_of(producer, "linger.ms"), "33");
    cr_assert_str_neq(value_of(producer, "fetch.wait.max.ms"), "77");
    cr_assert_str_eq(value_of(producer, "socket.timeout.ms"), "9000");
    cr_assert_str_eq(value_of(producer, "client.id"), "outbox-relay-publish-0123456789ab");
    rd_kafka_conf_destroy(producer);

    rd_kafka_conf_t *consumer = make(KAFKA_CLIENT_CONSUMER, pairs, 3, &error);
    cr_assert_not_null(consumer, "%s", error.text);
    cr_assert_str_eq(value_of(consumer, "fetch.wait.max.ms"), "77");
    cr_assert_str_neq(value_of(consumer, "linger.ms"), "33");
    rd_kafka_conf_destroy(consumer);
}

Test(kafka_conf, the_relays_defaults_lie_under_the_users_settings)
{
    struct config_pair pairs[] = {{.name = (char[]){"retry.backoff.ms"}, .value = (char[]){"20"}}};
    rd_kafka_conf_t *conf = make(KAFKA_CLIENT_PRODUCER, pairs, 1, NULL);
    cr_assert_not_null(conf);
    cr_assert_str_eq(value_of(conf, "retry.backoff.ms"), "20");
    cr_assert_str_eq(value_of(conf, "partitioner"), "murmur2_random");
    rd_kafka_conf_destroy(conf);
}

// Of an at_least_once batch, with this delivery.timeout.ms.
static int64_t batch_limit(const char *timeout)
{
    char value[16];
    snprintf(value, sizeof(value), "%s", timeout);
    struct config_pair pairs[] = {
        {.name = (char[]){"delivery.timeout.ms"}, .value = value, .meant = (char[]){"message.timeout.ms"}}};
    struct config config = {.kafka = pairs, .kafka_count = 1};
    struct relay_context context = {.config = &config, .instance = "0123456789abcdef", .clock = clock_system()};
    struct kafka_producer_options options = {.batch_rows = 10, .batch_bytes = 1 << 20};
    struct relay_error error;
    struct kafka_producer *producer = kafka_producer_new(&context, &options, (struct kafka_tick){0}, &error);
    cr_assert_not_null(producer, "%s", error.text);
    int64_t limit = duration_ms(kafka_producer_transaction_timeout(producer));
    kafka_producer_free(producer);
    return limit;
}

Test(kafka_conf, what_is_given_by_an_alias_is_given)
{
    cr_assert_eq(batch_limit("41000"), 41000);
}

Test(kafka_conf, a_batch_has_a_limit_where_messages_have_none)
{
    cr_assert_eq(batch_limit("0"), 60000, "endless, for librdkafka");
    cr_assert_eq(batch_limit("2147483647"), 60000, "Kafka Connect's");
}

Test(kafka_conf, a_consumer_fetches_as_much_as_the_largest_message_has)
{
    static const int64_t memories[] = {1 << 20, 16 << 20, 1 << 30};
    struct config_pair pairs[] = {{.name = (char[]){"message.max.bytes"}, .value = (char[]){"10485760"}},
        {.name = (char[]){"receive.message.max.bytes"}, .value = (char[]){"10490000"}}};
    struct config config = {.kafka = pairs};
    struct relay_context context = {.config = &config, .instance = "0123456789abcdef", .clock = clock_system()};
    struct kafka_consumer_listener listener = {0};
    for (size_t i = 0; i < 2 * sizeof(memories) / sizeof(memories[0]); i++) {
        struct kafka_consumer_options options = {.group_id = "g", .memory = memories[i / 2], .wake_fd = -1};
        config.kafka_count = 1 + i % 2;
        struct relay_error error;
        struct kafka_consumer *consumer = kafka_consumer_new(&context, &options, &listener, &error);
        cr_assert_not_null(consumer, "%s", error.text);
        cr_assert(kafka_consumer_close(consumer, mono_add(clock_mono(clock_system()), DURATION_S(20))));
    }
}

// Of a consumer of the insert stage that reads this topic; NULL: of the reader of tables that catch up.
static const char *consumer_value(const char *topic, struct config_pair *pairs, size_t count, const char *name)
{
    const struct config config = {.kafka = pairs, .kafka_count = count};
    const struct relay_context context = {.config = &config, .instance = "0123456789abcdef"};
    const struct kafka_consumer_options options = {.group_id = "g",
        .topics = &topic,
        .topic_count = topic ? 1 : 0,
        .memory = 1 << 20,
        .member = topic != NULL};
    struct relay_error error;
    rd_kafka_conf_t *conf = kafka_consumer_conf(&context, &options, &error);
    cr_assert_not_null(conf, "%s", error.text);
    const char *value = value_of(conf, name);
    rd_kafka_conf_destroy(conf);
    return value;
}

Test(kafka_conf, who_reads_a_backlog_gives_the_broker_time_to_get_it)
{
    struct config_pair pairs[] = {{.name = (char[]){"fetch.wait.max.ms"}, .value = (char[]){"2000"}}};
    cr_assert_str_eq(consumer_value(NULL, pairs, 0, "fetch.wait.max.ms"), "500");
    cr_assert_str_eq(consumer_value("t", pairs, 0, "fetch.wait.max.ms"), "100");
    cr_assert_str_eq(consumer_value(NULL, pairs, 1, "fetch.wait.max.ms"), "2000");
    cr_assert_str_eq(consumer_value("t", pairs, 1, "fetch.wait.max.ms"), "2000");
}

Test(kafka_conf, the_topics_of_the_whole_cluster_are_asked_for_less_often_than_some)
{
    struct config_pair pairs[] = {
        {.name = (char[]){"topic.metadata.refresh.interval.ms"}, .value = (char[]){"300000"}}};
    cr_assert_str_eq(consumer_value("t", pairs, 0, pairs[0].name), "10000");
    cr_assert_str_eq(consumer_value("^t", pairs, 0, pairs[0].name), "60000");
    cr_assert_str_eq(consumer_value("^t", pairs, 1, pairs[0].name), "300000");
}

Test(kafka_conf, a_bad_value_is_named_but_a_secret_is_not_told)
{
    struct config_pair unknown[] = {{.name = (char[]){"no.such.thing"}, .value = (char[]){"1"}}};
    struct relay_error error;
    cr_assert_null(make(KAFKA_CLIENT_PRODUCER, unknown, 1, &error));
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    cr_assert_not_null(strstr(error.text, "no.such.thing"));

    struct config_pair secret[] = {{.name = (char[]){"no.such.password"}, .value = (char[]){"hunter2"}}};
    cr_assert_null(make(KAFKA_CLIENT_PRODUCER, secret, 1, &error));
    cr_assert_null(strstr(error.text, "hunter2"));
}

Test(kafka_conf, secrets_are_known_by_their_names)
{
    cr_assert(kafka_property_is_secret("sasl.password"));
    cr_assert(kafka_property_is_secret("ssl.key.pem"));
    cr_assert(kafka_property_is_secret("sasl.oauthbearer.assertion.private.key.passphrase"));
    cr_assert_not(kafka_property_is_secret("sasl.username"));
}

Test(kafka_conf, errors_have_the_class_that_says_what_to_do)
{
    struct relay_error error;
    kafka_error_set(&error, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "topic %s", "x");
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    cr_assert_eq(error.detail, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    kafka_error_set(&error, RD_KAFKA_RESP_ERR__TRANSPORT, "a: Local: Broker transport failure");
    cr_assert_str_eq(error.text, "a: Local: Broker transport failure (_TRANSPORT)", "said once");
    kafka_error_set(&error, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "record");
    cr_assert_eq(error.class, RELAY_CLASS_POISON);
    kafka_error_set(&error, RD_KAFKA_RESP_ERR__FENCED, "producer");
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_FENCED);
    kafka_error_set(&error, RD_KAFKA_RESP_ERR__TRANSPORT, "broker");
    cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE);
    kafka_error_set(&error, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, "produce");
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_RETRIABLE);
    cr_assert(kafka_error_take(&error, NULL, "nothing"));
}

Test(kafka_conf, what_fails_again_is_said_in_the_same_words)
{
    char said[64];
    kafka_error_steady(said, sizeof(said),
        "[thrd:h:9092/1]: h:9092/1: Connect failed: Connection refused (after 0ms in state CONNECT, 149 identical "
        "error(s) suppressed)");
    cr_assert_str_eq(said, "h:9092/1: Connect failed: Connection refused");
    kafka_error_steady(said, sizeof(said), "h:9092/1: SASL failed (after 6ms in state AUTH)");
    cr_assert_str_eq(said, "h:9092/1: SASL failed");
    kafka_error_steady(said, 4, "1/1 brokers are down");
    cr_assert_str_eq(said, "1/1", "cut to the room");
}
