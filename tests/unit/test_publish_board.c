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
