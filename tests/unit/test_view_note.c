// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/view_note.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct view_note note;
static struct relay_error error;

static void finish(void)
{
    view_note_finish(&note);
}

TestSuite(view_note, .fini = finish);

static char *written(void)
{
    note = (struct view_note){.route = view_note_route("all", "events"), .sent = 1700000000, .rows = 7};
    snprintf(note.token, sizeof(note.token), "outbox-relay-i-all-12");
    cr_assert(view_note_add(&note, "a.post.events", 0, 5, 9, &error));
    cr_assert(view_note_add(&note, "a.post.events", 11, INT64_MAX - 2, INT64_MAX - 1, &error));
    cr_assert(view_note_add(&note, "b", 0, 0, 0, &error));
    char *line = view_note_write(&note, &error);
    cr_assert_not_null(line, "%s", error.text);
    view_note_finish(&note);
    return line;
}

Test(view_note, what_was_written_is_read)
{
    char *line = written();
    cr_expect_eq(line[strlen(line) - 1], '\n');
    cr_assert(view_note_parse(line, &note, &error), "%s", error.text);
    cr_expect_eq(note.route, view_note_route("all", "events"));
    cr_expect_eq(note.sent, 1700000000);
    cr_expect_eq(note.rows, 7);
    cr_expect_str_eq(note.token, "outbox-relay-i-all-12");
    cr_assert_eq(note.run_count, 3);
    cr_expect_str_eq(note.runs[1].topic, "a.post.events");
    cr_expect_eq(note.runs[1].partition, 11);
    cr_expect_eq(note.runs[1].last, INT64_MAX - 1);
    cr_expect_str_eq(note.runs[2].topic, "b");
    free(line);
}

Test(view_note, is_picked_from_what_several_tables_and_others_wrote)
{
    char *line = written(), metadata[VIEW_METADATA_MOST];
    int length = snprintf(metadata, sizeof(metadata), "somebody's words\nviews1 00000001 1 1 t x:0:1-2\n%sviews2 rest",
        line);
    char *picked = view_note_pick(metadata, (size_t)length, view_note_route("all", "events"));
    cr_assert_not_null(picked);
    cr_expect_str_eq(picked, line);
    free(picked);
    cr_expect_null(view_note_pick(metadata, (size_t)length, view_note_route("all", "others")));
    cr_expect_null(view_note_pick(metadata, (size_t)length, view_note_route("other", "events")));
    cr_expect_null(view_note_pick(NULL, 0, 1));
    free(line);
}

Test(view_note, broken_ones_are_refused)
{
    static const char *const lines[] = {"", "views1", "views1 0000000a 1 2 token", "views1 0000000a 1 2 token ",
        "views1 0000000a 1 2 token t:0:5", "views1 0000000a 1 2 token :0:5-6", "views1 0000000a 1 2 token t:0:6-5",
        "views1 0000000a 1 2 token t:0:5-6x", "views1 0000000a 1 2 token t:-1:5-6", "views1 x 1 2 token t:0:5-6",
        "views2 0000000a 1 2 token t:0:5-6", "views1 0000000a 1 -2 token t:0:5-6",
        "views1 0000000a 1 2 token , t:0:5-6", "views1 0000000a 1 2 token t!:0:5-6"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        cr_expect_not(view_note_parse(lines[i], &note, &error), "%s", lines[i]);
        view_note_finish(&note);
    }
}

// Cut anywhere, it is either refused or says less; it never reads what is not there (sanitizers look on).
Test(view_note, cut_ones_do_no_harm)
{
    char *line = written();
    for (size_t length = strlen(line); length > 0; length--) {
        line[length - 1] = '\0';
        view_note_parse(line, &note, &error);
        cr_expect_leq(note.run_count, 3);
        view_note_finish(&note);
    }
    free(line);
}

Test(view_note, too_many_partitions_do_not_fit)
{
    note.route = 1;
    snprintf(note.token, sizeof(note.token), "t");
    for (int i = 0; i < 200; i++) {
        cr_assert(view_note_add(&note, "topic", i, 1000000, 2000000, &error));
    }
    cr_expect_null(view_note_write(&note, &error));
    cr_expect_eq(error.code, RELAY_ERROR_CONFIG);
}
