// SPDX-License-Identifier: Apache-2.0
//
// /health is the board's JSON with what stands around it: version, instance, uptime, ready, live, breakers, counters,
// lag, dead letters and the last alerts, so that the status page and `outbox-relay status` need nothing else. Lists
// from metrics are cut at LISTED series, because a probe reads this every few seconds; /metrics has all of them. What
// is told of the whole, `totals` and `lag_by_topic`, is made of every series, and `left_out` says how many no list has.
#include "relay/ops/http_answers.h"
#include "relay/base/version.h"

#include "status_page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTED 200

static const char plain_policy[] = "default-src 'none'; frame-ancestors 'none'";
static const char content_json[] = "application/json; charset=utf-8";

static struct http_answer json_answer(unsigned status, json_t *root)
{
    struct http_answer answer = {.status = status, .content_type = content_json, .policy = plain_policy};
    answer.body = root == NULL ? NULL : json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(root);
    if (answer.body == NULL) {
        answer.status = 503;
    } else {
        answer.length = strlen(answer.body);
    }
    return answer;
}

struct http_answer http_answer_error(unsigned status, const char *sentence)
{
    return json_answer(status, json_pack("{s:s}", "error", sentence));
}

// One member for each series of a metric: its labels by name and its value.
struct list {
    const char *name;
    enum metric_id id;
    const char *labels[METRICS_LABELS_MAX]; // NULL ends
    const char *value_name;
};

static const struct list lists[] = {
    {"published", METRIC_EVENTS_PUBLISHED, {"topic"}, "events"},
    {"inserted", METRIC_EVENTS_INSERTED, {"table"}, "rows"},
    {"lag", METRIC_CONSUMER_LAG, {"topic", "partition"}, "messages"},
    {"dead_letters", METRIC_DEAD_LETTERS, {"stage", "reason"}, "events"},
};

struct sums {
    json_t *by_topic; // by the first label too; NULL: not
    json_int_t total, series, zeros;
};

static void add_to(json_t *object, const char *name, json_int_t by)
{
    json_t *value = json_object_get(object, name);
    json_integer_set(value, json_integer_value(value) + by);
}

static void sum_one(void *context, const char *const *values, double value)
{
    struct sums *sums = context;
    sums->total += (json_int_t)value;
    sums->series++;
    sums->zeros += value == 0;
    if (sums->by_topic == NULL) {
        return;
    }
    json_t *topic = json_object_get(sums->by_topic, values[0]);
    if (topic == NULL) {
        topic = json_pack("{s:i, s:i, s:i}", "messages", 0, "partitions", 0, "partitions_behind", 0);
        json_object_set_new(sums->by_topic, values[0], topic);
    }
    add_to(topic, "messages", (json_int_t)value);
    add_to(topic, "partitions", 1);
    add_to(topic, "partitions_behind", value != 0);
}

struct listing {
    const struct list *list;
    json_t *members;
    bool without_zeros;
};

static void list_one(void *context, const char *const *values, double value)
{
    const struct listing *listing = context;
    if (json_array_size(listing->members) >= LISTED || (listing->without_zeros && value == 0)) {
        return;
    }
    json_t *one = json_object();
    for (size_t i = 0; i < METRICS_LABELS_MAX && listing->list->labels[i] != NULL; i++) {
        json_object_set_new(one, listing->list->labels[i], json_string(values[i]));
    }
    json_object_set_new(one, listing->list->value_name, json_integer((json_int_t)value));
    json_array_append_new(listing->members, one);
}

static void put_list(json_t *root, const struct list *list, struct metrics *metrics, json_t *totals, json_t *left_out)
{
    bool letters = list->id == METRIC_DEAD_LETTERS; // a series for each reason there can be
    struct sums sums = {.by_topic = list->id == METRIC_CONSUMER_LAG ? json_object() : NULL};
    metrics_each(metrics, list->id, sum_one, &sums);
    if (sums.by_topic != NULL) {
        json_object_set_new(root, "lag_by_topic", sums.by_topic);
    }
    json_object_set_new(totals, list->name, json_integer(sums.total));
    // Where not all have a seat, those that are 0 do not take one.
    struct listing listing = {.list = list, .members = json_array(), .without_zeros = letters || sums.series > LISTED};
    metrics_each(metrics, list->id, list_one, &listing);
    json_int_t missing = sums.series - (letters ? sums.zeros : 0) - (json_int_t)json_array_size(listing.members);
    json_object_set_new(left_out, list->name, json_integer(missing > 0 ? missing : 0));
    json_object_set_new(root, list->name, listing.members);
}

static void put_lists(json_t *root, struct metrics *metrics)
{
    json_t *totals = json_object(), *left_out = json_object();
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        put_list(root, &lists[i], metrics, totals, left_out);
    }
    json_object_set_new(root, "totals", totals);
    json_object_set_new(root, "left_out", left_out);
}

static void list_breaker(void *context, const char *const *values, double value)
{
    json_t *one = json_pack("{s:s, s:s}", "dependency", values[0], "state",
        breaker_state_name(value >= 2 ? BREAKER_OPEN
                : value >= 1          ? BREAKER_HALF_OPEN
                                      : BREAKER_CLOSED));
    json_array_append_new(context, one);
}

static struct http_answer health(const struct http_answers *answers)
{
    const struct relay_context *context = answers->context;
    json_t *root = status_board_json(context->board);
    if (root == NULL) {
        return json_answer(503, NULL);
    }
    struct duration uptime = mono_since(clock_mono(context->clock), answers->started_at);
    json_object_set_new(root, "version", json_string(relay_version()));
    json_object_set_new(root, "instance", json_string(context->instance));
    json_object_set_new(root, "uptime_seconds", json_integer(uptime.ns / 1000000000));
    json_object_set_new(root, "live", json_boolean(status_board_live(context->board, NULL, 0)));
    json_object_set_new(root, "ready",
        json_boolean(status_board_is_ready(context->board) && !stop_raised(context->stop)));
    json_object_set_new(root, "stopping", json_boolean(stop_raised(context->stop)));
    json_t *breakers = json_array();
    metrics_each(context->metrics, METRIC_BREAKER_STATE, list_breaker, breakers);
    json_object_set_new(root, "breakers", breakers);
    put_lists(root, context->metrics);
    json_t *alerts = answers->alerts == NULL ? NULL : alerts_recent_json(answers->alerts);
    json_object_set_new(root, "alerts", alerts == NULL ? json_array() : alerts);
    const char *status = json_string_value(json_object_get(root, "status"));
    return json_answer(status != NULL && strcmp(status, "down") != 0 ? 200 : 503, root);
}

static struct http_answer live(const struct http_answers *answers)
{
    char silent[64];
    if (status_board_live(answers->context->board, silent, sizeof(silent))) {
        return json_answer(200, json_pack("{s:s}", "status", "live"));
    }
    return json_answer(503,
        json_pack("{s:s, s:s, s:s}", "status", "silent", "loop", silent, "reason",
            "a loop of the relay has not answered for longer than it may; see the log, restart the process"));
}

static struct http_answer ready(const struct http_answers *answers)
{
    char why[400];
    bool is_ready = status_board_ready_why(answers->context->board, why, sizeof(why));
    if (stop_raised(answers->context->stop)) {
        is_ready = false;
        snprintf(why, sizeof(why), "stopping");
    }
    return json_answer(is_ready ? 200 : 503,
        json_pack("{s:s, s:s}", "status", is_ready ? "ready" : "not ready", "reason", why));
}

static struct http_answer metrics(const struct http_answers *answers)
{
    struct http_answer answer = {.status = 200,
        .content_type = "text/plain; version=0.0.4; charset=utf-8",
        .policy = plain_policy};
    answer.body = metrics_render(answers->context->metrics, &answer.length);
    if (answer.body == NULL) {
        answer.status = 503;
    }
    return answer;
}

static struct http_answer page(const struct http_answers *answers)
{
    (void)answers;
    return (struct http_answer){.status = 200,
        .content_type = "text/html; charset=utf-8",
        .policy = STATUS_PAGE_POLICY,
        .body = status_page_html,
        .length = sizeof(status_page_html) - 1,
        .is_static = true};
}

struct http_answer http_answer_get(const struct http_answers *answers, const char *path)
{
    static const struct {
        const char *path;
        struct http_answer (*answer)(const struct http_answers *answers);
    } pages[] = {{"/health", health}, {"/live", live}, {"/ready", ready}, {"/metrics", metrics}, {"/", page}};
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strcmp(path, pages[i].path) == 0) {
            return pages[i].answer(answers);
        }
    }
    return http_answer_error(404, "no such page; there are /, /health, /live, /ready and /metrics");
}
