// SPDX-License-Identifier: Apache-2.0
//
// Happy path: join; partitions are assigned and stand still; their committed offsets are asked for; the tables read back; each partition begins
// at the lowest offset that one of its tables lacks; messages go to the tables; what all tables of a partition have stored is committed.
//
// Failures:
// - a commit is answered too late, or not at all, or by a broken connection: whether and when it counts is unknown, and librdkafka may
//   still repeat it. The handle is closed and a new member joins, whose id fences whatever is still under way;
// - a commit is refused (rebalance, stale generation): nothing was committed; the next one says it again if we are still members;
// - partitions are revoked: what they have under way is finished within seconds, or killed; then their marks are committed. If
//   they are lost, somebody else may own them: dropped at once;
// - our offset is not in the log: messages were lost to retention, or the topic is another one. The partition stands still and the
//   board says so;
// - the committed offsets cannot be read: asked again; "cannot be read" never means "none".
#include "relay/insert/insert_group.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMIT_EVERY    DURATION_MS(500)
#define FINISH_LIMIT    DURATION_S(5) // of what a revoked partition has under way
#define COMMIT_WAIT     DURATION_S(3) // of the last commit of a revoked partition
#define LEAVE_LIMIT     DURATION_S(5)
#define HOLD_AFTER      DURATION_MS(200) // a table that is full for longer has its partitions held

static struct mono_time now_of(const struct insert_group *group)
{
    return clock_mono(group->context->clock);
}

void insert_group_init(struct insert_group *group)
{
    backoff_init(&group->backoff, DURATION_MS(200), DURATION_S(10));
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
}

static struct insert_partition *find(const struct insert_group *group, const char *topic, int32_t number)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone && partition->number == number && strcmp(partition->topic, topic) == 0) {
            return partition;
        }
    }
    return NULL;
}

static void set_health(struct insert_group *group, enum status_level level, const char *reason)
{
    struct circuit_breaker *breaker = group->context->kafka_breaker;
    bool healthy = level == STATUS_OK;
    if (healthy && group->healthy) {
        return;
    }
    group->healthy = healthy;
    status_board_set(group->context->board, STATUS_KAFKA, "insert", level, reason);
    if (breaker && level != STATUS_DEGRADED && breaker_allow(breaker)) {
        if (healthy) {
            breaker_success(breaker);
        } else {
            breaker_failure(breaker);
        }
    }
}

static void break_off(struct insert_group *group, const struct relay_error *error)
{
    if (!group->broken) {
        group->broken = true;
        group->why_broken = *error;
    }
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
    char text[16];
    snprintf(text, sizeof(text), "%d", number);
    partition->lag = metrics_series2(group->context->metrics, METRIC_CONSUMER_LAG, topic, text);
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
        if (!find(group, list->elems[i].topic, list->elems[i].partition) &&
            !add_partition(group, list->elems[i].topic, list->elems[i].partition, &error)) {
            break_off(group, &error);
        }
    }
    log_event(LOG_LEVEL_INFO, "insert.assigned", NULL, LOG_INT("partitions", list->cnt));
    set_health(group, STATUS_OK, "");
    group->ask_at = now_of(group);
    if (list->cnt > 0) {
        TEST_POINT(INSERT_AFTER_ASSIGN);
    }
}

static void let_partition_go(struct insert_group *group, struct insert_partition *partition)
{
    partition->gone = true;
    partition->fetching = false;
    group->last = NULL;
    metrics_retire(group->context->metrics, partition->lag);
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

// Commits

static bool add_offset(rd_kafka_topic_partition_list_t *offsets, const struct insert_partition *partition, int64_t offset)
{
    rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(offsets, partition->topic, partition->number);
    if (!element) {
        return false;
    }
    element->offset = offset;
    return true;
}

// What may be committed for the partition now; OFFSET_NONE: nothing.
static int64_t committable(const struct insert_partition *partition)
{
    if (partition->gone || !partition->committed_known || partition->failed) {
        return OFFSET_NONE;
    }
    int64_t low = insert_partition_low(partition);
    if (!safeguard_active(SAFEGUARD_MONOTONIC_COMMIT)) {
        return partition->position; // what was read, stored or not
    }
    return low < partition->committed ? partition->committed : low;
}

// Sends what has changed, or, for the lease, what has not. false: nothing was sent.
static bool send_commit(struct insert_group *group, bool for_lease)
{
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(16);
    const struct insert_partition *any = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        int64_t offset = committable(partition);
        if (offset == OFFSET_NONE) {
            continue;
        }
        any = partition;
        if (offset != partition->committed) {
            add_offset(offsets, partition, offset);
        }
    }
    if (offsets->cnt == 0 && for_lease && any) {
        add_offset(offsets, any, committable(any));
    }
    bool sent = offsets->cnt > 0;
    if (sent) {
        TEST_POINT(INSERT_BEFORE_COMMIT);
        sent = kafka_consumer_commit(group->consumer, offsets);
    }
    rd_kafka_topic_partition_list_destroy(offsets);
    return sent;
}

static bool outcome_unknown(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE ||
           code == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT || code == RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION ||
           code == RD_KAFKA_RESP_ERR__DESTROY;
}

static void on_committed(void *context, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_resp_err_t code, struct mono_time sent)
{
    struct insert_group *group = context;
    struct relay_error error;
    struct duration taken = mono_since(now_of(group), sent);
    for (int i = 0; !code && offsets && i < offsets->cnt; i++) {
        code = offsets->elems[i].err;
    }
    if (outcome_unknown(code) || taken.ns > kafka_consumer_commit_limit(group->consumer).ns) {
        error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit took %.1f s (%s): whether it counts is unknown",
            duration_seconds(taken), rd_kafka_err2name(code));
        break_off(group, &error);
        return;
    }
    if (code) {
        log_event(LOG_LEVEL_INFO, "insert.commit_refused", "nothing was committed; it is said again if we are still members",
            LOG_TEXT("error", rd_kafka_err2name(code)));
        return;
    }
    for (int i = 0; offsets && i < offsets->cnt; i++) {
        struct insert_partition *partition = find(group, offsets->elems[i].topic, offsets->elems[i].partition);
        if (partition) {
            partition->committed = offsets->elems[i].offset;
        }
    }
    insert_lease_grant(group->lease, sent);
    set_health(group, STATUS_OK, "");
    TEST_POINT(INSERT_AFTER_COMMIT);
}

static bool any_busy(const struct insert_group *group)
{
    for (size_t i = 0; i < group->table_count; i++) {
        if (insert_table_busy(group->tables[i])) {
            return true;
        }
    }
    return false;
}

static void commit_if_due(struct insert_group *group, struct mono_time now)
{
    struct mono_time since;
    struct relay_error error;
    if (kafka_consumer_committing(group->consumer, &since)) {
        struct mono_time limit = mono_add(since, kafka_consumer_commit_limit(group->consumer));
        if (mono_reached(now, mono_add(limit, DURATION_S(1)))) {
            error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit has no answer after %.1f s", duration_seconds(mono_since(now, since)));
            break_off(group, &error);
        }
        return;
    }
    bool for_lease = any_busy(group) && insert_lease_renewal_due(group->lease);
    if (for_lease ? mono_reached(now, mono_add(group->committed_at, DURATION_MS(20))) : mono_reached(now, group->commit_at)) {
        group->commit_at = mono_add(now, COMMIT_EVERY);
        group->committed_at = now;
        send_commit(group, for_lease);
    }
}

// Waits until something happens, shortly.
static void wait_shortly(struct insert_group *group, int ms)
{
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
        insert_table_work(table, now_of(group));
    }
    return !left;
}

static bool finish_held(struct insert_group *group, const rd_kafka_topic_partition_list_t *list, struct mono_time until)
{
    while (!flush_held(group, list)) {
        if (mono_reached(now_of(group), until) || group->broken) {
            return false;
        }
        wait_shortly(group, 20);
        kafka_consumer_serve_commits(group->consumer);
        commit_if_due(group, now_of(group));
    }
    return true;
}

// The marks as they are now, committed; until nothing is under way. false: unknown.
static bool commit_and_wait(struct insert_group *group, struct mono_time until)
{
    struct mono_time since;
    bool sent = false;
    for (;;) {
        kafka_consumer_serve_commits(group->consumer);
        if (!kafka_consumer_committing(group->consumer, &since)) {
            if (sent || group->broken || !send_commit(group, false)) {
                return !group->broken;
            }
            sent = true;
        } else if (mono_reached(now_of(group), until)) {
            struct relay_error error;
            error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "the last offset commit of revoked partitions has no answer");
            break_off(group, &error);
            return false;
        }
        wait_shortly(group, 20);
    }
}

static struct mono_time within_drain(const struct insert_group *group, struct duration limit)
{
    struct mono_time until = mono_add(now_of(group), limit);
    if (group->context->stop && mono_before(stop_deadline(group->context->stop), until)) {
        until = stop_deadline(group->context->stop);
    }
    return until;
}

static void on_revoked(void *context, const rd_kafka_topic_partition_list_t *list, bool lost)
{
    struct insert_group *group = context;
    bool orderly = !lost && !group->leaving && !group->broken;
    log_event(lost ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "insert.revoked", NULL, LOG_INT("partitions", list->cnt), LOG_BOOL("lost", lost));
    if (lost) {
        insert_lease_revoke(group->lease);
    }
    if (orderly) {
        finish_held(group, list, within_drain(group, FINISH_LIMIT));
        commit_and_wait(group, within_drain(group, COMMIT_WAIT));
    }
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (partition->gone || !is_listed(list, partition)) {
            continue;
        }
        for (size_t j = 0; j < group->table_count; j++) {
            insert_table_forget(group->tables[j], partition, true);
        }
        let_partition_go(group, partition);
    }
}

// Messages

static bool read_headers(struct insert_group *group, const rd_kafka_message_t *message, struct source_message *source)
{
    rd_kafka_headers_t *headers;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return true;
    }
    size_t count = rd_kafka_header_cnt(headers);
    if (count > group->header_room) {
        struct source_header *room = reallocarray(group->headers, count * 2, sizeof(*room));
        if (!room) {
            return false;
        }
        group->headers = room;
        group->header_room = count * 2;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = NULL;
        const void *value = NULL;
        size_t length = 0;
        rd_kafka_header_get_all(headers, i, &name, &value, &length);
        group->headers[i] = (struct source_header){.name = name, .value = value, .length = length};
    }
    source->headers = group->headers;
    source->header_count = count;
    return true;
}

static bool view_message(struct insert_group *group, const struct insert_partition *partition, const rd_kafka_message_t *message,
    struct source_message *source)
{
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(message, &type);
    *source = (struct source_message){.topic = partition->topic, .partition = partition->number, .offset = message->offset,
        .timestamp_ms = type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp, .key = message->key, .key_length = message->key_len,
        .value = message->payload, .value_length = message->len, .value_room = message->len};
    return read_headers(group, message, source);
}

static void on_message(void *context, const rd_kafka_message_t *message)
{
    struct insert_group *group = context;
    struct insert_partition *partition = group->last;
    const char *topic = rd_kafka_topic_name(message->rkt);
    if (!partition || partition->number != message->partition || strcmp(partition->topic, topic) != 0) {
        partition = group->last = find(group, topic, message->partition);
    }
    if (!partition || !partition->fetching) {
        return; // fetched before we said where to begin: it comes again
    }
    struct source_message source;
    bool viewed = false;
    partition->position = message->offset + 1;
    partition->end = OFFSET_NONE;
    for (size_t i = 0; i < partition->feed_count; i++) {
        struct insert_feed *feed = &partition->feeds[i];
        bool found;
        if (feed->state == FEED_ACTIVE && message->offset >= feed->found_through) {
            insert_feed_rewind(feed); // the read-back reaches only so far: ask for the rest
            continue;
        }
        if (!insert_feed_takes(feed, message->offset, &found)) {
            continue;
        }
        if (!viewed && !(viewed = view_message(group, partition, message, &source))) {
            insert_feed_rewind(feed);
            continue;
        }
        insert_table_add(feed->table, feed, &source);
        group->full = group->full || insert_table_full(feed->table);
    }
}

static void on_partition_end(void *context, const char *topic, int32_t number, int64_t offset)
{
    struct insert_group *group = context;
    struct insert_partition *partition = find(group, topic, number);
    if (partition && partition->fetching) {
        insert_partition_reached_end(partition, offset);
        set_health(group, STATUS_OK, "");
    }
}

static void on_partition_failed(void *context, const char *topic, int32_t number, const struct relay_error *error)
{
    struct insert_group *group = context;
    struct insert_partition *partition = find(group, topic, number);
    if (!partition || !partition->fetching || partition->failed) {
        return;
    }
    partition->failed = true;
    char reason[250];
    snprintf(reason, sizeof(reason), "%.120s [%d]: offset %lld is not in Kafka's log (messages expired before they were read, or the topic was "
        "made anew)", topic, number, (long long)partition->position);
    set_health(group, STATUS_DEGRADED, reason);
    log_event(LOG_LEVEL_ERROR, "insert.offset_not_in_log", "messages are lost, or the topic is another one; the partition stands still",
        LOG_TEXT("topic", topic), LOG_INT("partition", number), LOG_INT("offset", partition->position), LOG_ERROR(error));
}

static void on_trouble(void *context, const struct relay_error *error, bool finished)
{
    struct insert_group *group = context;
    if (finished) {
        break_off(group, error);
    }
    log_event(LOG_LEVEL_WARNING, "insert.kafka_trouble", NULL, LOG_ERROR(error));
    bool down = error->detail == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    if (finished || down || error->class == RELAY_CLASS_OPERATOR) {
        set_health(group, down ? STATUS_DOWN : STATUS_DEGRADED, error->text);
    }
}

// Joining and leaving

static void join(struct insert_group *group, struct mono_time now)
{
    struct kafka_consumer_listener listener = {.context = group, .assigned = on_assigned, .revoked = on_revoked,
        .message = on_message, .partition_end = on_partition_end, .partition_failed = on_partition_failed,
        .committed = on_committed, .trouble = on_trouble};
    struct kafka_consumer_options options = {.group_id = group->context->config->insert.group_id,
        .memory = group->context->config->insert.memory_limit / 4, .wake_fd = group->wake_fd, .member = true};
    struct relay_error error;
    options.topics = insert_routes_topics(group->routes, &options.topic_count);
    group->consumer = kafka_consumer_new(group->context, &options, &listener, &error);
    if (!group->consumer) {
        group->join_at = mono_add(now, backoff_next(&group->backoff));
        set_health(group, STATUS_DEGRADED, error.text);
        log_event(LOG_LEVEL_ERROR, "insert.cannot_join", NULL, LOG_ERROR(&error));
        return;
    }
    struct duration session = kafka_consumer_session_timeout(group->consumer);
    group->lease->length = DURATION_NS(session.ns > 6000000000 ? session.ns - 2000000000 : session.ns * 2 / 3);
}

static void leave(struct insert_group *group, struct mono_time deadline)
{
    group->leaving = true;
    insert_lease_revoke(group->lease);
    if (!kafka_consumer_close(group->consumer, deadline)) {
        group->hangs = true;
    }
    group->consumer = NULL;
    // What the closing did not revoke.
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        for (size_t j = 0; !partition->gone && j < group->table_count; j++) {
            insert_table_forget(group->tables[j], partition, true);
        }
        if (!partition->gone) {
            let_partition_go(group, partition);
        }
    }
    group->leaving = group->broken = false;
    atomic_store(&group->lag, -1);
}

// Where partitions begin

static void note_committed(struct insert_partition *partition, int64_t offset)
{
    partition->committed = offset >= 0 ? offset : OFFSET_NONE;
    partition->committed_known = true;
    for (size_t i = 0; i < partition->feed_count; i++) {
        partition->feeds[i].next = partition->feeds[i].mark = partition->committed;
    }
}

static void ask_committed(struct insert_group *group, struct mono_time now)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone && !partition->committed_known) {
            list = list ? list : rd_kafka_topic_partition_list_new(16);
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->number);
        }
    }
    if (!list) {
        return;
    }
    struct relay_error error;
    if (kafka_consumer_committed(group->consumer, list, DURATION_S(5), &error)) {
        for (int i = 0; i < list->cnt; i++) {
            struct insert_partition *partition = find(group, list->elems[i].topic, list->elems[i].partition);
            if (partition && !partition->committed_known) {
                note_committed(partition, list->elems[i].offset);
            }
        }
        backoff_reset(&group->backoff);
    } else {
        log_event(LOG_LEVEL_WARNING, "insert.no_committed_offsets", "the committed offsets cannot be read; the partitions wait", LOG_ERROR(&error));
        group->ask_at = mono_add(now, backoff_next(&group->backoff));
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static bool may_begin(const struct insert_partition *partition, int64_t *from)
{
    bool wants = insert_partition_wants_position(partition, from);
    bool first_time = !partition->fetching;
    // A partition begins once all of its tables know where; one that flows goes back at once.
    bool others_wait = insert_partition_has(partition, FEED_WAITING) || insert_partition_has(partition, FEED_READING);
    return !partition->gone && !partition->failed && wants && !(first_time && others_wait);
}

static void begin_partitions(struct insert_group *group)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        int64_t from;
        if (may_begin(partition, &from)) {
            list = list ? list : rd_kafka_topic_partition_list_new(16);
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->number)->offset =
                from == OFFSET_NONE ? RD_KAFKA_OFFSET_BEGINNING : from;
        } else if (partition->fetching && insert_partition_has(partition, FEED_READY)) {
            int64_t position = partition->position, end = partition->end;
            insert_partition_positioned(partition, position); // it is there already
            partition->end = end;
        }
    }
    if (!list) {
        return;
    }
    struct relay_error error;
    if (kafka_consumer_begin(group->consumer, list, &error)) {
        for (int i = 0; i < list->cnt; i++) {
            struct insert_partition *partition = find(group, list->elems[i].topic, list->elems[i].partition);
            int64_t from = OFFSET_NONE;
            if (partition) {
                insert_partition_wants_position(partition, &from);
                insert_partition_positioned(partition, from);
                partition->fetching = true;
                partition->held = false;
            }
        }
    } else {
        break_off(group, &error);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

// Back-pressure

static bool feeds_full(const struct insert_partition *partition)
{
    for (size_t i = 0; i < partition->feed_count; i++) {
        if (partition->feeds[i].state == FEED_ACTIVE && insert_table_full(partition->feeds[i].table)) {
            return true;
        }
    }
    return false;
}

// Holds, or lets flow again, the partitions of full tables.
static void hold_partitions(struct insert_group *group, bool hold)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone && partition->fetching && partition->held != hold && feeds_full(partition) == hold) {
            list = list ? list : rd_kafka_topic_partition_list_new(16);
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->number);
            partition->held = hold;
        }
    }
    if (list) {
        if (hold) {
            kafka_consumer_pause(group->consumer, list);
        } else {
            kafka_consumer_resume(group->consumer, list);
        }
        rd_kafka_topic_partition_list_destroy(list);
    }
}

static size_t memory_of(const struct insert_group *group, struct insert_table **largest)
{
    size_t memory = 0, most = 0;
    *largest = NULL;
    for (size_t i = 0; i < group->table_count; i++) {
        struct insert_table *table = group->tables[i];
        memory += insert_table_memory(table);
        if (table->open && !table->flight && insert_batch_memory(table->open) > most) {
            most = insert_batch_memory(table->open);
            *largest = table;
        }
    }
    return memory;
}

// true: no message may be taken now.
static bool must_wait(struct insert_group *group, struct mono_time now)
{
    if (!group->full) {
        return false;
    }
    bool full = false;
    for (size_t i = 0; i < group->table_count; i++) {
        full = full || insert_table_full(group->tables[i]);
    }
    if (!full) {
        group->full = false;
        group->full_since = (struct mono_time){0};
        return false;
    }
    if (group->full_since.ns == 0) {
        group->full_since = now;
    }
    if (!mono_reached(now, mono_add(group->full_since, HOLD_AFTER))) {
        return true;
    }
    hold_partitions(group, true);
    group->full = false; // the others go on; held ones give no messages
    group->full_since = (struct mono_time){0};
    return false;
}

static void tell(struct insert_group *group, struct mono_time now)
{
    struct insert_table *largest;
    int64_t total = 0;
    bool unknown = group->partitions.count == 0;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        int64_t low, end = partition->end, done = insert_partition_low(partition);
        if (partition->gone) {
            continue;
        }
        if (end == OFFSET_NONE && !kafka_consumer_watermarks(group->consumer, partition->topic, partition->number, &low, &end)) {
            unknown = true;
            continue;
        }
        int64_t lag = done == OFFSET_NONE ? end : end - done;
        metric_set(partition->lag, (double)(lag > 0 ? lag : 0));
        total += lag > 0 ? lag : 0;
    }
    atomic_store(&group->lag, unknown ? -1 : total);
    metric_set(metrics_series0(group->context->metrics, METRIC_INSERT_BUFFER_BYTES), (double)memory_of(group, &largest));
    group->tell_at = mono_add(now, DURATION_S(1));
}

bool insert_group_serve(struct insert_group *group, size_t most)
{
    if (!group->consumer) {
        return false;
    }
    if (must_wait(group, now_of(group))) {
        kafka_consumer_serve_commits(group->consumer);
        return false;
    }
    return kafka_consumer_serve(group->consumer, most, &group->full);
}

void insert_group_work(struct insert_group *group, struct mono_time now)
{
    bury_gone(group);
    if (group->broken && group->consumer) {
        log_event(LOG_LEVEL_WARNING, "insert.rejoin", "leaves the group and joins again", LOG_ERROR(&group->why_broken));
        metric_add(metrics_series2(group->context->metrics, METRIC_RETRIES, "kafka", error_class_name(group->why_broken.class)), 1);
        leave(group, within_drain(group, LEAVE_LIMIT));
        group->join_at = mono_add(now_of(group), backoff_next(&group->backoff));
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
    begin_partitions(group);
    hold_partitions(group, false);
    struct insert_table *largest;
    int64_t limit = group->context->config->insert.memory_limit * 3 / 4;
    if (limit > 0 && memory_of(group, &largest) > (size_t)limit && largest) {
        insert_table_flush(largest);
    }
    commit_if_due(group, now);
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
        commit_and_wait(group, until);
    }
    leave(group, deadline);
}
