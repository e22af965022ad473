// SPDX-License-Identifier: Apache-2.0
//
// A replicated table, and what a second server says that it has under its name.
#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/table_replicas.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static char database[] = "db", table[] = "t", engine[] = "ReplicatedMergeTree", path[] = "/one";
static const char *const *says[2]; // each server, in this order

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static _Thread_local char answer[4096];
    const char *const **script = context;
    const char *body = clickhouse_peer_learned(seen);
    if (!body && !**script) {
        reply->then = HTTP_CLOSE;
        return;
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body ? body : *(*script)++);
}

static const char *const silent[] = {NULL};

// How many findings there are; the first one's text.
static size_t judge(const char *const *script, char *keeper_path, char *what, size_t room)
{
    struct http_script *second = http_script_start(handle, &says[1]);
    struct clickhouse_peer peer;
    struct relay_error error;
    struct table_findings findings = {0};
    struct table_schema schema = {.database = database,
        .table = table,
        .engine = engine,
        .keeper_path = keeper_path,
        .is_replicated = true};
    says[0] = silent;
    says[1] = script;
    clickhouse_peer_start(&peer, handle, &says[0], http_script_url(second));
    cr_assert(table_replicas_judge(peer.client, &schema, &findings, &error), "%s", error.text);
    size_t count = findings.count;
    snprintf(what, room, "%s", count > 0 ? findings.items[0].what : "");
    cr_assert(count == 0 || (findings.items[0].fatal && findings.items[0].prevents_exactly_once));
    table_findings_finish(&findings);
    clickhouse_peer_finish(&peer);
    http_script_stop(second);
    return count;
}

Test(table_replicas, tables_that_only_look_alike_are_named)
{
    static const char *const elsewhere[] = {"/two\n", "ReplicatedMergeTree\n", NULL};
    static const char *const plain[] = {"", "MergeTree\n", NULL};
    char what[800];
    cr_assert_eq(judge(elsewhere, path, what, sizeof(what)), 1);
    cr_assert(strstr(what, "/one at http://127.0.0.1:") && strstr(what, "/two at http://127.0.0.1:"), "%s", what);
    cr_assert_eq(judge(plain, path, what, sizeof(what)), 1);
    cr_assert(strstr(what, "a ReplicatedMergeTree at http") && strstr(what, "a MergeTree at http"), "%s", what);
}

Test(table_replicas, replicas_and_what_cannot_be_told_are_no_finding)
{
    static const char *const replica[] = {"/one\n", "ReplicatedMergeTree\n", NULL};
    static const char *const lacks_it[] = {"", "", NULL};
    static char unknown[] = "";
    char what[800];
    cr_assert_eq(judge(replica, path, what, sizeof(what)), 0, "%s", what);
    cr_assert_eq(judge(lacks_it, path, what, sizeof(what)), 0, "%s", what);
    cr_assert_eq(judge(silent, path, what, sizeof(what)), 0, "%s", what);
    cr_assert_eq(judge(silent, unknown, what, sizeof(what)), 0, "as of a Shared table");
}

// One that is replicated, as the daemon opens it.
static bool is_filled_once(const char *const *script)
{
    static const char *const replicated[] = {"db\n", "", "u\tReplicatedMergeTree\tReplicatedMergeTree\t\tvalue\n",
        "replicated_deduplication_window\t50\nreplicated_deduplication_window_seconds\t77\n",
        "value\tString\t\t\t0\t0\nkafka_topic\tString\t\t\t0\t0\nkafka_partition\tInt32\t\t\t0\t0\n"
        "kafka_offset\tInt64\t\t\t0\t0\n",
        "1\n", "/one\n", "" /* views */, "" /* parts */, "1\n", "1700000000000000\n", "0\t0\n", NULL};
    static const char *const pairs[] = {"value", "kafka.value", "kafka_topic", "kafka.topic", "kafka_partition",
        "kafka.partition", "kafka_offset", "kafka.offset", NULL};
    static char dead_letters[] = "d";
    struct config_pair room[4];
    struct config_route route = fixture_route(pairs, room);
    struct http_script *second = http_script_start(handle, &says[1]);
    struct clickhouse_peer peer;
    struct relay_error error;
    route.table = table;
    says[0] = replicated;
    says[1] = script;
    clickhouse_peer_start(&peer, handle, &says[0], http_script_url(second));
    peer.config.insert.dead_letter_table = dead_letters;
    struct table_plan *plan = table_plan_read(&peer.context, peer.client, 0, &route, &error);
    cr_assert_not_null(plan, "%s", error.text);
    bool once = plan->exactly_once;
    table_plan_release(plan);
    clickhouse_peer_finish(&peer);
    http_script_stop(second);
    return once;
}

Test(table_replicas, tables_that_are_no_replicas_of_one_another_are_not_filled_exactly_once)
{
    static const char *const replica[] = {"/one\n", "ReplicatedMergeTree\n", NULL};
    static const char *const another[] = {"/two\n", "ReplicatedMergeTree\n", NULL};
    cr_assert(is_filled_once(replica));
    cr_assert_not(is_filled_once(another));
}
