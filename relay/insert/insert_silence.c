// SPDX-License-Identifier: Apache-2.0
//
// Happy path: a partition gives messages, or its end. librdkafka says an end once, so one without new messages says
// nothing more: after 30 s its fetching begins anew, and it says the end again.
// - Nothing comes for 30 s more: it is silent. Said by the board (insert_health.c) and the lag (insert_lag.c), until a
//   message or an end comes, which every answer to a fetch brings from then on. It is begun anew once only: else what
//   was read of a long range of aborted transactions would be read again and again.
// - It is held since a table is full, as in each backlog, or no broker answers, which is told otherwise: that time does
//   not count, and what was found before stands. Begun anew it is held for no full table (insert_flow.c): let go for
//   moments only, it might not have the time to say its end.
// - Messages wait for us, not we for them: the queue of all partitions is not empty. Only the time until it was last
//   empty counts, since what had come by then was taken.
// - The end that it gives stays where it is for a minute, below the log's: a transaction is open there, and nothing
//   behind it is given (read_committed). Ours take seconds; one that Kafka has lost track of stays for good, and
//   retention deletes what is behind it. Said until the end moves.
#include "relay/insert/insert_silence.h"

#include <stdio.h>

#define LOOK_EVERY   DURATION_S(1)
#define QUIET_LIMIT  DURATION_S(30)
#define OPEN_LIMIT   DURATION_S(60)
#define TROUBLE_LAST DURATION_S(120) // later it is no reason any more

// What is refused, or fails, is told and asked for by those who know.
static bool is_judged(const struct insert_partition *partition)
{
    return !partition->gone && partition->fetching && !partition->failed && !partition->refused;
}

static void begin_quiet(struct insert_partition *partition, struct mono_time now)
{
    partition->heard = partition->asked_again = partition->silent = false;
    partition->quiet_since = now;
}

static void say_why(const struct insert_group *group, struct insert_partition *partition, struct mono_time now)
{
    bool known = group->trouble[0] != '\0' && mono_since(now, group->trouble_at).ns < TROUBLE_LAST.ns;
    snprintf(partition->trouble, sizeof(partition->trouble), "it gives neither messages nor its end%s%.110s",
        known ? "; " : "", known ? group->trouble : "");
}

void insert_silence_work(struct insert_group *group, struct mono_time now)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    if (!mono_reached(now, group->silence_at)) {
        return;
    }
    struct duration since_last = {mono_since(now, group->silence_at).ns + LOOK_EVERY.ns};
    group->silence_at = mono_add(now, LOOK_EVERY);
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        partition->open = partition->open && is_judged(partition);
        if (partition->heard || partition->quiet_since.ns == 0 || !is_judged(partition)) {
            begin_quiet(partition, now);
        } else if (partition->held || group->health.unreachable) {
            partition->quiet_since = mono_add(partition->quiet_since, since_last);
        } else if (mono_since(group->emptied_at, partition->quiet_since).ns >= QUIET_LIMIT.ns) {
            if (!partition->asked_again) {
                insert_group_list(&list, partition);
            } else if (!partition->silent) {
                say_why(group, partition, now);
            }
            partition->silent = partition->asked_again;
            partition->asked_again = true;
            partition->quiet_since = now;
        }
    }
    insert_silence_ask_again(group, list);
}

void insert_silence_end(struct insert_group *group, struct insert_partition *partition, int64_t end)
{
    int64_t low, high;
    struct mono_time now = insert_group_now(group);
    if (!kafka_consumer_watermarks(group->consumer, partition->topic, partition->number, &low, &high) || high <= end) {
        partition->open_since = (struct mono_time){0};
    } else if (partition->end != end || partition->open_since.ns == 0) {
        partition->open_since = now;
    }
    partition->open = partition->open_since.ns != 0 && mono_since(now, partition->open_since).ns >= OPEN_LIMIT.ns;
    if (partition->open) {
        snprintf(partition->trouble, sizeof(partition->trouble),
            "a transaction has been open at offset %lld for more than a minute, and what is behind it waits; "
            "kafka-transactions.sh tells whose it is",
            (long long)end);
    }
}

void insert_silence_trouble(struct insert_group *group, const struct relay_error *error)
{
    if (error->detail < 0) { // from librdkafka itself: connections, time-outs
        snprintf(group->trouble, sizeof(group->trouble), "%.120s", error->text);
        group->trouble_at = insert_group_now(group);
    }
}

void insert_silence_ask_again(struct insert_group *group, rd_kafka_topic_partition_list_t *partitions)
{
    if (partitions) {
        kafka_consumer_pause(group->consumer, partitions);
        kafka_consumer_resume(group->consumer, partitions);
        rd_kafka_topic_partition_list_destroy(partitions);
    }
}
