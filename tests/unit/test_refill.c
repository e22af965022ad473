// SPDX-License-Identifier: Apache-2.0
//
// The filling of a table against a scripted server: what becomes of an INSERT that the server refuses to start.
#include "clickhouse_peer.h"
#include "relay/cli/refill.h"
#include "relay/insert/insert_deadline.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define END   "outbox-relay: end\n"
#define CLOCK "1\n", "1795822852000000\n"

// To everything but INSERTs, in order; the last three are repeated.
static const char *const answers[] = {
    "db\n",                                                                            // currentDatabase()
    "non_replicated_deduplication_window\t0\nreplicated_deduplication_window\t1000\n", // the server's defaults
    "u\tMergeTree\tMergeTree ORDER BY x\t\tx\n",                                       // the table
    "kafka_topic\tString\t\t\t0\t0\nkafka_partition\tInt32\t\t\t0\t0\nkafka_offset\tInt64\t\t\t0\t0\n", // its columns
    "1\n",           // an index on the offset
    "",              // what hangs on it
    CLOCK,           // of the server's introduction
    "", "0\n",       // KILL QUERY: nothing runs
    END, CLOCK, END, // nothing is there; the deadline
};

struct peer {
    struct clickhouse_peer server;
    size_t asked;
    size_t inserts, late; // the first `late` ones come too late
};

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[1000];
    static const char refusal[] = "Code: 395. DB::Exception: " INSERT_DEADLINE_LATE ": while executing throwIf\n";
    struct peer *peer = context;
    const char *body = clickhouse_peer_learned(seen);
    reply->answer = answer;
    if (!body && strstr(seen->target, "INSERT")) {
        if (peer->inserts++ < peer->late) {
            snprintf(answer, sizeof(answer),
                "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 395\r\nContent-Length: "
                "%zu\r\n\r\n%s",
                strlen(refusal), refusal);
            return;
        }
        body = "";
    }
    if (!body) {
        const size_t count = sizeof(answers) / sizeof(answers[0]);
        body = answers[peer->asked];
        peer->asked = peer->asked + 1 < count ? peer->asked + 1 : count - 3;
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

static struct refill *open_from(struct peer *peer, const char *source, struct relay_error *error)
{
    static char name[] = "r", table[] = "t", column[] = "kafka_topic";
    struct config_pair columns[] = {{.name = column, .value = (char *)(uintptr_t)source}};
    const struct config_route route = {.name = name, .table = table, .columns = columns, .column_count = 1};
    clickhouse_peer_start(&peer->server, handle, peer, NULL);
    return refill_open(&peer->server.context, peer->server.client, &route, NULL, error);
}

static bool fill(struct peer *peer, struct relay_error *error)
{
    const struct source_message message = {.topic = "a", .partition = 1, .offset = 7};
    struct refill_result result;
    struct refill *refill = open_from(peer, "kafka.topic", error);
    cr_assert_not_null(refill, "%s", error->text);
    bool filled = refill_write(refill, &message, 1, false, &result, error);
    refill_close(refill);
    clickhouse_peer_finish(&peer->server);
    return filled;
}

Test(refill, what_came_too_late_is_sent_again_by_a_clock_that_is_measured_anew)
{
    struct peer peer = {.late = 2};
    struct relay_error error;
    cr_assert(fill(&peer, &error), "%s", error.text);
    cr_assert_eq(peer.inserts, 3);
}

Test(refill, a_table_whose_offsets_come_from_elsewhere_is_refused)
{
    struct peer peer = {0};
    struct relay_error error;
    cr_assert_null(open_from(&peer, "'orders'", &error));
    cr_assert_eq(error.class, RELAY_CLASS_OPERATOR);
    cr_assert_str_eq(error.text,
        "route r: the route fills column kafka_topic from 'orders', not from kafka.topic: rows cannot be found again, "
        "so what table db.t has already cannot be known");
    clickhouse_peer_finish(&peer.server);
}
