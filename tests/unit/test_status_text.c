// SPDX-License-Identifier: Apache-2.0
#include "relay/cli/status.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int level_of(const char *text)
{
    json_t *status = json_loads(text, 0, NULL);
    cr_assert_not_null(status, "%s", text);
    int level = status_level_of(status);
    json_decref(status);
    return level;
}

Test(status_text, the_whole_decides)
{
    cr_assert_eq(level_of("{\"status\":\"ok\"}"), 0);
    cr_assert_eq(level_of("{\"status\":\"degraded\"}"), 1);
    cr_assert_eq(level_of("{\"status\":\"down\"}"), 2);
    cr_assert_eq(level_of("{}"), 2, "nothing that is known");
}

Test(status_text, a_check_that_is_down_is_critical_though_the_other_stage_goes_on)
{
    cr_assert_eq(level_of("{\"status\":\"degraded\",\"checks\":{\"kafka\":{\"status\":\"ok\"},"
                          "\"postgres\":{\"status\":\"down\"}}}"),
        2);
    cr_assert_eq(level_of("{\"status\":\"degraded\",\"checks\":{\"kafka\":{\"status\":\"ok\"},"
                          "\"insert\":{\"status\":\"degraded\"}}}"),
        1);
}

Test(status_text, an_outbox_that_is_critical_is_too)
{
    cr_assert_eq(level_of("{\"status\":\"degraded\",\"checks\":{\"outbox\":{\"status\":\"degraded\",\"instances\":"
                          "{\"a\":{\"figures\":{\"health\":\"OK\"}},\"b\":{\"figures\":{\"health\":\"CRITICAL\"}}}}}}"),
        2);
}

static char *printed(const char *document)
{
    json_t *status = json_loads(document, 0, NULL);
    cr_assert_not_null(status);
    char *text = NULL;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    status_print(to, status, false);
    fclose(to);
    json_decref(status);
    return text;
}

Test(status_text, the_lag_of_a_topic_is_one_line_in_whatever_order_its_partitions_come)
{
    char *text = printed("{\"lag\":[{\"topic\":\"a\",\"messages\":2},{\"topic\":\"b\",\"messages\":1},"
                         "{\"topic\":\"a\",\"messages\":3}]}");
    cr_assert_not_null(strstr(text, "5 messages behind in a (2 partitions)\n"), "%s", text);
    cr_assert_not_null(strstr(text, "1 message behind in b (1 partition)\n"), "%s", text);
    cr_assert_null(strstr(text, "3 messages"), "%s", text);
    free(text);
}

Test(status_text, what_a_daemon_tells_of_the_whole_counts_more_than_what_it_lists)
{
    char *text = printed("{\"lag\":[{\"topic\":\"a\",\"messages\":2}],\"published\":[{\"topic\":\"a\",\"events\":4}],"
                         "\"lag_by_topic\":{\"a\":{\"messages\":900,\"partitions\":300}},"
                         "\"totals\":{\"published\":70},\"left_out\":{\"lag\":299,\"published\":20}}");
    cr_assert_not_null(strstr(text, "900 messages behind in a (300 partitions)\n"), "%s", text);
    cr_assert_not_null(strstr(text, "4 events a\n"), "%s", text);
    cr_assert_not_null(strstr(text, "and 20 more, 70 events in all"), "%s", text);
    free(text);
}
