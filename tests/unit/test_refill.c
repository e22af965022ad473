// SPDX-License-Identifier: Apache-2.0
//
// The filling of a table against a scripted server: what becomes of an INSERT that the server refuses to start.
#include "clickhouse_peer.h"
#include "relay/cli/refill.h"
#include "relay/insert/insert_deadline.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define END   "outbox-relay: end\n"
#define CLOCK "1\n", "1795822852000000\n"
#define KILL  "", "0\n" // nothing runs

#define TABLE                                                                                                          \
    "db\n",                                        /* currentDatabase() */                                             \
        "non_replicated_deduplication_window\t0\n" /* the server's defaults */                                         \
        "replicated_deduplication_window\t1000\n",                                                                     \
        "u\tMergeTree\tMergeTree ORDER BY x\t\tx\n", /* the table, its columns, an index on the offset */              \
        "kafka_topic\tString\t\t\t0\t0\nkafka_partition\tInt32\t\t\t0\t0\nkafka_offset\tInt64\t\t\t0\t0\n", "1\n"
#define NO_VIEWS "", "" /* and no parts */
#define A_VIEW                                                                                                         \
    "db\tv\n", "MaterializedView\tdb.d\tu\n", "MergeTree\tMergeTree ORDER BY x\n", "", "['all', ''], [1, -1]\n",       \
        "['all', ''], [1, -1]\n"

struct peer {
    struct clickhouse_peer server;
    const char *const *answers; // to everything but INSERTs, in order
    size_t asked;
    size_t inserts, refused; // the first `refused` ones are
    int code;
    const char *refusal;
    bool by_proxy; // not by the server: 413
    int takes;     // seconds, before a refusal
};

static atomic_int passed; // seconds, of INSERTs that only seem to take them

static struct mono_time hurried(const struct clock *clock)
{
    (void)clock;
    return mono_add(clock_mono(clock_system()), DURATION_S(atomic_load(&passed)));
}

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[1000], refusal[200];
    struct peer *peer = context;
    const char *body = clickhouse_peer_learned(seen);
    reply->answer = answer;
    if (!body && strstr(seen->target, "INSERT")) {
        if (peer->inserts++ < peer->refused && peer->by_proxy) {
            reply->answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nnginx";
            return;
        }
        if (peer->inserts <= peer->refused) {
            atomic_fetch_add(&passed, peer->takes);
            snprintf(refusal, sizeof(refusal), "Code: %d. DB::Exception: %s\n", peer->code, peer->refusal);
            snprintf(answer, sizeof(answer),
                "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: %d\r\nContent-Length: "
                "%zu\r\n\r\n%s",
                peer->code, strlen(refusal), refusal);
            return;
        }
        body = "";
    }
    if (!body) {
        body = peer->answers[peer->asked];
        peer->asked += peer->answers[peer->asked + 1] != NULL;
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

static struct refill *open_from(struct peer *peer, const char *source, struct relay_error *error)
{
    static struct clock clock = {.mono_now = hurried};
    static char name[] = "r", table[] = "t", column[] = "kafka_topic";
    struct config_pair columns[] = {{.name = column, .value = (char *)(uintptr_t)source}};
    const struct config_route route = {.name = name, .table = table, .columns = columns, .column_count = 1};
    clickhouse_peer_start(&peer->server, handle, peer, NULL);
    clock.wall_now = clock_system()->wall_now;
    peer->server.context.clock = &clock;
    return refill_open(&peer->server.context, peer->server.client, &route, NULL, error);
}

// Messages of one partition: 7, 8, 9, 10.
static bool fill(struct peer *peer, size_t count, struct refill_result *results, struct relay_error *error)
{
    const struct source_message messages[] = {{.topic = "a", .partition = 1, .offset = 7},
        {.topic = "a", .partition = 1, .offset = 8}, {.topic = "a", .partition = 1, .offset = 9},
        {.topic = "a", .partition = 1, .offset = 10}};
    struct refill *refill = open_from(peer, "kafka.topic", error);
    cr_assert_not_null(refill, "%s", error->text);
    bool filled = refill_write(refill, messages, count, false, results, error);
    refill_close(refill);
    clickhouse_peer_finish(&peer->server);
    return filled;
}

Test(refill, what_came_too_late_is_sent_again_by_a_clock_that_is_measured_anew)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, CLOCK, KILL, END, CLOCK, END, CLOCK, END, CLOCK, NULL};
    struct peer peer = {.answers = answers,
        .refused = 2,
        .code = 395,
        .refusal = INSERT_DEADLINE_LATE ": while executing throwIf"};
    struct refill_result result;
    struct relay_error error;
    cr_assert(fill(&peer, 1, &result, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 3);
}

Test(refill, what_the_server_has_no_memory_for_is_sent_in_halves)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, CLOCK, KILL, END, CLOCK, KILL, END, END, NULL};
    struct peer peer = {.answers = answers, .refused = 1, .code = 241, .refusal = "Memory limit exceeded"};
    struct refill_result results[2];
    struct relay_error error;
    cr_assert(fill(&peer, 2, results, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 3);
    cr_assert(results[0].state == REFILL_WRITTEN && results[1].state == REFILL_WRITTEN);
}

// Such a body does not come to its end: nothing of it can begin, and each of these waits would be one of 11 s.
Test(refill, what_is_too_large_for_a_proxy_is_sent_in_halves_at_once, .timeout = 40)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, CLOCK, KILL, END, CLOCK, KILL, END, KILL, END, KILL, END,
        KILL, END, END, NULL};
    struct peer peer = {.answers = answers, .refused = 4, .by_proxy = true};
    struct refill_result results[4];
    struct relay_error error;
    char told[1000] = "";
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    cr_assert(file && kept >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    bool filled = fill(&peer, 4, results, &error);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    told[fread(told, 1, sizeof(told) - 1, file)] = '\0';
    fclose(file);
    cr_assert(filled, "%s", error.text);
    cr_assert_eq(peer.inserts, 7, "all, two, the first thrice, the second, the last two: %zu", peer.inserts);
    const char *limit = strstr(told, "client_max_body_size");
    cr_assert(limit && !strstr(limit + 1, "client_max_body_size"), "told once: %s", told);
}

Test(refill, what_takes_too_long_is_sent_in_halves_and_so_is_what_follows)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, CLOCK, KILL, END, CLOCK, KILL, END, END, END, END, NULL};
    static struct source_message messages[2500];
    static struct refill_result results[2500];
    struct peer peer = {.answers = answers, .refused = 1, .takes = 12, .code = 159, .refusal = "Timeout exceeded"};
    struct relay_error error;
    for (int i = 0; i < 2500; i++) {
        messages[i] = (struct source_message){.topic = "a", .partition = 1, .offset = i};
    }
    struct refill *refill = open_from(&peer, "kafka.topic", &error);
    cr_assert_not_null(refill, "%s", error.text);
    cr_assert(refill_write(refill, messages, 2500, false, results, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 3, "all, then two halves: %zu", peer.inserts);
    cr_assert(results[0].state == REFILL_WRITTEN && results[2499].state == REFILL_WRITTEN);
    cr_assert(refill_write(refill, messages, 2500, false, results, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 5, "two halves at once: %zu", peer.inserts);
    refill_close(refill);
    clickhouse_peer_finish(&peer.server);
}

Test(refill, what_is_small_is_not_divided_for_its_time)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, CLOCK, KILL, END, CLOCK, KILL, END, NULL};
    struct peer peer = {.answers = answers, .refused = 1, .takes = 12, .code = 159, .refusal = "Timeout exceeded"};
    struct refill_result results[2];
    struct relay_error error;
    cr_assert(fill(&peer, 2, results, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 2);
}

Test(refill, a_row_that_is_refused_by_the_server_alone_has_its_reason)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, CLOCK, KILL, END, CLOCK, END, END, END, NULL};
    struct peer peer = {.answers = answers, .refused = 2, .code = 469, .refusal = "Constraint is violated"};
    struct refill_result results[2];
    struct relay_error error;
    cr_assert(fill(&peer, 2, results, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 3, "both, the first alone, the second alone: %zu", peer.inserts);
    cr_assert(results[0].state == REFILL_REFUSED && results[0].reason == ENCODE_REJECTED);
    cr_assert_not_null(strstr(results[0].text, "ClickHouse code 469: DB::Exception: Constraint is violated"));
    cr_assert_eq(results[1].state, REFILL_WRITTEN);
}

Test(refill, a_row_that_a_view_has_refused_is_there_and_the_views_may_lack_it)
{
    static const char *const answers[] = {TABLE, A_VIEW, CLOCK, KILL, END, CLOCK, "7\n" END, NULL};
    struct peer peer = {.answers = answers, .refused = 1, .code = 6, .refusal = "while pushing to view db.v"};
    struct refill_result result;
    struct relay_error error;
    cr_assert(fill(&peer, 1, &result, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 1);
    cr_assert(result.state == REFILL_PRESENT && result.views_behind);
}

Test(refill, what_an_insert_that_ends_the_command_has_left_is_told_as_well)
{
    static const char *const answers[] = {TABLE, A_VIEW, CLOCK, KILL, END, CLOCK, NULL};
    struct peer peer = {.answers = answers, .refused = 1, .code = 60, .refusal = "the target of view db.v"};
    struct refill_result result;
    struct relay_error error;
    cr_assert_not(fill(&peer, 1, &result, &error));
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    cr_assert(result.views_behind);
}

Test(refill, a_table_whose_offsets_come_from_elsewhere_is_refused)
{
    static const char *const answers[] = {TABLE, NO_VIEWS, NULL};
    struct peer peer = {.answers = answers};
    struct relay_error error;
    cr_assert_null(open_from(&peer, "'orders'", &error));
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    cr_assert_str_eq(error.text,
        "route r: the route fills column kafka_topic from 'orders', not from kafka.topic: rows cannot be found again, "
        "so what table db.t has already cannot be known");
    clickhouse_peer_finish(&peer.server);
}
