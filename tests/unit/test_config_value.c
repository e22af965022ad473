// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_checks.h"
#include "relay/config/config_value.h"

#include <criterion/criterion.h>
#include <string.h>

static struct relay_error error;

Test(config_value, durations)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"500ms", 500000000}, {"5s", 5000000000}, {"10m", 600000000000}, {"4h", 14400000000000},
        {"2d", 172800000000000}, {"0", 0}, {"0s", 0}, {"5 s", 5000000000}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t ns = -1;
        cr_assert(config_parse_duration(good[i].text, &ns, &error), "%s: %s", good[i].text, error.text);
        cr_assert_eq(ns, good[i].ns, "%s", good[i].text);
    }
    static const char *const bad[] = {"5", "", "s", "-5s", "5S", "1.5s", "5sec", "5min", "9223372036854775807d",
        "99999999999999999999s", " 5s", "5s x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ns;
        cr_assert_not(config_parse_duration(bad[i], &ns, &error), "%s", bad[i]);
        cr_assert_not_null(strstr(error.text, "500ms"), "says how it is written");
    }
}

Test(config_value, sizes)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"64KiB", 65536}, {"8MiB", 8388608}, {"1GiB", 1073741824}, {"512", 512}, {"7B", 7}, {"0", 0}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t bytes = -1;
        cr_assert(config_parse_size(good[i].text, &bytes, &error), "%s", good[i].text);
        cr_assert_eq(bytes, good[i].bytes, "%s", good[i].text);
    }
    static const char *const bad[] = {"8MB", "8M", "8mib", "", "KiB", "-1", "9999999999GiB", "1.5MiB", "0x10"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t bytes;
        cr_assert_not(config_parse_size(bad[i], &bytes, &error), "%s", bad[i]);
    }
}

Test(config_value, integers_booleans_ratios)
{
    int64_t number;
    cr_assert(config_parse_integer("-42", &number, &error) && number == -42);
    cr_assert(config_parse_integer("9223372036854775807", &number, &error) && number == INT64_MAX);
    cr_assert_not(config_parse_integer("9223372036854775808", &number, &error));
    cr_assert_not(config_parse_integer("1 000", &number, &error));
    cr_assert_not(config_parse_integer("--1", &number, &error));
    bool truth = false;
    cr_assert(config_parse_boolean("Yes", &truth, &error) && truth);
    cr_assert(config_parse_boolean("0", &truth, &error) && !truth);
    cr_assert(config_parse_boolean("on", &truth, &error) && truth);
    cr_assert_not(config_parse_boolean("maybe", &truth, &error));
    cr_assert_not(config_parse_boolean("", &truth, &error));
    double ratio;
    cr_assert(config_parse_ratio("0.25", &ratio, &error) && ratio > 0.249 && ratio < 0.251);
    cr_assert(config_parse_ratio("5%", &ratio, &error) && ratio > 0.049 && ratio < 0.051);
    cr_assert_not(config_parse_ratio("1.5", &ratio, &error));
    cr_assert_not(config_parse_ratio("-0.1", &ratio, &error));
    cr_assert_not(config_parse_ratio("nan", &ratio, &error));
    cr_assert_not(config_parse_ratio("0.1x", &ratio, &error));
}

Test(config_value, words_name_the_others)
{
    static const char *const words[] = {"delete", "mark", "keep", NULL};
    int index = -1;
    cr_assert(config_parse_word("mark", words, &index, &error) && index == 1);
    cr_assert_not(config_parse_word("Mark", words, &index, &error));
    cr_assert_str_eq(error.text, "expected delete, mark or keep");
}

Test(config_value, lists)
{
    struct config_memory *memory = config_memory_new();
    struct config_list list;
    cr_assert(config_parse_list(memory, " a , b,c\t", &list, &error));
    cr_assert_eq(list.count, 3);
    cr_assert_str_eq(list.items[0], "a");
    cr_assert_str_eq(list.items[1], "b");
    cr_assert_str_eq(list.items[2], "c");
    cr_assert(config_parse_list(memory, "  ", &list, &error) && list.count == 0);
    cr_assert_not(config_parse_list(memory, "a,,b", &list, &error));
    cr_assert_not_null(strstr(error.text, "item 2 is empty"));
    cr_assert_not(config_parse_list(memory, "a,", &list, &error));

    struct config_additional *items;
    size_t count;
    cr_assert(
        config_parse_additional(memory, "tenant:header, region:envelope:area, shard:partition", &items, &count, &error),
        "%s", error.text);
    cr_assert_eq(count, 3);
    cr_assert_str_eq(items[0].alias, "tenant");
    cr_assert_eq(items[1].placement, CONFIG_PLACE_ENVELOPE);
    cr_assert_str_eq(items[1].column, "region");
    cr_assert_str_eq(items[1].alias, "area");
    cr_assert_eq(items[2].placement, CONFIG_PLACE_PARTITION);
    static const char *const bad[] = {"tenant", ":header", "tenant:footer", "tenant:header:", "a:header,"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_not(config_parse_additional(memory, bad[i], &items, &count, &error), "%s", bad[i]);
    }
    config_memory_free(memory);
}

Test(config_value, written_as_people_do)
{
    struct config_memory *memory = config_memory_new();
    cr_assert_str_eq(config_format_size(memory, 8388608), "8MiB");
    cr_assert_str_eq(config_format_size(memory, 1000), "1000B");
    cr_assert_str_eq(config_format_duration(memory, 600000000000), "10m");
    cr_assert_str_eq(config_format_duration(memory, 1500000000), "1500ms");
    cr_assert_str_eq(config_format_duration(memory, 0), "0s");
    config_memory_free(memory);
}

static const char *word_at(const void *context, size_t i)
{
    return ((const char *const *)context)[i];
}

Test(config_value, the_nearest_name)
{
    static const char *const names[] = {"batch_rows", "batch_bytes", "table", NULL, "bootstrap.servers"};
    cr_assert_str_eq(config_nearest("batchrows", word_at, names, 5), "batch_rows");
    cr_assert_str_eq(config_nearest("tabel", word_at, names, 5), "table");
    cr_assert_str_eq(config_nearest("BATCH_BYTES", word_at, names, 5), "batch_bytes");
    cr_assert_str_eq(config_nearest("bootstrap_servers", word_at, names, 5), "bootstrap.servers");
    cr_assert_null(config_nearest("color", word_at, names, 5));
    cr_assert_null(config_nearest("", word_at, names, 5));
}

#define GOOD(check, given) cr_assert(check(given, &error), "%s: %s", given, error.text)
#define BAD(check, given)  cr_assert_not(check(given, &error), "%s", given)

Test(config_checks, tables)
{
    GOOD(config_check_table, "public.outbox_events");
    GOOD(config_check_table, "\"My Schema\".\"t\"");
    GOOD(config_check_table, "\"a.b\".\"c\"\"d\"");
    GOOD(config_check_table, "public.\"Outbox\"");
    BAD(config_check_table, "outbox_events");
    BAD(config_check_table, "a.b.c");
    BAD(config_check_table, "public.");
    BAD(config_check_table, ".t");
    BAD(config_check_table, "public.my table");
    BAD(config_check_table, "public.t; DROP TABLE x");
    BAD(config_check_table, "\"a.b");
    BAD(config_check_table, "\"\".t");
    BAD(config_check_table, "1a.b");
    BAD(config_check_table, "public.a123456789012345678901234567890123456789012345678901234567890123");
    GOOD(config_check_clickhouse_table, "outbox_events");
    GOOD(config_check_clickhouse_table, "analytics.orders");
    GOOD(config_check_clickhouse_table, "`my db`.`a b`");
    BAD(config_check_clickhouse_table, "`my db`.`a.b`");
    BAD(config_check_clickhouse_table, "a.b.c");
    BAD(config_check_clickhouse_table, "a b");
    BAD(config_check_clickhouse_table, ".b");
    BAD(config_check_clickhouse_table, "a.");
    BAD(config_check_clickhouse_table, "`a");
    BAD(config_check_clickhouse_table, "``");
}

Test(config_checks, kafka_names_and_templates)
{
    GOOD(config_check_topic, "outbox-relay.receipts");
    BAD(config_check_topic, "a/b");
    BAD(config_check_topic, "..");
    GOOD(config_check_topic_template, "{prefix}.{event_type:1}.events");
    GOOD(config_check_topic_template, "all");
    BAD(config_check_topic_template, "{prefix}.{event_type:0}");
    BAD(config_check_topic_template, "{prefix}.{event_type:}");
    BAD(config_check_topic_template, "{prefix}.{event_type:x}");
    BAD(config_check_topic_template, "{Prefix}");
    BAD(config_check_topic_template, "{prefix");
    BAD(config_check_topic_template, "prefix}");
    BAD(config_check_topic_template, "a b");
    BAD(config_check_topic_template, "{}");
    BAD(config_check_topic_template, "a{{b}}");
    GOOD(config_check_template, "{aggregate_type}/{aggregate_id} \xc3\xa9");
    BAD(config_check_template, "{id}");
}

Test(config_checks, urls_and_addresses)
{
    GOOD(config_check_url, "http://clickhouse:8123");
    GOOD(config_check_url, "https://ch.example.com:8443/");
    GOOD(config_check_url, "http://[::1]:8123");
    BAD(config_check_url, "clickhouse:8123");
    BAD(config_check_url, "tcp://clickhouse:9000");
    BAD(config_check_url, "http://");
    BAD(config_check_url, "http://ch:0");
    BAD(config_check_url, "http://ch:99999");
    BAD(config_check_url, "http://ch:8123/db");
    BAD(config_check_url, "http://ch:8123?user=x");
    BAD(config_check_url, "http://user:secret@ch:8123");
    cr_assert_null(strstr(error.text, "secret"));
    GOOD(config_check_web_url, "https://hooks.slack.com/services/T/B/x");
    BAD(config_check_web_url, "hooks.slack.com");
    BAD(config_check_web_url, "https:///x");
    BAD(config_check_web_url, "https://a b");
    GOOD(config_check_listen, "127.0.0.1:8000");
    GOOD(config_check_listen, "[::1]:0");
    GOOD(config_check_listen, ":8000");
    GOOD(config_check_listen, "none");
    BAD(config_check_listen, "8000");
    BAD(config_check_listen, "a:99999");
    BAD(config_check_listen, "::1:8000");
}

Test(config_checks, a_dsn_is_judged_without_being_told)
{
    GOOD(config_check_dsn, "host=a,b dbname=d target_session_attrs=read-write");
    GOOD(config_check_dsn, "postgresql://u:p@h/d?sslmode=verify-full");
    BAD(config_check_dsn, "host=a hosst=b");
    cr_assert_not_null(strstr(error.text, "hosst"), "%s", error.text);
    BAD(config_check_dsn, "host=a password=two hunter2");
    cr_assert_null(strstr(error.text, "hunter2"), "%s", error.text);
    BAD(config_check_dsn, "postgresql://u:hunter%zz@h/d");
    cr_assert_null(strstr(error.text, "hunter"), "%s", error.text);
    GOOD(config_check_dsn, "host=a,b,c port=1,2,3");
    GOOD(config_check_dsn, "host=a,b port=1");
    GOOD(config_check_dsn, "host=a,b hostaddr= port=,2");
    GOOD(config_check_dsn, "hostaddr=::1,::2 port=1,2");
    GOOD(config_check_dsn, "postgresql://a,b:2/d");
    BAD(config_check_dsn, "host=a,b,c port=1,2");
    cr_assert_not_null(strstr(error.text, "port names 2 ports for 3 hosts"), "%s", error.text);
    BAD(config_check_dsn, "port=1,2");
    BAD(config_check_dsn, "host=a,b hostaddr=::1,::2,::3");
    cr_assert_not_null(strstr(error.text, "host names 2 hosts, hostaddr 3"), "%s", error.text);
    BAD(config_check_dsn, "host=a,b hostaddr=::1 port=1,2");
    cr_assert(config_dsn_has_password("postgresql://u:p@h/d"));
    cr_assert(config_dsn_has_password("host=a password=b"));
    cr_assert_not(config_dsn_has_password("postgresql://u@h/d"));
    cr_assert_not(config_dsn_has_password("no dsn"));
}
