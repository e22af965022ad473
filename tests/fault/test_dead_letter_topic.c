// SPDX-License-Identifier: Apache-2.0
//
// Copies of dead letters of several tables in one topic, against librdkafka's mock cluster: each set hears what became
// of its own.
#include "mock_kafka.h"
#include "relay/insert/dead_letter_topic.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#define TOPIC   "letters"
#define PRODUCE 0 // ApiKey
#define REFUSED RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED

static struct config config;
static struct relay_context context = {.config = &config, .instance = "0123456789abcdef0123456789abcdef"};
static struct mock_kafka mock;
static struct dead_letter_topic *topic;

static struct mono_time in_seconds(int64_t seconds)
{
    return mono_add(clock_mono(clock_system()), DURATION_S(seconds));
}

static void start(void)
{
    static char letters[] = TOPIC;
    struct relay_error error;
    mock_kafka_start(&mock, 1, TOPIC, &config);
    config.insert.dead_letter_topic = letters;
    context.clock = clock_system();
    context.metrics = metrics_new(&error);
    cr_assert_not_null(context.metrics, "%s", error.text);
    topic = dead_letter_topic_new(&context, &error);
    cr_assert_not_null(topic, "%s", error.text);
}

static void stop(void)
{
    dead_letter_topic_free(topic);
    mock_kafka_stop(&mock);
    metrics_free(context.metrics);
}

TestSuite(fault_dead_letter_topic, .init = start, .fini = stop);

static atomic_bool hangs;
static sem_t let_go;

// In place of the C library's: librdkafka waits so for its threads when a client is destroyed.
int thrd_join(thrd_t thread, int *result)
{
    int (*join)(thrd_t, int *);
    *(void **)&join = dlsym(RTLD_NEXT, "thrd_join");
    while (atomic_load(&hangs) && sem_wait(&let_go) != 0) {
    }
    return join(thread, result);
}

// So that a stop ends in time and the process without freeing what the client may still use.
Test(fault_dead_letter_topic, a_client_that_does_not_end_is_left_behind)
{
    sem_init(&let_go, 0, 0);
    dead_letter_topic_end(NULL);
    atomic_store(&hangs, true);
    dead_letter_topic_end(topic);
    cr_assert(dead_letter_topic_left_client(topic));
    dead_letter_topic_end(topic);
    atomic_store(&hangs, false);
    sem_post(&let_go);
}

Test(fault_dead_letter_topic, one_that_ends_is_not)
{
    dead_letter_topic_end(topic);
    cr_assert_not(dead_letter_topic_left_client(topic));
}

static void add(struct dead_letter_copies *copies)
{
    struct relay_error error;
    struct source_message message = {.topic = "orders", .value = "x", .value_length = 1};
    cr_assert(dead_letter_copies_add(copies, context.clock, "t", &message, "rejected", "", "", &error), "%s",
        error.text);
}

static bool send_copies(struct dead_letter_copies *copies, const atomic_bool *given_up, struct relay_error *error)
{
    return dead_letter_topic_send(topic, copies, in_seconds(20), given_up, error);
}

// Sends and gives up at once, until the broker has it.
static void send_and_leave(struct dead_letter_copies *copies)
{
    static const atomic_bool given_up = true;
    struct relay_error error;
    struct mono_time deadline = in_seconds(20);
    size_t arrived = 0;
    rd_kafka_mock_start_request_tracking(mock.cluster);
    while (arrived == 0) {
        size_t count;
        cr_assert_not(mono_reached(clock_mono(clock_system()), deadline));
        (void)send_copies(copies, &given_up, &error);
        rd_kafka_mock_request_t **requests = rd_kafka_mock_get_requests(mock.cluster, &count);
        for (size_t i = 0; i < count; i++) {
            arrived += rd_kafka_mock_request_api_key(requests[i]) == PRODUCE;
        }
        rd_kafka_mock_request_destroy_array(requests, count);
    }
    rd_kafka_mock_stop_request_tracking(mock.cluster);
}

Test(fault_dead_letter_topic, what_kafka_refuses_of_one_table_is_nothing_to_another)
{
    struct relay_error error;
    struct dead_letter_copies first = {0}, other = {0};
    add(&other);
    cr_assert(send_copies(&other, NULL, &error), "%s", error.text);
    add(&first);
    add(&other);
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 500);
    rd_kafka_mock_push_request_errors(mock.cluster, PRODUCE, 1, REFUSED);
    send_and_leave(&first);
    cr_assert(send_copies(&other, NULL, &error), "its own copy is acknowledged: %s", error.text);
    cr_assert_not(send_copies(&first, NULL, &error), "its copy is not in Kafka");
    cr_assert_eq(error.detail, REFUSED, "%s", error.text);
    dead_letter_copies_finish(&first);
    dead_letter_copies_finish(&other);
}

Test(fault_dead_letter_topic, a_set_may_be_gone_when_its_reports_come)
{
    struct relay_error error;
    struct dead_letter_copies copies = {0}, later = {0};
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 500);
    add(&copies);
    send_and_leave(&copies);
    dead_letter_copies_finish(&copies);
    add(&later);
    cr_assert(send_copies(&later, NULL, &error), "%s", error.text);
    dead_letter_copies_finish(&later);
}

// Whether one of so many copies is acknowledged: each is waited for only a moment.
static bool goes_out(int tries)
{
    bool sent = false;
    while (!sent && tries-- > 0) {
        struct relay_error error;
        struct dead_letter_copies copies = {0};
        add(&copies);
        sent = dead_letter_topic_send(topic, &copies, clock_mono(context.clock), NULL, &error);
        dead_letter_copies_finish(&copies);
    }
    return sent;
}

// What [kafka] names is read by a new client only, as the files of certificates are: here, where the brokers are.
Test(fault_dead_letter_topic, after_ten_minutes_without_a_word_of_kafka_a_new_client_sends_the_copies)
{
    struct clock_fake fake;
    clock_fake_init(&fake, clock_mono(clock_system()), clock_wall(clock_system()));
    context.clock = &fake.base;
    cr_assert(goes_out(200));
    mock_kafka_move(&mock);
    cr_assert_eq(rd_kafka_mock_topic_create(mock.cluster, TOPIC, 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    free(mock.servers.value);
    mock.servers.value = strdup(rd_kafka_mock_cluster_bootstraps(mock.cluster));
    clock_fake_advance(&fake, DURATION_S(3600));
    cr_assert_not(goes_out(5), "an hour in which there were none says nothing");
    clock_fake_advance(&fake, DURATION_S(599));
    cr_assert_not(goes_out(5));
    clock_fake_advance(&fake, DURATION_S(1));
    cr_assert(goes_out(200));
    cr_assert_not(dead_letter_topic_left_client(topic));
}

struct table {
    pthread_t thread;
    struct dead_letter_copies copies;
    pthread_barrier_t *begin;
    bool sent;
};

static void *send_with_the_others(void *argument)
{
    struct table *table = argument;
    struct relay_error error;
    pthread_barrier_wait(table->begin);
    table->sent = send_copies(&table->copies, NULL, &error);
    return NULL;
}

Test(fault_dead_letter_topic, tables_that_send_at_once_all_hear_of_a_refusal)
{
    rd_kafka_resp_err_t refused[100];
    struct table tables[4] = {0};
    pthread_barrier_t begin;
    pthread_barrier_init(&begin, NULL, 4);
    for (size_t i = 0; i < 100; i++) {
        refused[i] = REFUSED;
    }
    rd_kafka_mock_push_request_errors_array(mock.cluster, PRODUCE, 100, refused);
    for (size_t i = 0; i < 4; i++) {
        tables[i].begin = &begin;
        add(&tables[i].copies);
        cr_assert_eq(pthread_create(&tables[i].thread, NULL, send_with_the_others, &tables[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(tables[i].thread, NULL);
        cr_assert_not(tables[i].sent, "table %zu", i);
        dead_letter_copies_finish(&tables[i].copies);
    }
    pthread_barrier_destroy(&begin);
}
