// SPDX-License-Identifier: Apache-2.0
//
// Two parts of the insert stage, each alone: parsing messages and encoding them into blocks, from memory; and sending
// such blocks, prepared outside of the timed part, to ClickHouse, one after the other. The route is the first enabled
// one of the configuration (the default route where there is none), the table's schema is read from the server.
#include "support/bench_program.h"
#include "support/event_maker.h"
#include "relay/insert/clickhouse_client.h"
#include "relay/insert/row_encoder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "insert_parts --config FILE --rows N [--block ROWS] [--insert yes|no] [--ring N] [--route NAME] [--payload BYTES]";
static const char *const options[] = {"--config", "--rows", "--block", "--insert", "--ring", "--route", "--payload",
    "--aggregates", "--topics", "--epoch", NULL};

// Messages as a consumer holds them, each in memory of its own, used in turn.
struct ring {
    struct made_event *events;
    struct source_header *headers;
    size_t count;
};

static struct ring make_ring(const struct event_shape *shape, size_t count)
{
    struct ring ring = {.events = calloc(count, sizeof(struct made_event)),
        .headers = calloc(count * EVENT_HEADERS, sizeof(struct source_header)),
        .count = count};
    if (ring.events == NULL || ring.headers == NULL) {
        bench_fail("out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        made_event_init(&ring.events[i], shape);
        made_event_fill(&ring.events[i], shape, i);
        const char *names[EVENT_HEADERS], *values[EVENT_HEADERS];
        made_event_headers(&ring.events[i], names, values);
        for (size_t h = 0; h < EVENT_HEADERS; h++) {
            ring.headers[i * EVENT_HEADERS + h] = (struct source_header){names[h], values[h], strlen(values[h])};
        }
    }
    return ring;
}

static struct source_message message_of(const struct ring *ring, int64_t number)
{
    size_t place = (size_t)number % ring->count;
    const struct made_event *event = &ring->events[place];
    return (struct source_message){.topic = "bench.order.events",
        .partition = (int32_t)(number % 8),
        .offset = number / 8,
        .timestamp_ms = event->created_us / 1000,
        .key = event->aggregate_id,
        .key_length = 36,
        .value = event->payload,
        .value_length = event->payload_length,
        .value_room = event->payload_room,
        .headers = &ring->headers[place * EVENT_HEADERS],
        .header_count = EVENT_HEADERS};
}

static void encode_block(struct row_encoder *encoder, struct native_block *block, const struct ring *ring,
    int64_t first, int64_t rows)
{
    struct relay_error error;
    enum encode_reason reason;
    native_block_reset(block);
    for (int64_t i = 0; i < rows; i++) {
        struct source_message message = message_of(ring, first + i);
        bench_must(row_encoder_add(encoder, block, &message, &reason, &error), "encode", &error);
    }
}

static void insert_block(struct clickhouse_client *client, const char *statement, struct native_block *block,
    int64_t number)
{
    struct relay_error error;
    struct clickhouse_outcome outcome;
    char token[64];
    size_t count;
    // As the relay sends it, with a token of its own.
    snprintf(token, sizeof(token), "bench-%.0f-%" PRId64, bench_now() * 1e6, number);
    const struct clickhouse_setting setting = {"insert_deduplication_token", token};
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .settings = &setting,
        .setting_count = 1};
    const struct iovec *body = native_block_body(block, &count, &error);
    bench_must(body != NULL, "block", &error);
    bench_must(clickhouse_insert(client, &request, statement, body, count, &outcome, &error), "insert", &error);
}

static const struct config_route *pick_route(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->route_count; i++) {
        if (name[0] == '\0' ? config->routes[i].enabled : strcmp(config->routes[i].name, name) == 0) {
            return &config->routes[i];
        }
    }
    bench_fail("there is no such route");
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const struct relay_context *context = bench_context(argc, argv);
    const struct config_route *route = pick_route(context->config, bench_text(argc, argv, "--route", ""));
    bool inserts = strcmp(bench_text(argc, argv, "--insert", "yes"), "yes") == 0;
    int64_t rows = bench_number(argc, argv, "--rows", 100000);
    int64_t block_rows = bench_number(argc, argv, "--block", context->config->insert.batch_rows);
    struct event_shape shape = event_shape_of_options(argc, argv);
    struct ring ring = make_ring(&shape, (size_t)bench_number(argc, argv, "--ring", 100000));

    struct relay_error error;
    struct clickhouse_client *client = clickhouse_client_new(context, &error);
    bench_must(client != NULL, "client", &error);
    const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct table_schema *schema = table_schema_read(client, &any, NULL, route->table, &error);
    bench_must(schema != NULL, route->table, &error);
    struct row_encoder *encoder = row_encoder_new(route, schema, NULL, &error);
    bench_must(encoder != NULL, route->table, &error);
    struct native_block *block = row_encoder_block(encoder, &error);
    char *statement = row_encoder_statement(encoder, true, NULL, &error);
    bench_must(block != NULL && statement != NULL, route->table, &error);

    double encode = 0, encode_cpu = 0, insert = 0, insert_cpu = 0;
    uint64_t bytes = 0;
    for (int64_t done = 0; done < rows; done += block_rows) {
        double began = bench_now(), cpu = bench_cpu();
        encode_block(encoder, block, &ring, done, block_rows < rows - done ? block_rows : rows - done);
        encode += bench_now() - began;
        encode_cpu += bench_cpu() - cpu;
        bytes += native_block_bytes(block);
        began = bench_now(), cpu = bench_cpu();
        if (inserts) {
            insert_block(client, statement, block, done);
        }
        insert += bench_now() - began;
        insert_cpu += bench_cpu() - cpu;
    }
    printf("{\"rows\": %" PRId64
           ", \"encode\": %.6f, \"encode_cpu\": %.6f, \"insert\": %.6f, \"insert_cpu\": %.6f, \"bytes\": %" PRIu64
           "}\n",
        rows, encode, encode_cpu, insert, insert_cpu, bytes);
    free(statement);
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
    clickhouse_client_free(client);
    return 0;
}
