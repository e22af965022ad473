// SPDX-License-Identifier: Apache-2.0
#include "relay/base/status_board.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct clock_fake fake;
static struct status_board *board;

static void start(void)
{
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    board = status_board_new(&fake.base, NULL);
    cr_assert_not_null(board);
}

static void end(void)
{
    status_board_free(board);
}

static const char *text_at(const json_t *root, const char *check, const char *member)
{
    const json_t *object = check == NULL ? root : json_object_get(json_object_get(root, "checks"), check);
    const char *text = json_string_value(json_object_get(object, member));
    cr_assert_not_null(text);
    return text;
}

static void expect_whole(const char *level)
{
    json_t *root = status_board_json(board);
    cr_assert_str_eq(text_at(root, NULL, "status"), level);
    json_decref(root);
}

TestSuite(status_board, .init = start, .fini = end);

Test(status_board, is_degraded_while_no_stage_runs)
{
    expect_whole("degraded");
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_OK, "");
    expect_whole("ok");
}

Test(status_board, a_check_is_down_only_when_all_its_instances_are)
{
    status_board_set(board, STATUS_INSERT, "", STATUS_OK, "");
    status_board_set(board, STATUS_CLICKHOUSE, "http://a:8123", STATUS_DOWN, "connection refused");
    status_board_set(board, STATUS_CLICKHOUSE, "http://b:8123", STATUS_OK, "");
    expect_whole("degraded");
    status_board_set(board, STATUS_CLICKHOUSE, "http://b:8123", STATUS_DOWN, "connection refused");
    expect_whole("down");
    status_board_remove(board, STATUS_CLICKHOUSE, "http://a:8123");
    status_board_remove(board, STATUS_CLICKHOUSE, "http://b:8123");
    expect_whole("ok");
}

Test(status_board, the_whole_is_down_only_when_no_stage_can_progress)
{
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_OK, "");
    status_board_set(board, STATUS_INSERT, "", STATUS_OK, "");
    status_board_set(board, STATUS_POSTGRES, "", STATUS_DOWN, "x");
    expect_whole("degraded"); // the insert stage goes on
    status_board_set(board, STATUS_CLICKHOUSE, "", STATUS_DOWN, "x");
    expect_whole("down");
    status_board_set(board, STATUS_POSTGRES, "", STATUS_OK, "");
    expect_whole("degraded");
    status_board_set(board, STATUS_KAFKA, "", STATUS_DOWN, "x"); // both need it
    expect_whole("down");
}

Test(status_board, an_unhealthy_outbox_degrades_but_never_takes_down)
{
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_OK, "");
    status_board_set(board, STATUS_OUTBOX, "default", STATUS_DOWN, "1200 rows wait");
    expect_whole("degraded");
}

Test(status_board, since_moves_only_with_the_status)
{
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_OK, "");
    status_board_set(board, STATUS_KAFKA, "", STATUS_OK, "");
    clock_fake_advance(&fake, DURATION_S(5));
    status_board_set(board, STATUS_KAFKA, "", STATUS_DEGRADED, "slow");
    clock_fake_advance(&fake, DURATION_S(5));
    status_board_set(board, STATUS_KAFKA, "", STATUS_DEGRADED, "slower");
    json_t *root = status_board_json(board);
    cr_assert_not_null(root);
    cr_assert_str_eq(text_at(root, "kafka", "since"), "1970-01-01T00:00:05.000000Z");
    cr_assert_str_eq(text_at(root, "kafka", "reason"), "slower");
    cr_assert_str_eq(text_at(root, NULL, "status"), "degraded");
    cr_assert_str_eq(text_at(root, NULL, "reason"), "kafka: slower");
    cr_assert_str_eq(text_at(root, NULL, "since"), "1970-01-01T00:00:05.000000Z");
    cr_assert_str_eq(text_at(root, "insert", "reason"), "not in use by this process");
    json_decref(root);
}

Test(status_board, figures_stand_behind_the_state)
{
    status_board_set(board, STATUS_PUBLISH, "orders", STATUS_OK, "");
    status_board_number(board, STATUS_PUBLISH, "orders", "unpublished", 12);
    status_board_text(board, STATUS_PUBLISH, "orders", "role", "owner\xff\n");
    status_board_text(board, STATUS_PUBLISH, "orders", "gone", "x");
    status_board_text(board, STATUS_PUBLISH, "orders", "gone", NULL);
    json_t *root = status_board_json(board);
    json_t *figures = NULL;
    cr_assert_eq(
        json_unpack(root, "{s:{s:{s:{s:{s:o}}}}}", "checks", "publish", "instances", "orders", "figures", &figures), 0);
    cr_assert_eq(json_integer_value(json_object_get(figures, "unpublished")), 12);
    cr_assert_str_eq(json_string_value(json_object_get(figures, "role")), "owner? ");
    cr_assert_null(json_object_get(figures, "gone"));
    json_decref(root);
}

Test(status_board, the_longest_message_of_health_is_shown_whole)
{
    char text[768];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    status_board_set(board, STATUS_OUTBOX, "orders", STATUS_DEGRADED, text);
    status_board_text(board, STATUS_OUTBOX, "orders", "message", text);
    json_t *root = status_board_json(board);
    char *reason = NULL, *message = NULL;
    cr_assert_eq(json_unpack(root, "{s:{s:{s:{s:{s:s, s:{s:s}}}}}}", "checks", "outbox", "instances", "orders",
                     "reason", &reason, "figures", "message", &message),
        0);
    cr_assert_str_eq(reason, text);
    cr_assert_str_eq(message, text);
    json_decref(root);
}

Test(status_board, long_and_malformed_texts_still_make_json)
{
    char text[3000];
    memset(text, 0xC3, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    status_board_set(board, STATUS_INSERT, text, STATUS_DOWN, text);
    status_board_text(board, STATUS_INSERT, text, text, text);
    json_t *root = status_board_json(board);
    char *dump = json_dumps(root, 0);
    cr_assert_not_null(dump);
    cr_assert_not_null(strstr(dump, "????"));
    free(dump);
    json_decref(root);
}

Test(status_board, ready_when_every_stage_says_so)
{
    cr_assert_not(status_board_is_ready(board));
    status_board_set_ready(board, STATUS_PUBLISH, "default", true);
    cr_assert(status_board_is_ready(board));
    status_board_set_ready(board, STATUS_INSERT, "", false);
    cr_assert_not(status_board_is_ready(board));
    status_board_set_ready(board, STATUS_INSERT, "", true);
    cr_assert(status_board_is_ready(board));
    expect_whole("degraded"); // readiness is no state
}

Test(status_board, a_silent_loop_is_named)
{
    char silent[20];
    struct heartbeat *reader = status_board_heartbeat(board, "reader", DURATION_S(10), NULL);
    struct heartbeat *writer = status_board_heartbeat(board, "writer", DURATION_S(60), NULL);
    clock_fake_advance(&fake, DURATION_S(10));
    cr_assert(status_board_live(board, silent, sizeof(silent)));
    cr_assert_str_eq(silent, "");
    clock_fake_advance(&fake, DURATION_S(1));
    cr_assert_not(status_board_live(board, silent, sizeof(silent)));
    cr_assert_str_eq(silent, "reader");
    heartbeat_beat(reader);
    cr_assert(status_board_live(board, NULL, 0));
    clock_fake_advance(&fake, DURATION_S(11));
    heartbeat_end(reader);
    heartbeat_end(NULL);
    cr_assert(status_board_live(board, NULL, 0));
    cr_assert_eq(status_board_heartbeat(board, "again", DURATION_S(1), NULL), reader); // the slot is used again
    heartbeat_end(writer);
}

Test(status_board, entries_are_copies_of_what_was_pinned)
{
    size_t count;
    status_board_number(board, STATUS_OUTBOX, "figures only", "n", 1);
    cr_assert_null(status_board_entries(board, &count));
    cr_assert_eq(count, 0);
    status_board_set(board, STATUS_KAFKA, "", STATUS_DOWN, "no broker");
    struct status_entry *entries = status_board_entries(board, &count);
    cr_assert_eq(count, 1);
    cr_assert_eq(entries[0].check, STATUS_KAFKA);
    cr_assert_eq(entries[0].level, STATUS_DOWN);
    cr_assert_str_eq(entries[0].reason, "no broker");
    free(entries);
}

Test(status_board, what_is_said_of_a_state_lasts_until_it_is_pinned_again)
{
    size_t count;
    status_board_set_waiting(board, STATUS_KAFKA, "", "refused");
    struct status_entry *entries = status_board_entries(board, &count);
    cr_assert(entries->waiting && !entries->starting && entries->level == STATUS_DEGRADED);
    free(entries);
    status_board_set_starting(board, STATUS_KAFKA, "", "starting");
    entries = status_board_entries(board, &count);
    cr_assert(entries->starting && !entries->waiting);
    free(entries);
    status_board_set(board, STATUS_KAFKA, "", STATUS_DEGRADED, "slow");
    entries = status_board_entries(board, &count);
    cr_assert(!entries->starting && !entries->waiting);
    free(entries);
}
