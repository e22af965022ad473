// SPDX-License-Identifier: Apache-2.0
#include "relay/config/config_checks.h"
#include "relay/publish/event_template.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define VIEW(text) ((struct text_view){text, strlen(text)})

static struct event_arena *arena;

static void set_up(void)
{
    arena = event_arena_new(0);
}

static void tear_down(void)
{
    event_arena_free(arena);
}

TestSuite(event_template, .init = set_up, .fini = tear_down);

static struct outbox_row row(const char *type)
{
    return (
        struct outbox_row){.type = {type, type ? strlen(type) : 0}, .aggregate_type = VIEW("post"), .key = VIEW("42")};
}

static void gives(const char *text, const char *type, const char *expected)
{
    struct relay_error error;
    struct event_template *template = event_template_new(text, "nova", &error);
    cr_assert_not_null(template, "%s: %s", text, error.text);
    struct outbox_row event = row(type);
    struct text_view out = {0};
    enum template_result result = event_template_render(template, &event, arena, &out, NULL, NULL);
    cr_assert_eq(result, TEMPLATE_OK, "%s of '%s' gives %d", text, type, result);
    cr_assert(out.length == strlen(expected) && memcmp(out.at, expected, out.length) == 0, "%s of '%s': '%.*s'", text,
        type, (int)out.length, out.at);
    event_template_free(template);
}

Test(event_template, what_each_part_becomes)
{
    gives("{prefix}.{event_type:1}.events", "post.created", "nova.post.events");
    gives("{prefix}.{event_type:1}.events", "UserDeleted", "nova.UserDeleted.events"); // no dot: all of it is part 1
    gives("{event_type:2}", "post.created.v2", "created");
    gives("{event_type:3}", "post.created.v2", "v2");
    gives("{event_type}", "post.created", "post.created");
    gives("{aggregate_type}/{aggregate_id}", "x", "post/42");
    gives("{aggregate_id}", "x", "42");
    gives("plain", "x", "plain");
    gives("{{{event_type}}}", "x", "{x}");
    gives("{{prefix}}", "x", "{prefix}");
    gives("{prefix}{prefix}{prefix}", "x", "novanovanova");
    gives("{prefix}", "x", "nova");
    gives("a{event_type:12}", "1.2.3.4.5.6.7.8.9.10.11.zwölf", "azwölf");
}

Test(event_template, parts_that_are_not_there)
{
    static const struct {
        const char *template, *type;
        enum template_result result;
        const char *what;
        unsigned part;
    } cases[] = {
        {"{event_type:2}", "post", TEMPLATE_NO_PART, "event_type", 2},
        {"{event_type:1}", "", TEMPLATE_NO_PART, "event_type", 1},
        {"{event_type:1}", "...", TEMPLATE_NO_PART, "event_type", 1},
        {"x{event_type:2}", "post..created", TEMPLATE_NO_PART, "event_type", 2},
        {"{event_type:2}", "post.", TEMPLATE_NO_PART, "event_type", 2},
        {"{event_type}", NULL, TEMPLATE_NULL, "event_type", 0},
        {"x{event_type:1}", NULL, TEMPLATE_NULL, "event_type", 0},
        {"x{event_type}y", "", TEMPLATE_OK, "event_type", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event_template *template = event_template_new(cases[i].template, "nova", NULL);
        struct outbox_row event = row(cases[i].type);
        struct text_view out;
        const char *what;
        unsigned part;
        cr_assert_eq(event_template_render(template, &event, arena, &out, &what, &part), cases[i].result, "%s",
            cases[i].template);
        cr_assert_str_eq(what, cases[i].what);
        cr_assert_eq(part, cases[i].part, "%s of '%s': %u", cases[i].template, cases[i].type, part);
        event_template_free(template);
    }
}

Test(event_template, a_single_column_needs_no_memory)
{
    struct event_template *template = event_template_new("{aggregate_id}", "", NULL);
    struct outbox_row event = row("x");
    struct text_view out;
    cr_assert_eq(event_template_render(template, &event, arena, &out, NULL, NULL), TEMPLATE_OK);
    cr_assert_eq(out.at, event.key.at);
    cr_assert_eq(event_arena_used(arena), 0);
    event_template_free(template);
}

Test(event_template, mistakes_are_named_with_their_place)
{
    static const struct {
        const char *template, *message;
    } cases[] = {
        {"", "empty"},
        {"a.{event_typ}", "{event_typ} at character 3 is unknown"},
        {"{", "{ at character 1 is not closed"},
        {"ab{event_type", "{ at character 3 is not closed"},
        {"x}", "} at character 2 closes nothing"},
        {"{event_type:0}", "unknown"},
        {"{event_type:}", "unknown"},
        {"{event_type:-1}", "unknown"},
        {"{event_type:100}", "unknown"},
        {"{event_type:1a}", "unknown"},
        {"{{}", "} at character 3 closes nothing"},
        {"{a{b}", "{ at character 1 is not closed"},
        {"{}", "unknown"},
        {"{ event_type }", "unknown"},
        {"{aggregate_type:1}", "unknown"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct relay_error error;
        cr_assert_not(event_template_check(cases[i].template, &error), "%s", cases[i].template);
        cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
        cr_assert(strstr(error.text, cases[i].message) && strstr(error.text, "{event_type:N}"), "%s: %s",
            cases[i].template, error.text);
    }
    cr_assert(event_template_check("{prefix}.{event_type:1}.events", NULL));
}

Test(event_template, the_configuration_takes_the_same_ones)
{
    static const char *const templates[] = {"{prefix}.{event_type:1}.events", "{aggregate_id}", "{{{event_type}}}",
        "{{", "x}", "{", "{}", "{event_type:0}", "{event_type:99}", "{event_type:100}", "{event_type:1a}",
        "{event_type:}", "{a{b}", "{{}", "{}}", "{ prefix}", "}}{{", "{aggregate_type:1}", "{event_type", "plain",
        "{event_type}}", "{prefix}}}"};
    for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
        cr_assert_eq(config_check_template(templates[i], NULL), event_template_check(templates[i], NULL), "%s",
            templates[i]);
    }
}

Test(event_template, in_sql_it_says_what_it_makes)
{
    static const struct {
        const char *template, *sql;
    } cases[] = {
        {"plain", "('plain'::text)"},
        {"{event_type}", "(nullif(T COLLATE pg_catalog.\"C\", ''))"},
        {"{prefix}.{event_type:2}.x",
            "('it''s.'::text || nullif(split_part(T COLLATE pg_catalog.\"C\", '.', 2), '') || '.x'::text)"},
        {"{aggregate_type}{aggregate_id}",
            "(nullif(A COLLATE pg_catalog.\"C\", '') || nullif(I COLLATE pg_catalog.\"C\", ''))"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event_template *template = event_template_new(cases[i].template, "it's", NULL);
        char *sql = event_template_sql(template, &(struct template_columns){"T", "A", "I"});
        cr_assert_str_eq(sql, cases[i].sql);
        free(sql);
        event_template_free(template);
    }
}
