// SPDX-License-Identifier: Apache-2.0
#include "http_script.h"
#include "relay/base/log.h"
#include "relay/ops/alerts.h"
#include "slow_resolver.h"

#include <criterion/criterion.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct clock_fake fake;
static struct status_board *board;
static struct metrics *metrics;
static struct stop stop;
static struct config config;
static struct relay_context context;
static struct alerts *alerts;
static char empty[] = "";
static char logged[16384];

static void keep_log(void *unused, enum log_level level, const char *line)
{
    (void)unused;
    (void)level;
    size_t filled = strlen(logged);
    snprintf(logged + filled, sizeof(logged) - filled, "%s\n", line);
}

static void start(void)
{
    unsetenv("http_proxy");
    log_set_sink(keep_log, NULL);
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    board = status_board_new(&fake.base, NULL);
    metrics = metrics_new(NULL);
    stop_init(&stop, NULL);
    config.alert = (struct config_alert){.webhook_url = empty,
        .ca_file = empty,
        .cert_file = empty,
        .key_file = empty,
        .deployment = empty,
        .slack_url = empty,
        .alertmanager_url = empty,
        .repeat = DURATION_S(3600)};
    config.breakers[CONFIG_DEPENDENCY_ALERT] = (struct config_breaker){5, DURATION_S(30), 2};
    context = (struct relay_context){.config = &config,
        .clock = &fake.base,
        .metrics = metrics,
        .board = board,
        .stop = &stop,
        .instance = "0123456789abcdef"};
}

static void go(void)
{
    struct relay_error error = {0};
    alerts = alerts_start(&context, &error);
    cr_assert_not_null(alerts, "%s", error.text);
}

static void end(void)
{
    if (alerts != NULL) {
        stop_raise(&stop, mono_add(clock_mono(&fake.base), DURATION_S(5)));
        cr_assert(alerts_join(alerts, mono_add(clock_mono(&fake.base), DURATION_S(20))));
        alerts_free(alerts);
    }
    stop_finish(&stop);
    metrics_free(metrics);
    status_board_free(board);
    log_set_sink(NULL, NULL);
}

static void raise_backlog(enum alert_level level)
{
    alerts_raise(alerts, "outbox_backlog", "default", level, "1234 unpublished events", 1234, false);
}

static double sent(const char *target, const char *result)
{
    return metric_value(metrics_series2(metrics, METRIC_ALERTS_SENT, target, result));
}

// Turns the thread (it reads the fake clock only when it wakes) until the count is there; a deadline of 10 s.
static void wait_sent(const char *target, const char *result, double count)
{
    for (int i = 0; i < 2000 && sent(target, result) < count; i++) {
        alerts_raise(alerts, "nothing", "", ALERT_OK, "", 0, false);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    cr_assert_geq(sent(target, result), count, "%s %s", target, result);
}

static json_t *body_of(struct http_script *script, size_t number)
{
    http_script_wait(script, number + 1);
    const char *text = http_script_body(script, number, NULL);
    json_t *root = text == NULL ? NULL : json_loads(text, 0, NULL);
    cr_assert_not_null(root, "%s", text);
    return root;
}

static void answer_ok(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    (void)unused;
    (void)seen;
    reply->answer = HTTP_OK(2, "ok");
}

static void hang(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    (void)unused;
    (void)seen;
    reply->then = HTTP_HANG;
}

static void fail_twice(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    (void)unused;
    reply->answer = seen->number < 2 ? "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" : HTTP_OK(2, "ok");
}

static void redirect(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    (void)unused;
    (void)seen;
    reply->answer = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
}

static char *url_with(struct http_script *script, const char *path)
{
    static char urls[4][128];
    static size_t used;
    char *url = urls[used++ % 4];
    snprintf(url, sizeof(urls[0]), "%s%s", http_script_url(script), path);
    return url;
}

static void begin_to_resolve(void)
{
    static char slow[] = "http://slow.test/";
    slow_resolver_start(NULL, NULL);
    config.alert.webhook_url = slow;
    go();
    raise_backlog(ALERT_WARNING);
    slow_resolver_wait_asked();
}

TestSuite(alerts, .init = start, .fini = end, .timeout = 60);

Test(alerts, a_webhook_hears_of_the_beginning_and_of_the_end)
{
    struct http_script *script = http_script_start(answer_ok, NULL);
    config.alert.webhook_url = url_with(script, "/hook?token=SECRET");
    go();
    raise_backlog(ALERT_CRITICAL);
    json_t *firing = body_of(script, 0);
    const json_t *one = json_array_get(json_object_get(firing, "alerts"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(one, "status")), "firing");
    cr_assert_str_eq(json_string_value(json_object_get(one, "level")), "CRITICAL");
    cr_assert_str_eq(json_string_value(json_object_get(one, "name")), "outbox_backlog");
    cr_assert_str_eq(json_string_value(json_object_get(one, "instance")), "default");
    cr_assert_eq(json_number_value(json_object_get(one, "value")), 1234);
    json_decref(firing);
    wait_sent("webhook", "ok", 1);
    raise_backlog(ALERT_OK);
    json_t *resolved = body_of(script, 1);
    cr_assert_str_eq(
        json_string_value(json_object_get(json_array_get(json_object_get(resolved, "alerts"), 0), "status")),
        "resolved");
    json_decref(resolved);
    wait_sent("webhook", "ok", 2);
    cr_assert_eq(sent("log", "ok"), 2);
    json_t *recent = alerts_recent_json(alerts);
    cr_assert_eq(json_array_size(recent), 2);
    json_decref(recent);
    cr_assert_null(strstr(logged, "SECRET"));
    http_script_stop(script);
}

// Two members of one name are refused by Elasticsearch, and whoever takes the last one has another level for the line.
Test(alerts, a_line_of_the_log_has_no_member_twice)
{
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    go();
    alerts_raise(alerts, "outbox_backlog", "default", ALERT_CRITICAL, "many unpublished events", 1234567, false);
    wait_sent("log", "ok", 1);
    json_error_t error;
    json_t *line = json_loads(logged, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &error);
    cr_assert_not_null(line, "%s: %s", error.text, logged);
    cr_assert_str_eq(json_string_value(json_object_get(line, "event")), "alert.firing");
    cr_assert_str_eq(json_string_value(json_object_get(line, "level")), "error");
    cr_assert_str_eq(json_string_value(json_object_get(line, "alert_level")), "CRITICAL");
    cr_assert_str_eq(json_string_value(json_object_get(line, "previous")), "OK");
    cr_assert(json_is_false(json_object_get(line, "reminder")));
    cr_assert_eq(json_number_value(json_object_get(line, "value")), 1234567);
    json_decref(line);
}

static void collect(void *found, const char *const *values, double value)
{
    char *text = found;
    size_t filled = strlen(text);
    snprintf(text + filled, 256 - filled, "%s %s %.0f\n", values[0], values[1], value);
}

// Prometheus sees no increase in a series that begins with its first attempts.
Test(alerts, what_a_receiver_takes_is_counted_from_zero)
{
    static char url[] = "http://127.0.0.1:1/";
    char found[256] = "";
    config.alert.webhook_url = url;
    go();
    metrics_each(metrics, METRIC_ALERTS_SENT, collect, found);
    cr_assert_not_null(strstr(found, "webhook ok 0\n"), "%s", found);
    cr_assert_not_null(strstr(found, "webhook failed 0\n"), "%s", found);
    cr_assert_not_null(strstr(found, "webhook refused 0\n"), "%s", found);
    cr_assert_null(strstr(found, "slack"), "%s", found);
}

static void ask_back(void *unused, enum log_level level, const char *line)
{
    keep_log(unused, level, line);
    json_decref(alerts_recent_json(alerts)); // takes the lock of the alerts
}

Test(alerts, nobody_waits_for_the_log)
{
    static char bad[] = "hooks.example";
    go();
    log_set_sink(ask_back, NULL);
    raise_backlog(ALERT_WARNING);
    wait_sent("log", "ok", 1);
    struct config changed = config;
    changed.alert.slack_url = bad;
    alerts_reload(alerts, &changed);
    cr_assert_not_null(strstr(logged, "alerts.reload_failed"), "%s", logged);
    log_set_sink(keep_log, NULL);
}

// Chats refuse a message that is too long, and with it every alert in it.
static void assert_a_chat_takes(size_t count, int instance_length, int summary_length)
{
    struct http_script *script = http_script_start(answer_ok, NULL);
    config.alert.slack_url = url_with(script, "/services/T0/B0/SECRET");
    char summary[1024], instance[256];
    snprintf(summary, sizeof(summary), "%0*d", summary_length, 0);
    go();
    for (size_t i = 0; i < count; i++) {
        snprintf(instance, sizeof(instance), "outbox %0*zu", instance_length, i);
        alerts_raise(alerts, "pipeline_degraded", instance, ALERT_WARNING, summary, 1, false);
    }
    size_t told = 0;
    for (size_t number = 0; told < count; number++) {
        json_t *body = body_of(script, number);
        const char *text = json_string_value(json_object_get(body, "text"));
        cr_assert_leq(strlen(text), 5000);
        for (const char *at = text; (at = strstr(at, "`outbox ")) != NULL; at++) {
            told++;
        }
        json_decref(body);
        alerts_raise(alerts, "nothing", "", ALERT_OK, "", 0, false); // turns the thread
    }
    http_script_stop(script);
}

Test(alerts, many_long_texts_reach_a_chat_in_several_messages)
{
    assert_a_chat_takes(20, 2, 700);
}

Test(alerts, many_long_names_reach_a_chat_in_several_messages)
{
    assert_a_chat_takes(48, 100, 10);
}

Test(alerts, a_receiver_that_hangs_delays_no_other)
{
    struct http_script *stuck = http_script_start(hang, NULL);
    struct http_script *script = http_script_start(answer_ok, NULL);
    config.alert.webhook_url = url_with(stuck, "/");
    config.alert.slack_url = url_with(script, "/services/T0/B0/SECRET");
    go();
    raise_backlog(ALERT_WARNING);
    http_script_wait(stuck, 1);
    wait_sent("slack", "ok", 1);
    raise_backlog(ALERT_OK);
    wait_sent("slack", "ok", 2);
    cr_assert_eq(sent("webhook", "ok"), 0);
    // Stopping does not wait for it longer than it may.
    stop_raise(&stop, clock_mono(&fake.base));
    cr_assert(alerts_join(alerts, mono_add(clock_mono(&fake.base), DURATION_S(20))));
    alerts_free(alerts);
    alerts = NULL;
    http_script_stop(stuck);
    http_script_stop(script);
}

Test(alerts, what_is_still_true_is_sent_when_the_receiver_is_back)
{
    struct http_script *script = http_script_start(fail_twice, NULL);
    config.alert.webhook_url = url_with(script, "/");
    go();
    raise_backlog(ALERT_WARNING);
    wait_sent("webhook", "failed", 1);
    raise_backlog(ALERT_CRITICAL); // only the latest state is waiting
    clock_fake_advance(&fake, DURATION_S(120));
    wait_sent("webhook", "failed", 2);
    clock_fake_advance(&fake, DURATION_S(120));
    wait_sent("webhook", "ok", 1);
    json_t *third = body_of(script, 2);
    cr_assert_eq(json_array_size(json_object_get(third, "alerts")), 1);
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(json_object_get(third, "alerts"), 0), "level")),
        "CRITICAL");
    json_decref(third);
    http_script_stop(script);
}

Test(alerts, a_redirect_is_not_followed)
{
    struct http_script *script = http_script_start(redirect, NULL);
    config.alert.webhook_url = url_with(script, "/hook/SECRET");
    go();
    raise_backlog(ALERT_WARNING);
    wait_sent("webhook", "refused", 1);
    cr_assert_eq(http_script_requests(script), 1);
    cr_assert_not_null(strstr(logged, "redirects are not followed"));
    cr_assert_null(strstr(logged, "SECRET"));
    http_script_stop(script);
}

Test(alerts, a_dead_receiver_opens_its_breaker)
{
    static char nowhere[] = "http://127.0.0.1:1/";
    config.alert.webhook_url = nowhere;
    config.breakers[CONFIG_DEPENDENCY_ALERT].failures = 2;
    config.breakers[CONFIG_DEPENDENCY_ALERT].open = DURATION_S(16 * 20); // for 20 s at first
    go();
    raise_backlog(ALERT_WARNING);
    wait_sent("webhook", "failed", 1);
    clock_fake_advance(&fake, DURATION_S(61));
    wait_sent("webhook", "failed", 2);
    struct metric_series *state = metrics_series1(metrics, METRIC_BREAKER_STATE, "alert_webhook");
    cr_assert_eq(metric_value(state), BREAKER_OPEN);
    clock_fake_advance(&fake, DURATION_S(10));
    alerts_raise(alerts, "nothing", "", ALERT_OK, "", 0, false);
    cr_assert_eq(sent("webhook", "failed"), 2);
}

Test(alerts, the_alertmanager_is_told_again_before_it_forgets)
{
    struct http_script *script = http_script_start(answer_ok, NULL);
    config.alert.alertmanager_url = url_with(script, "/prefix/");
    go();
    raise_backlog(ALERT_WARNING);
    wait_sent("alertmanager", "ok", 1);
    clock_fake_advance(&fake, DURATION_S(61));
    wait_sent("alertmanager", "ok", 2);
    json_t *again = body_of(script, 1);
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(again, 0), "endsAt")),
        "1970-01-01T00:06:01.000000Z");
    json_decref(again);
    cr_assert_eq(sent("log", "ok"), 1); // no news
    http_script_stop(script);
}

Test(alerts, a_reload_changes_the_receiver_and_tells_it_what_is_true)
{
    struct http_script *first = http_script_start(answer_ok, NULL);
    struct http_script *second = http_script_start(answer_ok, NULL);
    config.alert.webhook_url = url_with(first, "/");
    go();
    raise_backlog(ALERT_WARNING);
    wait_sent("webhook", "ok", 1);
    struct config changed = config;
    changed.alert.webhook_url = url_with(second, "/");
    alerts_reload(alerts, &changed);
    http_script_wait(second, 1);
    wait_sent("webhook", "ok", 2);
    changed.alert.webhook_url = empty;
    alerts_reload(alerts, &changed);
    raise_backlog(ALERT_OK);
    wait_sent("log", "ok", 2);
    cr_assert_eq(http_script_requests(second), 1);
    http_script_stop(first);
    http_script_stop(second);
}

Test(alerts, a_reload_with_another_name_tells_what_is_true_under_it)
{
    static char shop[] = "shop";
    struct http_script *script = http_script_start(answer_ok, NULL);
    config.alert.webhook_url = url_with(script, "/");
    go();
    raise_backlog(ALERT_WARNING);
    wait_sent("webhook", "ok", 1);
    struct config changed = config;
    changed.alert.deployment = shop;
    alerts_reload(alerts, &changed);
    wait_sent("webhook", "ok", 2);
    json_t *post = body_of(script, 1);
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(post, "sender"), "deployment")), "shop");
    cr_assert_eq(json_array_size(json_object_get(post, "alerts")), 1);
    json_decref(post);
    http_script_stop(script);
}

#if LIBCURL_VERSION_NUM >= 0x075700
Test(alerts, a_resolver_that_hangs_delays_no_reload)
{
    struct http_script *second = http_script_start(answer_ok, NULL);
    begin_to_resolve();
    struct config changed = config;
    changed.alert.webhook_url = url_with(second, "/");
    alerts_reload(alerts, &changed);
    wait_sent("webhook", "ok", 1); // takes the lock of the alerts at each turn
    cr_assert_eq(slow_resolver_hanging(), 1);
    slow_resolver_end();
    http_script_stop(second);
}

Test(alerts, a_resolver_that_hangs_delays_no_stop)
{
    begin_to_resolve();
    stop_raise(&stop, clock_mono(&fake.base));
    cr_assert(alerts_join(alerts, mono_add(clock_mono(&fake.base), DURATION_S(5))));
    alerts_free(alerts);
    alerts = NULL;
    cr_assert_eq(slow_resolver_hanging(), 1);
    slow_resolver_end();
}
#endif

Test(alerts, a_url_that_is_none_is_refused_without_being_told)
{
    static char bad[] = "hooks.example/SECRET";
    config.alert.slack_url = bad;
    struct relay_error error = {0};
    cr_assert_null(alerts_start(&context, &error));
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    cr_assert_not_null(strstr(error.text, "slack_url"));
    cr_assert_null(strstr(error.text, "SECRET"));
}

Test(alerts, a_clock_that_moves_holds_nothing_up)
{
    struct http_script *script = http_script_start(answer_ok, NULL);
    config.alert.webhook_url = url_with(script, "/");
    context.clock = clock_system();
    go();
    raise_backlog(ALERT_WARNING);
    http_script_wait(script, 1);
    wait_sent("webhook", "ok", 1);
    stop_raise(&stop, mono_add(clock_mono(clock_system()), DURATION_S(5)));
    cr_assert(alerts_join(alerts, mono_add(clock_mono(clock_system()), DURATION_S(20))));
    alerts_free(alerts);
    alerts = NULL;
    http_script_stop(script);
}
