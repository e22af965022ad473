// SPDX-License-Identifier: Apache-2.0
//
// Writes made events into a table by COPY, all of them in one transaction or a transaction for every so many. The
// identity column draws the seq.
#include "support/bench_program.h"
#include "support/event_maker.h"

#include <stdio.h>
#include <stdlib.h>

static const char usage[] = "fill_outbox --config FILE --table TABLE --rows N [--first N] [--transaction ROWS]\n"
                            "            [--payload BYTES] [--aggregates N] [--topics N] [--epoch MICROSECONDS]";
static const char *const options[] = {"--config", "--dsn", "--table", "--rows", "--first", "--transaction", "--payload",
    "--aggregates", "--topics", "--epoch", NULL};

static void put_event(FILE *out, const struct made_event *event)
{
    fprintf(out, "%s\t%s\t%s\t%s\t%s\t{\"correlation_id\": \"%s\"}\t%s\n", event->id, event_aggregate_type,
        event->aggregate_id, event->event_type, event->payload, event->correlation_id, event->created_at);
}

static void begin_copy(PGconn *connection, const char *table)
{
    char statement[512];
    snprintf(statement, sizeof(statement),
        "COPY %s (id, aggregate_type, aggregate_id, event_type, payload, metadata, created_at) FROM STDIN", table);
    PGresult *result = PQexec(connection, statement);
    if (PQresultStatus(result) != PGRES_COPY_IN) {
        bench_fail("%s: %s", statement, PQerrorMessage(connection));
    }
    PQclear(result);
}

static void end_copy(PGconn *connection)
{
    if (PQputCopyEnd(connection, NULL) != 1) {
        bench_fail("COPY: %s", PQerrorMessage(connection));
    }
    PGresult *result = PQgetResult(connection);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        bench_fail("COPY: %s", PQerrorMessage(connection));
    }
    PQclear(result);
    PQclear(PQgetResult(connection));
}

static void send_text(PGconn *connection, FILE *stream, char **text, size_t *length)
{
    fflush(stream);
    if (*length > 0 && PQputCopyData(connection, *text, (int)*length) != 1) {
        bench_fail("COPY: %s", PQerrorMessage(connection));
    }
    rewind(stream);
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const char *table = bench_text(argc, argv, "--table", NULL);
    uint64_t first = (uint64_t)bench_number(argc, argv, "--first", 0),
             rows = (uint64_t)bench_number(argc, argv, "--rows", 1000);
    uint64_t together = (uint64_t)bench_number(argc, argv, "--transaction", (int64_t)rows);
    struct event_shape shape = event_shape_of_options(argc, argv);
    struct made_event event;
    made_event_init(&event, &shape);
    PGconn *connection = bench_postgres(argc, argv);
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL) {
        bench_fail("out of memory");
    }
    double began = bench_now();
    for (uint64_t i = 0; i < rows; i++) {
        if (i % together == 0) {
            begin_copy(connection, table);
        }
        made_event_fill(&event, &shape, first + i);
        put_event(stream, &event);
        bool last = i + 1 == rows || (i + 1) % together == 0;
        if (last || ftell(stream) > 1 << 20) {
            send_text(connection, stream, &text, &length);
        }
        if (last) {
            end_copy(connection);
        }
    }
    printf("{\"rows\": %llu, \"seconds\": %.6f}\n", (unsigned long long)rows, bench_now() - began);
    fclose(stream);
    free(text);
    made_event_finish(&event);
    PQfinish(connection);
    return 0;
}
