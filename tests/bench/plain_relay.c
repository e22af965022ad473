// SPDX-License-Identifier: Apache-2.0
//
// The relay that everybody writes first: select a hundred rows, for each publish it, await the acknowledgement and mark
// the row, then look again. A peer for scripts/bench --peers, in its most favourable form: no pause while rows are
// left, no linger. Runs until it is told to stop (SIGTERM).
#include "support/bench_program.h"
#include "support/broker.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "plain_relay --config FILE --prefix PREFIX --table TABLE [--pause SECONDS]\n"
                            "  --pause   after a look that found nothing (default 5)";
static const char *const options[] = {"--config", "--dsn", "--prefix", "--table", "--pause", NULL};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static PGresult *look(PGconn *connection, const char *table)
{
    char statement[512];
    snprintf(statement, sizeof(statement),
        "SELECT seq, id, aggregate_id, event_type, aggregate_type, payload::text, to_char(created_at AT TIME ZONE "
        "'UTC', "
        "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), metadata->>'correlation_id' FROM %s WHERE published_at IS NULL ORDER BY "
        "seq LIMIT 100",
        table);
    PGresult *result = PQexec(connection, statement);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    return result;
}

static void publish(struct broker *broker, const PGresult *rows, int i)
{
    struct stored_message message = {.value = PQgetvalue(rows, i, 5),
        .value_length = (uint32_t)PQgetlength(rows, i, 5),
        .key = PQgetvalue(rows, i, 2),
        .headers = {PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 3), PQgetvalue(rows, i, 4), PQgetvalue(rows, i, 2),
            PQgetvalue(rows, i, 6), PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 7)}};
    broker_send(broker, &message);
    broker_wait(broker);
}

static void mark(PGconn *connection, const PGresult *rows, int i)
{
    const char *values[] = {PQgetvalue(rows, i, 1)};
    PGresult *result = PQexecPrepared(connection, "mark", 1, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    PQclear(result);
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const char *table = bench_text(argc, argv, "--table", NULL);
    double pause = bench_fraction(argc, argv, "--pause", 5);
    signal(SIGTERM, stop);
    PGconn *connection = bench_postgres(argc, argv);
    char statement[256];
    snprintf(statement, sizeof(statement), "UPDATE %s SET published_at = greatest(now(), created_at) WHERE id = $1",
        table);
    PGresult *prepared = PQprepare(connection, "mark", statement, 0, NULL);
    if (PQresultStatus(prepared) != PGRES_COMMAND_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    PQclear(prepared);
    struct broker broker;
    broker_open(&broker, bench_context(argc, argv), NULL, bench_text(argc, argv, "--prefix", NULL), 1, 0);
    while (!stopped) {
        PGresult *rows = look(connection, table);
        int count = PQntuples(rows);
        for (int i = 0; i < count && !stopped; i++) {
            publish(&broker, rows, i);
            mark(connection, rows, i);
        }
        PQclear(rows);
        for (double until = bench_now() + pause; count == 0 && !stopped && bench_now() < until;) {
            bench_sleep_until(bench_now() + 0.05);
        }
    }
    broker_close(&broker);
    PQfinish(connection);
    return 0;
}
