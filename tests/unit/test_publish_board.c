// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_term.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct clock_fake fake;
static struct relay_context context;
static char name[] = "default";
static struct config_outbox config = {.name = name};
static struct publish_pipe outbox;

static void start(void)
{
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    context = (struct relay_context){
        .clock = &fake.base,
        .metrics = metrics_new(NULL),
        .board = status_board_new(&fake.base, NULL),
    };
    cr_assert(context.metrics != NULL && context.board != NULL);
    outbox = (struct publish_pipe){.context = &context, .config = &config, .owner.owned = true};
    outbox.series.owned = metrics_series1(context.metrics, METRIC_OUTBOX_OWNED, "default");
    outbox.series.holes = metrics_series1(context.metrics, METRIC_OUTBOX_HOLES, "default");
    outbox.series.oldest_hole = metrics_series1(context.metrics, METRIC_OUTBOX_OLDEST_HOLE_SECONDS, "default");
    outbox.series.held = metrics_series1(context.metrics, METRIC_HELD_AGGREGATES, "default");
    outbox.series.parked = metrics_series1(context.metrics, METRIC_PARKED_TOPICS, "default");
}

static void end(void)
{
    metrics_free(context.metrics);
    status_board_free(context.board);
}

static bool board_says(const char *text)
{
    json_t *json = status_board_json(context.board);
    char *all = json_dumps(json, JSON_COMPACT);
    bool says = strstr(all, text) != NULL;
    free(all);
    json_decref(json);
    return says;
}

static void kafka_is(const char *level)
{
    json_t *json = status_board_json(context.board);
    const json_t *kafka = json_object_get(json_object_get(json, "checks"), "kafka");
    cr_assert_str_eq(json_string_value(json_object_get(kafka, "status")), level);
    json_decref(json);
}

TestSuite(publish_board, .init = start, .fini = end);

Test(publish_board, the_figures_of_what_waits_end_with_the_ownership)
{
    outbox.held = 2;
    outbox.parked = 1;
    publish_show_waiting(&outbox);
    cr_assert_eq(metric_value(outbox.series.held), 2);
    cr_assert_eq(metric_value(outbox.series.parked), 1);
    cr_assert(board_says("\"held_aggregates\":2") && board_says("\"parked_topics\":1"));

    outbox.owner.owned = false;
    publish_show(&outbox, STATUS_OK, "standby", "");
    cr_assert_eq(metric_value(outbox.series.owned), 0);
    cr_assert_eq(metric_value(outbox.series.held), 0);
    cr_assert_eq(metric_value(outbox.series.parked), 0);
    cr_assert_not(board_says("held_aggregates") || board_says("parked_topics"));
}

Test(publish_board, an_owner_that_waits_for_kafka_still_says_what_waits)
{
    outbox.parked = 1;
    publish_show_waiting(&outbox);
    publish_show(&outbox, STATUS_DEGRADED, publish_role(&outbox), "Kafka does not answer");
    cr_assert_eq(metric_value(outbox.series.parked), 1);
    cr_assert(board_says("\"parked_topics\":1"));
}

// Its name is that of all breakers.
Test(publish_board, an_open_circuit_breaker_is_trouble_of_its_server)
{
    struct relay_error error;
    const struct breaker_options options = {.failures = 1, .open = DURATION_S(30), .successes = 1};
    struct circuit_breaker *breaker = breaker_new(options, &fake.base, NULL, NULL, NULL, NULL, &error);
    cr_assert_not_null(breaker, "%s", error.text);
    cr_assert_not(breaker_refuse(breaker, RELAY_SERVER_KAFKA, "Kafka", &error));
    cr_assert(publish_is_kafka(&error));
    cr_assert_not(breaker_refuse(breaker, RELAY_SERVER_POSTGRES, "PostgreSQL", &error));
    cr_assert_not(publish_is_kafka(&error));
    error_set(&error, RELAY_ERROR_KAFKA_FENCED, "another one");
    cr_assert(publish_is_kafka(&error));
    error_set(&error, RELAY_ERROR_POSTGRES_QUERY, "syntax");
    cr_assert_not(publish_is_kafka(&error));
    breaker_free(breaker);
}

Test(publish_board, holes_end_with_their_term)
{
    outbox.holes = seq_holes_new(0, 16, NULL);
    cr_assert_not_null(outbox.holes);
    seq_holes_saw(outbox.holes, (int64_t[]){5, 9}, 2, clock_mono(&fake.base));
    clock_fake_advance(&fake, DURATION_S(60));
    publish_show_holes(&outbox);
    cr_assert_eq(metric_value(outbox.series.holes), 2);
    cr_assert_eq(metric_value(outbox.series.oldest_hole), 60);
    publish_term_end(&outbox);
    cr_assert_eq(metric_value(outbox.series.holes), 0);
    cr_assert_eq(metric_value(outbox.series.oldest_hole), 0);
}

static struct relay_error unended(void)
{
    struct relay_error error;
    error_set_detail(&error, RELAY_ERROR_KAFKA_OPERATOR, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, "not ended");
    return error;
}

Test(publish_board, a_transaction_that_kafka_cannot_end_is_an_answer_of_kafka)
{
    struct relay_error error;
    outbox.failures = 3;
    error_set(&error, RELAY_ERROR_KAFKA_UNREACHABLE, "no acknowledgement");
    publish_show_servers(&outbox, &error);
    kafka_is("down");
    error = unended();
    publish_show_servers(&outbox, &error);
    kafka_is("ok");
}

// Its only broker refuses connections.
static struct kafka_producer *producer_in_trouble(void)
{
    static char key[] = "bootstrap.servers", address[] = "127.0.0.1:1";
    static struct config_pair servers = {.name = key, .value = address};
    static struct config kafka = {.kafka = &servers, .kafka_count = 1};
    static struct relay_context real = {.config = &kafka, .instance = "0123456789abcdef0123456789abcdef"};
    const struct kafka_producer_options options = {.transactional_id = "t", .batch_rows = 10, .batch_bytes = 1 << 20};
    struct relay_error error;
    char why[256];
    real.clock = clock_system();
    real.metrics = context.metrics;
    struct kafka_producer *producer = kafka_producer_new(&real, &options, publish_kafka_tick(&outbox), &error);
    cr_assert_not_null(producer, "%s", error.text);
    struct mono_time deadline = mono_add(clock_mono(real.clock), DURATION_S(60));
    while (!kafka_producer_trouble(producer, why, sizeof(why))) {
        cr_assert_not(mono_reached(clock_mono(real.clock), deadline), "no connection was refused");
        kafka_producer_poll(producer, DURATION_MS(10));
    }
    return producer;
}

static void tick(void)
{
    struct kafka_tick of_kafka = publish_kafka_tick(&outbox);
    of_kafka.function(of_kafka.context);
}

// One broker is dead, and each term makes a producer that finds that out anew.
Test(publish_board, trouble_with_a_broker_does_not_hide_that_kafka_cannot_end_a_transaction)
{
    struct relay_error error = unended();
    outbox.heartbeat = status_board_heartbeat(context.board, name, DURATION_S(60), NULL);
    cr_assert_not_null(outbox.heartbeat);
    outbox.failures = 3;
    outbox.starting = true;
    outbox.producer = producer_in_trouble();
    publish_show_servers(&outbox, &error);
    publish_show(&outbox, STATUS_DOWN, "owner", error.text);
    tick();
    kafka_is("ok");
    cr_assert(board_says("\"not ended\""));

    publish_show_servers(&outbox, NULL); // a term started
    tick();
    kafka_is("down");
    cr_assert_not(board_says("\"not ended\""));
    kafka_producer_free(outbox.producer);
    heartbeat_end(outbox.heartbeat);
}
