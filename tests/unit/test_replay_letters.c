// SPDX-License-Identifier: Apache-2.0
//
// The writing of dead letters by `replay --into` against a scripted server.
#include "clickhouse_peer.h"
#include "relay/cli/replay_letters.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define END   "outbox-relay: end\n"
#define CLOCK "1\n", "1795822852000000\n"
#define KILL  "", "0\n" // nothing runs

struct peer {
    struct clickhouse_peer server;
    const char *const *answers; // to everything but INSERTs, in order
    size_t asked;
    long long deadlines[2]; // of the INSERTs
    size_t inserts;
};

static atomic_int passed; // seconds

static struct mono_time hurried(const struct clock *clock)
{
    (void)clock;
    return mono_add(clock_mono(clock_system()), DURATION_S(atomic_load(&passed)));
}

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[1000];
    struct peer *peer = context;
    const char *body = clickhouse_peer_learned(seen);
    if (!body && strstr(seen->target, "INSERT")) {
        const char *limit = strstr(seen->target, "%3E%20"); // "> "
        cr_assert(limit && peer->inserts < 2, "%s", seen->target);
        peer->deadlines[peer->inserts++] = strtoll(limit + 6, NULL, 10);
        body = "";
    }
    if (!body) {
        body = peer->answers[peer->asked];
        peer->asked += peer->answers[peer->asked + 1] != NULL;
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

Test(replay_letters, each_insert_has_a_deadline_of_its_own)
{
    static const char *const answers[] = {"0\t1\n", CLOCK, KILL, END, CLOCK, END, NULL};
    static struct clock clock = {.mono_now = hurried};
    static char table[] = "dead_letters";
    const struct source_message message = {.topic = "a", .partition = 1, .offset = 7};
    const struct refill_result refused = {.state = REFILL_REFUSED, .reason = ENCODE_BAD_JSON};
    struct peer peer = {.answers = answers};
    struct relay_error error;
    size_t written = 0;
    clickhouse_peer_start(&peer.server, handle, &peer, NULL);
    clock.wall_now = clock_system()->wall_now;
    peer.server.context.clock = &clock;
    peer.server.config.insert.dead_letter_table = table;
    struct replay_letters *letters = replay_letters_open(&peer.server.context, peer.server.client, "t", &error);
    cr_assert_not_null(letters, "%s", error.text);
    cr_assert(replay_letters_write(letters, &message, &refused, 1, &written, &error), "%s", error.text);
    atomic_store(&passed, 20); // its clock is not measured anew yet
    cr_assert(replay_letters_write(letters, &message, &refused, 1, &written, &error), "%s", error.text);
    replay_letters_close(letters);
    clickhouse_peer_finish(&peer.server);
    cr_assert_eq(written, 2);
    cr_assert_geq(peer.deadlines[1], peer.deadlines[0] + 20, "%lld, %lld", peer.deadlines[0], peer.deadlines[1]);
}
