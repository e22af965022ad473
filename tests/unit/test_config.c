// SPDX-License-Identifier: Apache-2.0
#include "config_fixture.h"

Test(config, the_least_that_is_needed_gets_every_default)
{
    struct config *config = load_good(MINIMAL);
    cr_assert_eq(config->postgres.connect_timeout.ns, DURATION_S(5).ns);
    cr_assert_str_eq(config->postgres.password, "");
    cr_assert_eq(config->outbox_count, 1);
    const struct config_outbox *outbox = &config->outboxes[0];
    cr_assert_str_eq(outbox->name, "default");
    cr_assert_str_eq(outbox->table, "public.outbox_events");
    cr_assert_eq(outbox->batch_rows, 5000);
    cr_assert_eq(outbox->batch_bytes, 8 * 1024 * 1024);
    cr_assert_eq(outbox->disposition, CONFIG_DISPOSITION_DELETE);
    cr_assert_eq(outbox->fallback_poll.ns, DURATION_S(1).ns);
    cr_assert_str_eq(outbox->dead_letter_table, "public.outbox_dead_letters");
    static const char *const columns[CONFIG_COLUMN_ROLES] = {"id", "seq", "aggregate_id", "event_type",
        "aggregate_type", "payload", "metadata", "created_at"};
    for (int role = 0; role < CONFIG_COLUMN_ROLES; role++) {
        cr_assert_str_eq(outbox->columns[role], columns[role]);
    }
    cr_assert(outbox->publish.enabled && config->publish.enabled && config->insert.enabled);
    cr_assert_eq(outbox->publish.guarantee, CONFIG_EXACTLY_ONCE);
    cr_assert_str_eq(outbox->publish.topic, "{prefix}.{event_type:1}.events");
    cr_assert_str_eq(outbox->publish.key, "{aggregate_id}");
    cr_assert_eq(outbox->publish.metadata_headers.count, 3);
    cr_assert_str_eq(outbox->publish.metadata_headers.items[2], "tracestate");
    cr_assert_eq(outbox->publish.additional_count, 0);
    cr_assert_str_eq(outbox->publish.receipt_topic, "outbox-relay.receipts");
    cr_assert_str_eq(config->insert.group_id, "outbox-relay");
    cr_assert_eq(config->insert.memory_limit, 256 * 1024 * 1024);
    cr_assert_str_eq(config->insert.dead_letter_topic, "");
    cr_assert_eq(config->insert.guarantee, CONFIG_EXACTLY_ONCE);
    cr_assert_str_eq(config->clickhouse.urls.items[0], "http://c:8123");
    cr_assert_eq(config->clickhouse.request_timeout.ns, DURATION_S(65).ns);
    cr_assert_eq(config->route_count, 1);
    cr_assert_str_eq(config->routes[0].name, "default");
    cr_assert(config->routes[0].enabled);
    cr_assert_str_eq(config->routes[0].table, "outbox_events");
    cr_assert_eq(config->routes[0].column_count, 0);
    cr_assert_str_eq(config->routes[0].topics.items[0], "^nova\\.[^.]+\\.events$");
    for (int i = 0; i < CONFIG_DEPENDENCIES; i++) {
        cr_assert_eq(config->breakers[i].failures, 5);
        cr_assert_eq(config->breakers[i].open.ns, DURATION_S(30).ns);
        cr_assert_eq(config->breakers[i].successes, 2);
    }
    cr_assert_eq(config->health.interval.ns, DURATION_S(60).ns);
    cr_assert_eq(config->health.critical_rows, 1000);
    cr_assert_eq(config->alert.repeat.ns, DURATION_S(4 * 3600).ns);
    cr_assert_str_eq(config->alert.slack_url, "");
    cr_assert_str_eq(config->http.listen, "127.0.0.1:8000");
    cr_assert_eq(config->log.level, LOG_LEVEL_INFO);
    cr_assert_eq(config->log.format, LOG_FORMAT_AUTO);
    cr_assert_eq(config->drain_timeout.ns, DURATION_S(25).ns);
    cr_assert_eq(config->lease.ns, DURATION_S(5).ns);
    cr_assert_eq(config->kafka_count, 1);
    config_free(config);
    config_free(NULL);
}

Test(config, values_may_hold_anything)
{
    struct config *config = load_good(
        "[postgres]\ndsn = postgresql://u@h/d?options=-c%20a%3Db\npassword = a=b;c #d : \"e\"\n"
        "[kafka]\nbootstrap.servers = a:1,\n  b:2\nsasl.password = = ; \n[clickhouse]\nurl = http://a:1, "
        "https://b:2/\n");
    cr_assert_str_eq(config->postgres.password, "a=b;c #d : \"e\"");
    cr_assert_str_eq(config->kafka[0].value, "a:1, b:2");
    cr_assert_str_eq(config->kafka[1].value, "= ;");
    cr_assert_eq(config->clickhouse.urls.count, 2);
    config_free(config);
}

Test(config, a_long_value_is_taken_whole)
{
    static char text[40000];
    int used = snprintf(text, sizeof(text), MINIMAL "[publish]\nmetadata_headers = h");
    memset(text + used, 'x', 30000);
    struct config *config = load_good(text);
    cr_assert_eq(strlen(config->publish.metadata_headers.items[0]), 30001);
    config_free(config);
}

Test(config, outboxes_inherit_and_override)
{
    struct config *config = load_good(
        MINIMAL "[publish]\nprefix = p\nkey = {aggregate_type}\nguarantee = at_least_once\n"
                "[outbox]\nbatch_rows = 7\nprefix = q\n"
                "[outbox orders]\ntable = \"Sales\".\"Outbox\"\nprefix = r\nguarantee = exactly_once\nadditional = "
                "tenant:header\n"
                "[outbox billing]\ntable = billing.outbox\nbatch_rows = 9\nenabled = no\n");
    cr_assert_eq(config->outbox_count, 3);
    const struct config_outbox *first = &config->outboxes[0], *orders = &config->outboxes[1],
                               *billing = &config->outboxes[2];
    cr_assert_str_eq(first->publish.prefix, "q");
    cr_assert_str_eq(orders->name, "orders");
    cr_assert_str_eq(orders->table, "\"Sales\".\"Outbox\"");
    cr_assert_eq(orders->batch_rows, 7);
    cr_assert_str_eq(orders->publish.prefix, "r");
    cr_assert_str_eq(orders->publish.key, "{aggregate_type}");
    cr_assert_eq(orders->publish.guarantee, CONFIG_EXACTLY_ONCE);
    cr_assert_eq(orders->publish.additional_count, 1);
    cr_assert_str_eq(billing->publish.prefix, "q");
    cr_assert_eq(billing->publish.guarantee, CONFIG_AT_LEAST_ONCE);
    cr_assert_eq(billing->batch_rows, 9);
    cr_assert_not(billing->publish.enabled);
    cr_assert_str_eq(config->publish.prefix, "p");
    cr_assert(config->publish.enabled);
    config_free(config);
}

Test(config, named_outboxes_alone_leave_no_default_one)
{
    struct config *config = load_good(MINIMAL "[outbox a]\ntable = s.a\n[outbox b]\ntable = s.b\n");
    cr_assert_eq(config->outbox_count, 2);
    cr_assert_str_eq(config->outboxes[0].name, "a");
    config_free(config);
}

Test(config, one_outbox_published_is_publishing)
{
    struct config *config = load_good(
        MINIMAL "[publish]\nenabled = false\n[outbox a]\ntable = s.a\n[outbox b]\ntable = s.b\nenabled = true\n");
    cr_assert(config->publish.enabled);
    cr_assert_not(config->outboxes[0].publish.enabled);
    cr_assert(config->outboxes[1].publish.enabled);
    config_free(config);
}

Test(config, the_debezium_layout_names_its_columns)
{
    struct config *config = load_good(
        MINIMAL "[outbox]\nlayout = debezium\ncolumn.seq = position\ncolumn.created_at = ts\n");
    static const char *const columns[CONFIG_COLUMN_ROLES] = {"id", "position", "aggregateid", "type", "aggregatetype",
        "payload", "", "ts"};
    for (int role = 0; role < CONFIG_COLUMN_ROLES; role++) {
        cr_assert_str_eq(config->outboxes[0].columns[role], columns[role]);
    }
    config_free(config);
    config = load_good(MINIMAL "[outbox]\ncolumn.metadata = none\n");
    cr_assert_str_eq(config->outboxes[0].columns[CONFIG_COLUMN_METADATA], "");
    config_free(config);
}

Test(config, tables_of_clickhouse_are_kept_without_backticks)
{
    struct config *config = load_good(MINIMAL "[insert]\ndead_letter_table = `my letters`\n"
                                              "[route a]\ntopics = a\ntable = analytics.`orders`\nid = $.id\n"
                                              "[route default]\ntable = `analytics`.`all of them`\n");
    cr_assert_str_eq(config->insert.dead_letter_table, "my letters");
    cr_assert_str_eq(config->routes[0].table, "analytics.all of them");
    cr_assert_str_eq(config->routes[1].table, "analytics.orders");
    config_free(config);
}

Test(config, routes_come_in_their_order_the_default_first)
{
    struct config *config = load_good(
        MINIMAL "[route b]\ntopics = nova.b.events, other\ntable = db.b\n"
                "id = header.event_id\nsign = $.op: insert=1, delete=-1 *=0\ntext = 'a, b = c'\n"
                "columns = n = $['x, y'], m = kafka.offset, q = 'it''s, so'\nlast = $[\"a]\"].b?\n"
                "[route a]\ntopics = ^nova\\.(a|b){1,2}\ntable = a\nenabled = false\n"
                "[route default]\ntable = everything\n");
    cr_assert_eq(config->route_count, 3);
    cr_assert_str_eq(config->routes[0].name, "default");
    cr_assert_str_eq(config->routes[0].table, "everything");
    cr_assert_str_eq(config->routes[0].topics.items[0], "^nova\\.[^.]+\\.events$");
    const struct config_route *route = &config->routes[1];
    cr_assert_str_eq(route->name, "b");
    cr_assert_eq(route->topics.count, 2);
    static const char *const columns[][2] = {{"id", "header.event_id"}, {"sign", "$.op: insert=1, delete=-1 *=0"},
        {"text", "'a, b = c'"}, {"n", "$['x, y']"}, {"m", "kafka.offset"}, {"q", "'it''s, so'"},
        {"last", "$[\"a]\"].b?"}};
    cr_assert_eq(route->column_count, 7);
    for (size_t i = 0; i < 7; i++) {
        cr_assert_str_eq(route->columns[i].name, columns[i][0]);
        cr_assert_str_eq(route->columns[i].value, columns[i][1]);
    }
    cr_assert_eq(config->routes[2].topics.count, 1);
    cr_assert_str_eq(config->routes[2].topics.items[0], "^nova\\.(a|b){1,2}");
    cr_assert_not(config->routes[2].enabled);
    config_free(config);
}

static void assert_default_topics(const char *settings, const char *topics)
{
    char text[1024];
    snprintf(text, sizeof(text), MINIMAL "%s", settings);
    struct config *config = load_good(text);
    cr_assert_eq(config->routes[0].topics.count, 1);
    cr_assert_str_eq(config->routes[0].topics.items[0], topics);
    config_free(config);
}

Test(config, the_default_route_takes_what_the_templates_can_make)
{
    assert_default_topics("[publish]\nprefix = a.b\n", "^a\\.b\\.[^.]+\\.events$");
    assert_default_topics("[publish]\ntopic = all.events\n", "all.events");
    assert_default_topics("[publish]\ntopic = {prefix}.{event_type}\n", "^nova\\..+$");
    assert_default_topics("[publish]\ntopic = {prefix}-{aggregate_type}\n", "^nova-.+$");
    assert_default_topics("[outbox a]\ntable = s.a\n[outbox b]\ntable = s.b\n", "^nova\\.[^.]+\\.events$");
    assert_default_topics("[outbox a]\ntable = s.a\n[outbox b]\ntable = s.b\ntopic = x.y\n",
        "^(nova\\.[^.]+\\.events|x\\.y)$");
    assert_default_topics("[publish]\nenabled = false\nprefix = p\n", "^p\\.[^.]+\\.events$");
}

Test(config, breakers_have_overrides)
{
    struct config *config = load_good(
        MINIMAL "[breaker]\nkafka.open = 1s\nopen = 2s\nalert.successes = 9\npostgres.failures = 1\n");
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_KAFKA].open.ns, DURATION_S(1).ns);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_POSTGRES].open.ns, DURATION_S(2).ns);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_ALERT].open.ns, DURATION_S(2).ns);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_ALERT].successes, 9);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_CLICKHOUSE].successes, 2);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_POSTGRES].failures, 1);
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_CLICKHOUSE].failures, 5);
    config_free(config);
}

Test(config, each_stage_needs_only_its_own_servers)
{
    struct config *config = load_good(
        "[kafka]\nbootstrap.servers = k\n[postgres]\ndsn = host=h\n[insert]\nenabled = false\n");
    cr_assert_not(config->insert.enabled);
    config_free(config);
    config = load_good("[kafka]\nbootstrap.servers = k\n[clickhouse]\nurl = http://c\n[publish]\nenabled = false\n");
    cr_assert_not(config->publish.enabled);
    config_free(config);
}

Test(config, no_http)
{
    struct config *config = load_good(MINIMAL "[http]\nlisten = none\n");
    cr_assert_str_eq(config->http.listen, "");
    config_free(config);
    config = load_good(MINIMAL "[http]\nlisten =\n");
    cr_assert_str_eq(config->http.listen, "");
    config_free(config);
}

Test(config, a_secret_may_stand_in_a_file)
{
    char *one = make_file("pass word\r\n", 11), *two = make_file("s\n\n", 3);
    char text[1024];
    snprintf(text, sizeof(text), MINIMAL "password_file = %s\n[alert]\nhold = 1s\n", one);
    struct config *config = load_good(text);
    cr_assert_str_eq(config->clickhouse.password, "pass word");
    config_free(config);
    snprintf(text, sizeof(text),
        "[kafka]\nsasl.password_file = %s\nbootstrap.servers = k\n[clickhouse]\nurl = http://c\n[publish]\nenabled = "
        "0\n",
        two);
    config = load_good(text);
    cr_assert_str_eq(config->kafka[0].name, "sasl.password");
    cr_assert_str_eq(config->kafka[0].value, "s\n", "only one line end is cut");
    config_free(config);
    unlink(one);
    unlink(two);
}
