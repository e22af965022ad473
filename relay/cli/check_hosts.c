// SPDX-License-Identifier: Apache-2.0
//
// The hosts of [postgres] dsn to which a failover leads the relay, each asked by a session of its own, which changes
// nothing there.
//   It refuses the login: a failure, since the relay would stand there after a failover.
//   It does not answer: a warning, since a standby may be down for good reasons.
//   It is of another system, or takes writes as well: a failure. The relay would stop there, or publish from it.
#include "relay/cli/check.h"
#include "relay/postgres/pg_server.h"

static const char what[] = "postgres";

static void judge_server(struct check *check, const struct pg_server *own, const struct pg_server *server,
    const char *address)
{
    const char *own_address = pg_server_address(check->connection);
    if (server->system_identifier != own->system_identifier) {
        check_add(check->report, CHECK_FAIL, what, "take it off [postgres] dsn, or make it a standby",
            "%s is no standby of %s (system identifiers %llu and %llu): after a failover the relay would stop there",
            address, own_address, (unsigned long long)server->system_identifier,
            (unsigned long long)own->system_identifier);
    } else if (server->takes_writes && own->takes_writes) {
        check_add(check->report, CHECK_FAIL, what,
            "stop the former primary, which is on the earlier timeline (installation.md, PostgreSQL behind Patroni)",
            "two servers take writes, %s (timeline %u) and %s (timeline %u): events of one of them are not published",
            own_address, own->timeline, address, server->timeline);
    } else {
        check_add(check->report, CHECK_OK, what, "", "%s lets the relay in: %s of the same system", address,
            server->recovering         ? "a standby"
                : server->takes_writes ? "the primary"
                                       : "a read-only server");
    }
}

static void check_host(struct check *check, const struct pg_server *own, int host)
{
    struct relay_error error;
    struct pg_server server;
    struct pg_options options = {.role = "check", .raw = true, .only_host = host};
    struct pg_connection *connection = pg_connect(check->context, &options, &error);
    if (!connection) {
        bool refused = error.code == RELAY_ERROR_POSTGRES_OPERATOR;
        check_add(check->report, refused ? CHECK_FAIL : CHECK_WARN, what,
            refused ? "let the relay in there as on the primary: pg_hba.conf, password, database"
                    : "run check again when it answers",
            refused ? "after a failover the relay would be refused: %s"
                    : "whether the relay is let in there after a failover is not known: %s",
            error.text);
        return;
    }
    if (!pg_server_ask(connection, &server, check_deadline(check), &error)) {
        check_add(check->report, CHECK_WARN, what, "", "what %s is cannot be told: %s", pg_server_address(connection),
            error.text);
    } else if (!pg_server_same(&server, own)) {
        judge_server(check, own, &server, pg_server_address(connection));
    }
    pg_close(connection);
}

void check_hosts(struct check *check)
{
    struct relay_error error;
    struct pg_server own;
    int count = pg_count_hosts(check->context);
    if (count < 2) {
        return;
    }
    if (!pg_server_ask(check->connection, &own, check_deadline(check), &error)) {
        check_add(check->report, CHECK_WARN, what, "", "the other hosts of [postgres] dsn are not looked at: %s",
            error.text);
        return;
    }
    for (int host = 1; host <= count; host++) {
        check_host(check, &own, host);
    }
}
