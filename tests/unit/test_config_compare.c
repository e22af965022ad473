// SPDX-License-Identifier: Apache-2.0
#include "config_fixture.h"

#include "relay/config/config_compare.h"
#include "relay/config/config_table.h"

static char told[4096];

static void note(void *context, const char *section, const char *key, bool live)
{
    (void)context;
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "[%s] %s%s; ", section, key, live ? " live" : "");
}

static const char *compare_whole(const char *one, const char *other)
{
    struct config *before = load_good(one), *after = load_good(other);
    told[0] = '\0';
    config_compare(before, after, note, NULL);
    config_free(before);
    config_free(after);
    return told;
}

static const char *compare(const char *one, const char *other)
{
    char before[2048], after[2048];
    snprintf(before, sizeof(before), MINIMAL "%s", one);
    snprintf(after, sizeof(after), MINIMAL "%s", other);
    return compare_whole(before, after);
}

static const char *compare_kafka(const char *one, const char *other)
{
    static const char rest[] = "[insert]\nenabled = 0\n[postgres]\ndsn = host=h\n";
    char before[1024], after[1024];
    snprintf(before, sizeof(before), "[kafka]\n%s%s", one, rest);
    snprintf(after, sizeof(after), "[kafka]\n%s%s", other, rest);
    return compare_whole(before, after);
}

Test(config_compare, nothing_differs_from_itself)
{
    cr_assert_str_eq(compare("", ""), "");
    static const char *const much = "[publish]\nadditional = a:header:b, c:partition\n[outbox]\n[outbox x]\ntable = "
                                    "s.x\n[route r]\ntopics = a, b\ntable = t\n"
                                    "c = $.x: a=1\n[insert]\nmax_bad_ratio = 5%\n";
    cr_assert_str_eq(compare(much, much), "");
    cr_assert_str_eq(compare("[log]\nlevel = info\n", "[health]\ninterval = 60s\n"), "",
        "a default that is written is the default");
}

Test(config_compare, says_what_can_change_while_running)
{
    cr_assert_str_eq(compare("", "[log]\nlevel = debug\nformat = json\n"), "[log] level live; [log] format; ");
    cr_assert_str_eq(compare("",
                         "[health]\ninterval = 5s\nwarning_rows = 1\n[alert]\nhold = 3s\nslack_url = "
                         "http://x\n[breaker]\nopen = 1s\n"),
        "[breaker] open live; [breaker] postgres.open live; [breaker] kafka.open live; [breaker] clickhouse.open live; "
        "[breaker] alert.open live; "
        "[health] interval live; [health] warning_rows live; [alert] slack_url live; [alert] hold live; ");
    cr_assert_str_eq(compare("[breaker]\nkafka.open = 1s\n", "[breaker]\nkafka.open = 2s\n"),
        "[breaker] kafka.open live; ");
}

Test(config_compare, what_cannot)
{
    cr_assert_str_eq(compare("", "password = x\n[insert]\nlinger = 2s\n[http]\nlisten = :1\n[run]\nlease = 6s\n"),
        "[insert] linger; [clickhouse] password; [http] listen; [run] lease; ");
    cr_assert_str_eq(compare("[publish]\nprefix = a\n", "[publish]\nprefix = b\nmetadata_headers = x\n"),
        "[publish] prefix; [publish] metadata_headers; [route default] topics; ");
}

Test(config_compare, outboxes_and_routes_by_name)
{
    cr_assert_str_eq(
        compare("[outbox]\n[outbox a]\ntable = s.a\n", "[outbox b]\ntable = s.b\n[outbox]\nbatch_rows = 3\nkey = x\n"),
        "[outbox] batch_rows; [outbox] key; [outbox a] ; [outbox b] ; ");
    cr_assert_str_eq(compare("[outbox a]\ntable = s.a\nadditional = x:header\n",
                         "[outbox a]\ntable = s.b\nadditional = x:partition\n"),
        "[outbox a] table; [outbox a] additional; ");
    cr_assert_str_eq(compare("[route r]\ntopics = a\ntable = t\nc = $.x\n[route s]\ntopics = a\ntable = u\n",
                         "[route r]\ntopics = a, b\ntable = t\nc = $.y\n[route q]\ntopics = a\ntable = u\n"),
        "[route r] topics; [route r] columns; [route s] ; [route q] ; ");
}

Test(config_compare, kafka)
{
    cr_assert_str_eq(compare_kafka("bootstrap.servers = a\nlinger.ms = 5\n", "client.id = x\nbootstrap.servers = b\n"),
        "[kafka] bootstrap.servers; [kafka] linger.ms; [kafka] client.id; ");
}

Test(config_compare, kafka_by_what_a_name_means)
{
    static const char one[] = "bootstrap.servers = a\nlinger.ms = 5\n";
    static const char other[] = "queue.buffering.max.ms = 5\nmetadata.broker.list = a\n";
    cr_assert_str_eq(compare_kafka(one, other), "");
    cr_assert_str_eq(compare_kafka(other, one), "");
    cr_assert_str_eq(compare_kafka(one, "queue.buffering.max.ms = 6\nmetadata.broker.list = b\n"),
        "[kafka] metadata.broker.list; [kafka] queue.buffering.max.ms; ", "as they are written now");
    cr_assert_str_eq(compare_kafka(one, "metadata.broker.list = a\n"), "[kafka] linger.ms; ");
    cr_assert_str_eq(compare_kafka("metadata.broker.list = a\n", one), "[kafka] linger.ms; ");
}

Test(config_compare, exactly_four_sections_are_live)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        bool live = key->section == CONFIG_SECTION_HEALTH || key->section == CONFIG_SECTION_ALERT ||
            key->section == CONFIG_SECTION_BREAKER ||
            (key->section == CONFIG_SECTION_LOG && strcmp(key->name, "level") == 0);
        cr_assert_eq((key->flags & CONFIG_LIVE) != 0, live, "%s", key->name);
    }
}
