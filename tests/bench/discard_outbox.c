// SPDX-License-Identifier: Apache-2.0
//
// The least that anybody who empties an outbox must do at PostgreSQL: the relay's own statement, a batch a transaction,
// on one connection, all columns fetched in binary and thrown away. What the relay does besides is compared with this.
#include "support/bench_program.h"

#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "discard_outbox --config FILE --table TABLE [--batch ROWS] [--limit ROWS]";
static const char *const options[] = {"--config", "--dsn", "--table", "--batch", "--limit", NULL};

static const char settings[] =
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;"
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

static void prepare(PGconn *connection, const char *table)
{
    char statement[1024];
    snprintf(statement, sizeof(statement),
        "DELETE FROM %s AS t WHERE t.seq > $1::int8 AND t.seq <= (SELECT max(b.s) FROM (SELECT u.seq AS s FROM %s u "
        "WHERE u.seq > "
        "$1::int8 AND u.published_at IS NULL ORDER BY u.seq LIMIT $2::int8) b) AND t.published_at IS NULL RETURNING "
        "t.seq, t.id, "
        "t.aggregate_id, t.event_type, t.aggregate_type, t.payload::text, t.metadata::text, t.created_at",
        table, table);
    PGresult *result = PQprepare(connection, "take", statement, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    PQclear(result);
}

// Returns the rows taken; *mark goes to the highest seq among them, *bytes grows by what came.
static int64_t take(PGconn *connection, int64_t *mark, int64_t batch, uint64_t *bytes)
{
    int64_t after = (int64_t)htobe64((uint64_t)*mark), limit = (int64_t)htobe64((uint64_t)batch);
    const char *values[] = {(const char *)&after, (const char *)&limit};
    const int lengths[] = {8, 8}, formats[] = {1, 1};
    PGresult *result = PQexecPrepared(connection, "take", 2, values, lengths, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    int rows = PQntuples(result), columns = PQnfields(result);
    for (int row = 0; row < rows; row++) {
        int64_t seq;
        memcpy(&seq, PQgetvalue(result, row, 0), 8);
        seq = (int64_t)be64toh((uint64_t)seq);
        *mark = seq > *mark ? seq : *mark;
        for (int column = 0; column < columns; column++) {
            *bytes += (uint64_t)PQgetlength(result, row, column);
        }
    }
    PQclear(result);
    return rows;
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const char *table = bench_text(argc, argv, "--table", NULL);
    int64_t batch = bench_number(argc, argv, "--batch", 2000), limit = bench_number(argc, argv, "--limit", INT64_MAX);
    PGconn *connection = bench_postgres(argc, argv);
    bench_execute(connection, settings);
    prepare(connection, table);
    int64_t mark = INT64_MIN, total = 0, taken = 0;
    uint64_t bytes = 0;
    double began = bench_now(), cpu = bench_cpu(), first = 0;
    do {
        bench_execute(connection, "BEGIN");
        taken = take(connection, &mark, batch < limit - total ? batch : limit - total, &bytes);
        bench_execute(connection, "COMMIT");
        first = total == 0 ? bench_now() - began : first;
        total += taken;
    } while (taken > 0 && total < limit);
    printf("{\"rows\": %" PRId64 ", \"seconds\": %.6f, \"cpu\": %.6f, \"first_batch\": %.6f, \"bytes\": %" PRIu64 "}\n",
        total, bench_now() - began, bench_cpu() - cpu, first, bytes);
    PQfinish(connection);
    return 0;
}
