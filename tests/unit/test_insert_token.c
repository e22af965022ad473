// SPDX-License-Identifier: Apache-2.0
//
// Which servers recognise a token, by what it says itself, and that what a former owner's note names is not inserted
// once more at one that does not.
#include "relay/insert/insert_token.h"

#include "relay/insert/view_repeat.h"
#include "two_replicas.h"

TestSuite(insert_token, .init = start, .fini = finish);

static void contact(int endpoint, const char *version)
{
    struct clickhouse_server server;
    static const char *const tells[] = {"1\n", "1700000000000000\n", NULL};
    struct relay_error error;
    replicas[endpoint].version = version;
    replicas[endpoint].says = tells;
    cr_assert(clickhouse_server_info(peer.client, endpoint, DURATION_S(20), &server, &error), "%s", error.text);
    cr_assert_str_eq(server.version, version);
}

static unsigned written(void)
{
    char token[INSERT_TOKEN_ROOM];
    insert_token_write(token, "0123456789abcdef0123456789abcdef", peer.client);
    cr_assert_null(strpbrk(token, " \t\n"), "%s", token);
    return insert_token_hashes(token);
}

Test(insert_token, it_names_what_every_server_keeps)
{
    cr_assert_eq(written(), INSERT_TOKEN_HASHES, "no server is known");
    contact(0, "26.3.1.1");
    cr_assert_eq(written(), INSERT_TOKEN_HASHES);
    contact(1, "25.8.1.1");
    unsigned old = written();
    cr_assert_eq(old & insert_token_kept(peer.client, 0), old);
    cr_assert_eq(old, insert_token_kept(peer.client, 1));
    clickhouse_server_doubt(peer.client, 0);
    contact(0, "26.6.1.1");
    cr_assert_eq(written(), 0, "it may go to either, and neither recognises what the other one has");
    clickhouse_server_doubt(peer.client, 1);
    contact(1, "27.1.1.1");
    cr_assert_neq(written(), 0);
    cr_assert_eq(written() & old, 0);
}

Test(insert_token, words_that_name_nothing_are_taken_as_before)
{
    static const char *const words[] = {"", "token", "outbox-relay-0123-7", "-h", "-h4", "-h1x", "t-H1", "t-h12"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        cr_assert_eq(insert_token_hashes(words[i]), INSERT_TOKEN_HASHES, "%s", words[i]);
    }
    cr_assert_eq(insert_token_hashes("outbox-relay-0123-7-h0"), 0);
    cr_assert_neq(insert_token_hashes("outbox-relay-0123-7-h1"), insert_token_hashes("outbox-relay-0123-7-h2"));
}

static bool begin(void *unused, int endpoint, int64_t *deadline, struct relay_error *error)
{
    (void)unused, (void)endpoint, (void)deadline, (void)error;
    return true;
}

static void end(void *unused, bool answered, bool is_late)
{
    (void)unused, (void)answered, (void)is_late;
}

// Of what a server of version `before` may have stored; nobody has noticed that it is another one by now.
static struct view_repeat repeat_at(const char *before, const char *now)
{
    static const char *const has_the_row[] = {"1\t1\t1700000000\toutbox-relay: end\n", "20\t0\toutbox-relay: end\n",
        NULL};
    struct relay_error error;
    struct view_note noted = note;
    struct view_repeat repeat =
        {.note = &noted, .topic = run.topic, .endpoint = 0, .timeout = DURATION_S(20), .begin = begin, .end = end};
    contact(0, before);
    insert_token_write(noted.token, "0123", peer.client);
    replicas[0].version = now;
    replicas[0].says = has_the_row;
    answers(well, well);
    cr_assert(view_repeat(peer.client, plan, &repeat, &error), "%s", error.text);
    repeat.note = NULL;
    return repeat;
}

Test(insert_token, the_next_owner_repeats_nothing_at_a_version_that_does_not_recognise_it)
{
    struct view_repeat repeat = repeat_at("25.8.1.1", "26.8.1.1");
    cr_assert_eq(repeat.result, VIEW_REPEAT_CANNOT);
    cr_assert_not_null(strstr(repeat.why, "26.8.1.1"), "%s", repeat.why);
}

Test(insert_token, the_next_owner_completes_views_where_it_is_recognised)
{
    struct view_repeat repeat = repeat_at("25.8.1.1", "26.3.1.1");
    cr_assert_eq(repeat.result, VIEW_REPEAT_DONE, "%s", repeat.why);
}
