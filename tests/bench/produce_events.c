// SPDX-License-Identifier: Apache-2.0
//
// What the relay brings to Kafka, produced by librdkafka alone, from memory, with the relay's own settings. In parts
// (--chunk) it also fills topics that do not fit into memory; then only the producing is timed.
#include "support/bench_program.h"
#include "support/broker.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "produce_events --config FILE --prefix PREFIX --rows N [--first N] [--chunk ROWS] "
                            "[--transactional-id ID] [--batch ROWS]\n"
                            "               [--payload BYTES] [--aggregates N] [--topics N] [--epoch MICROSECONDS]\n"
                            "  --batch   rows of one transaction (with --transactional-id)";
static const char *const options[] = {"--config", "--prefix", "--rows", "--first", "--chunk", "--transactional-id",
    "--batch", "--payload", "--aggregates", "--topics", "--epoch", NULL};

static void produce(struct broker *broker, const struct message_store *store, size_t batch)
{
    for (size_t i = 0; i < store->count; i++) {
        if (broker->transactional && i % batch == 0) {
            broker_begin(broker);
        }
        broker_send(broker, &store->at[i]);
        if (broker->transactional && ((i + 1) % batch == 0 || i + 1 == store->count)) {
            broker_commit(broker);
        }
    }
    broker_wait(broker);
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const struct relay_context *context = bench_context(argc, argv);
    const char *id = bench_text(argc, argv, "--transactional-id", "");
    size_t rows = (size_t)bench_number(argc, argv, "--rows", 1000);
    size_t chunk = (size_t)bench_number(argc, argv, "--chunk", (int64_t)rows),
           batch = (size_t)bench_number(argc, argv, "--batch", 2000);
    uint64_t first = (uint64_t)bench_number(argc, argv, "--first", 0);
    struct event_shape shape = event_shape_of_options(argc, argv);
    if (chunk == 0 || batch == 0) {
        bench_fail("--chunk and --batch must be at least 1");
    }
    struct broker broker;
    broker_open(&broker, context, id[0] == '\0' ? NULL : id, bench_text(argc, argv, "--prefix", NULL), shape.topics,
        -1);
    double elapsed = 0, cpu = 0;
    for (size_t done = 0; done < rows; done += chunk) {
        struct message_store store = message_store_new(&shape, first + done, chunk < rows - done ? chunk : rows - done);
        double began = bench_now(), cpu_began = bench_cpu();
        produce(&broker, &store, batch);
        elapsed += bench_now() - began;
        cpu += bench_cpu() - cpu_began;
        message_store_free(&store);
    }
    printf("{\"rows\": %zu, \"seconds\": %.6f, \"cpu\": %.6f, \"peak_kb\": %ld}\n", rows, elapsed, cpu,
        bench_peak_kb());
    broker_close(&broker);
    return 0;
}
