// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/health_conditions.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct clock_fake fake;
static struct status_board *board;
static struct metrics *metrics;
static struct relay_context context;
static struct health_conditions conditions;
static struct config_health limits;
static char raised[4096];

// Instead of the real ones: what was raised above OK, and the ends of what had been.
void alerts_raise(struct alerts *alerts, const char *name, const char *instance, enum alert_level level,
    const char *summary, double value, bool quiet)
{
    (void)alerts;
    (void)value;
    if (level != ALERT_OK || strcmp(name, "pipeline_degraded") == 0) {
        size_t filled = strlen(raised);
        snprintf(raised + filled, sizeof(raised) - filled, "%s[%s] %d%s: %s; ", name, instance, (int)level,
            quiet ? " quiet" : "", summary);
    }
}

const char *alert_level_name(enum alert_level level)
{
    static const char *const names[] = {"OK", "WARNING", "CRITICAL"};
    return names[level];
}

static void start(void)
{
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    board = status_board_new(&fake.base, NULL);
    metrics = metrics_new(NULL);
    context = (struct relay_context){.clock = &fake.base, .metrics = metrics, .board = board};
    conditions = (struct health_conditions){.context = &context, .replica = "here:8000"};
}

static void end(void)
{
    breaker_free(context.kafka_breaker);
    metrics_free(metrics);
    status_board_free(board);
}

static const char *judge(int64_t lag, bool quiet)
{
    raised[0] = '\0';
    health_conditions_judge(&conditions, &limits, lag, quiet);
    return raised;
}

TestSuite(health_conditions, .init = start, .fini = end);

Test(health_conditions, nothing_is_wrong_with_an_empty_board)
{
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false), "");
}

Test(health_conditions, a_dependency_is_down_when_all_of_it_is)
{
    status_board_set(board, STATUS_CLICKHOUSE, "http://a:8123", STATUS_DOWN, "connection refused");
    status_board_set(board, STATUS_CLICKHOUSE, "http://b:8123", STATUS_OK, "");
    cr_assert_str_eq(judge(-1, false), "");
    cr_assert_str_eq(judge(-1, false), "clickhouse_down[] 1: http://a:8123: connection refused; ");
    status_board_set(board, STATUS_CLICKHOUSE, "http://b:8123", STATUS_DOWN, "timeout");
    judge(-1, false);
    cr_assert_str_eq(judge(-1, true), "clickhouse_down[] 2 quiet: http://a:8123: connection refused; ");
}

Test(health_conditions, a_start_is_told_only_when_it_lasts)
{
    status_board_set_starting(board, STATUS_PUBLISH, "default", "starting");
    for (int i = 0; i < 3; i++) {
        cr_assert_str_eq(judge(-1, false), "");
    }
    clock_fake_advance(&fake, DURATION_S(31));
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false), "pipeline_degraded[publish default at here:8000] 1: starting; ");
    status_board_set_starting(board, STATUS_PUBLISH, "other", "starting");
    fake.wall_us -= DURATION_S(7200).ns / 1000; // the clock is set back two hours
    clock_fake_advance(&fake, DURATION_S(31));
    judge(-1, false);
    cr_assert_not_null(strstr(judge(-1, false), "pipeline_degraded[publish other at here:8000] 1: starting; "));
    // A reason of its own is none of the start, though the level is the same.
    status_board_set_starting(board, STATUS_INSERT, "events", "reading the table's schema");
    status_board_set(board, STATUS_INSERT, "events", STATUS_DEGRADED, "no such table");
    judge(-1, false);
    cr_assert_not_null(strstr(judge(-1, false), "pipeline_degraded[insert events at here:8000] 1: no such table; "));
}

Test(health_conditions, an_open_breaker_is_a_dependency_down)
{
    context.kafka_breaker = breaker_new((struct breaker_options){1, DURATION_S(30), 1}, &fake.base, NULL, NULL, NULL,
        NULL, NULL);
    breaker_allow(context.kafka_breaker);
    breaker_failure(context.kafka_breaker, "host:9092: refused");
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false), "kafka_down[] 2: host:9092: refused; the circuit breaker of kafka is open; ");
}

Test(health_conditions, parts_that_wait_for_an_operator_are_told_and_their_end_too)
{
    status_board_set(board, STATUS_INSERT, "shop.orders", STATUS_DEGRADED, "paused: table missing");
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false), "pipeline_degraded[insert shop.orders at here:8000] 1: paused: table missing; ");
    status_board_set(board, STATUS_INSERT, "shop.orders", STATUS_OK, "");
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false), "pipeline_degraded[insert shop.orders at here:8000] 0: goes on; ");
}

static const char kafka_insert[] = "pipeline_degraded[kafka insert at here:8000] ";

Test(health_conditions, what_kafka_has_for_the_insert_stage_and_waits_for_somebody_is_told)
{
    status_board_set(board, STATUS_KAFKA, "publish", STATUS_OK, "");
    status_board_set_waiting(board, STATUS_KAFKA, "insert", "t [0]: offset 17 is not in Kafka's log");
    cr_assert_str_eq(judge(-1, true), "pipeline_degraded[kafka insert at here:8000] 0: goes on; ");
    cr_assert_str_eq(judge(-1, true),
        "pipeline_degraded[kafka insert at here:8000] 1: t [0]: offset 17 is not in Kafka's log; ");
    status_board_set(board, STATUS_KAFKA, "insert", STATUS_DOWN, "no broker");
    for (int i = 0; i < 3; i++) {
        cr_assert_null(strstr(judge(-1, true), kafka_insert), "neither told nor over while Kafka is down: %s", raised);
    }
    status_board_set(board, STATUS_KAFKA, "insert", STATUS_OK, "");
    judge(-1, true);
    cr_assert_str_eq(judge(-1, true), "pipeline_degraded[kafka insert at here:8000] 0: goes on; ");
}

Test(health_conditions, what_passes_or_is_meant_to_be_so_at_kafka_is_no_alert)
{
    status_board_set(board, STATUS_KAFKA, "insert", STATUS_DEGRADED, "no topic matches ^shop yet");
    status_board_set(board, STATUS_KAFKA, "publish", STATUS_DEGRADED, "slow");
    for (int i = 0; i < 3; i++) {
        cr_assert_str_eq(judge(-1, false), "");
    }
}

Test(health_conditions, a_part_that_leaves_the_process_is_over)
{
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_DOWN, "stopped: receipts missing");
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false),
        "pipeline_degraded[publish default at here:8000] 2: stopped: receipts missing; ");
    status_board_remove(board, STATUS_PUBLISH, "default");
    cr_assert_str_eq(judge(-1, false),
        "pipeline_degraded[publish default at here:8000] 0: is no longer with this process; ");
    cr_assert_str_eq(judge(-1, false), "");
}

Test(health_conditions, parts_are_not_told_while_a_dependency_explains_them)
{
    status_board_set(board, STATUS_KAFKA, "", STATUS_DOWN, "no broker");
    judge(-1, false);
    judge(-1, false);
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_DOWN, "waits for Kafka");
    judge(-1, false);
    cr_assert_str_eq(judge(-1, false), "kafka_down[] 2: no broker; ");
}

// Another replica speaks for ClickHouse, but it may be our way to it alone. Told after five minutes, until it is over.
Test(health_conditions, a_replica_that_alone_does_not_reach_clickhouse_tells_it)
{
    status_board_set(board, STATUS_CLICKHOUSE, "http://a:8123", STATUS_DOWN, "no route to host");
    status_board_set(board, STATUS_INSERT, "shop.orders", STATUS_DOWN, "waits for ClickHouse");
    judge(-1, true);
    cr_assert_str_eq(judge(-1, true), "clickhouse_down[] 2 quiet: http://a:8123: no route to host; ");
    clock_fake_advance(&fake, DURATION_S(299));
    cr_assert_str_eq(judge(-1, true), "clickhouse_down[] 2 quiet: http://a:8123: no route to host; ");
    clock_fake_advance(&fake, DURATION_S(1));
    static const char told[] = "pipeline_degraded[insert at here:8000] 2: this process does not reach ClickHouse: "
                               "http://a:8123: no route to host; ";
    cr_assert_not_null(strstr(judge(-1, true), told), "%s", raised);
    cr_assert_not_null(strstr(judge(-1, false), told), "one that speaks from now on does not take it back: %s", raised);
    status_board_set(board, STATUS_CLICKHOUSE, "http://a:8123", STATUS_OK, "");
    status_board_set(board, STATUS_INSERT, "shop.orders", STATUS_OK, "");
    judge(-1, true);
    cr_assert_not_null(
        strstr(judge(-1, true), "pipeline_degraded[insert at here:8000] 0: this process reaches ClickHouse again; "));
    cr_assert_null(strstr(judge(-1, true), "insert at here"));
    status_board_set(board, STATUS_CLICKHOUSE, "http://a:8123", STATUS_DOWN, "no route to host");
    judge(-1, true);
    cr_assert_null(strstr(judge(-1, true), "insert at here"), "the time begins anew");
}

Test(health_conditions, who_speaks_for_clickhouse_tells_it_once)
{
    status_board_set(board, STATUS_CLICKHOUSE, "http://a:8123", STATUS_DOWN, "no route to host");
    judge(-1, false);
    judge(-1, false);
    clock_fake_advance(&fake, DURATION_S(3600));
    cr_assert_str_eq(judge(-1, false), "clickhouse_down[] 2: http://a:8123: no route to host; ");
}

Test(health_conditions, lag_is_told)
{
    limits.warning_lag = 10;
    judge(11, true);
    cr_assert_str_eq(judge(12, true),
        "consumer_lag[here:8000] 1: 12 messages are behind the end of the partitions of this process; ");
    for (int i = 0; i < 5; i++) {
        cr_assert_str_eq(judge(-1, true), "", "a lag that is not known is no end of it");
    }
    cr_assert_str_eq(judge(0, true),
        "consumer_lag[here:8000] 1: 0 messages are behind the end of the partitions of this process; ",
        "one look of two that it takes");
    cr_assert_str_eq(judge(0, true), "");
}
