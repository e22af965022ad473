// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *mistakes;
static struct relay_error error;

// Loads a text as a file.
static struct config *load(const char *text)
{
    char path[] = "/tmp/relay-config-XXXXXX";
    int descriptor = mkstemp(path);
    cr_assert(descriptor >= 0);
    cr_assert_eq(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
    close(descriptor);
    free(mistakes);
    mistakes = NULL;
    error_clear(&error);
    struct config *config = config_load(path, &mistakes, &error);
    unlink(path);
    return config;
}

#define MINIMAL "[postgres]\ndsn = host=db\n[kafka]\nbootstrap.servers = k:9092\n[clickhouse]\nurl = http://c:8123\n"

static struct config *load_good(const char *text)
{
    struct config *config = load(text);
    cr_assert_not_null(config, "%s\n%s", error.text, mistakes);
    cr_assert_null(mistakes);
    return config;
}

static void assert_mistake(const char *text, const char *part)
{
    struct config *config = load(text);
    cr_assert_null(config, "loaded, expected: %s", part);
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    cr_assert(mistakes != NULL && strstr(mistakes, part) != NULL, "expected: %s\ngot: %s", part, mistakes);
}

Test(config, the_least_that_is_needed_gets_every_default)
{
    struct config *config = load_good(MINIMAL);
    cr_assert_eq(config->outbox_count, 1);
    cr_assert_str_eq(config->outboxes[0].name, "default");
    cr_assert_str_eq(config->outboxes[0].table, "public.outbox_events");
    cr_assert_eq(config->outboxes[0].batch_bytes, 8 * 1024 * 1024);
    cr_assert_str_eq(config->outboxes[0].columns[CONFIG_COLUMN_KEY], "aggregate_id");
    cr_assert_eq(config->outboxes[0].publish.metadata_headers.count, 3);
    cr_assert_eq(config->route_count, 1);
    cr_assert_str_eq(config->routes[0].topics.items[0], "^nova\\.[^.]+\\.events$");
    cr_assert_eq(config->breakers[CONFIG_DEPENDENCY_ALERT].failures, 5);
    cr_assert_eq(config->drain_timeout.ns, DURATION_S(25).ns);
    cr_assert_eq(config->log.level, LOG_LEVEL_INFO);
    config_free(config);
}

Test(config, mistakes_are_told_all_at_once_in_the_order_of_lines)
{
    assert_mistake(MINIMAL "[insert]\nlinger = 5\n[publish]\nguarante = x\n", "[insert] linger: \"5\": expected a duration");
    cr_assert_not_null(strstr(mistakes, "did you mean guarantee?"));
    cr_assert(strstr(mistakes, "linger") < strstr(mistakes, "guarante:"));
}
