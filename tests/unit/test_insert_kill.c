// SPDX-License-Identifier: Apache-2.0
//
// INSERTs that a scripted server does not answer, of several tables, are given up.
#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/insert_kill.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define TABLES 4

static atomic_size_t inserts;

static void handle(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    static _Thread_local char learned[4096]; // each connection has its thread
    const char *body = clickhouse_peer_learned(seen);
    (void)unused;
    if (strstr(seen->target, "INSERT")) {
        atomic_fetch_add(&inserts, 1);
        reply->then = HTTP_HANG;
        return;
    }
    // 0: none of them is left
    reply->answer = clickhouse_peer_ok(learned, sizeof(learned), body ? body : "0\n");
}

static void wake(void *unused)
{
    (void)unused;
}

static struct table_job *job_of(struct table_plan *plan)
{
    struct relay_error error;
    struct table_job *job = table_job_new(TABLE_JOB_INSERT, NULL, &error);
    cr_assert_not_null(job);
    job->plan = table_plan_hold(plan);
    job->rows = 1;
    job->block = native_block_new(&error);
    struct native_column *column = native_block_add_column(job->block, "value", plan->schema->columns[0].type, &error);
    cr_assert(native_put_string(column, "x", 1));
    native_block_end_row(job->block);
    return job;
}

static size_t questions(const struct clickhouse_peer *peer, const char *words, const char **last)
{
    size_t found = 0;
    for (size_t i = 0; i < http_script_requests(peer->http); i++) {
        const char *statement = http_script_body(peer->http, i, NULL);
        if (statement && strncmp(statement, words, strlen(words)) == 0) {
            *last = statement;
            found++;
        }
    }
    return found;
}

Test(insert_kill, the_inserts_of_all_tables_are_killed_together)
{
    static const char *const columns[] = {"value", "String", NULL};
    static char names[TABLES][2] = {"a", "b", "c", "d"};
    struct clickhouse_peer peer;
    struct relay_error error;
    struct insert_lease lease;
    struct insert_table tables[TABLES] = {0}, *all[TABLES];
    struct table_job *jobs[TABLES];
    struct table_plan *plan = fixture_plan(columns, "INSERT INTO t FORMAT Native");
    const char *kill = NULL;
    clickhouse_peer_start(&peer, handle, NULL, NULL);
    peer.context.metrics = metrics_new(&error);
    insert_lease_init(&lease, peer.context.clock, DURATION_S(20), wake, NULL);
    struct config_route routes[TABLES];
    struct table_worker_options options = {.context = &peer.context,
        .client = peer.client,
        .group_tag = "01234567",
        .lease = &lease,
        .wake = wake};
    for (size_t i = 0; i < TABLES; i++) {
        all[i] = &tables[i];
        routes[i] = (struct config_route){.name = names[i], .table = names[i]};
        options.route = &routes[i];
        tables[i].worker = table_worker_start(&options, &error);
        cr_assert_not_null(tables[i].worker, "%s", error.text);
        jobs[i] = job_of(plan);
        table_worker_submit(tables[i].worker, jobs[i]);
    }
    struct mono_time until = mono_add(clock_mono(clock_system()), DURATION_S(20));
    while (atomic_load(&inserts) < TABLES) {
        cr_assert(!mono_reached(clock_mono(clock_system()), until), "they do not begin");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    insert_kill_dropped(all, TABLES);
    cr_assert_eq(questions(&peer, "KILL QUERY", &kill), 0, "none was given up");
    for (size_t i = 1; i < TABLES; i++) { // the first one goes on
        table_worker_cancel(tables[i].worker, jobs[i]);
    }
    insert_kill_dropped(all, TABLES);
    cr_assert_eq(questions(&peer, "KILL QUERY", &kill), 1);
    for (size_t i = 0; i < TABLES; i++) {
        char id[CLICKHOUSE_QUERY_ID_ROOM];
        insert_query_id_write(id, sizeof(id), "", peer.context.instance, names[i], 0, &(struct insert_places){0});
        cr_assert_eq(strstr(kill, id) != NULL, i > 0, "%s", id);
    }

    struct mono_time end = mono_add(clock_mono(clock_system()), DURATION_S(20));
    stop_raise(&peer.stop, clock_mono(clock_system()));
    for (size_t i = 0; i < TABLES; i++) {
        table_worker_quit(tables[i].worker);
        cr_assert(table_worker_join(tables[i].worker, end));
        table_worker_free(tables[i].worker);
    }
    table_plan_release(plan);
    insert_lease_finish(&lease);
    metrics_free(peer.context.metrics);
    clickhouse_peer_finish(&peer);
}
