// SPDX-License-Identifier: Apache-2.0
//
// Happy path: join; partitions are assigned and stand still; their committed offsets are asked for; the tables read
// back; each partition begins at the lowest offset that one of its tables lacks; messages go to the tables; what all
// tables of a partition have stored is committed.
//
// Failures:
// - a commit is answered too late, or not at all, or by a broken connection: whether and when it counts is unknown, and
//   librdkafka may still repeat it (not one whose generation is over: no copy of it counts). The handle is closed and
//   a new member joins, whose id fences whatever is still under way;
// - a commit is refused (rebalance, stale generation): nothing was committed; the next one says it again if we are
//   still members. The last one before partitions are given back, or the group is left, is repeated for a while;
// - partitions are revoked: what they have under way is finished within seconds, or killed; then their marks are
//   committed, however slowly the coordinator answers. If they are lost, somebody else may own them: dropped at once;
// - an INSERT of theirs may still begin: they are not given back; the handle is closed without leaving the group, which
//   gives them away when the session ends, and a new member joins;
// - our offset is not in the log: messages were lost to retention, or the topic is another one. The partition stands
//   still and the board says so (insert_health.c);
// - the committed offsets cannot be read: asked again; "cannot be read" never means "none".
#include "relay/insert/insert_group.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/insert/insert_catch_up.h"
#include "relay/insert/insert_commit.h"
#include "relay/insert/insert_expiry.h"
#include "relay/insert/insert_flow.h"
#include "relay/insert/insert_health.h"
#include "relay/insert/insert_kill.h"
#include "relay/insert/insert_lag.h"
#include "relay/insert/insert_memory.h"
#include "relay/insert/insert_silence.h"
#include "relay/insert/insert_take.h"
#include "relay/insert/view_note.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FINISH_LIMIT DURATION_S(5)  // of what a revoked partition has under way
#define COMMIT_AGAIN DURATION_S(10) // for the last commit of a member that leaves, refused by a rebalance
#define GIVEN_AGAIN  DURATION_S(3)  // the same, of partitions that are given back
#define COMMIT_PAUSE DURATION_MS(100)
#define LEAVE_LIMIT  DURATION_S(5)
#define START_WAIT   DURATION_S(12)  // longer than the server may take to start an INSERT
#define CLOSE_LEAST  DURATION_S(1)   // for closing, before the drain deadline
#define LASTING      DURATION_S(300) // a membership; without messages it commits nothing

void insert_group_init(struct insert_group *group)
{
    backoff_init(&group->backoff, DURATION_MS(200), DURATION_S(10));
    backoff_init(&group->rejoin, DURATION_MS(200), DURATION_S(60));
    atomic_init(&group->lag, -1);
}

static void remove_at(struct insert_partitions *partitions, size_t index)
{
    insert_partition_free(partitions->items[index]);
    partitions->items[index] = partitions->items[--partitions->count];
}

void insert_group_finish(struct insert_group *group)
{
    while (group->partitions.count > 0) {
        remove_at(&group->partitions, 0);
    }
    free(group->partitions.items);
    free(group->headers);
    insert_health_finish(group);
}

// Assignment

static bool add_partition(struct insert_group *group, const char *topic, int32_t number, struct relay_error *error)
{
    struct insert_partitions *partitions = &group->partitions;
    size_t feeds = 0;
    for (size_t i = 0; i < group->table_count; i++) {
        feeds += insert_routes_match(group->routes, i, topic);
    }
    if (partitions->count == partitions->room) {
        size_t room = partitions->room ? partitions->room * 2 : 32;
        struct insert_partition **items = reallocarray(partitions->items, room, sizeof(struct insert_partition *));
        if (!items) {
            return error_no_memory(error, "taking a partition");
        }
        partitions->items = items;
        partitions->room = room;
    }
    struct insert_partition *partition = insert_partition_new(topic, number, feeds, error);
    if (!partition) {
        return false;
    }
    partition->since = partition->asked_at = insert_group_now(group);
    char text[16];
    snprintf(text, sizeof(text), "%d", number);
    partition->lag = metrics_series2(group->context->metrics, METRIC_CONSUMER_LAG, topic, text);
    // Prometheus counts an increase from a series' first value: one that began with its first loss would hide it.
    metrics_series1(group->context->metrics, METRIC_MESSAGES_LOST, topic);
    size_t used = 0;
    for (size_t i = 0; i < group->table_count; i++) {
        if (insert_routes_match(group->routes, i, topic)) {
            partition->feeds[used].state = group->tables[i]->state == INSERT_TABLE_PAUSED ? FEED_PAUSED : FEED_WAITING;
            partition->feeds[used++].table = group->tables[i];
        }
    }
    partitions->items[partitions->count++] = partition;
    return true;
}

static void on_assigned(void *context, const rd_kafka_topic_partition_list_t *list)
{
    struct insert_group *group = context;
    struct relay_error error;
    for (int i = 0; i < list->cnt; i++) {
        if (!insert_group_find(group, list->elems[i].topic, list->elems[i].partition) &&
            !add_partition(group, list->elems[i].topic, list->elems[i].partition, &error)) {
            insert_group_break(group, &error);
        }
        TEST_POINT(INSERT_AFTER_ASSIGN);
    }
    log_event(LOG_LEVEL_INFO, "insert.assigned", NULL, LOG_INT("partitions", list->cnt));
    insert_health_assigned(group, list);
    group->assigned = true;
    group->ask_at = insert_group_now(group);
}

static void let_partition_go(struct insert_group *group, struct insert_partition *partition)
{
    partition->gone = true;
    partition->fetching = false;
    group->last = NULL;
    insert_lag_end(group, partition);
}

// Partitions that are gone, once no job refers to them.
static void bury_gone(struct insert_group *group)
{
    for (size_t i = group->partitions.count; i > 0; i--) {
        struct insert_partition *partition = group->partitions.items[i - 1];
        if (partition->gone && partition->jobs == 0) {
            remove_at(&group->partitions, i - 1);
        }
    }
}

// Waits until something happens, shortly. Whatever waits so has a deadline: the thread does not hang.
static void wait_shortly(struct insert_group *group, int ms)
{
    if (group->heartbeat) {
        heartbeat_beat(group->heartbeat);
    }
    struct pollfd fd = {.fd = group->wake_fd, .events = POLLIN};
    if (poll(&fd, 1, ms) > 0) {
        uint64_t count;
        ssize_t got = read(group->wake_fd, &count, sizeof(count));
        (void)got;
    }
}

// Revocation

static bool is_listed(const rd_kafka_topic_partition_list_t *list, const struct insert_partition *partition)
{
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].partition == partition->number && strcmp(list->elems[i].topic, partition->topic) == 0) {
            return true;
        }
    }
    return false;
}

// Sends what the tables hold of these partitions (NULL: of all). true: nothing is left.
static bool flush_held(struct insert_group *group, const rd_kafka_topic_partition_list_t *list)
{
    bool left = false;
    for (size_t i = 0; i < group->table_count; i++) {
        struct insert_table *table = group->tables[i];
        bool holds = false;
        for (size_t j = 0; !holds && j < group->partitions.count; j++) {
            const struct insert_partition *partition = group->partitions.items[j];
            holds = !partition->gone && (!list || is_listed(list, partition)) && insert_table_holds(table, partition);
        }
        if (holds) {
            insert_table_flush(table);
            left = true;
        }
        insert_table_work(table, insert_group_now(group));
    }
    return !left;
}

static bool finish_held(struct insert_group *group, const rd_kafka_topic_partition_list_t *list, struct mono_time until)
{
    while (!flush_held(group, list)) {
        if (mono_reached(insert_group_now(group), until) || group->broken) {
            return false;
        }
        wait_shortly(group, 20);
        kafka_consumer_serve_commits(group->consumer);
        insert_commit_if_due(group, insert_group_now(group));
    }
    return true;
}

// The stop may come while something is waited for.
static bool has_to_close(const struct insert_group *group, struct mono_time now)
{
    const struct stop *stop = group->context->stop;
    return stop && mono_reached(now, (struct mono_time){stop_deadline(stop).ns - CLOSE_LEAST.ns});
}

// The marks as they are now, committed; until nothing is under way. What a rebalance refuses is said again until
// `again_until`. false: unknown.
static bool commit_and_wait(struct insert_group *group, struct mono_time until, struct mono_time again_until)
{
    struct mono_time since, again_at = {0};
    bool sent = false;
    for (;;) {
        kafka_consumer_serve_commits(group->consumer);
        struct mono_time now = insert_group_now(group);
        if (!kafka_consumer_committing(group->consumer, &since)) {
            if (group->broken || (sent && (!group->rebalancing || mono_reached(now, again_until)))) {
                return !group->broken;
            }
            if (mono_reached(now, again_at)) {
                if (!insert_commit_changed(group)) {
                    return true;
                }
                sent = true;
                again_at = mono_add(now, COMMIT_PAUSE);
            }
        } else if (mono_reached(now, until) || has_to_close(group, now)) {
            struct relay_error error;
            error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "the last offset commit of revoked partitions has no answer");
            insert_group_break(group, &error);
            return false;
        }
        wait_shortly(group, 20);
    }
}

static struct mono_time within_drain(const struct insert_group *group, struct duration limit)
{
    struct mono_time until = mono_add(insert_group_now(group), limit);
    if (group->context->stop && mono_before(stop_deadline(group->context->stop), until)) {
        until = stop_deadline(group->context->stop);
    }
    return until;
}

// After tables have given up batches: until the server can start none of their INSERTs any more, so that the next
// owner, who asks what runs, sees all that will. false: `until` came first.
static bool wait_for_starts(struct insert_group *group, struct mono_time until)
{
    for (;;) {
        bool in_doubt = false;
        for (size_t i = 0; i < group->table_count; i++) {
            struct mono_time last;
            in_doubt = table_worker_has_in_doubt(group->tables[i]->worker, &last) || in_doubt;
        }
        if (!in_doubt || mono_reached(insert_group_now(group), until)) {
            return !in_doubt;
        }
        wait_shortly(group, 20);
    }
}

// Of partitions that are given back: one that is under way, and the last one. Whoever leaves the group and joins it
// again has partitions of the others revoked, which would meet the same coordinator.
static struct duration last_commits_limit(const struct insert_group *group)
{
    return DURATION_NS(2 * kafka_consumer_commit_limit(group->consumer).ns);
}

static void forget_everywhere(struct insert_group *group, const struct insert_partition *partition)
{
    for (size_t i = 0; i < group->table_count; i++) {
        insert_table_forget(group->tables[i], partition);
    }
}

static bool on_revoked(void *context, const rd_kafka_topic_partition_list_t *list, bool lost)
{
    struct insert_group *group = context;
    bool given_back = !lost && !group->leaving; // leave() has waited already
    bool orderly = given_back && !group->broken;
    log_event(lost ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "insert.revoked", NULL, LOG_INT("partitions", list->cnt),
        LOG_BOOL("lost", lost));
    insert_health_revoked(group);
    if (lost) {
        insert_lease_revoke(group->lease);
    }
    if (orderly) {
        finish_held(group, list, within_drain(group, FINISH_LIMIT));
        commit_and_wait(group, mono_add(insert_group_now(group), last_commits_limit(group)),
            within_drain(group, GIVEN_AGAIN));
    }
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (partition->gone || !is_listed(list, partition)) {
            continue;
        }
        forget_everywhere(group, partition);
        let_partition_go(group, partition);
    }
    insert_kill_dropped(group->tables, group->table_count);
    if (given_back && !wait_for_starts(group, within_drain(group, START_WAIT))) {
        struct relay_error error;
        error_set(&error, RELAY_ERROR_CLICKHOUSE_UNKNOWN, "an INSERT of revoked partitions may still begin");
        insert_group_break(group, &error);
        return false;
    }
    return true;
}

static void on_trouble(void *context, const struct relay_error *error, bool finished)
{
    struct insert_group *group = context;
    if (finished) {
        insert_group_break(group, error);
    }
    log_event(LOG_LEVEL_WARNING, "insert.kafka_trouble", NULL, LOG_ERROR(error));
    insert_silence_trouble(group, error);
    bool down = error->detail == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    if (error->class == RELAY_CLASS_OPERATOR && error->detail > 0) { // else it comes from librdkafka itself
        insert_health_refused(group, error->text);
    } else if (finished || down || error->class == RELAY_CLASS_OPERATOR) {
        insert_health_tell(group, down ? STATUS_DOWN : STATUS_DEGRADED, error->text);
    }
}

// Joining and leaving

struct kafka_consumer_options insert_group_options(const struct config *config)
{
    return (struct kafka_consumer_options){.group_id = config->insert.group_id,
        .memory = config->insert.memory_limit / INSERT_MEMORY_MEMBER_SHARE,
        .member = true};
}

static void join(struct insert_group *group, struct mono_time now)
{
    struct kafka_consumer_listener listener = {.context = group,
        .assigned = on_assigned,
        .revoked = on_revoked,
        .message = insert_take_message,
        .partition_end = insert_take_end,
        .partition_failed = insert_expiry_met,
        .partition_troubled = insert_health_unreadable,
        .committed = insert_commit_answered,
        .topic_absent = insert_health_absent,
        .trouble = on_trouble};
    struct kafka_consumer_options options = insert_group_options(group->context->config);
    struct relay_error error;
    options.wake_fd = group->wake_fd;
    options.topics = insert_routes_topics(group->routes, &options.topic_count);
    group->consumer = kafka_consumer_new(group->context, &options, &listener, &error);
    if (!group->consumer) {
        group->join_at = mono_add(now, backoff_next(&group->backoff));
        insert_health_cannot_join(group, &error);
        log_event(LOG_LEVEL_ERROR, "insert.cannot_join", NULL, LOG_ERROR(&error));
        return;
    }
    group->joined_at = now;
    insert_health_begin(group, now);
    struct duration session = kafka_consumer_session_timeout(group->consumer);
    group->lease->length = DURATION_NS(session.ns > 6000000000 ? session.ns - 2000000000 : session.ns * 2 / 3);
}

static void tell_stopped(const struct insert_group *group)
{
    metric_set(metrics_series0(group->context->metrics, METRIC_STOPPED_PARTITIONS),
        (double)insert_health_stopped(group));
}

static void leave(struct insert_group *group)
{
    group->leaving = true;
    insert_lease_revoke(group->lease);
    insert_catch_up_end(group, within_drain(group, LEAVE_LIMIT));
    for (size_t i = 0; i < group->partitions.count; i++) {
        if (!group->partitions.items[i]->gone) {
            forget_everywhere(group, group->partitions.items[i]);
        }
    }
    insert_kill_dropped(group->tables, group->table_count);
    struct mono_time until = within_drain(group, START_WAIT);
    if (!wait_for_starts(group, (struct mono_time){until.ns - CLOSE_LEAST.ns})) {
        kafka_consumer_stay(group->consumer); // the session's end, later than the lease's, gives the partitions away
    }
    struct mono_time deadline = within_drain(group, LEAVE_LIMIT);
    if (!kafka_consumer_close(group->consumer, deadline)) {
        group->hangs = true;
    }
    group->consumer = NULL;
    // What the closing did not revoke.
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone) {
            let_partition_go(group, partition);
        }
    }
    tell_stopped(group);
    group->leaving = group->broken = group->assigned = false;
    atomic_store(&group->lag, -1);
}

// Where partitions begin

// What a former owner, or our own last membership, had under way for tables with views.
static void take_note(struct insert_feed *feed, const rd_kafka_topic_partition_t *element)
{
    const struct config_route *route = feed->table->route;
    char *note = view_note_pick(element->metadata, element->metadata_size, view_note_route(route->name, route->table));
    if (note) {
        free(feed->owed);
        feed->owed = note;
    }
}

static void note_committed(struct insert_partition *partition, const rd_kafka_topic_partition_t *element)
{
    int64_t offset = element->offset;
    partition->committed = offset >= 0 ? offset : OFFSET_NONE;
    partition->committed_known = true;
    for (size_t i = 0; i < partition->feed_count; i++) {
        partition->feeds[i].next = partition->feeds[i].mark = partition->committed;
        take_note(&partition->feeds[i], element);
    }
}

// The stage comes round at once: the tables are asked in the first half of a round, before this.
static void go_round_again(const struct insert_group *group)
{
    uint64_t one = 1;
    ssize_t written = write(group->wake_fd, &one, sizeof(one));
    (void)written; // full: it is awake anyway
}

static void ask_committed(struct insert_group *group, struct mono_time now)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone && !partition->committed_known) {
            insert_group_list(&list, partition);
        }
    }
    if (!list) {
        return;
    }
    struct relay_error error;
    if (kafka_consumer_committed(group->consumer, list, DURATION_S(5), &error)) {
        for (int i = 0; i < list->cnt; i++) {
            struct insert_partition *partition = insert_group_find(group, list->elems[i].topic,
                list->elems[i].partition);
            if (partition && !partition->committed_known) {
                note_committed(partition, &list->elems[i]);
            }
        }
        backoff_reset(&group->backoff);
        go_round_again(group);
    } else {
        log_event(LOG_LEVEL_WARNING, "insert.no_committed_offsets",
            "the committed offsets cannot be read; the partitions wait", LOG_ERROR(&error));
        group->ask_at = mono_add(now, backoff_next(&group->backoff));
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static void tell(struct insert_group *group, struct mono_time now)
{
    insert_lag_tell(group, now);
    tell_stopped(group);
    metric_set(metrics_series0(group->context->metrics, METRIC_INSERT_BUFFER_BYTES), (double)insert_memory_held(group));
    group->tell_at = mono_add(now, DURATION_S(1));
}

bool insert_group_serve(struct insert_group *group, size_t most)
{
    if (!group->consumer) {
        return false;
    }
    if (insert_flow_must_wait(group, insert_group_now(group))) {
        kafka_consumer_serve_commits(group->consumer);
        return false;
    }
    bool more = kafka_consumer_serve(group->consumer, most, &group->full);
    if (!more) {
        group->emptied_at = insert_group_now(group);
    }
    return insert_catch_up_serve(group, most) || more;
}

// Each membership costs two rebalances of the whole group, and a read-back of each partition.
static void begin_anew(struct insert_group *group, struct mono_time now)
{
    log_event(LOG_LEVEL_WARNING, "insert.rejoin", "leaves the group and joins again", LOG_ERROR(&group->why_broken));
    metric_add(
        metrics_series2(group->context->metrics, METRIC_RETRIES, "kafka", error_class_name(group->why_broken.class)),
        1);
    if (mono_since(now, group->joined_at).ns >= LASTING.ns) {
        backoff_reset(&group->rejoin);
    }
    leave(group);
    group->join_at = mono_add(insert_group_now(group), backoff_next(&group->rejoin));
}

void insert_group_work(struct insert_group *group, struct mono_time now)
{
    bury_gone(group);
    if (group->broken && group->consumer) {
        begin_anew(group, now);
    }
    if (!group->consumer && mono_reached(now, group->join_at)) {
        join(group, now);
    }
    if (!group->consumer) {
        return;
    }
    if (mono_reached(now, group->ask_at)) {
        ask_committed(group, now);
    }
    insert_memory_work(group);
    insert_expiry_compare(group, now);
    insert_flow_begin(group);
    insert_flow_hold(group);
    insert_catch_up_work(group);
    insert_commit_if_due(group, now);
    insert_silence_work(group, now);
    insert_health_work(group, now);
    if (mono_reached(now, group->tell_at)) {
        tell(group, now);
    }
}

void insert_group_drain(struct insert_group *group, struct mono_time deadline)
{
    if (!group->consumer) {
        return;
    }
    struct mono_time until = {deadline.ns - 1000000000};
    if (finish_held(group, NULL, until)) {
        struct mono_time again_until = mono_add(insert_group_now(group), COMMIT_AGAIN);
        commit_and_wait(group, until, mono_before(until, again_until) ? until : again_until);
    }
    leave(group);
}
