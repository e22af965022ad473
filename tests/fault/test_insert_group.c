// SPDX-License-Identifier: Apache-2.0
//
// A member of the consumer group, against librdkafka's mock cluster.
#include "group_member.h"
#include "relay/insert/insert_commit.h"
#include "relay/insert/insert_flow.h"
#include "relay/insert/insert_take.h"
#include "relay/insert/table_worker_inside.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// As Kafka's protocol numbers them
#define LIST_OFFSETS  2
#define OFFSET_COMMIT 8

static int64_t skew; // of the relay's clock, ns

static struct mono_time later_now(const struct clock *self)
{
    (void)self;
    return mono_add(clock_mono(clock_system()), DURATION_NS(skew));
}

static struct wall_time wall_now(const struct clock *self)
{
    (void)self;
    return clock_wall(clock_system());
}

static const struct clock later = {.mono_now = later_now, .wall_now = wall_now};

TestSuite(fault_insert_group, .init = start, .fini = finish);

static int64_t committed_offset(void)
{
    char why[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    cr_assert_eq(rd_kafka_conf_set(conf, "bootstrap.servers", mock.servers.value, why, sizeof(why)), RD_KAFKA_CONF_OK);
    cr_assert_eq(rd_kafka_conf_set(conf, "group.id", "posts", why, sizeof(why)), RD_KAFKA_CONF_OK);
    rd_kafka_t *reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    cr_assert_not_null(reader, "%s", why);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, "posts", 0);
    cr_assert_eq(rd_kafka_committed(reader, list, 20000), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(reader);
    return offset;
}

static size_t requests_sent(int16_t kind)
{
    size_t count, sent = 0;
    rd_kafka_mock_request_t **requests = rd_kafka_mock_get_requests(mock.cluster, &count);
    for (size_t i = 0; i < count; i++) {
        sent += rd_kafka_mock_request_api_key(requests[i]) == kind;
    }
    rd_kafka_mock_request_destroy_array(requests, count);
    return sent;
}

static void set_session(const char *milliseconds)
{
    static char name[] = "session.timeout.ms", value[8];
    static struct config_pair pairs[2];
    snprintf(value, sizeof(value), "%s", milliseconds);
    pairs[0] = mock.servers;
    pairs[1] = (struct config_pair){.name = name, .value = value};
    config.kafka = pairs;
    config.kafka_count = 2;
}

// The coordinator gives the partitions to others when the session is over.
Test(fault_insert_group, a_lease_ends_two_seconds_before_the_session)
{
    await_assignment(); // with the relay's own: 30 s
    cr_assert_eq(lease.length.ns, DURATION_S(28).ns);
    insert_group_drain(&group, in_seconds(30));
}

Test(fault_insert_group, a_lease_lasts_for_two_thirds_of_a_short_session)
{
    set_session("4500");
    await_assignment();
    cr_assert_eq(lease.length.ns, DURATION_S(3).ns);
    insert_group_drain(&group, in_seconds(30));
}

// Everything up to here is in the table, and the member leaves.
static void store_and_drain(int64_t mark, size_t refusals, const rd_kafka_resp_err_t *codes)
{
    await_committed();
    rd_kafka_mock_start_request_tracking(mock.cluster);
    rd_kafka_mock_push_request_errors_array(mock.cluster, OFFSET_COMMIT, refusals, codes);
    group.partitions.items[0]->feeds[0].mark = mark;
    insert_group_drain(&group, in_seconds(30));
    cr_assert_null(group.consumer);
}

Test(fault_insert_group, what_is_stored_is_committed_by_a_member_that_stops_while_the_group_rebalances)
{
    static const rd_kafka_resp_err_t codes[] = {RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS};
    store_and_drain(500, 2, codes);
    cr_assert_eq(committed_offset(), 500);
}

static void await_brokers(bool away)
{
    struct mono_time deadline = in_seconds(30);
    group.health.prove_at = (struct mono_time){0}; // a test may have worked in the future
    while (group.health.unreachable != away) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "never told");
        insert_group_work(&group, clock_mono(context.clock));
        insert_group_serve(&group, 100);
    }
}

// A client reads the files of certificates once: with those of its start it may never be let in again.
Test(fault_insert_group, a_member_that_no_broker_answers_for_long_joins_with_a_client_made_anew)
{
    set_session("6000"); // its old membership stays for so long
    await_committed();
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    await_brokers(true);
    insert_group_work(&group, in_seconds(0));
    insert_group_work(&group, in_seconds(590));
    cr_assert_not(group.broken, "not yet");
    rd_kafka_mock_broker_set_up(mock.cluster, 1);
    await_brokers(false);
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    await_brokers(true);
    insert_group_work(&group, in_seconds(590));
    cr_assert_not(group.broken, "one has answered meanwhile");
    insert_group_work(&group, in_seconds(1200));
    cr_assert(group.broken);
    insert_group_work(&group, in_seconds(0)); // leaves
    cr_assert_not(group.hangs);
    cr_assert_not(group.broken);
    cr_assert(group.partitions.count == 0 || group.partitions.items[0]->gone);
    rd_kafka_mock_broker_set_up(mock.cluster, 1);
    await_brokers(false);
    await_committed();
    insert_group_drain(&group, in_seconds(30));
}

// Its partitions may be somebody else's by now.
Test(fault_insert_group, a_member_that_was_thrown_out_commits_nothing_more)
{
    static const rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    store_and_drain(500, 1, &code);
    cr_assert_eq(requests_sent(OFFSET_COMMIT), 1);
    cr_assert_eq(committed_offset(), RD_KAFKA_OFFSET_INVALID);
}

static void answer(rd_kafka_resp_err_t code, struct duration taken)
{
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(offsets, "posts", 0)->offset = 500;
    struct mono_time sent = {clock_mono(context.clock).ns - taken.ns};
    insert_commit_answered(&group, offsets, code, sent);
    rd_kafka_topic_partition_list_destroy(offsets);
}

// Whose commit lies behind its JoinGroup, until the session of the one that was killed ends.
Test(fault_insert_group, a_member_stays_while_the_group_waits_for_one_that_was_killed)
{
    await_committed();
    group.partitions.items[0]->feeds[0].mark = 500;
    cr_assert(insert_commit_changed(&group));
    insert_commit_if_due(&group, in_seconds(25));
    cr_assert_not(group.broken);
    answer(RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, DURATION_S(25));
    cr_assert_not(group.broken, "no copy of it counts any more");
    cr_assert_eq(insert_lease_until(&lease).ns, 0);
    answer(RD_KAFKA_RESP_ERR_NO_ERROR, DURATION_S(1));
    cr_assert_not(group.broken);
    cr_assert_gt(insert_lease_until(&lease).ns, 0);
    insert_group_drain(&group, in_seconds(30));
}

Test(fault_insert_group, a_commit_of_unknown_outcome_ends_the_membership)
{
    static const rd_kafka_resp_err_t codes[] = {RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS};
    await_committed();
    for (size_t i = 0; i < 2; i++) {
        answer(codes[i], DURATION_S(25));
        cr_assert(group.broken, "an earlier copy of it may still arrive");
        group.broken = false;
    }
    answer(RD_KAFKA_RESP_ERR__TIMED_OUT, DURATION_S(1));
    cr_assert(group.broken);
    group.broken = false;
    group.partitions.items[0]->feeds[0].mark = 700;
    cr_assert(insert_commit_changed(&group));
    insert_commit_if_due(&group, in_seconds(40));
    cr_assert(group.broken, "never answered");
    insert_group_drain(&group, in_seconds(30));
}

static void await_answer(struct mono_time deadline)
{
    struct mono_time since;
    while (!group.broken && kafka_consumer_committing(group.consumer, &since)) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "no answer");
        insert_group_serve(&group, 100);
    }
}

// A coordinator with a slow disk answers within the session all the same.
Test(fault_insert_group, a_commit_that_takes_eleven_seconds_is_waited_for)
{
    await_committed();
    rd_kafka_mock_broker_push_request_error_rtts(mock.cluster, 1, OFFSET_COMMIT, 1, RD_KAFKA_RESP_ERR_NO_ERROR, 11000);
    group.partitions.items[0]->feeds[0].mark = 500;
    cr_assert(insert_commit_changed(&group));
    await_answer(in_seconds(40));
    cr_assert_not(group.broken, "%s", group.why_broken.text);
    cr_assert_gt(insert_lease_until(&lease).ns, 0);
    insert_group_drain(&group, in_seconds(30));
}

// One that is under way, and then the last one. Leaving and joining again would revoke partitions of the others.
Test(fault_insert_group, partitions_are_given_back_once_a_slow_coordinator_has_answered_their_last_commit)
{
    set_session("15000"); // commits may take 10 s
    await_committed();
    rd_kafka_mock_broker_push_request_error_rtts(mock.cluster, 1, OFFSET_COMMIT, 2, RD_KAFKA_RESP_ERR_NO_ERROR, 6000,
        RD_KAFKA_RESP_ERR_NO_ERROR, 6000);
    group.partitions.items[0]->feeds[0].mark = 500;
    cr_assert(insert_commit_changed(&group));
    group.partitions.items[0]->feeds[0].mark = 600;
    cr_assert(kafka_consumer_close(group.consumer, in_seconds(60)));
    cr_assert(group.partitions.items[0]->gone);
    cr_assert_not(group.broken, "%s", group.why_broken.text);
    cr_assert_eq(committed_offset(), 600);
}

static atomic_int readings; // of the clock that are left until the stop

static struct mono_time stopping_now(const struct clock *self)
{
    (void)self;
    if (atomic_fetch_sub(&readings, 1) == 1) {
        stop_raise(&stop_, in_seconds(2));
    }
    return clock_mono(clock_system());
}

Test(fault_insert_group, a_stop_ends_the_wait_for_the_last_commit)
{
    static const struct clock stopping = {.mono_now = stopping_now, .wall_now = wall_now};
    await_committed();
    rd_kafka_mock_broker_push_request_error_rtts(mock.cluster, 1, OFFSET_COMMIT, 1, RD_KAFKA_RESP_ERR_NO_ERROR, 15000);
    group.partitions.items[0]->feeds[0].mark = 500;
    cr_assert(insert_commit_changed(&group));
    atomic_store(&readings, 30);
    context.clock = &stopping;
    cr_assert(kafka_consumer_close(group.consumer, in_seconds(60)));
    cr_assert(stop_raised(&stop_));
    cr_assert_not_null(strstr(group.why_broken.text, "has no answer"), "%s", group.why_broken.text);
}

static void break_member(struct mono_time now)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit has no answer");
    insert_group_break(&group, &error);
    insert_group_work(&group, now);
    group.join_at = (struct mono_time){0}; // the pause is not waited for
    insert_group_work(&group, now);
}

// Committed offsets are read, which costs the coordinator nothing; each membership ends with its first commit.
Test(fault_insert_group, pauses_between_memberships_grow_until_a_commit_is_accepted)
{
    group.rejoin.previous = DURATION_S(30);
    await_committed();
    cr_assert_eq(group.rejoin.previous.ns, DURATION_S(30).ns);
    break_member(in_seconds(1));
    struct duration paused = group.rejoin.previous;
    await_committed();
    answer(RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, DURATION_S(1));
    cr_assert_eq(group.rejoin.previous.ns, paused.ns);
    answer(RD_KAFKA_RESP_ERR_NO_ERROR, DURATION_S(1));
    cr_assert_eq(group.rejoin.previous.ns, group.rejoin.base.ns);
    insert_group_drain(&group, in_seconds(30));
}

// Without messages there are no commits.
Test(fault_insert_group, a_membership_that_lasted_is_followed_by_a_short_pause)
{
    await_committed();
    group.rejoin.previous = group.rejoin.cap;
    break_member(in_seconds(400));
    cr_assert_leq(group.rejoin.previous.ns, 3 * group.rejoin.base.ns);
    await_committed();
    insert_group_drain(&group, in_seconds(30));
}

static void expect_board(enum status_level level, const char *words)
{
    size_t count = 0, kafka = 0;
    struct status_entry *entries = status_board_entries(context.board, &count);
    while (kafka < count && entries[kafka].check != STATUS_KAFKA) {
        kafka++;
    }
    cr_assert_lt(kafka, count);
    cr_assert_eq(entries[kafka].level, level, "%s: %s", status_level_name(entries[kafka].level), entries[kafka].reason);
    cr_assert_not_null(strstr(entries[kafka].reason, words), "%s", entries[kafka].reason);
    free(entries);
}

static void expect_stopped(const char *line)
{
    size_t length;
    char *text = metrics_render(context.metrics, &length);
    cr_assert(text && strstr(text, line), "%s", text);
    free(text);
}

// No commit is under way: it would seem to have lasted as long.
static void skip(struct duration time)
{
    struct mono_time since, deadline = in_seconds(60);
    while (kafka_consumer_committing(group.consumer, &since)) {
        cr_assert_not(mono_reached(clock_mono(clock_system()), deadline), "no answer");
        work_once();
    }
    skew += time.ns;
    work_once();
}

// Until the partition has given a message or its end, and that was seen.
static void await_heard(struct insert_partition *partition)
{
    struct mono_time deadline = in_seconds(60);
    while (!partition->heard) {
        cr_assert_not(mono_reached(clock_mono(clock_system()), deadline), "nothing comes");
        work_once();
    }
    skip(DURATION_S(2));
    cr_assert_not(partition->silent);
}

static struct insert_partition *begin_reading(void)
{
    await_committed();
    struct insert_partition *partition = group.partitions.items[0];
    partition->feeds[0].state = FEED_READY;
    partition->feeds[0].next = partition->feeds[0].mark = 0;
    await_heard(partition);
    return partition;
}

// Other brokers answer, and the coordinator takes commits: nothing else would tell.
Test(fault_insert_group, a_partition_whose_broker_answers_no_fetch_is_told_until_it_does)
{
    context.clock = &later;
    struct insert_partition *partition = begin_reading();
    // Its end is said once; begun anew, it says it again.
    skip(DURATION_S(31));
    await_heard(partition);
    expect_board(STATUS_OK, "");
    cr_assert_eq(atomic_load(&group.lag), 0);

    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 8000);
    skip(DURATION_S(31));
    cr_assert(partition->asked_again);
    skip(DURATION_S(31));
    expect_board(STATUS_DEGRADED, "posts [0] cannot be read: it gives neither messages nor its end");
    cr_assert_eq(atomic_load(&group.lag), -1, "not known");
    expect_stopped("outbox_relay_insert_stopped_partitions 1\n");

    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 0);
    await_heard(partition);
    expect_board(STATUS_OK, "");
    cr_assert_eq(atomic_load(&group.lag), 0);
    expect_stopped("outbox_relay_insert_stopped_partitions 0\n");
    insert_group_drain(&group, in_seconds(30));
}

static void be_full(void)
{
    group.full = group.crowded = true;
    insert_flow_must_wait(&group, clock_mono(context.clock));
    skew += DURATION_MS(200).ns;
    cr_assert_not(insert_flow_must_wait(&group, clock_mono(context.clock)));
    group.crowded = false;
}

// Let go for moments only, as in a backlog, it could not even say its end, and would be called silent.
Test(fault_insert_group, a_partition_that_was_begun_anew_is_not_held_for_a_full_table_before_it_answers)
{
    context.clock = &later;
    struct insert_partition *partition = begin_reading();
    be_full();
    cr_assert(partition->held);
    insert_flow_hold(&group);
    cr_assert_not(partition->held);
    partition->heard = false;
    partition->asked_again = true;
    be_full();
    cr_assert_not(partition->held);
    partition->heard = true;
    be_full();
    cr_assert(partition->held);
    insert_group_drain(&group, in_seconds(30));
}

// The table has a batch that waits for a first commit, while the only feed holds it back.
static void hold_first_batch(struct insert_batch *batch, struct batch_entry *entry)
{
    *entry = (struct batch_entry){.feed = &group.partitions.items[0]->feeds[0]};
    *batch = (struct insert_batch){.entries = entry, .entry_count = 1};
    table.flight = batch;
    table.noting = true;
    rd_kafka_mock_start_request_tracking(mock.cluster);
}

static void let_go_first_batch(void)
{
    table.flight = NULL;
    table.noting = false;
    insert_group_drain(&group, in_seconds(30));
}

// Which may be away by then.
Test(fault_insert_group, no_broker_is_asked_where_a_log_begins_that_was_read_from_its_beginning)
{
    struct insert_batch batch;
    struct batch_entry entry;
    await_committed();
    struct insert_partition *partition = group.partitions.items[0];
    partition->fetching = true;
    insert_take_end(&group, "posts", 0, 7);
    insert_take_end(&group, "posts", 0, 9);
    hold_first_batch(&batch, &entry);
    cr_assert(insert_commit_changed(&group));
    cr_assert_eq(requests_sent(LIST_OFFSETS), 0);
    cr_assert_eq(partition->feeds[0].mark, 7);
    let_go_first_batch();
    cr_assert_eq(committed_offset(), 7);
}

// A question without an answer takes three seconds, in which nothing else is done.
Test(fault_insert_group, a_broker_that_does_not_say_where_a_log_begins_is_not_asked_in_each_round)
{
    enum { MANY = 40 };
    rd_kafka_resp_err_t refused[MANY];
    struct insert_batch batch;
    struct batch_entry entry;
    context.clock = &later;
    await_committed();
    for (size_t i = 0; i < MANY; i++) {
        refused[i] = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    }
    rd_kafka_mock_push_request_errors_array(mock.cluster, LIST_OFFSETS, MANY, refused);
    hold_first_batch(&batch, &entry);
    cr_assert_not(insert_commit_changed(&group));
    size_t asked = requests_sent(LIST_OFFSETS);
    cr_assert_gt(asked, 0);
    skew += DURATION_S(1).ns;
    cr_assert_not(insert_commit_changed(&group));
    cr_assert_eq(requests_sent(LIST_OFFSETS), asked);
    rd_kafka_mock_clear_request_errors(mock.cluster, LIST_OFFSETS);
    skew += DURATION_S(60).ns;
    cr_assert(insert_commit_changed(&group));
    cr_assert_eq(group.partitions.items[0]->feeds[0].mark, 0);
    let_go_first_batch();
}

// A commit without an answer breaks the member, and the coordinator may take its partitions in the same round.
Test(fault_insert_group, partitions_of_a_broken_member_are_given_back_when_none_of_its_inserts_can_start_any_more)
{
    struct relay_error error;
    struct mono_time until = in_seconds(2), last;
    await_assignment();
    error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "an offset commit has no answer");
    insert_group_break(&group, &error);
    pthread_mutex_lock(&table.worker->lock);
    insert_doubt_note(&table.worker->doubt, NULL, "token", until, clock_mono(context.clock));
    pthread_mutex_unlock(&table.worker->lock);
    struct clock_fake fake;
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    struct status_board *board = status_board_new(&fake.base, &error);
    cr_assert_not_null(board);
    group.heartbeat = status_board_heartbeat(board, "insert", DURATION_S(60), &error);
    cr_assert_not_null(group.heartbeat);
    clock_fake_advance(&fake, DURATION_S(100));
    cr_assert(kafka_consumer_close(group.consumer, in_seconds(30)));
    cr_assert(status_board_live(board, NULL, 0), "it waits, and does not hang");
    group.heartbeat = NULL;
    status_board_free(board);
    cr_assert(group.partitions.items[0]->gone);
    cr_assert_not(table_worker_has_in_doubt(table.worker, &last), "somebody else may have them now");
}

static void answer_two(rd_kafka_resp_err_t of_ours, rd_kafka_resp_err_t of_another)
{
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(2);
    rd_kafka_topic_partition_list_add(offsets, "posts", 0)->err = of_ours;
    rd_kafka_topic_partition_list_add(offsets, "others", 0)->err = of_another;
    offsets->elems[0].offset = offsets->elems[1].offset = 500;
    table.note_sent = true;
    insert_commit_answered(&group, offsets, RD_KAFKA_RESP_ERR_NO_ERROR, clock_mono(context.clock));
    rd_kafka_topic_partition_list_destroy(offsets);
}

// Who owns that partition next would not know of the INSERT.
Test(fault_insert_group, a_batch_waits_until_the_commit_of_each_of_its_partitions_is_accepted)
{
    struct insert_batch batch;
    struct batch_entry entry;
    struct relay_error error;
    struct table_job *done = NULL;
    struct mono_time deadline = in_seconds(20);
    await_committed();
    hold_first_batch(&batch, &entry);
    batch.job = table_job_new(TABLE_JOB_INSERT, NULL, &error); // without rows: the worker is done with it at once
    cr_assert_not_null(batch.job);
    answer_two(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert(table.noting, "its note is not there");
    cr_assert(insert_commit_awaited(&group), "it is in the next commit");
    answer_two(RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    cr_assert_not(table.noting, "none of its rows is of the one that was refused");
    while (!(done = table_worker_take_done(table.worker))) {
        cr_assert_not(mono_reached(clock_mono(context.clock), deadline), "it was not sent");
        work_once();
    }
    cr_assert_eq(done, batch.job);
    table_job_free(done);
    let_go_first_batch();
}
