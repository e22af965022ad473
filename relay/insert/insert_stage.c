// SPDX-License-Identifier: Apache-2.0
//
// The insert pipe. Invariants: an offset is committed only after every message before it is in ClickHouse, as a row or
// as a dead letter; no crash, cut, rebalance or frozen process makes a message missing or doubled in a table that
// carries the offsets.
//
//   kafka_consumer -> insert_group -> insert_table (row_encoder -> insert_batch) -> table_worker -> ClickHouse
//                          ^------------------- marks, commits, lease ----------------------'
//
// One thread owns the consumer, all marks and all open batches; each route has a worker thread that talks to
// ClickHouse. An eventfd wakes the former: messages, answers to commits, finished jobs. When the relay stops, open
// batches are sent, the marks committed and the group left, all before the drain deadline; what was not stored until
// then is found again.
//
// insert_group_inside.h names the parts of the group. Those of a table:
//
//   table_plan      schema, encoder and statements of one route, as read from the server at one moment
//   table_findings  what stands between a table and exactly once
//   table_job       what the consumer's thread asks of a worker: to open the table, to read back, to insert
//   table_reading   of these jobs those that only read: the schema, which offsets are there
//   table_question  statements whose answer must be whole: an empty or cut one never passes as "none"
//   read_back       which offsets the table and the dead letters have
//   table_insert    of these jobs the INSERT, with what follows each refusal
//   insert_deadline until when the server may start an INSERT; insert_doubt: one that has no answer
//   view_note       the text that offset commits carry for an INSERT into a table with views
//   insert_note     such a note from the commit that carries it until its INSERT is done
//   view_repeat     an INSERT repeated out of the table for its views, by what its note says
#include "relay/insert/insert_stage.h"

#include "relay/base/fnv.h"
#include "relay/base/log.h"
#include "relay/base/thread.h"
#include "relay/insert/encode_reason.h"
#include "relay/insert/insert_catch_up.h"
#include "relay/insert/insert_commit.h"
#include "relay/insert/insert_group.h"
#include "relay/insert/insert_health.h"
#include "relay/insert/insert_table_show.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SLICE 500 // messages between two looks at everything else

struct insert_stage {
    const struct relay_context *context;
    struct clickhouse_client *client;
    struct dead_letter_topic *copies; // NULL: no topic is configured
    struct insert_routes *routes;
    struct insert_group group;
    struct insert_lease lease;
    char group_tag[9];
    struct heartbeat *heartbeat;
    int wake_fd;
    pthread_t thread;
    bool running; // the joiner's: to be joined
};

static void wake(void *context)
{
    struct insert_stage *stage = context;
    uint64_t one = 1;
    ssize_t written = write(stage->wake_fd, &one, sizeof(one));
    (void)written; // full: it is awake anyway
}

static void wait_for_work(struct insert_stage *stage)
{
    struct mono_time now = clock_mono(stage->context->clock);
    struct mono_time due = mono_add(now, DURATION_MS(500));
    for (size_t i = 0; i < stage->group.table_count; i++) {
        struct mono_time table = insert_table_due(stage->group.tables[i]);
        due = mono_before(table, due) ? table : due;
    }
    if (stage->group.full_since.ns || insert_commit_awaited(&stage->group)) {
        struct mono_time soon = mono_add(now, stage->group.full_since.ns ? DURATION_MS(50) : DURATION_MS(2));
        due = mono_before(soon, due) ? soon : due;
    }
    int ms = duration_to_poll_ms(mono_left(now, due));
    struct pollfd fds[] = {{.fd = stage->wake_fd, .events = POLLIN},
        {.fd = stage->context->stop->fd, .events = POLLIN}};
    if (poll(fds, 2, ms < 1 ? 1 : ms) > 0 && fds[0].revents) {
        uint64_t count;
        ssize_t got = read(stage->wake_fd, &count, sizeof(count));
        (void)got;
    }
}

static void show_paused(const struct insert_stage *stage, struct mono_time now)
{
    const struct insert_group *group = &stage->group;
    bool explained = group->health.unreachable || clickhouse_client_held_back(stage->client);
    bool all = true;
    for (size_t i = 0; i < group->table_count; i++) {
        insert_table_show_lasting(group->tables[i], explained, now);
        all = all && insert_table_shows_paused(group->tables[i]);
    }
    for (size_t i = 0; i < group->table_count; i++) {
        insert_table_show_paused(group->tables[i], all);
    }
}

// Ready once a broker, which refuses nothing, and a ClickHouse server have answered; then for good.
static bool come_up(struct insert_stage *stage)
{
    bool up = insert_health_up(&stage->group) && clickhouse_client_answers(stage->client);
    if (up) {
        status_board_set_ready(stage->context->board, STATUS_INSERT, "", true);
    }
    return up;
}

static void *stage_main(void *argument)
{
    struct insert_stage *stage = argument;
    const struct relay_context *context = stage->context;
    struct insert_group *group = &stage->group;
    bool ready = false;
    while (!stop_raised(context->stop)) {
        heartbeat_beat(stage->heartbeat);
        struct mono_time now = clock_mono(context->clock);
        for (size_t i = 0; i < group->table_count; i++) {
            insert_table_work(group->tables[i], now);
        }
        show_paused(stage, now);
        insert_group_work(group, now);
        ready = ready || come_up(stage);
        if (!insert_group_serve(group, SLICE)) {
            wait_for_work(stage);
        }
    }
    log_event(LOG_LEVEL_INFO, "insert.draining", NULL);
    insert_group_drain(group, stop_deadline(context->stop));
    heartbeat_end(stage->heartbeat);
    return NULL;
}

// Routes may share a table: then the board's names carry the route.
static char *board_name(const struct insert_routes *routes, size_t index)
{
    const struct config_route *route = insert_routes_at(routes, index);
    bool shared = false;
    for (size_t i = 0; i < insert_routes_count(routes); i++) {
        shared = shared || (i != index && strcmp(insert_routes_at(routes, i)->table, route->table) == 0);
    }
    char *name = NULL;
    if (!shared) {
        return strdup(route->table);
    }
    return asprintf(&name, "%s (%s)", route->table, route->name) < 0 ? NULL : name;
}

static bool start_tables(struct insert_stage *stage, struct relay_error *error)
{
    size_t count = insert_routes_count(stage->routes);
    stage->group.tables = calloc(count, sizeof(struct insert_table *));
    if (!stage->group.tables) {
        return error_no_memory(error, "starting the insert stage");
    }
    for (size_t i = 0; i < count; i++) {
        struct table_worker_options options = {.context = stage->context,
            .client = stage->client,
            .route = insert_routes_at(stage->routes, i),
            .group_tag = stage->group_tag,
            .lease = &stage->lease,
            .copies = stage->copies,
            .wake = wake,
            .wake_context = stage};
        char *name = board_name(stage->routes, i);
        if (!name) {
            return error_no_memory(error, "starting the insert stage");
        }
        stage->group.tables[i] = insert_table_new(&options, name, &stage->group.partitions, error);
        if (!stage->group.tables[i]) {
            free(name);
            return false;
        }
        stage->group.table_count++;
    }
    return true;
}

static void warn_of_overlap(void *context, const struct insert_overlap *overlap)
{
    (void)context;
    log_event(LOG_LEVEL_WARNING, "insert.route_overlap", "a route before it takes the topic into the same table",
        LOG_TEXT("route", overlap->route->name), LOG_TEXT("first_route", overlap->first->name),
        LOG_TEXT("table", overlap->route->table), LOG_TEXT("topic", overlap->topic));
}

// Prometheus counts an increase from a series' first value: one that began with its first dead letters would hide them.
static void count_dead_letters_from_zero(struct metrics *metrics)
{
    for (int reason = ENCODE_NONE + 1; reason < ENCODE_REASON_COUNT; reason++) {
        metrics_series2(metrics, METRIC_DEAD_LETTERS, "insert", encode_reason_name((enum encode_reason)reason));
    }
}

bool insert_stage_try(const struct relay_context *context, struct relay_error *error)
{
    const struct config_insert *insert = &context->config->insert;
    struct kafka_consumer_options member = insert_group_options(context->config);
    struct kafka_consumer_options reader = insert_catch_up_options(context->config);
    bool good = !insert->enabled ||
        (kafka_consumer_try(context, &member, error) && kafka_consumer_try(context, &reader, error) &&
            (insert->dead_letter_topic[0] == '\0' || dead_letter_topic_try(context, error)));
    return good || error_prefix(error, "insert stage");
}

struct insert_stage *insert_stage_start(const struct relay_context *context, struct relay_error *error)
{
    struct insert_stage *stage = calloc(1, sizeof(*stage));
    if (!stage) {
        error_no_memory(error, "starting the insert stage");
        return NULL;
    }
    stage->context = context;
    count_dead_letters_from_zero(context->metrics);
    insert_lease_init(&stage->lease, context->clock, DURATION_S(20), wake, stage);
    snprintf(stage->group_tag, sizeof(stage->group_tag), "%08x", fnv_text(FNV_START, context->config->insert.group_id));
    stage->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stage->wake_fd < 0) {
        error_set(error, RELAY_ERROR_SYSTEM, "eventfd: %s", strerror(errno));
        goto failed;
    }
    insert_group_init(&stage->group);
    stage->routes = insert_routes_new(context->config, error);
    if (stage->routes) {
        insert_routes_overlaps(stage->routes, warn_of_overlap, NULL);
    }
    stage->client = stage->routes ? clickhouse_client_new(context, error) : NULL;
    bool copies = stage->client && context->config->insert.dead_letter_topic[0] != '\0';
    if (copies && !(stage->copies = dead_letter_topic_new(context, error))) {
        goto failed;
    }
    stage->heartbeat = stage->client ? status_board_heartbeat(context->board, "insert", DURATION_S(60), error) : NULL;
    if (!stage->heartbeat || !start_tables(stage, error)) {
        goto failed;
    }
    stage->group.context = context;
    stage->group.routes = stage->routes;
    stage->group.lease = &stage->lease;
    stage->group.wake_fd = stage->wake_fd;
    stage->group.heartbeat = stage->heartbeat;
    status_board_set_ready(context->board, STATUS_INSERT, "", false);
    stage->running = thread_start(&stage->thread, "insert", stage_main, stage, error);
    if (!stage->running) {
        goto failed;
    }
    return stage;

failed:
    heartbeat_end(stage->heartbeat);
    for (size_t i = 0; i < stage->group.table_count; i++) {
        table_worker_quit(stage->group.tables[i]->worker);
        table_worker_join(stage->group.tables[i]->worker, (struct mono_time){INT64_MAX});
    }
    insert_stage_free(stage);
    return NULL;
}

bool insert_stage_join(struct insert_stage *stage, struct mono_time deadline)
{
    stage->running = stage->running && !thread_join_until(stage->thread, stage->context->clock, deadline);
    if (stage->running) {
        return false; // the lifecycle may ask again
    }
    bool ended = true;
    for (size_t i = 0; i < stage->group.table_count; i++) {
        table_worker_quit(stage->group.tables[i]->worker);
    }
    for (size_t i = 0; i < stage->group.table_count; i++) {
        ended = table_worker_join(stage->group.tables[i]->worker, deadline) && ended;
    }
    if (ended) {
        dead_letter_topic_end(stage->copies);
    }
    return ended;
}

bool insert_stage_left_handle(const struct insert_stage *stage)
{
    return stage->group.hangs || dead_letter_topic_left_client(stage->copies);
}

void insert_stage_free(struct insert_stage *stage)
{
    if (!stage) {
        return;
    }
    for (size_t i = 0; i < stage->group.table_count; i++) {
        char *name = (char *)(uintptr_t)stage->group.tables[i]->name;
        insert_table_free(stage->group.tables[i]);
        free(name);
    }
    free(stage->group.tables);
    insert_group_finish(&stage->group);
    insert_routes_free(stage->routes);
    clickhouse_client_free(stage->client);
    dead_letter_topic_free(stage->copies);
    insert_lease_finish(&stage->lease);
    if (stage->wake_fd >= 0) {
        close(stage->wake_fd);
    }
    free(stage);
}

void insert_stage_reload(struct insert_stage *stage, const struct config *config)
{
    clickhouse_client_limit(stage->client, &config->breakers[CONFIG_DEPENDENCY_CLICKHOUSE]);
}

int64_t insert_stage_lag(const struct insert_stage *stage)
{
    return atomic_load(&stage->group.lag);
}
