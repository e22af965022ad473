// SPDX-License-Identifier: Apache-2.0
//
// The files for ClickHouse against a scripted server: what becomes of an ALTER that a replica cannot take yet.
#include "clickhouse_peer.h"
#include "relay/cli/migrate.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define NOT_YET "517" // the answer is this exception
// The database, the server's clock, tables of records, one is made.
#define UP "1\n", "1\n", "1795822852000000\n", "0\n", ""

struct peer {
    struct clickhouse_peer server;
    const char *const *answers;
    size_t asked;
};

static void handle(void *context, const struct http_seen *seen, struct http_reply *reply)
{
    static char answer[1000];
    struct peer *peer = context;
    const char *body = clickhouse_peer_learned(seen);
    if (!body) {
        body = peer->answers[peer->asked] ? peer->answers[peer->asked++] : "";
    }
    reply->answer = strcmp(body, NOT_YET) != 0
        ? clickhouse_peer_ok(answer, sizeof(answer), body)
        : "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 517\r\nContent-Length: 56\r\n\r\n"
          "Code: 517. DB::Exception: Metadata on replica is not up ";
}

static bool migrate(struct peer *peer, struct relay_error *error)
{
    static char folder[] = "files", name[] = "003_column", up[] = "ALTER TABLE t ADD COLUMN IF NOT EXISTS c String;";
    struct migration_file file = {.number = 3, .name = name, .up = up};
    const struct migration_files files = {.folder = folder, .items = &file, .count = 1};
    const struct migrate_options options = {.action = MIGRATE_UP, .to = MIGRATION_ALL};
    clickhouse_peer_start(&peer->server, handle, peer, NULL);
    bool done = migrate_clickhouse(&peer->server.context, &options, &files, error);
    clickhouse_peer_finish(&peer->server);
    return done;
}

Test(migrate_clickhouse, what_a_replica_cannot_take_yet_is_repeated)
{
    static const char *const answers[] = {UP, NOT_YET, NOT_YET, "" /* altered */, "" /* recorded */, NULL};
    struct peer peer = {.answers = answers};
    struct relay_error error;
    cr_assert(migrate(&peer, &error), "%s", error.text);
    cr_assert_eq(peer.asked, 9, "%zu", peer.asked);
}
