// SPDX-License-Identifier: Apache-2.0
#include "relay/base/log.h"
#include "relay/insert/insert_health.h"
#include "resumed_partitions.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct clock_fake fake;
static struct relay_context context;
static struct insert_group group;
static bool broker_answers;
static const char *const *topics_told; // all that there are; NULL: no answer
static int asked;                      // for them
static char logged[8192];

static void keep_log(void *unused, enum log_level level, const char *line)
{
    (void)unused;
    (void)level;
    size_t filled = strlen(logged);
    snprintf(logged + filled, sizeof(logged) - filled, "%s\n", line);
}

// Instead of the real ones: the brokers, as the consumer finds them.
bool kafka_consumer_answered(struct kafka_consumer *consumer, struct duration timeout)
{
    (void)consumer;
    (void)timeout;
    return broker_answers;
}

const struct rd_kafka_metadata *kafka_consumer_all_topics(struct kafka_consumer *consumer, struct duration timeout)
{
    (void)consumer;
    (void)timeout;
    asked++;
    struct rd_kafka_metadata *answer = topics_told ? calloc(1, sizeof(*answer) + 4 * sizeof(*answer->topics)) : NULL;
    if (answer) {
        answer->topics = (struct rd_kafka_metadata_topic *)(answer + 1);
        for (; topics_told[answer->topic_cnt]; answer->topic_cnt++) {
            answer->topics[answer->topic_cnt].topic = (char *)(uintptr_t)topics_told[answer->topic_cnt];
        }
    }
    return answer;
}

bool kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic, int32_t partition, int64_t *low,
    int64_t *high)
{
    (void)consumer;
    (void)topic;
    (void)partition;
    (void)low;
    (void)high;
    return false;
}

static void start(void)
{
    static char name[] = "r", table[] = "t", shop[] = "^shop\\..*", named[] = "billing", *topics[] = {shop, named};
    static struct config_route route = {.name = name, .table = table, .enabled = true, .topics = {topics, 2}};
    static struct config config = {.routes = &route, .route_count = 1};
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    context = (struct relay_context){.clock = &fake.base, .board = status_board_new(&fake.base, NULL)};
    context.kafka_breaker = breaker_new((struct breaker_options){5, DURATION_S(30), 1}, &fake.base, NULL, NULL, NULL,
        NULL, NULL);
    group = (struct insert_group){.context = &context, .health = {.healthy = true, .answered = true}};
    group.routes = insert_routes_new(&config, NULL);
    cr_assert(context.board && context.kafka_breaker && group.routes);
    broker_answers = false;
    topics_told = NULL;
    asked = 0;
    logged[0] = '\0';
    log_set_sink(keep_log, NULL);
}

static void end(void)
{
    insert_health_finish(&group);
    insert_routes_free((struct insert_routes *)(uintptr_t)group.routes);
    breaker_free(context.kafka_breaker);
    status_board_free(context.board);
    log_set_sink(NULL, NULL);
}

static int times_logged(const char *event, const char *words)
{
    int times = 0;
    for (const char *at = logged; (at = strstr(at, event)) != NULL; at++) {
        const char *found = strstr(at, words);
        times += found != NULL && found < strchr(at, '\n');
    }
    return times;
}

static bool waits(void)
{
    size_t count = 0;
    struct status_entry *entries = status_board_entries(context.board, &count);
    bool waiting = count == 1 && entries->waiting;
    free(entries);
    return waiting;
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

static void assign(const char *topic)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(2);
    rd_kafka_topic_partition_list_add(list, topic, 0);
    rd_kafka_topic_partition_list_add(list, topic, 1);
    insert_health_assigned(&group, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void pass(struct duration time)
{
    for (int64_t second = 0; second < time.ns / DURATION_S(1).ns; second++) {
        clock_fake_advance(&fake, DURATION_S(1));
        insert_health_work(&group, clock_mono(&fake.base));
    }
}

static void lose_offset(struct insert_partition **held, struct insert_partition *partition)
{
    static char topic[] = "shop.orders";
    *partition = (struct insert_partition){.topic = topic, .number = 3, .failed = true, .lost_at = 17};
    held[0] = partition;
    group.partitions = (struct insert_partitions){.items = held, .count = 1};
    insert_health_stands(&group);
}

TestSuite(insert_health, .init = start, .fini = end);

// librdkafka may say only once that all brokers are down, and goes on saying why it does not come in.
Test(insert_health, what_is_said_while_no_broker_answers_is_no_answer)
{
    insert_health_tell(&group, STATUS_DEGRADED, "ssl handshake failed");
    expect(STATUS_DEGRADED, "ssl handshake failed");
    insert_health_tell(&group, STATUS_DOWN, "1/1 brokers are down");
    insert_health_tell(&group, STATUS_DEGRADED, "certificate expired");
    expect(STATUS_DOWN, "certificate expired");
    pass(DURATION_S(60));
    expect(STATUS_DOWN, "certificate expired");
    broker_answers = true;
    pass(DURATION_S(60));
    expect(STATUS_OK, "");
    insert_health_tell(&group, STATUS_DEGRADED, "one of them again");
    expect(STATUS_DEGRADED, "one of them again");
}

Test(insert_health, the_breaker_hears_of_silence_until_it_opens)
{
    insert_health_tell(&group, STATUS_DOWN, "1/1 brokers are down");
    pass(DURATION_S(39));
    cr_assert_eq(breaker_state_of(context.kafka_breaker), BREAKER_CLOSED, "five failures, ten seconds apart");
    pass(DURATION_S(3));
    cr_assert_eq(breaker_state_of(context.kafka_breaker), BREAKER_OPEN);
    pass(DURATION_S(120));
    cr_assert(breaker_allow(context.kafka_breaker), "the probe is left to who has something to send");
    breaker_cancel(context.kafka_breaker);
    broker_answers = true;
    pass(DURATION_S(40));
    cr_assert_eq(breaker_state_of(context.kafka_breaker), BREAKER_CLOSED);
    expect(STATUS_OK, "");
}

Test(insert_health, a_broker_that_has_not_answered_yet_is_no_failure)
{
    group.health.answered = group.health.healthy = false;
    pass(DURATION_S(120));
    cr_assert_eq(breaker_state_of(context.kafka_breaker), BREAKER_CLOSED);
}

Test(insert_health, what_stands_is_not_hidden_by_what_passes)
{
    struct insert_partition *held[1], partition;
    lose_offset(held, &partition);
    expect(STATUS_DEGRADED, "shop.orders [3]: offset 17 is not in Kafka's log");
    insert_health_tell(&group, STATUS_DEGRADED, "ssl handshake failed");
    expect(STATUS_DEGRADED, "shop.orders [3]: offset 17 is not in Kafka's log");
    insert_health_tell(&group, STATUS_DOWN, "1/1 brokers are down");
    expect(STATUS_DOWN, "1/1 brokers are down");
    broker_answers = true;
    pass(DURATION_S(3));
    expect(STATUS_DEGRADED, "shop.orders [3]: offset 17 is not in Kafka's log");
    partition.gone = true;
    insert_health_tell(&group, STATUS_OK, "");
    expect(STATUS_OK, "");
}

Test(insert_health, what_waits_for_somebody_is_told_from_what_passes)
{
    struct insert_partition *held[1], partition;
    insert_health_tell(&group, STATUS_DEGRADED, "ssl handshake failed");
    cr_assert_not(waits());
    lose_offset(held, &partition);
    cr_assert(waits());
    insert_health_tell(&group, STATUS_DOWN, "1/1 brokers are down");
    cr_assert_not(waits(), "kafka_down tells it");
    partition.gone = true;
    assign("shop.orders");
    cr_assert_not(waits());
    insert_health_refused(&group, "GROUP_AUTHORIZATION_FAILED");
    expect(STATUS_DEGRADED, "GROUP_AUTHORIZATION_FAILED");
    cr_assert(waits());
    assign("shop.orders");
    expect(STATUS_OK, "");
    cr_assert_not(waits());
}

Test(insert_health, a_client_that_cannot_be_made_for_now_does_not_hide_what_stands)
{
    struct relay_error error;
    insert_health_refused(&group, "GROUP_AUTHORIZATION_FAILED");
    error_set(&error, RELAY_ERROR_NO_MEMORY, "out of memory: making a Kafka consumer");
    error.class = RELAY_CLASS_RETRIABLE;
    insert_health_cannot_join(&group, &error);
    expect(STATUS_DEGRADED, "GROUP_AUTHORIZATION_FAILED");
    cr_assert(waits());
    error_set(&error, RELAY_ERROR_CONFIG, "ssl.ca.location: no such file");
    error.class = RELAY_CLASS_OPERATOR;
    insert_health_cannot_join(&group, &error);
    expect(STATUS_DOWN, "no such file");
    assign("shop.orders");
    expect(STATUS_OK, "");
}

// A route may name topics that the first event of a kind will make known. One that was read is missed.
Test(insert_health, a_topic_that_is_still_to_come_waits_for_nobody)
{
    insert_health_absent(&group, "^shop\\..*");
    expect(STATUS_DEGRADED, "no visible topic is named, or matches, ^shop");
    cr_assert_not(waits());
    insert_health_absent(&group, "billing");
    cr_assert_not(waits());
    rd_kafka_topic_partition_list_del(group.health.absent, "^shop\\..*", RD_KAFKA_PARTITION_UA);
    assign("shop.orders");
    expect(STATUS_DEGRADED, "billing");
    cr_assert_not(waits(), "of the other one nothing was ever ours");
    insert_health_absent(&group, "^shop\\..*");
    expect(STATUS_DEGRADED, "billing, ^shop");
    cr_assert(waits());
}

static void trouble(struct duration time)
{
    struct relay_error error;
    error_set(&error, RELAY_ERROR_KAFKA_UNKNOWN, "fetching failed");
    for (int64_t half = 0; half < 2 * time.ns / DURATION_S(1).ns; half++) {
        clock_fake_advance(&fake, DURATION_MS(500));
        insert_health_unreadable(&group, "shop.orders", 3, &error);
        insert_health_work(&group, clock_mono(&fake.base));
    }
}

// "12 partitions are not inserted" is no help where only one of them is named.
Test(insert_health, each_partition_that_cannot_be_read_is_logged_with_where_it_stands)
{
    static char topic[] = "shop.orders";
    struct insert_partition third = {.topic = topic, .number = 3, .position = 4711};
    struct insert_partition fourth = {.topic = topic, .number = 4, .position = 17}, *held[] = {&third, &fourth};
    group.partitions = (struct insert_partitions){.items = held, .count = 2};
    insert_health_tell(&group, STATUS_OK, "");
    trouble(DURATION_S(11));
    cr_assert_eq(times_logged("insert.partition_unreadable", "offset=4711"), 1, "%s", logged);
    fourth.silent = true;
    trouble(DURATION_S(11));
    expect(STATUS_DEGRADED, "shop.orders [3] cannot be read: fetching failed; and 1 more");
    cr_assert_eq(times_logged("insert.partition_unreadable", "offset=17"), 1, "%s", logged);
    fourth.silent = false;
    trouble(DURATION_S(11));
    cr_assert_eq(times_logged("insert.partition_readable", "partition=4"), 1, "%s", logged);
    cr_assert_eq(times_logged("insert.partition_unreadable", "offset="), 2, "each once: %s", logged);
    group.partitions.count = 0; // the group took it away: nothing says that it can be read
    pass(DURATION_S(1));
    expect(STATUS_OK, "");
    cr_assert_eq(times_logged("insert.partition_readable", "partition=3"), 0, "%s", logged);
}

Test(insert_health, a_partition_that_cannot_be_read_is_said_once_that_lasts_and_until_it_is_over)
{
    static char topic[] = "shop.orders";
    struct insert_partition partition = {.topic = topic, .number = 3}, *held[] = {&partition};
    group.partitions = (struct insert_partitions){.items = held, .count = 1};
    insert_health_tell(&group, STATUS_OK, "");
    insert_health_stands(&group);
    trouble(DURATION_S(9));
    expect(STATUS_OK, "");
    trouble(DURATION_S(2));
    expect(STATUS_DEGRADED, "shop.orders [3] cannot be read: fetching failed");
    cr_assert(waits());
    insert_health_tell(&group, STATUS_OK, ""); // another partition is read
    expect(STATUS_DEGRADED, "shop.orders [3] cannot be read");
    pass(DURATION_S(6));
    expect(STATUS_OK, "");
    trouble(DURATION_S(9)); // begins anew
    expect(STATUS_OK, "");
    trouble(DURATION_S(2));
    expect(STATUS_DEGRADED, "cannot be read");
    partition.troubled_at = (struct mono_time){0}; // a message came
    pass(DURATION_S(1));
    expect(STATUS_OK, "");
}

// librdkafka says it once, and then only when the partition's fetching begins anew.
Test(insert_health, a_partition_that_we_may_not_read_is_said_until_it_is_read)
{
    static char topic[] = "shop.orders";
    struct insert_partition partition = {.topic = topic, .number = 3, .fetching = true}, *held[] = {&partition};
    struct relay_error error;
    group.partitions = (struct insert_partitions){.items = held, .count = 1};
    insert_health_tell(&group, STATUS_OK, "");
    insert_health_stands(&group);
    error_set(&error, RELAY_ERROR_KAFKA_OPERATOR, "Topic authorization failed");
    error.detail = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    insert_health_unreadable(&group, topic, 3, &error);
    insert_health_refused(&group, error.text);
    expect(STATUS_DEGRADED, "shop.orders [3] cannot be read: Topic authorization failed");
    insert_health_tell(&group, STATUS_OK, ""); // another partition reaches its end
    expect(STATUS_DEGRADED, "shop.orders [3] cannot be read");
    pass(DURATION_S(61));
    expect(STATUS_DEGRADED, "shop.orders [3] cannot be read");
    cr_assert(waits());
    cr_assert_eq(resumed, 7, "every ten seconds; resumed %d times", resumed);
    partition.held = true;
    pass(DURATION_S(20));
    cr_assert_eq(resumed, 7, "a table is full: whoever holds it resumes it");
    partition.held = partition.refused = false; // its end came
    pass(DURATION_S(20));
    expect(STATUS_OK, "");
    cr_assert_eq(resumed, 7);
}

// librdkafka says nothing of a topic that an expression matched among others: it was deleted, or is kept from us.
Test(insert_health, a_topic_of_an_expression_that_is_gone_after_a_revocation_waits_for_somebody)
{
    const char *both[] = {"shop.orders", "shop.users", "strange", NULL}, *one[] = {"shop.orders", "strange", NULL};
    const char *none[] = {NULL};
    topics_told = both;
    assign("shop.orders");
    assign("shop.users");
    pass(DURATION_S(60));
    cr_assert_eq(asked, 0, "while nothing is revoked");
    insert_health_revoked(&group);
    pass(DURATION_S(60));
    cr_assert_eq(asked, 1);
    cr_assert(group.health.healthy);

    topics_told = none;
    insert_health_revoked(&group);
    pass(DURATION_S(12));
    cr_assert(group.health.healthy, "a broker that has just begun knows of none");
    topics_told = one;
    insert_health_revoked(&group);
    pass(DURATION_S(12));
    expect(STATUS_DEGRADED, "no visible topic is named, or matches, shop.users: ");
    expect(STATUS_DEGRADED, "was here before");
    cr_assert(waits());
    assign("shop.orders");
    expect(STATUS_DEGRADED, "shop.users"); // no matter what others give
    topics_told = both;
    pass(DURATION_S(12));
    expect(STATUS_OK, "");
}

Test(insert_health, topics_that_no_broker_tells_are_asked_for_a_few_times)
{
    assign("shop.orders");
    insert_health_revoked(&group);
    pass(DURATION_S(120));
    cr_assert_eq(asked, 3);
    cr_assert(group.health.healthy);
}
