// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_deadline.h"

#include "clickhouse_peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(insert_deadline, a_statement_with_the_condition_takes_it_and_no_other)
{
    char guarded[] = "INSERT INTO t SELECT a FROM input('a Int8') WHERE " INSERT_DEADLINE_GUARD " FORMAT Native";
    char plain[] = "INSERT INTO t FORMAT Native", before[sizeof(guarded)];
    memcpy(before, guarded, sizeof(guarded));
    insert_deadline_set(guarded, 0);
    insert_deadline_set(guarded, INT64_C(10000000000));
    cr_assert_str_eq(guarded, before);
    insert_deadline_set(guarded, 1774000000);
    cr_assert_str_eq(guarded,
        "INSERT INTO t SELECT a FROM input('a Int8') WHERE throwIf(toUnixTimestamp(now()) > 1774000000, "
        "'" INSERT_DEADLINE_LATE "') = 0 FORMAT Native");
    insert_deadline_set(plain, 1774000000);
    cr_assert_str_eq(plain, "INSERT INTO t FORMAT Native");
}

Test(insert_deadline, only_the_refusal_by_the_condition_says_that_it_was_over)
{
    struct relay_error error = {0};
    struct clickhouse_outcome outcome = {.exception_code = 395};
    snprintf(error.text, sizeof(error.text), "http://x: ClickHouse code 395: %s", INSERT_DEADLINE_LATE);
    cr_assert(insert_deadline_was_over(&outcome, &error));
    outcome.exception_code = 241;
    cr_assert_not(insert_deadline_was_over(&outcome, &error));
    outcome.exception_code = 395;
    snprintf(error.text, sizeof(error.text), "ClickHouse code 395: a view of the user fails");
    cr_assert_not(insert_deadline_was_over(&outcome, &error));
}

#define SERVER_SECONDS 1700000000

static int64_t step_us;

// The question takes two seconds, and our wall clock is set meanwhile.
static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[4096];
    struct clock_fake *fake = context;
    const char *body = clickhouse_peer_learned(seen);
    if (!body) {
        clock_fake_advance(fake, DURATION_S(2));
        atomic_fetch_add(&fake->wall_us, step_us);
        body = "1700000000000000\n";
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

Test(insert_deadline, a_wall_clock_that_is_set_meanwhile_does_not_move_the_servers)
{
    static const int64_t steps[] = {INT64_C(3600000000), INT64_C(-3600000000)};
    struct clock_fake fake;
    struct clickhouse_peer peer;
    struct relay_error error;
    clickhouse_peer_start(&peer, handle, &fake, NULL);
    peer.context.clock = &fake.base;
    for (size_t i = 0; i < 2; i++) {
        struct server_clock known = {0};
        clock_fake_init(&fake, (struct mono_time){INT64_C(1000000000000)}, (struct wall_time){0});
        step_us = steps[i];
        cr_assert(server_clock_measure(&known, &peer.context, peer.client, 0, &error), "%s", error.text);
        struct mono_time now = clock_mono(&fake.base);
        // It may have told its time when the two seconds were over.
        cr_assert_leq(server_clock_seconds(&known, now), SERVER_SECONDS, "never later than it is");
        cr_assert_geq(server_clock_seconds(&known, now), SERVER_SECONDS, "nor refused as late");
        cr_assert_leq(known.at.ns, now.ns);
    }
    clickhouse_peer_finish(&peer);
}
