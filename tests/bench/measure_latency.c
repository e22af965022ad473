// SPDX-License-Identifier: Apache-2.0
//
// How long an event takes, one at a time at a given rate.
//   --mode outbox: from the moment at which COMMIT returned to the writer until a consumer of the topic has the event.
//   --mode broker: the reference; librdkafka alone produces the event and waits for its acknowledgement (or, with
//     --transactional-id, begins a transaction, produces and commits), without linger; and until a consumer has it.
#include "support/bench_program.h"
#include "support/broker.h"
#include "support/watcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "measure_latency --config FILE --mode outbox|broker --prefix PREFIX [--watch TOPIC,...] [--table TABLE] [--writers "
    "N]\n"
    "                --rate PER_SECOND --events N [--skip N] [--first N] [--transactional-id ID] [--patience SECONDS]\n"
    "                [--payload BYTES] [--aggregates N] [--epoch MICROSECONDS]\n"
    "  --skip    leaves the first N events out of the figures (warm-up)";
static const char *const options[] = {"--config", "--dsn", "--mode", "--prefix", "--watch", "--table", "--writers",
    "--rate", "--events", "--skip", "--first", "--transactional-id", "--patience", "--payload", "--aggregates",
    "--topics", "--epoch", NULL};

struct run {
    struct event_shape shape;
    uint64_t first;
    size_t events, skip, writers;
    double rate, began;
    struct watcher watcher;
    const char *table;
    double *commit_seconds; // of each event
};

struct writer {
    struct run *run;
    PGconn *connection;
    size_t number;
    pthread_t thread;
};

static double due(const struct run *run, size_t index)
{
    return run->began + (double)index / run->rate;
}

static void *write_events(void *context)
{
    struct writer *writer = context;
    struct run *run = writer->run;
    struct made_event event;
    made_event_init(&event, &run->shape);
    char metadata[80];
    for (size_t i = writer->number; i < run->events; i += run->writers) {
        made_event_fill(&event, &run->shape, run->first + i);
        snprintf(metadata, sizeof(metadata), "{\"correlation_id\": \"%s\"}", event.correlation_id);
        const char *values[] = {event.id, event_aggregate_type, event.aggregate_id, event.event_type, event.payload,
            metadata};
        bench_sleep_until(due(run, i));
        double began = bench_now();
        PGresult *result = PQexecPrepared(writer->connection, "write", 6, values, NULL, NULL, 0);
        double now = bench_now();
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            bench_fail("INSERT: %s", PQerrorMessage(writer->connection));
        }
        PQclear(result);
        watcher_sent(&run->watcher, i, now);
        run->commit_seconds[i] = now - began;
    }
    made_event_finish(&event);
    return NULL;
}

static void prepare_insert(PGconn *connection, const char *table)
{
    char statement[512];
    snprintf(statement, sizeof(statement),
        "INSERT INTO %s (id, aggregate_type, aggregate_id, event_type, payload, metadata) VALUES ($1, $2, $3, $4, $5, "
        "$6)",
        table);
    PGresult *result = PQprepare(connection, "write", statement, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        bench_fail("%s", PQerrorMessage(connection));
    }
    PQclear(result);
}

static void run_outbox(struct run *run, int argc, char **argv)
{
    struct writer *writers = calloc(run->writers, sizeof(struct writer));
    for (size_t i = 0; i < run->writers; i++) {
        writers[i] = (struct writer){.run = run, .number = i, .connection = bench_postgres(argc, argv)};
        prepare_insert(writers[i].connection, run->table);
    }
    run->began = bench_now() + 0.2;
    for (size_t i = 0; i < run->writers; i++) {
        if (pthread_create(&writers[i].thread, NULL, write_events, &writers[i]) != 0) {
            bench_fail("cannot start a thread");
        }
    }
    for (size_t i = 0; i < run->writers; i++) {
        pthread_join(writers[i].thread, NULL);
        PQfinish(writers[i].connection);
    }
    free(writers);
}

// Returns the round trips in `commit_seconds`.
static void run_broker(struct run *run, const struct relay_context *context, const char *id, const char *prefix)
{
    struct message_store store = message_store_new(&run->shape, run->first, run->events);
    struct broker broker;
    broker_open(&broker, context, id[0] == '\0' ? NULL : id, prefix, run->shape.topics, 0);
    run->began = bench_now() + 0.2;
    for (size_t i = 0; i < run->events; i++) {
        bench_sleep_until(due(run, i));
        double began = bench_now();
        if (broker.transactional) {
            broker_begin(&broker);
        }
        broker_send(&broker, &store.at[i]);
        if (broker.transactional) {
            broker_commit(&broker);
        } else {
            broker_wait(&broker);
        }
        run->commit_seconds[i] = bench_now() - began;
        watcher_sent(&run->watcher, i, began);
    }
    broker_close(&broker);
    message_store_free(&store);
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const struct relay_context *context = bench_context(argc, argv);
    const char *mode = bench_text(argc, argv, "--mode", NULL), *prefix = bench_text(argc, argv, "--prefix", NULL);
    bool outbox = strcmp(mode, "outbox") == 0;
    struct run run = {.shape = event_shape_of_options(argc, argv),
        .first = (uint64_t)bench_number(argc, argv, "--first", 0),
        .events = (size_t)bench_number(argc, argv, "--events", 1000),
        .skip = (size_t)bench_number(argc, argv, "--skip", 0),
        .writers = (size_t)bench_number(argc, argv, "--writers", 4),
        .rate = bench_fraction(argc, argv, "--rate", 500),
        .table = bench_text(argc, argv, "--table", "public.outbox_events")};
    if ((!outbox && strcmp(mode, "broker") != 0) || run.writers == 0 || !(run.rate > 0)) {
        bench_fail("--mode is outbox or broker, --writers and --rate are above 0");
    }
    run.commit_seconds = calloc(run.events, sizeof(double));
    char topic[256];
    event_topic_name(prefix, 0, topic, sizeof(topic));
    watcher_start(&run.watcher, context, bench_text(argc, argv, "--watch", topic), run.first, run.events);
    if (outbox) {
        run_outbox(&run, argc, argv);
    } else {
        run_broker(&run, context, bench_text(argc, argv, "--transactional-id", ""), prefix);
    }
    double elapsed = bench_now() - run.began;
    watcher_finish(&run.watcher, bench_fraction(argc, argv, "--patience", 10));
    struct bench_samples delays = {0}, own = {0};
    watcher_delays(&run.watcher, run.skip, &delays);
    for (size_t i = run.skip; i < run.events; i++) {
        bench_samples_add(&own, run.commit_seconds[i]);
    }
    printf("{\"rate\": %.1f, \"missing\": %zu, \"visible\": {", (double)run.events / elapsed,
        run.events - atomic_load(&run.watcher.seen));
    bench_print_percentiles(&delays);
    printf("}, \"%s\": {", outbox ? "commit" : "round_trip");
    bench_print_percentiles(&own);
    printf("}}\n");
    return 0;
}
