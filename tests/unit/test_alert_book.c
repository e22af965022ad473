// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/alert_book.h"
#include "relay/ops/alert_message.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct clock_fake fake;
static struct alert_book book;
static char heard[1024];
static const struct alert_sender me = {"me", ""}, in_shop = {"me", "shop"}, in_billing = {"me", "billing"};

static void start(void)
{
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    cr_assert(alert_book_init(&book, &fake.base, NULL));
    book.hold = DURATION_S(10);
    book.repeat = DURATION_S(3600);
}

static void end(void)
{
    alert_book_finish(&book);
}

static void on_news(void *context, const struct alert_condition *condition)
{
    (void)context;
    size_t filled = strlen(heard);
    snprintf(heard + filled, sizeof(heard) - filled, "%s/%s %s->%s%s; ", condition->name, condition->instance,
        alert_level_name(condition->before), alert_level_name(condition->announced),
        condition->repeated ? " again" : "");
}

// What is news now.
static const char *news(void)
{
    heard[0] = '\0';
    alert_book_evaluate(&book, on_news, NULL);
    return heard;
}

static void backlog(enum alert_level level)
{
    cr_assert(alert_book_raise(&book, "outbox_backlog", "default", level, "rows wait", 7, false));
}

static void pass(int64_t seconds)
{
    clock_fake_advance(&fake, DURATION_S(seconds));
}

TestSuite(alert_book, .init = start, .fini = end);

Test(alert_book, a_level_is_told_after_it_has_lasted)
{
    backlog(ALERT_WARNING);
    cr_assert_str_eq(news(), "");
    pass(9);
    backlog(ALERT_WARNING);
    cr_assert_str_eq(news(), "");
    pass(1);
    cr_assert_str_eq(news(), "outbox_backlog/default OK->WARNING; ");
    pass(100);
    backlog(ALERT_WARNING);
    cr_assert_str_eq(news(), "");
}

Test(alert_book, what_passes_within_the_hold_is_never_told)
{
    backlog(ALERT_CRITICAL);
    pass(9);
    backlog(ALERT_OK);
    cr_assert_str_eq(news(), "");
    pass(100);
    cr_assert_str_eq(news(), "");
    backlog(ALERT_CRITICAL);
    pass(9);
    cr_assert_str_eq(news(), ""); // the time counts anew
}

Test(alert_book, getting_worse_is_held_from_when_it_began_and_better_is_told_at_once)
{
    backlog(ALERT_WARNING);
    pass(8);
    backlog(ALERT_CRITICAL);
    pass(2);
    cr_assert_str_eq(news(), "outbox_backlog/default OK->WARNING; "); // it has been at least that for 10 s
    pass(8);
    cr_assert_str_eq(news(), "outbox_backlog/default WARNING->CRITICAL; ");
    backlog(ALERT_WARNING);
    cr_assert_str_eq(news(), "outbox_backlog/default CRITICAL->WARNING; ");
    backlog(ALERT_OK);
    cr_assert_str_eq(news(), "outbox_backlog/default WARNING->OK; ");
    cr_assert_eq(json_array_size(book.recent), 4);
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(book.recent, 0), "level")), "OK"); // newest first
}

Test(alert_book, is_repeated_while_it_lasts)
{
    backlog(ALERT_CRITICAL);
    pass(10);
    news();
    pass(3599);
    cr_assert_str_eq(news(), "");
    pass(1);
    cr_assert_str_eq(news(), "outbox_backlog/default OK->CRITICAL again; ");
    backlog(ALERT_OK);
    cr_assert_str_eq(news(), "outbox_backlog/default CRITICAL->OK; ");
    pass(100000);
    cr_assert_str_eq(news(), "");
}

Test(alert_book, says_when_it_wants_to_be_asked_again)
{
    cr_assert_eq(alert_book_evaluate(&book, on_news, NULL).ns, INT64_MAX);
    backlog(ALERT_WARNING);
    cr_assert_eq(alert_book_evaluate(&book, on_news, NULL).ns, DURATION_S(1010).ns);
    pass(10);
    cr_assert_eq(alert_book_evaluate(&book, on_news, NULL).ns, DURATION_S(1010 + 3600).ns);
}

Test(alert_book, a_quiet_condition_is_followed_but_not_told)
{
    alert_book_raise(&book, "outbox_backlog", "default", ALERT_WARNING, "rows wait", 7, true);
    pass(10);
    cr_assert_str_eq(news(), "");
    cr_assert_not(alert_book_due(&book, book.conditions, ALERT_WEBHOOK, DURATION_NS(0)));
    pass(1000);
    backlog(ALERT_WARNING); // this replica takes over, long after the other one has told it
    cr_assert_str_eq(news(), "");
    cr_assert_not(alert_book_due(&book, book.conditions, ALERT_WEBHOOK, DURATION_NS(0)));
    cr_assert(alert_book_due(&book, book.conditions, ALERT_ALERTMANAGER, ALERTMANAGER_RESEND)); // it forgets
    backlog(ALERT_OK);
    cr_assert_str_eq(news(), "outbox_backlog/default WARNING->OK; ");
    cr_assert(
        alert_book_due(&book, book.conditions, ALERT_WEBHOOK, DURATION_NS(0))); // the other one has told it as firing
}

Test(alert_book, whoever_takes_over_tells_a_young_change_again)
{
    alert_book_raise(&book, "outbox_backlog", "default", ALERT_CRITICAL, "rows wait", 7, true);
    pass(10);
    news();
    pass(60);
    backlog(ALERT_CRITICAL);
    cr_assert(alert_book_due(&book, book.conditions, ALERT_WEBHOOK, DURATION_NS(0)));
}

Test(alert_book, what_a_receiver_never_heard_of_needs_no_end)
{
    backlog(ALERT_WARNING);
    pass(10);
    news();
    cr_assert(alert_book_due(&book, book.conditions, ALERT_WEBHOOK, DURATION_NS(0)));
    alert_book_told(&book, book.conditions, ALERT_SLACK, book.conditions->news, ALERT_WARNING, false); // may have heard
    backlog(ALERT_OK);
    news();
    cr_assert_not(alert_book_due(&book, book.conditions, ALERT_WEBHOOK, DURATION_NS(0)));
    cr_assert(alert_book_due(&book, book.conditions, ALERT_SLACK, DURATION_NS(0)));
    alert_book_told(&book, book.conditions, ALERT_SLACK, book.conditions->news, ALERT_OK, true);
    cr_assert_not(alert_book_due(&book, book.conditions, ALERT_SLACK, DURATION_NS(0)));
}

Test(alert_book, conditions_are_bounded_and_right_ones_are_not_kept)
{
    char instance[16];
    for (int i = 0; i < ALERT_CONDITIONS_MAX; i++) {
        snprintf(instance, sizeof(instance), "%d", i);
        cr_assert(alert_book_raise(&book, "x", instance, ALERT_WARNING, "", 0, false));
    }
    cr_assert_not(alert_book_raise(&book, "x", "one more", ALERT_WARNING, "", 0, false));
    cr_assert(alert_book_raise(&book, "x", "never wrong", ALERT_OK, "", 0, false));
    cr_assert_eq(book.count, ALERT_CONDITIONS_MAX);
}

// It may end in the statement to go on with, which nobody can use in part.
Test(alert_book, a_long_summary_reaches_each_receiver_whole)
{
    char summary[768];
    memset(summary, 'x', sizeof(summary));
    snprintf(summary + 740, sizeof(summary) - 740, "SELECT f('x', 12345)");
    cr_assert(alert_book_raise(&book, "outbox_backlog", "default", ALERT_WARNING, summary, 7, false));
    pass(10);
    news();
    const struct alert_condition *list[] = {book.conditions};
    for (size_t kind = 0; kind < ALERT_RECEIVERS; kind++) {
        char *text = alert_message((enum alert_receiver_kind)kind, list, 1, &me, clock_wall(&fake.base));
        cr_assert_not_null(strstr(text, summary), "%s", text);
        free(text);
    }
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(book.recent, 0), "summary")), summary);
}

// "insert TABLE at HOST:PORT": the end tells the replicas apart.
Test(alert_book, long_instances_that_differ_at_their_end_are_two)
{
    char one[235], other[235];
    memset(one, 'x', sizeof(one));
    memset(other, 'x', sizeof(other));
    memcpy(one + 229, "a:999", 6);
    memcpy(other + 229, "b:999", 6);
    cr_assert(alert_book_raise(&book, "x", one, ALERT_WARNING, "", 0, false));
    cr_assert(alert_book_raise(&book, "x", other, ALERT_WARNING, "", 0, false));
    cr_assert_eq(book.count, 2);
    char fingerprints[2][ALERT_FINGERPRINT];
    alert_fingerprint(book.conditions, "", fingerprints[0]);
    alert_fingerprint(book.conditions->next, "", fingerprints[1]);
    cr_assert_str_neq(fingerprints[0], fingerprints[1]);
}

Test(alert_book, a_fingerprint_depends_on_name_and_instance_only)
{
    struct alert_condition a = {.name = "outbox_backlog", .instance = "default", .value = 1};
    struct alert_condition b = {.name = "outbox_backlog", .instance = "default", .value = 2, .level = ALERT_CRITICAL};
    struct alert_condition c = {.name = "outbox_backlogd", .instance = "efault"};
    char first[ALERT_FINGERPRINT];
    char second[ALERT_FINGERPRINT];
    char third[ALERT_FINGERPRINT];
    alert_fingerprint(&a, "", first);
    alert_fingerprint(&b, "", second);
    alert_fingerprint(&c, "", third);
    cr_assert_str_eq(first, second);
    cr_assert_str_neq(first, third);
    cr_assert_eq(strlen(first), 16);
}

static json_t *parsed(enum alert_receiver_kind kind, const struct alert_sender *sender)
{
    struct alert_condition condition = {.name = "outbox_backlog",
        .instance = "default",
        .summary = "rows wait",
        .announced = ALERT_WARNING};
    const struct alert_condition *list[] = {&condition};
    char *text = alert_message(kind, list, 1, sender, (struct wall_time){0});
    cr_assert_not_null(text);
    json_t *root = json_loads(text, 0, NULL);
    free(text);
    return root;
}

// The Alertmanager takes alerts of the same labels for one.
Test(alert_book, deployments_that_share_a_receiver_are_told_apart)
{
    json_t *shop = parsed(ALERT_ALERTMANAGER, &in_shop), *billing = parsed(ALERT_ALERTMANAGER, &in_billing);
    json_t *labels = json_object_get(json_array_get(shop, 0), "labels");
    json_t *others = json_object_get(json_array_get(billing, 0), "labels");
    cr_assert_str_eq(json_string_value(json_object_get(labels, "deployment")), "shop");
    cr_assert_not(json_equal(labels, others));
    cr_assert_not(json_equal(json_object_get(labels, "fingerprint"), json_object_get(others, "fingerprint")));
    json_decref(shop);
    json_decref(billing);

    shop = parsed(ALERT_WEBHOOK, &in_shop);
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(shop, "sender"), "deployment")), "shop");
    json_decref(shop);
    shop = parsed(ALERT_SLACK, &in_shop);
    cr_assert_str_eq(json_string_value(json_object_get(shop, "text")),
        "[shop] :warning: *WARNING* outbox_backlog `default`: rows wait");
    json_decref(shop);
}

Test(alert_book, a_deployment_without_a_name_is_told_as_ever)
{
    json_t *root = parsed(ALERT_ALERTMANAGER, &me);
    char *labels = json_dumps(json_object_get(json_array_get(root, 0), "labels"), JSON_COMPACT | JSON_SORT_KEYS);
    cr_assert_str_eq(labels,
        "{\"alertname\":\"outbox_backlog\",\"fingerprint\":\"b8e5cb328bbe896d\",\"outbox\":\"default\","
        "\"service\":\"outbox-relay\",\"severity\":\"warning\"}");
    free(labels);
    json_decref(root);
    root = parsed(ALERT_WEBHOOK, &me);
    cr_assert_null(json_object_get(json_object_get(root, "sender"), "deployment"));
    json_decref(root);
}

Test(alert_book, slack_text_is_escaped)
{
    struct alert_condition condition = {.name = "outbox_backlog",
        .instance = "a<b",
        .summary = "x & y > z",
        .announced = ALERT_CRITICAL};
    const struct alert_condition *list[] = {&condition};
    char *text = alert_message(ALERT_SLACK, list, 1, &me, (struct wall_time){0});
    cr_assert_str_eq(text, "{\"text\":\":rotating_light: *CRITICAL* outbox_backlog `a&lt;b`: x &amp; y &gt; z\"}");
    free(text);
}

Test(alert_book, at_the_alertmanager_a_changed_severity_ends_the_other_alert)
{
    backlog(ALERT_CRITICAL);
    pass(10);
    news();
    alert_book_told(&book, book.conditions, ALERT_ALERTMANAGER, 1, ALERT_CRITICAL, true);
    backlog(ALERT_WARNING);
    news();
    const struct alert_condition *list[] = {book.conditions};
    char *text = alert_message(ALERT_ALERTMANAGER, list, 1, &me, clock_wall(&fake.base));
    json_t *root = json_loads(text, 0, NULL);
    cr_assert_eq(json_array_size(root), 2);
    const json_t *warning = json_array_get(root, 0);
    const json_t *critical = json_array_get(root, 1);
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(warning, "labels"), "severity")), "warning");
    cr_assert_str_eq(json_string_value(json_object_get(warning, "endsAt")), "1970-01-01T00:05:10.000000Z");
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(critical, "labels"), "severity")), "critical");
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(critical, "labels"), "outbox")), "default");
    cr_assert_str_eq(json_string_value(json_object_get(critical, "endsAt")), "1970-01-01T00:00:10.000000Z");
    json_decref(root);
    free(text);
}

static const char *time_of(const json_t *root, const char *member)
{
    cr_assert_eq(json_array_size(root), 1);
    return json_string_value(json_object_get(json_array_get(root, 0), member));
}

// As an Alertmanager is told of the first condition now.
static void expect_times(const char *starts, const char *ends)
{
    const struct alert_condition *list[] = {book.conditions};
    char *text = alert_message(ALERT_ALERTMANAGER, list, 1, &me, clock_wall(&fake.base));
    json_t *root = json_loads(text, 0, NULL);
    cr_assert_str_eq(time_of(root, "startsAt"), starts);
    cr_assert_str_eq(time_of(root, "endsAt"), ends);
    json_decref(root);
    free(text);
}

// It refuses an alert that ends before it starts, and with it all that was sent in the same request.
Test(alert_book, a_clock_that_is_set_back_makes_no_alert_that_the_alertmanager_refuses)
{
    fake.wall_us = DURATION_S(14 * 3600).ns / 1000;
    backlog(ALERT_CRITICAL);
    pass(10);
    news();
    alert_book_told(&book, book.conditions, ALERT_ALERTMANAGER, 1, ALERT_CRITICAL, true);
    fake.wall_us = DURATION_S(12 * 3600).ns / 1000;
    expect_times("1970-01-01T12:00:00.000000Z", "1970-01-01T12:05:00.000000Z");

    pass(600);
    backlog(ALERT_OK);
    news();
    expect_times("1970-01-01T12:10:00.000000Z", "1970-01-01T12:10:00.000000Z");
}

Test(alert_book, what_was_over_before_the_clock_was_set_back_ends_now)
{
    fake.wall_us = DURATION_S(14 * 3600).ns / 1000;
    backlog(ALERT_CRITICAL);
    pass(10);
    news();
    alert_book_told(&book, book.conditions, ALERT_ALERTMANAGER, 1, ALERT_CRITICAL, true);
    backlog(ALERT_OK);
    news();
    fake.wall_us = DURATION_S(12 * 3600).ns / 1000;
    expect_times("1970-01-01T12:00:00.000000Z", "1970-01-01T12:00:00.000000Z");
}
