// SPDX-License-Identifier: Apache-2.0
//
// What the commits of a group become whose brokers take little with an offset (offset.metadata.max.bytes).
#include "relay/insert/insert_commit.h"

#include "relay/base/log.h"
#include "relay/insert/insert_health.h"
#include "resumed_partitions.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_BYTES 3000

static struct clock_fake fake;
static struct relay_context context;
static struct insert_lease lease;
static struct insert_table table;
static struct insert_table *tables[] = {&table};
static struct insert_partition *partition;
static struct insert_group group;
static size_t taken_most; // with an offset
static bool may_not;      // commit anything
static size_t commits;
static size_t carried; // with the last one that was accepted
static bool logged;    // insert.no_note

// Instead of the real ones: the group's coordinator, as the consumer finds it. It answers at once.
bool kafka_consumer_commit(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *offsets)
{
    rd_kafka_topic_partition_list_t *answer = rd_kafka_topic_partition_list_copy(offsets);
    bool any = false;
    rd_kafka_resp_err_t refusal = may_not ? RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
                                          : RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE;
    (void)consumer;
    commits++;
    for (int i = 0; i < answer->cnt; i++) {
        bool takes = !may_not && answer->elems[i].metadata_size <= taken_most;
        answer->elems[i].err = takes ? RD_KAFKA_RESP_ERR_NO_ERROR : refusal;
        carried = takes ? answer->elems[i].metadata_size : carried;
        any = any || takes;
    }
    insert_commit_answered(&group, answer, any ? RD_KAFKA_RESP_ERR_NO_ERROR : refusal, clock_mono(&fake.base));
    rd_kafka_topic_partition_list_destroy(answer);
    return true;
}

bool kafka_consumer_committing(const struct kafka_consumer *consumer, struct mono_time *since)
{
    (void)consumer;
    (void)since;
    return false;
}

bool kafka_consumer_lost(const struct kafka_consumer *consumer)
{
    (void)consumer;
    return false;
}

struct duration kafka_consumer_commit_limit(const struct kafka_consumer *consumer)
{
    (void)consumer;
    return DURATION_S(20);
}

struct duration kafka_consumer_session_timeout(const struct kafka_consumer *consumer)
{
    (void)consumer;
    return DURATION_S(30);
}

bool kafka_consumer_answered(struct kafka_consumer *consumer, struct duration timeout)
{
    (void)consumer;
    (void)timeout;
    return true;
}

const struct rd_kafka_metadata *kafka_consumer_all_topics(struct kafka_consumer *consumer, struct duration timeout)
{
    (void)consumer;
    (void)timeout;
    return NULL;
}

bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t number, int64_t *low,
    int64_t *high)
{
    (void)consumer;
    (void)topic;
    (void)number;
    (void)low;
    (void)high;
    return false;
}

bool kafka_consumer_ask_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t number,
    struct duration timeout, int64_t *low, int64_t *high, struct relay_error *error)
{
    (void)consumer;
    (void)topic;
    (void)number;
    (void)timeout;
    (void)low;
    (void)high;
    return error_set(error, RELAY_ERROR_KAFKA_UNREACHABLE, "nobody is asked here");
}

static void keep_log(void *unused, enum log_level level, const char *line)
{
    (void)unused;
    (void)level;
    logged = logged || strstr(line, "insert.no_note") != NULL;
}

static void wake(void *unused)
{
    (void)unused;
}

static void start(void)
{
    static char name[] = "posts";
    static struct config config;
    struct relay_error error;
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    context = (struct relay_context){.config = &config,
        .clock = &fake.base,
        .board = status_board_new(&fake.base, &error)};
    insert_lease_init(&lease, &fake.base, DURATION_S(20), wake, NULL);
    table = (struct insert_table){.context = &context, .name = name, .partitions = &group.partitions};
    partition = insert_partition_new("topic", 0, 1, &error);
    cr_assert(context.board && partition, "%s", error.text);
    partition->committed = 5;
    partition->committed_known = true;
    partition->feeds[0].table = &table;
    partition->feeds[0].state = FEED_ACTIVE;
    partition->feeds[0].mark = 5;
    partition->feeds[0].next = 10; // nothing of it is pending
    partition->feeds[0].owed = malloc(NOTE_BYTES + 1);
    memset(partition->feeds[0].owed, 'x', NOTE_BYTES);
    partition->feeds[0].owed[NOTE_BYTES] = '\0';
    group = (struct insert_group){.context = &context,
        .tables = tables,
        .table_count = 1,
        .partitions = {.items = &partition, .count = 1},
        .lease = &lease,
        .health = {.healthy = true, .answered = true}};
    log_set_sink(keep_log, NULL);
}

static void finish(void)
{
    log_set_sink(NULL, NULL);
    insert_health_finish(&group);
    insert_partition_free(partition);
    insert_lease_finish(&lease);
    status_board_free(context.board);
}

TestSuite(insert_commit, .init = start, .fini = finish);

static void work(struct duration time)
{
    struct mono_time until = mono_add(clock_mono(&fake.base), time);
    while (!mono_reached(clock_mono(&fake.base), until)) {
        clock_fake_advance(&fake, DURATION_MS(20));
        insert_health_work(&group, clock_mono(&fake.base));
        insert_commit_if_due(&group, clock_mono(&fake.base));
    }
}

static void expect(enum status_level level, const char *reason)
{
    size_t count = 0;
    struct status_entry *entries = status_board_entries(context.board, &count);
    cr_assert_eq(count, 1);
    cr_assert_eq(entries->level, level, "%s: %s", status_level_name(entries->level), entries->reason);
    cr_assert_not_null(strstr(entries->reason, reason), "%s", entries->reason);
    free(entries);
}

Test(insert_commit, brokers_that_take_the_notes_get_them)
{
    taken_most = 4096;
    work(DURATION_S(1));
    cr_assert_eq(partition->committed, 10);
    cr_assert_eq(carried, NOTE_BYTES);
    cr_assert_not(logged);
    cr_assert(group.health.healthy);
}

Test(insert_commit, a_note_that_brokers_find_too_large_holds_no_offset_back)
{
    taken_most = 1024;
    work(DURATION_S(5));
    cr_assert_eq(partition->committed, 10, "%zu commits", commits);
    cr_assert_eq(carried, 0);
    cr_assert_lt(commits, 12);
    cr_assert(logged, "that the views depend on this process");
    expect(STATUS_DEGRADED, "offset.metadata.max.bytes");

    taken_most = 4096; // somebody has set it
    partition->feeds[0].next = 20;
    work(DURATION_S(1));
    cr_assert_eq(partition->committed, 20);
    expect(STATUS_DEGRADED, "offset.metadata.max.bytes");
    work(DURATION_S(600));
    expect(STATUS_OK, "");
    partition->feeds[0].next = 30;
    work(DURATION_S(1));
    cr_assert_eq(partition->committed, 30);
    cr_assert_eq(carried, NOTE_BYTES);
}

// Half of the notes of an INSERT are in the group: their owners complete the views for all of its rows.
Test(insert_commit, notes_that_are_small_enough_go_on)
{
    taken_most = 1024;
    work(DURATION_S(5));
    cr_assert_eq(partition->committed, 10);
    partition->feeds[0].owed[900] = '\0';
    for (int64_t next = 11; next < 16; next++) {
        partition->feeds[0].next = next;
        work(DURATION_S(1));
    }
    cr_assert_eq(partition->committed, 15);
    cr_assert_eq(carried, 900);
}

// As with a topic that we may not read, where it is the only one.
Test(insert_commit, offsets_that_are_all_refused_are_not_committed_again_at_once)
{
    may_not = true;
    table.noting = true; // an INSERT waits for a commit
    work(DURATION_S(10));
    cr_assert_geq(commits, 10);
    cr_assert_leq(commits, 21);
    expect(STATUS_DEGRADED, "TOPIC_AUTHORIZATION_FAILED");
}
