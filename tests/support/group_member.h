// SPDX-License-Identifier: Apache-2.0
//
// A member of the consumer group at librdkafka's mock cluster, with a table that is paused and reads nothing, for
// tests. Make a suite with start() and finish(); nothing is joined before await_assignment(). Fails the test where it
// cannot be had.
#ifndef TESTS_SUPPORT_GROUP_MEMBER_H
#define TESTS_SUPPORT_GROUP_MEMBER_H

#include "mock_kafka.h"
#include "relay/insert/insert_group.h"

#include <criterion/criterion.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct config config;
static struct config_route route;
static struct stop stop_;
static struct relay_context context = {.config = &config, .instance = "0123456789abcdef0123456789abcdef"};
static struct mock_kafka mock;
static struct clickhouse_client *client;
static struct insert_lease lease;
static struct insert_table table;
static struct insert_table *tables[] = {&table};
static struct insert_group group;

static inline struct mono_time in_seconds(int64_t seconds)
{
    return mono_add(clock_mono(clock_system()), DURATION_S(seconds));
}

static inline void wake(void *unused)
{
    (void)unused;
}

static inline void start(void)
{
    static char posts[] = "posts", *topics[] = {posts}, url[] = "http://127.0.0.1:1", *urls[] = {url}, empty[] = "";
    struct relay_error error;
    route =
        (struct config_route){.name = posts, .table = posts, .enabled = true, .topics = {.items = topics, .count = 1}};
    config = (struct config){.routes = &route, .route_count = 1};
    mock_kafka_start(&mock, 1, posts, &config);
    rd_kafka_mock_group_initial_rebalance_delay_ms(mock.cluster, 0);
    config.insert = (struct config_insert){.group_id = posts, .memory_limit = 64 << 20};
    config.clickhouse = (struct config_clickhouse){.urls = {.items = urls, .count = 1},
        .database = empty,
        .user = empty,
        .password = empty,
        .ca_file = empty,
        .cert_file = empty,
        .key_file = empty};
    cr_assert(stop_init(&stop_, &error));
    context.clock = clock_system();
    context.stop = &stop_;
    context.metrics = metrics_new(&error);
    context.board = status_board_new(context.clock, &error);
    client = clickhouse_client_new(&context, &error);
    cr_assert(context.metrics && context.board && client);
    insert_lease_init(&lease, context.clock, DURATION_S(20), wake, NULL);
    struct table_worker_options options = {.context = &context,
        .client = client,
        .route = &route,
        .group_tag = "01234567",
        .lease = &lease,
        .wake = wake};
    table = (struct insert_table){.context = &context,
        .route = &route,
        .name = posts,
        .partitions = &group.partitions,
        .state = INSERT_TABLE_PAUSED, // it reads nothing
        .open_at = {INT64_MAX},
        .worker = table_worker_start(&options, &error)};
    cr_assert_not_null(table.worker, "%s", error.text);
    insert_group_init(&group);
    group.context = &context;
    group.routes = insert_routes_new(&config, &error);
    cr_assert_not_null(group.routes, "%s", error.text);
    group.tables = tables;
    group.table_count = 1;
    group.lease = &lease;
    group.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline void finish(void)
{
    table_worker_quit(table.worker);
    cr_assert(table_worker_join(table.worker, mono_add(clock_mono(context.clock), DURATION_S(20))));
    insert_group_finish(&group);
    table_worker_free(table.worker);
    insert_routes_free((struct insert_routes *)(uintptr_t)group.routes);
    close(group.wake_fd);
    clickhouse_client_free(client);
    insert_lease_finish(&lease);
    status_board_free(context.board);
    metrics_free(context.metrics);
    stop_finish(&stop_);
    mock_kafka_stop(&mock);
}

static inline void await_assignment(void)
{
    struct mono_time deadline = in_seconds(30);
    while (group.partitions.count == 0) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "never assigned");
        insert_group_work(&group, clock_mono(context.clock));
        insert_group_serve(&group, 100);
    }
}

static inline void await_committed(void)
{
    struct mono_time deadline = in_seconds(30);
    await_assignment();
    while (!group.partitions.items[0]->committed_known) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "never told what is committed");
        insert_group_work(&group, clock_mono(context.clock));
        insert_group_serve(&group, 100);
    }
}

static inline void work_once(void)
{
    insert_group_serve(&group, 100);
    insert_group_work(&group, clock_mono(context.clock));
    insert_group_serve(&group, 100);
}

#endif
