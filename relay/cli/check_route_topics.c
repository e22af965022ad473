// SPDX-License-Identifier: Apache-2.0
//
// What the routes read: the topics that they name are there; which ones an expression takes, since other services may
// write to some of them; and which hold messages of which the group has committed nothing, since it begins at their
// first one, whoever wrote it; and which are compacted, by which messages vanish before they are inserted. Partitions
// are asked one after the other, until a topic is known to hold something and as long as there is time.
#include "relay/cli/check_kafka.h"

#include "relay/insert/insert_routes.h"

#include <stdio.h>
#include <string.h>

#define NAMED_MAX    5 // topics in one finding
#define SETTINGS_MAX 200
#define LAG_LEAST_MS INT64_C(86400000)

static const char no_topic_hint[] = "nothing, if it is still to come; else fix topics = or the rights to read";

struct route_check {
    struct check *check;
    struct kafka_probe *probe;
    const struct insert_routes *routes;
    const rd_kafka_topic_partition_list_t *committed;
    struct mono_time deadline;
    size_t index; // of the route
    char what[160];
    bool unsure; // it was said that not all topics could be asked
};

// The first names and how many there are.
struct topic_names {
    size_t count;
    bool more;
    char text[800];
};

static void add_name(struct topic_names *names, const char *topic)
{
    size_t used = strlen(names->text), room = sizeof(names->text) - used;
    names->count++;
    if (names->count > NAMED_MAX || strlen(topic) + 3 > room) {
        names->more = true;
    } else {
        snprintf(names->text + used, room, "%s%s", used > 0 ? ", " : "", topic);
    }
}

static void check_expression(struct route_check *at, const char *expression)
{
    const rd_kafka_metadata_t *metadata = kafka_probe_metadata(at->probe);
    struct topic_names names = {0};
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (insert_routes_means(at->routes, expression, metadata->topics[i].topic)) {
            add_name(&names, metadata->topics[i].topic);
        }
    }
    if (names.count > 0) {
        check_add(at->check->report, CHECK_OK, at->what, "", "%.300s takes %zu topic%s: %s%s", expression, names.count,
            names.count == 1 ? "" : "s", names.text, names.more ? ", ..." : "");
    } else {
        check_add(at->check->report, CHECK_WARN, at->what, no_topic_hint, "no topic matches %s yet", expression);
    }
}

static void check_named(struct route_check *at, const char *topic)
{
    if (!kafka_probe_topic(at->probe, topic)) {
        check_add(at->check->report, CHECK_WARN, at->what, no_topic_hint,
            "topic %s does not exist yet, or is not visible to us", topic);
    }
}

static bool is_committed(const struct route_check *at, const char *topic)
{
    for (int i = 0; i < at->committed->cnt; i++) {
        const rd_kafka_topic_partition_t *part = &at->committed->elems[i];
        if (part->offset >= 0 && strcmp(part->topic, topic) == 0) {
            return true;
        }
    }
    return false;
}

// False, with the error set, where it cannot be told.
static bool ask_partition(struct route_check *at, const char *topic, int32_t partition, bool *holds,
    struct relay_error *error)
{
    int64_t low, high;
    struct duration left = mono_left(clock_mono(at->check->context->clock), at->deadline);
    if (duration_ms(left) < 1) {
        return error_set(error, RELAY_ERROR_TIMEOUT, "there was no time for all of them");
    }
    if (!kafka_probe_watermarks(at->probe, topic, partition, &low, &high, left, error)) {
        return false;
    }
    *holds = high > low;
    return true;
}

static bool holds_messages(struct route_check *at, const rd_kafka_metadata_topic_t *topic)
{
    struct relay_error error;
    bool holds = false, told = true;
    for (int i = 0; i < topic->partition_cnt && told && !holds; i++) {
        told = ask_partition(at, topic->topic, topic->partitions[i].id, &holds, &error);
    }
    if (!told && !at->unsure) {
        check_add(at->check->report, CHECK_WARN, at->what, "try again",
            "whether topics without committed offsets have messages cannot be told: %s", error.text);
        at->unsure = true;
    }
    return holds;
}

static void check_unread(struct route_check *at)
{
    const rd_kafka_metadata_t *metadata = kafka_probe_metadata(at->probe);
    struct topic_names names = {0};
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];
        if (insert_routes_match(at->routes, at->index, topic->topic) && !is_committed(at, topic->topic) &&
            holds_messages(at, topic)) {
            add_name(&names, topic->topic);
        }
    }
    if (names.count > 0) {
        check_add(at->check->report, CHECK_WARN, at->what,
            "nothing, if the route is to read all of it; else name its topics in topics =, or set the group's offsets "
            "behind what is not for it (docs/events.md, \"Changing over\")",
            "%zu topic%s messages and no committed offsets of group %.100s, which begins at the first message; what "
            "another publisher wrote and the route cannot read becomes dead letters: %s%s",
            names.count, names.count == 1 ? " has" : "s have", at->check->context->config->insert.group_id, names.text,
            names.more ? ", ..." : "");
    }
}

// An outage, a paused table or a lag of less than a day are nothing out of the ordinary.
static void judge_compaction(struct route_check *at, const struct kafka_topic_settings *settings, size_t count)
{
    struct topic_names names = {0};
    for (size_t i = 0; i < count; i++) {
        if (settings[i].refused == RD_KAFKA_RESP_ERR_NO_ERROR && strstr(settings[i].cleanup_policy, "compact") &&
            settings[i].min_compaction_lag_ms < LAG_LEAST_MS) {
            add_name(&names, settings[i].topic);
        }
    }
    if (names.count > 0) {
        check_add(at->check->report, CHECK_WARN, at->what,
            "min.compaction.lag.ms above the longest outage, a day at least, or cleanup.policy=delete",
            "%zu topic%s compacted: of a key's messages that are not inserted yet (ClickHouse is down, a table is "
            "paused) Kafka may keep the last one only, and nothing says which are missing in ClickHouse: %s%s",
            names.count, names.count == 1 ? " is" : "s are", names.text, names.more ? ", ..." : "");
    }
}

// The first SETTINGS_MAX topics. Who may not read their settings learns that from the other topics' (check_kafka.c).
static void check_compaction(struct route_check *at)
{
    const rd_kafka_metadata_t *metadata = kafka_probe_metadata(at->probe);
    const char *topics[SETTINGS_MAX];
    struct kafka_topic_settings settings[SETTINGS_MAX];
    struct relay_error error;
    size_t count = 0;
    for (int i = 0; i < metadata->topic_cnt && count < SETTINGS_MAX; i++) {
        if (insert_routes_match(at->routes, at->index, metadata->topics[i].topic)) {
            topics[count++] = metadata->topics[i].topic;
        }
    }
    if (kafka_probe_settings(at->probe, topics, count, settings, CHECK_TIMEOUT, &error)) {
        judge_compaction(at, settings, count);
    } else {
        check_add(at->check->report, CHECK_WARN, at->what, "grant DESCRIBE_CONFIGS on its topics, or look yourself",
            "whether a topic is compacted cannot be told: %s", error.text);
    }
}

void check_route_topics(struct check *check, struct kafka_probe *probe,
    const rd_kafka_topic_partition_list_t *committed)
{
    struct insert_routes *routes = insert_routes_new(check->context->config, NULL);
    struct route_check at = {.check = check,
        .probe = probe,
        .routes = routes,
        .committed = committed,
        .deadline = check_deadline(check)};
    for (; routes && at.index < insert_routes_count(routes); at.index++) { // what is wrong with them says the next part
        const struct config_route *route = insert_routes_at(routes, at.index);
        snprintf(at.what, sizeof(at.what), "route %s", route->name);
        for (size_t i = 0; i < route->topics.count; i++) {
            const char *topic = route->topics.items[i];
            if (topic[0] == '^') {
                check_expression(&at, topic);
            } else {
                check_named(&at, topic);
            }
        }
        if (committed) {
            check_unread(&at);
        }
        check_compaction(&at);
    }
    insert_routes_free(routes);
}
