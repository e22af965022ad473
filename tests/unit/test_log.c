// SPDX-License-Identifier: Apache-2.0
#include "relay/base/log.h"
#include "relay/base/utf8.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char last[8192];
static int lines;

static void keep(void *context, enum log_level level, const char *line)
{
    (void)context;
    (void)level;
    snprintf(last, sizeof(last), "%s", line);
    lines++;
}

static void start(void)
{
    lines = 0;
    log_set_sink(keep, NULL);
}

Test(log, json_lines_are_json_whatever_the_values, .init = start)
{
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_event(LOG_LEVEL_INFO, "test.event", "say \"hi\"", LOG_TEXT("bad", "a\nb\x01\"\\"), LOG_INT("n", -7),
        LOG_BOOL("yes", true), LOG_REAL("r", 0.5));
    json_t *line = json_loads(last, 0, NULL);
    cr_assert_not_null(line, "%s", last);
    cr_assert_str_eq(json_string_value(json_object_get(line, "bad")), "a\nb\x01\"\\");
    cr_assert_eq(json_integer_value(json_object_get(line, "n")), -7);
    json_decref(line);
}

Test(log, a_line_that_is_too_long_is_still_json, .init = start)
{
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    char text[6000];
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_event(LOG_LEVEL_INFO, "test.long", NULL, LOG_TEXT("t", text));
    json_t *line = json_loads(last, 0, NULL);
    cr_assert_not_null(line);
    json_decref(line);
}

Test(log, a_line_that_is_too_long_keeps_the_members_that_fit, .init = start)
{
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    char text[6000];
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_event(LOG_LEVEL_ERROR, "test.long", "a sentence", LOG_TEXT("outbox", "default"), LOG_TEXT("error", text),
        LOG_INT("n", 7));
    json_t *line = json_loads(last, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(line, "%s", last);
    cr_assert_str_eq(json_string_value(json_object_get(line, "message")), "a sentence");
    cr_assert_str_eq(json_string_value(json_object_get(line, "outbox")), "default");
    cr_assert_eq(json_integer_value(json_object_get(line, "n")), 7);
    cr_assert_null(json_object_get(line, "error"));
    cr_assert_eq(json_integer_value(json_object_get(line, "left_out")), 1);
    json_decref(line);
    log_event(LOG_LEVEL_ERROR, "test.long", text, LOG_TEXT("outbox", "default"));
    line = json_loads(last, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(line, "%s", last);
    cr_assert_null(json_object_get(line, "message"));
    cr_assert_str_eq(json_string_value(json_object_get(line, "outbox")), "default");
    cr_assert_eq(json_integer_value(json_object_get(line, "left_out")), 1);
    json_decref(line);
}

Test(log, text_quotes_only_what_needs_it, .init = start)
{
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_event(LOG_LEVEL_INFO, "test.event", NULL, LOG_TEXT("a", "plain"), LOG_TEXT("b", "two words"));
    cr_assert_not_null(strstr(last, " info test.event a=plain b=\"two words\""), "%s", last);
}

// Texts of servers and libraries; \xc2\x9b is U+009B, with which some terminals begin a command.
static const struct {
    const char *value, *in_text, *in_json;
} hostile[] = {
    {"a\xc2\x9bm", "\"a\\u009bm\"", "a\xc2\x9bm"},
    {"a\xc2\xa0\xc3\xa9", "a\xc2\xa0\xc3\xa9", "a\xc2\xa0\xc3\xa9"},
    {"a\x1b[m\n", "\"a\\u001b[m\\n\"", "a\x1b[m\n"},
    {"a\x9bm", "\"a?m\"", "a?m"}, // no UTF-8
    {"a\xc2", "\"a?\"", "a?"},
};

Test(log, no_value_can_break_a_line_or_command_a_terminal, .init = start)
{
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        char expected[64];
        snprintf(expected, sizeof(expected), " info test.event v=%s", hostile[i].in_text);
        log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        log_event(LOG_LEVEL_INFO, "test.event", NULL, LOG_TEXT("v", hostile[i].value));
        cr_assert_not_null(strstr(last, expected), "%zu: %s", i, last);
        log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
        log_event(LOG_LEVEL_INFO, "test.event", hostile[i].value, LOG_TEXT("v", hostile[i].value));
        json_t *line = json_loads(last, 0, NULL);
        cr_assert_not_null(line, "%zu: %s", i, last);
        cr_assert_str_eq(json_string_value(json_object_get(line, "v")), hostile[i].in_json);
        cr_assert_str_eq(json_string_value(json_object_get(line, "message")), hostile[i].in_json);
        json_decref(line);
    }
}

Test(log, no_sentence_can_break_a_line_or_command_a_terminal, .init = start)
{
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_event(LOG_LEVEL_INFO, "test.event", "the \"server\" says \xc2\x9bm\x1b[m\n\xff");
    cr_assert_not_null(strstr(last, " info test.event: the \"server\" says \\u009bm\\u001b[m\\n?"), "%s", last);
}

Test(log, every_length_around_the_limit_gives_a_whole_line, .init = start)
{
    static char text[4200];
    memset(text, 'y', sizeof(text) - 1);
    for (size_t length = 3900; length < sizeof(text); length++) {
        text[length] = '\0';
        log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
        log_event(LOG_LEVEL_INFO, "test.long", NULL, LOG_TEXT("t", text));
        json_t *line = json_loads(last, 0, NULL);
        cr_assert_not_null(line, "%zu bytes: %s", length, last + strlen(last) - 20);
        json_decref(line);
        memcpy(text + length - 2, "\xc3\xa9", 2); // a character of two bytes, across the limit or not
        log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        log_event(LOG_LEVEL_INFO, "test.long", NULL, LOG_TEXT("t", text));
        for (size_t at = 0, width; last[at] != '\0'; at += width) {
            width = utf8_character(last + at, strlen(last + at));
            cr_assert(width > 0, "%zu bytes: a character is cut", length);
        }
        memset(text + length - 2, 'y', 3);
    }
}

static struct clock_fake now;

static void start_with_a_clock(void)
{
    start();
    clock_fake_init(&now, (struct mono_time){1}, (struct wall_time){1});
    log_set_clock(&now.base);
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
}

static void tell_again(int times)
{
    for (int i = 0; i < times; i++) {
        log_event(LOG_LEVEL_ERROR, "test.again", "trying again", LOG_TEXT("error", "same"), LOG_INT("partition", 3),
            LOG_COUNT("failures", i));
    }
}

Test(log, repeated_errors_are_folded_and_counted, .init = start_with_a_clock)
{
    tell_again(5);
    cr_assert_eq(lines, 1);
    cr_assert_null(strstr(last, "repeated="), "%s", last);
    clock_fake_advance(&now, DURATION_S(10));
    tell_again(2);
    cr_assert_eq(lines, 2);
    cr_assert_not_null(strstr(last, " failures=0 repeated=4"), "%s", last);
    clock_fake_advance(&now, DURATION_S(10));
    tell_again(1);
    cr_assert_not_null(strstr(last, " repeated=1"), "%s", last);
}

Test(log, errors_that_differ_in_anything_are_all_written, .init = start_with_a_clock)
{
    static const char *const mistakes[] = {"line 3: no", "line 4: no", "line 5: no"};
    for (int i = 0; i < 3; i++) {
        log_event(LOG_LEVEL_ERROR, "config.mistake", mistakes[i]);
        log_event(LOG_LEVEL_ERROR, "test.lost", "expired", LOG_TEXT("topic", "t"), LOG_INT("partition", i));
        log_event(LOG_LEVEL_ERROR, "test.real", NULL, LOG_REAL("value", i / 2.0));
        log_event(LOG_LEVEL_ERROR, "test.text", NULL, LOG_TEXT("a", "bcd" + i), LOG_TEXT("e", i == 0 ? "" : "bcd"));
    }
    cr_assert_eq(lines, 12);
}

static char evicted[8192];

static void keep_evicted(void *context, enum log_level level, const char *line)
{
    keep(context, level, line);
    if (strstr(line, " repeated=") != NULL) {
        snprintf(evicted, sizeof(evicted), "%s", line);
    }
}

Test(log, what_was_folded_is_told_when_its_place_is_taken, .init = start_with_a_clock)
{
    log_set_sink(keep_evicted, NULL);
    tell_again(5);
    for (int i = 0; i < 64; i++) {
        clock_fake_advance(&now, DURATION_MS(1));
        log_event(LOG_LEVEL_WARNING, "test.other", NULL, LOG_INT("i", i));
    }
    cr_assert_eq(lines, 66);
    cr_assert_not_null(strstr(evicted, " error test.again: "), "%s", evicted);
    cr_assert_not_null(strstr(evicted, " repeated=4"), "%s", evicted);
    tell_again(1);
    cr_assert_null(strstr(last, "repeated="), "told already: %s", last);
}

// Fills stderr's pipe and puts its other end, which nobody reads yet, into *reader.
static void stop_reading(int *reader)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_NONBLOCK), 0);
    char page[4096] = {0};
    while (write(ends[1], page, sizeof(page)) > 0) {
    }
    cr_assert_eq(fcntl(ends[1], F_SETFL, 0), 0);
    cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    *reader = ends[0];
}

Test(log, nobody_waits_for_a_reader_that_does_not_read, .timeout = 20)
{
    int reader;
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    stop_reading(&reader);
    for (int i = 0; i < 3; i++) {
        log_event(LOG_LEVEL_INFO, "test.unread", NULL);
    }
    char read_back[1 << 17];
    while (read(reader, read_back, sizeof(read_back)) > 0) {
    }
    log_event(LOG_LEVEL_INFO, "test.read", NULL);
    ssize_t got = read(reader, read_back, sizeof(read_back) - 1);
    cr_assert_gt(got, 0);
    read_back[got] = '\0';
    cr_assert_not_null(strstr(read_back, "log.lines_dropped"), "%s", read_back);
    cr_assert_not_null(strstr(read_back, " lines=3\n"), "%s", read_back);
    cr_assert_not_null(strstr(read_back, " test.read\n"), "%s", read_back);
    cr_assert_null(strstr(read_back, "test.unread"));
    close(reader);
}

Test(log, below_the_level_nothing_is_written, .init = start)
{
    log_init(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT);
    log_event(LOG_LEVEL_INFO, "test.quiet", NULL);
    cr_assert_eq(lines, 0);
    cr_assert(log_enabled(LOG_LEVEL_ERROR));
}
