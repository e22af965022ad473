// SPDX-License-Identifier: Apache-2.0
//
// Happy path: partitions reach their ends and commits are accepted, so the brokers answer; told once, until something
// else was told.
// - No broker answers: told, and from then on they are asked, since a group without messages would not find out by
//   itself that they are back: librdkafka reconnects, and says nothing. With metadata.recovery.strategy = none it says
//   only once that all are away, so the breaker counts the questions without an answer, too. What it says in between
//   (a certificate has expired) are better words for the same. Where that lasts, the group is joined by a client made
//   anew: one reads the files of certificates once, and with an old one it may never be let in again.
// - A broker refuses something, the group perhaps: librdkafka says so once. Later answers to us do not take that back;
//   partitions that are assigned or read, and commits, do.
// - A topic is not there: librdkafka says so once. Later answers of the brokers do not make it appear; they are asked
//   for it, every ten seconds and with each assignment. Of a topic that an expression matched among others librdkafka
//   says nothing: it was deleted, or Kafka hides it since Describe was taken away. After a revocation brokers are asked
//   whether the topics are still there that we had partitions of.
// - A partition stands still: said until it is ours no more. One that cannot be read for now is repeated by librdkafka,
//   about twice a second: said once that has lasted, until it gives a message or nothing is said of it any more.
// - A broker does not let us read a partition: librdkafka says so once and goes on asking in silence. Said at once,
//   until the partition gives a message or its end; its fetching begins anew every ten seconds, so that one of them
//   comes, or the refusal once more.
// - Brokers take less with an offset than there is to note: said until more is tried again, ten minutes later.
// - A partition gives nothing, or a transaction holds back what it has (insert_silence.c): said until that is over.
#include "relay/insert/insert_health.h"

#include "relay/base/log.h"
#include "relay/insert/insert_silence.h"

#include <stdio.h>
#include <string.h>

#define ASK_LIMIT     DURATION_MS(500)
#define FIRST_ANSWER  DURATION_S(2) // a group mostly has its partitions by then, and no broker has to be asked
#define PROVE_EVERY   DURATION_S(2)
#define LOOK_EVERY    DURATION_S(10)
#define SILENCE_EVERY DURATION_S(10)  // a failure for the breaker: with its five, open after 40 s
#define ALONE_LIMIT   DURATION_S(600) // seldom: a group whose brokers come back waits for the end of the old session
#define ABSENT_NAMES  300             // bytes of a reason
#define UNREAD_LASTS  DURATION_S(10)  // what the broker fixes by itself is over by then
#define UNREAD_OVER   DURATION_S(5)
#define LOOKS         3 // for topics after a revocation, until one has an answer

static bool is_lost(const struct insert_partition *partition)
{
    return !partition->gone && (partition->failed || insert_partition_has(partition, FEED_LOST));
}

static const struct insert_partition *lost_partition(const struct insert_group *group)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        if (is_lost(group->partitions.items[i])) {
            return group->partitions.items[i];
        }
    }
    return NULL;
}

static bool is_unreadable(const struct insert_group *group, const struct insert_partition *partition)
{
    struct mono_time last = partition->troubled_at;
    bool lasts = last.ns != 0 && mono_since(last, partition->troubled_since).ns >= UNREAD_LASTS.ns &&
        mono_since(insert_group_now(group), last).ns < UNREAD_OVER.ns;
    return !partition->gone && (partition->refused || partition->silent || partition->open || lasts);
}

// The first, and how many there are.
static const struct insert_partition *unreadable_partition(const struct insert_group *group, size_t *count)
{
    const struct insert_partition *first = NULL;
    *count = 0;
    for (size_t i = 0; i < group->partitions.count; i++) {
        if (is_unreadable(group, group->partitions.items[i])) {
            first = first ? first : group->partitions.items[i];
            ++*count;
        }
    }
    return first;
}

size_t insert_health_stopped(const struct insert_group *group)
{
    size_t stopped = 0;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        stopped += is_lost(partition) || is_unreadable(group, partition);
    }
    return stopped;
}

static bool was_read(const struct insert_group *group, const char *subscribed)
{
    return group->health.known &&
        rd_kafka_topic_partition_list_find(group->health.known, subscribed, RD_KAFKA_PARTITION_UA);
}

static bool any_is_gone(const struct insert_group *group)
{
    for (int i = 0; group->health.absent && i < group->health.absent->cnt; i++) {
        if (was_read(group, group->health.absent->elems[i].topic)) {
            return true;
        }
    }
    return false;
}

// Messages of a topic that is created once more get offsets that the tables have from the deleted one.
static void say_absent(const struct insert_group *group, char *reason, size_t room)
{
    const rd_kafka_topic_partition_list_t *absent = group->health.absent;
    char names[ABSENT_NAMES] = "";
    size_t used = 0;
    for (int i = 0; i < absent->cnt && used < sizeof(names); i++) {
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "", absent->elems[i].topic);
    }
    snprintf(reason, room,
        "no visible topic is named, or matches, %s%s: create %s (the relay creates none), or grant DESCRIBE "
        "and READ%s",
        names, used < sizeof(names) ? "" : " ...", absent->cnt > 1 ? "them" : "it",
        any_is_gone(group) ? "; it was here before: if it was deleted, first runbooks.md, A topic was deleted" : "");
}

// Somebody has to fix it. A topic that was never there may be meant to come later; the publisher parks what waits for
// it, which is told. One that was ours is gone, or is kept from us.
static bool waits_for_somebody(const struct insert_group *group)
{
    size_t unreadable;
    return lost_partition(group) || group->health.refused[0] != '\0' || unreadable_partition(group, &unreadable) ||
        group->metadata_room > 0 || any_is_gone(group);
}

// What an answer of the brokers does not take back. false: nothing.
static bool say_what_stands(const struct insert_group *group, char *reason, size_t room)
{
    size_t unreadable;
    const struct insert_partition *lost = lost_partition(group), *unread = unreadable_partition(group, &unreadable);
    if (lost) {
        snprintf(reason, room,
            "%.120s [%d]: offset %lld is not in Kafka's log (messages expired before they were read, or the topic was "
            "made anew)",
            lost->topic, lost->number, (long long)lost->lost_at);
    } else if (unread) { // before what is said without a topic
        char more[32] = "";
        if (unreadable > 1) {
            snprintf(more, sizeof(more), "; and %zu more", unreadable - 1);
        }
        snprintf(reason, room, "%.120s [%d] cannot be read: %s%s", unread->topic, unread->number, unread->trouble,
            more);
    } else if (group->health.refused[0] != '\0') {
        snprintf(reason, room, "%s", group->health.refused);
    } else if (group->metadata_room > 0) {
        snprintf(reason, room,
            "the brokers' offset.metadata.max.bytes is too small for what tables with materialized views note with "
            "their offsets (insert.no_note): set it to 4096 or more");
    } else if (group->health.absent && group->health.absent->cnt > 0) {
        say_absent(group, reason, room);
    } else {
        return false;
    }
    return true;
}

static void tell_breaker(struct insert_group *group, bool answers, const char *reason)
{
    struct circuit_breaker *breaker = group->context->kafka_breaker;
    if (breaker && breaker_allow(breaker)) {
        if (answers) {
            breaker_success(breaker);
        } else {
            breaker_failure(breaker, reason);
        }
    }
    group->health.unreachable = !answers || (breaker && breaker_state_of(breaker) != BREAKER_CLOSED);
}

// Opens the breaker, and never keeps it open: the probes are left to calls that have something to send. Kafka may
// answer those while this client still waits before it connects again.
static void tell_silence(struct insert_group *group, struct mono_time now)
{
    struct circuit_breaker *breaker = group->context->kafka_breaker;
    if (breaker && mono_reached(now, group->health.silent_at) && breaker_state_of(breaker) == BREAKER_CLOSED) {
        group->health.silent_at = mono_add(now, SILENCE_EVERY);
        breaker_failure(breaker, group->health.away);
    }
}

// What stands is said before what passes with the next answer.
static void show(struct insert_group *group, enum status_level level, const char *reason)
{
    char standing[512] = "";
    bool stands = level != STATUS_DOWN && say_what_stands(group, standing, sizeof(standing));
    group->health.healthy = level == STATUS_OK && !stands;
    if (stands && waits_for_somebody(group)) {
        status_board_set_waiting(group->context->board, STATUS_KAFKA, "insert", standing);
    } else {
        status_board_set(group->context->board, STATUS_KAFKA, "insert", stands ? STATUS_DEGRADED : level,
            stands ? standing : reason);
    }
}

static void tell_answer(struct insert_group *group)
{
    group->health.answered = true;
    group->health.alone = (struct mono_time){0};
    group->health.away[0] = '\0';
    if (group->health.healthy && !group->health.unreachable) {
        return;
    }
    tell_breaker(group, true, "");
    show(group, STATUS_OK, "");
}

void insert_health_tell(struct insert_group *group, enum status_level level, const char *reason)
{
    if (level == STATUS_OK) {
        group->health.refused[0] = '\0';
        tell_answer(group);
        return;
    }
    if (level == STATUS_DOWN) {
        tell_breaker(group, false, reason);
        group->health.silent_at = mono_add(insert_group_now(group), SILENCE_EVERY);
    }
    bool away = level == STATUS_DOWN || group->health.away[0] != '\0';
    if (away) {
        snprintf(group->health.away, sizeof(group->health.away), "%s", reason);
    }
    show(group, away ? STATUS_DOWN : level, reason);
}

void insert_health_begin(struct insert_group *group, struct mono_time now)
{
    group->health.prove_at = mono_add(now, FIRST_ANSWER);
    group->health.alone = (struct mono_time){0};
}

// The breaker is told nothing: no broker was asked.
void insert_health_cannot_join(struct insert_group *group, const struct relay_error *error)
{
    bool down = error->class == RELAY_CLASS_OPERATOR || group->health.away[0] != '\0';
    show(group, down ? STATUS_DOWN : STATUS_DEGRADED, error->text);
}

void insert_health_stands(struct insert_group *group)
{
    group->health.healthy = false;
    tell_answer(group);
}

void insert_health_refused(struct insert_group *group, const char *reason)
{
    snprintf(group->health.refused, sizeof(group->health.refused), "%s", reason);
    insert_health_stands(group);
}

static void add_known(struct insert_group *group, const char *name)
{
    group->health.known = group->health.known ? group->health.known : rd_kafka_topic_partition_list_new(4);
    if (!was_read(group, name)) {
        rd_kafka_topic_partition_list_add(group->health.known, name, RD_KAFKA_PARTITION_UA);
    }
}

static void note_known(struct insert_group *group, const char *topic)
{
    size_t count = 0;
    const char *const *subscribed = insert_routes_topics(group->routes, &count);
    add_known(group, topic);
    for (size_t i = 0; i < count; i++) {
        if (insert_routes_means(group->routes, subscribed[i], topic)) {
            add_known(group, subscribed[i]);
        }
    }
}

void insert_health_assigned(struct insert_group *group, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        if (i == 0 || strcmp(list->elems[i].topic, list->elems[i - 1].topic) != 0) {
            note_known(group, list->elems[i].topic);
        }
    }
    insert_health_tell(group, STATUS_OK, "");
    group->health.absent_at = insert_group_now(group); // one of them may be there now
}

void insert_health_revoked(struct insert_group *group)
{
    group->health.looks = LOOKS;
    group->health.look_at = mono_add(insert_group_now(group), LOOK_EVERY); // brokers agree by then
}

void insert_health_finish(struct insert_group *group)
{
    if (group->health.absent) {
        rd_kafka_topic_partition_list_destroy(group->health.absent);
    }
    if (group->health.known) {
        rd_kafka_topic_partition_list_destroy(group->health.known);
    }
}

void insert_health_unreadable(void *context, const char *topic, int32_t number, const struct relay_error *error)
{
    struct insert_group *group = context;
    struct insert_partition *partition = insert_group_find(group, topic, number);
    struct mono_time now = insert_group_now(group);
    if (!partition) {
        return;
    }
    if (partition->troubled_at.ns == 0 || mono_since(now, partition->troubled_at).ns >= UNREAD_OVER.ns) {
        partition->troubled_since = now;
    }
    partition->troubled_at = now;
    partition->refused = error->detail == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    snprintf(partition->trouble, sizeof(partition->trouble), "%.150s", error->text);
}

// It stands before its offset, or goes on. An offset below 0: it has not been read from anywhere yet.
static void log_unreadable(const struct insert_partition *partition)
{
    if (partition->unreadable) {
        log_event(LOG_LEVEL_ERROR, "insert.partition_unreadable", "tried again; the other partitions go on",
            LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number),
            LOG_INT("offset", partition->position == OFFSET_NONE ? -1 : partition->position),
            LOG_TEXT("reason", partition->trouble));
    } else {
        log_event(LOG_LEVEL_INFO, "insert.partition_readable", "goes on", LOG_TEXT("topic", partition->topic),
            LOG_INT("partition", partition->number));
    }
}

// One cannot be read, or can again, or is no longer ours.
static void look_for_unreadable(struct insert_group *group)
{
    size_t unreadable = 0;
    bool changed = false;
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        bool now = is_unreadable(group, partition);
        unreadable += now;
        if (now != partition->unreadable && !partition->gone) {
            partition->unreadable = now;
            log_unreadable(partition);
            changed = true;
        }
    }
    if (!changed && unreadable == group->health.unreadable) {
        return;
    }
    group->health.unreadable = unreadable;
    if (group->health.away[0] == '\0') { // else an answer will show it
        show(group, STATUS_OK, "");
    }
}

// Each fetch that begins anew says it again, or gives a message or the end, be it of a topic that gets none.
static void ask_for_refused(struct insert_group *group, struct mono_time now)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    if (!mono_reached(now, group->health.again_at)) {
        return;
    }
    group->health.again_at = mono_add(now, LOOK_EVERY);
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        if (partition->refused && !partition->gone && partition->fetching && !partition->held) {
            insert_group_list(&list, partition);
        }
    }
    insert_silence_ask_again(group, list);
}

bool insert_health_up(const struct insert_group *group)
{
    return group->health.answered && group->health.refused[0] == '\0';
}

void insert_health_absent(void *context, const char *subscribed)
{
    struct insert_group *group = context;
    group->health.absent = group->health.absent ? group->health.absent : rd_kafka_topic_partition_list_new(4);
    if (!rd_kafka_topic_partition_list_find(group->health.absent, subscribed, RD_KAFKA_PARTITION_UA)) {
        rd_kafka_topic_partition_list_add(group->health.absent, subscribed, RD_KAFKA_PARTITION_UA);
        log_event(LOG_LEVEL_WARNING, "insert.topic_absent",
            "no visible topic has this name, or matches it: create it (the relay creates none; one that was deleted: "
            "first runbooks.md, A topic was deleted), or grant DESCRIBE and READ",
            LOG_TEXT("topic", subscribed));
    }
    group->health.absent_at = mono_add(insert_group_now(group), LOOK_EVERY);
    insert_health_stands(group);
}

static void look_for_brokers(struct insert_group *group, struct mono_time now)
{
    if (!mono_reached(now, group->health.prove_at)) {
        return;
    }
    group->health.prove_at = mono_add(now, PROVE_EVERY);
    if (kafka_consumer_answered(group->consumer, ASK_LIMIT)) {
        tell_answer(group);
    } else if (group->health.away[0] != '\0') {
        tell_silence(group, now);
    }
}

static void leave_what_is_alone(struct insert_group *group, struct mono_time now)
{
    if (group->health.alone.ns == 0) {
        group->health.alone = now;
    }
    if (mono_since(now, group->health.alone).ns >= ALONE_LIMIT.ns) {
        struct relay_error error;
        error_set(&error, RELAY_ERROR_KAFKA_UNREACHABLE,
            "no broker has answered for ten minutes; a new client reads the certificate files of [kafka] again");
        insert_group_break(group, &error);
    }
}

static bool is_there(const struct insert_group *group, const struct rd_kafka_metadata *metadata, const char *subscribed)
{
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (metadata->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
            (strcmp(subscribed, metadata->topics[i].topic) == 0 ||
                insert_routes_means(group->routes, subscribed, metadata->topics[i].topic))) {
            return true;
        }
    }
    return false;
}

// Topics that we had partitions of, and that are there no more. A broker that knows of no topic at all has just begun.
static void look_for_gone(struct insert_group *group, const struct rd_kafka_metadata *metadata)
{
    const rd_kafka_topic_partition_list_t *known = group->health.known;
    for (int i = 0; known && metadata->topic_cnt > 0 && i < known->cnt; i++) {
        if (!is_there(group, metadata, known->elems[i].topic)) {
            insert_health_absent(group, known->elems[i].topic);
        }
    }
}

static void look_for_found(struct insert_group *group, const struct rd_kafka_metadata *metadata)
{
    for (int i = group->health.absent ? group->health.absent->cnt : 0; i > 0; i--) {
        const char *subscribed = group->health.absent->elems[i - 1].topic;
        if (is_there(group, metadata, subscribed)) {
            log_event(LOG_LEVEL_INFO, "insert.topic_found", NULL, LOG_TEXT("topic", subscribed));
            rd_kafka_topic_partition_list_del_by_idx(group->health.absent, i - 1);
        }
    }
}

static void look_for_topics(struct insert_group *group, struct mono_time now)
{
    struct insert_health *health = &group->health;
    bool absent = health->absent && health->absent->cnt > 0 && mono_reached(now, health->absent_at);
    bool look = health->looks > 0 && mono_reached(now, health->look_at);
    if (!absent && !look) {
        return;
    }
    health->absent_at = health->look_at = mono_add(now, LOOK_EVERY);
    const struct rd_kafka_metadata *metadata = kafka_consumer_all_topics(group->consumer, ASK_LIMIT);
    health->looks -= look;
    if (!metadata) {
        return;
    }
    look_for_found(group, metadata);
    if (look) {
        health->looks = 0;
        look_for_gone(group, metadata);
    }
    rd_kafka_metadata_destroy(metadata);
    tell_answer(group);
}

static void look_for_metadata(struct insert_group *group, struct mono_time now)
{
    if (group->metadata_room > 0 && mono_reached(now, group->metadata_again_at)) {
        group->metadata_room = 0;
        insert_health_stands(group);
    }
}

void insert_health_work(struct insert_group *group, struct mono_time now)
{
    look_for_metadata(group, now);
    look_for_unreadable(group);
    ask_for_refused(group, now);
    // A member without messages hears nothing that would tell that there is a broker, be it at its start or later.
    if (group->health.unreachable || !group->health.answered) {
        leave_what_is_alone(group, now);
        look_for_brokers(group, now);
    } else {
        look_for_topics(group, now);
    }
}
