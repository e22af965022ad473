// SPDX-License-Identifier: Apache-2.0
#include "relay/base/metrics.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct metrics *metrics;

static void start(void)
{
    metrics = metrics_new(NULL);
    cr_assert_not_null(metrics);
}

static void end(void)
{
    metrics_free(metrics);
}

static char *render(void)
{
    size_t length;
    char *text = metrics_render(metrics, &length);
    cr_assert_not_null(text);
    cr_assert_eq(strlen(text), length);
    return text;
}

static void expect_line(const char *line)
{
    char *text = render();
    char wanted[700];
    snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    cr_assert_not_null(strstr(text, wanted), "%s is not in\n%s", line, text);
    free(text);
}

static void expect_absent(const char *part)
{
    char *text = render();
    cr_assert_null(strstr(text, part), "%s is in\n%s", part, text);
    free(text);
}

TestSuite(metrics, .init = start, .fini = end);

Test(metrics, series_of_the_same_labels_are_one)
{
    struct metric_series *series = metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "nova.user.events");
    metric_add(series, 2);
    metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "nova.user.events"), 3);
    metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "nova.post.events"), 7);
    cr_assert_eq(metric_value(series), 5);
    expect_line("outbox_relay_events_published_total{topic=\"nova.user.events\"} 5");
    expect_line("outbox_relay_events_published_total{topic=\"nova.post.events\"} 7");
}

Test(metrics, label_values_are_escaped_and_always_utf8)
{
    metric_add(metrics_series2(metrics, METRIC_DEAD_LETTERS, "pub\\lish\"\n", "\xff\xc0\x80 caf\xc3\xa9"), 1);
    expect_line("outbox_relay_dead_letters_total{stage=\"pub\\\\lish\\\" \",reason=\"??? caf\xc3\xa9\"} 1");
}

Test(metrics, a_metric_without_labels_is_there_from_the_start)
{
    expect_line("outbox_relay_publish_batch_seconds_count 0");
    expect_line("outbox_relay_insert_buffer_bytes 0");
    expect_absent("other");
}

Test(metrics, gauges_keep_the_last_value)
{
    struct metric_series *series = metrics_series2(metrics, METRIC_CONSUMER_LAG, "t", "0");
    metric_set(series, 12);
    metric_set(series, 0.5);
    expect_line("outbox_relay_consumer_lag{topic=\"t\",partition=\"0\"} 0.5");
    metric_set(series, (double)INFINITY);
    expect_line("outbox_relay_consumer_lag{topic=\"t\",partition=\"0\"} +Inf");
}

Test(metrics, a_retired_series_leaves_the_output_and_comes_back_when_asked_for)
{
    struct metric_series *series = metrics_series2(metrics, METRIC_CONSUMER_LAG, "t", "0");
    metric_set(series, 12);
    metrics_retire(metrics, series);
    expect_absent("consumer_lag{");
    cr_assert_eq(metrics_series2(metrics, METRIC_CONSUMER_LAG, "t", "0"), series);
    expect_line("outbox_relay_consumer_lag{topic=\"t\",partition=\"0\"} 0");
}

Test(metrics, histogram_buckets_are_cumulative)
{
    struct metric_series *series = metrics_series1(metrics, METRIC_INSERT_SECONDS, "t");
    metric_observe(series, 0.001);
    metric_observe_many(series, 0.3, 10);
    metric_observe(series, 61);
    metric_observe(series, -5);          // a clock ahead of ours counts as 0
    metric_observe(series, (double)NAN); // is no observation
    expect_line("outbox_relay_insert_seconds_bucket{table=\"t\",le=\"0.001\"} 2");
    expect_line("outbox_relay_insert_seconds_bucket{table=\"t\",le=\"0.25\"} 2");
    expect_line("outbox_relay_insert_seconds_bucket{table=\"t\",le=\"0.5\"} 12");
    expect_line("outbox_relay_insert_seconds_bucket{table=\"t\",le=\"60\"} 12");
    expect_line("outbox_relay_insert_seconds_bucket{table=\"t\",le=\"+Inf\"} 13");
    expect_line("outbox_relay_insert_seconds_sum{table=\"t\"} 64.001");
    expect_line("outbox_relay_insert_seconds_count{table=\"t\"} 13");
}

Test(metrics, too_many_series_share_one)
{
    char topic[40];
    for (int i = 0; i < METRICS_SERIES_MAX; i++) {
        snprintf(topic, sizeof(topic), "topic-%d", i);
        metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, topic), 1);
    }
    expect_absent("topic=\"other\"");
    metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "one too many"), 1);
    metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "two too many"), 1);
    expect_line("outbox_relay_events_published_total{topic=\"other\"} 2");
    expect_line("outbox_relay_events_published_total{topic=\"topic-0\"} 1");
}

// Partitions come and go for as long as a process lives; counters of what is gone keep their count, and their place.
Test(metrics, a_gauge_that_is_gone_leaves_its_place_to_another)
{
    static struct metric_series *round[METRICS_SERIES_MAX];
    char number[16], line[100];
    for (int first = 0; first < 3 * METRICS_SERIES_MAX; first += METRICS_SERIES_MAX) {
        for (int i = 0; i < METRICS_SERIES_MAX; i++) {
            snprintf(number, sizeof(number), "%d", first + i);
            round[i] = metrics_series2(metrics, METRIC_CONSUMER_LAG, "t", number);
            cr_assert_not(metric_is_shared(round[i]), "%s", number);
            cr_assert_eq(metric_value(round[i]), 0);
            metric_set(round[i], first + i);
        }
        snprintf(line, sizeof(line), "outbox_relay_consumer_lag{topic=\"t\",partition=\"%s\"} %s", number, number);
        expect_line(line);
        cr_assert(metric_is_shared(metrics_series2(metrics, METRIC_CONSUMER_LAG, "t", "too many")));
        for (int i = 0; i < METRICS_SERIES_MAX; i++) {
            metrics_retire(metrics, round[i]);
        }
    }
    expect_absent("partition=\"0\"");
    struct metric_series *counter = NULL;
    for (int i = 0; i < METRICS_SERIES_MAX; i++) {
        snprintf(number, sizeof(number), "%d", i);
        counter = metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, number);
    }
    metrics_retire(metrics, counter);
    cr_assert(metric_is_shared(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "one too many")));
}

static void *add_many(void *unused)
{
    struct metric_series *counter = metrics_series1(metrics, METRIC_EVENTS_INSERTED, "t");
    struct metric_series *histogram = metrics_series0(metrics, METRIC_END_TO_END_SECONDS);
    for (int i = 0; i < 20000; i++) {
        metric_add(counter, 1);
        metric_observe(histogram, 2);
    }
    return unused;
}

Test(metrics, threads_lose_nothing)
{
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    }
    free(render()); // while they write
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    expect_line("outbox_relay_events_inserted_total{table=\"t\"} 80000");
    expect_line("outbox_relay_end_to_end_seconds_sum 160000");
}

Test(metrics, the_process_describes_itself)
{
    char *text = render();
    double started = 0;
    double descriptors = 0;
    const char *at = strstr(text, "\nprocess_start_time_seconds ");
    cr_assert_not_null(at);
    cr_assert_eq(sscanf(at, " process_start_time_seconds %lf", &started), 1);
    cr_assert_lt(fabs(started - (double)time(NULL)), 3600);
    at = strstr(text, "\nprocess_open_fds ");
    cr_assert_not_null(at);
    cr_assert_eq(sscanf(at, " process_open_fds %lf", &descriptors), 1);
    cr_assert_geq(descriptors, 3);
    cr_assert_not_null(strstr(text, "\nprocess_cpu_seconds_total "));
    cr_assert_not_null(strstr(text, "\nprocess_resident_memory_bytes "));
    cr_assert_not_null(strstr(text, "\nprocess_virtual_memory_bytes "));
    cr_assert_not_null(strstr(text, "\nprocess_max_fds "));
    free(text);
}

// Every series kind once, through the linter of Prometheus itself.
Test(metrics, promtool_accepts_the_text)
{
    cr_assert_eq(system("command -v promtool >/dev/null 2>&1"), 0, "promtool is not installed (scripts/setup)");
    metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "a\"b\\c\xff"), 1);
    metric_observe(metrics_series1(metrics, METRIC_INSERT_SECONDS, "t"), 1);
    metric_observe(metrics_series1(metrics, METRIC_INSERT_BATCH_ROWS, "t"), 50000);
    metric_set(metrics_series3(metrics, METRIC_BUILD_INFO, "1", "2", "3"), 1);
    char *text = render();
    FILE *promtool = popen("promtool check metrics", "w");
    cr_assert_not_null(promtool);
    cr_assert_neq(fputs(text, promtool), EOF);
    cr_assert_eq(pclose(promtool), 0);
    free(text);
}
