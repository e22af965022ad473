// SPDX-License-Identifier: Apache-2.0
//
// Two parts of the insert stage, each alone: parsing messages and encoding them into blocks, from memory; and sending
// such blocks, all of them prepared before, to ClickHouse, one after the other. The rows are the relay's: each is
// another one, they come in runs of one Kafka partition after the other, and a block is closed by batch_rows or
// batch_bytes. (A server that gets the same rows again and again compresses and merges them at a fraction of the cost.)
// The route is the first enabled one of the configuration (the default route where there is none), the table's schema
// is read from the server. Needs memory for all blocks at once.
#include "support/bench_program.h"
#include "support/event_maker.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/row_encoder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "insert_parts --config FILE --rows N [--block ROWS] [--insert yes|no] [--route NAME] [--payload BYTES]";
static const char *const options[] = {"--config", "--rows", "--block", "--insert", "--route", "--payload",
    "--aggregates", "--topics", "--epoch", NULL};

#define PARTITIONS 8
#define RUN        1000 // messages of one partition that a consumer gets in one go

// Messages as a consumer holds them, each in memory of its own.
struct messages {
    struct made_event *events;
    struct source_header *headers;
    size_t room, count;
};

struct bodies {
    struct iovec *items;
    size_t count, capacity;
};

static struct messages make_room(const struct event_shape *shape, size_t room)
{
    struct messages messages = {.events = calloc(room, sizeof(struct made_event)),
        .headers = calloc(room * EVENT_HEADERS, sizeof(struct source_header)),
        .room = room};
    if (messages.events == NULL || messages.headers == NULL) {
        bench_fail("out of memory");
    }
    for (size_t i = 0; i < room; i++) {
        made_event_init(&messages.events[i], shape);
    }
    return messages;
}

static void free_messages(struct messages *messages)
{
    for (size_t i = 0; i < messages->room; i++) {
        made_event_finish(&messages->events[i]);
    }
    free(messages->events);
    free(messages->headers);
}

// The event that a consumer of all partitions gets there.
static uint64_t number_at(uint64_t position)
{
    uint64_t within = position % (PARTITIONS * RUN);
    return position - within + within % RUN * PARTITIONS + within / RUN;
}

static void fetch(struct messages *messages, const struct event_shape *shape, int64_t first, size_t count)
{
    messages->count = count;
    for (size_t i = 0; i < count; i++) {
        made_event_fill(&messages->events[i], shape, number_at((uint64_t)first + i));
        const char *names[EVENT_HEADERS], *values[EVENT_HEADERS];
        made_event_headers(&messages->events[i], names, values);
        for (size_t h = 0; h < EVENT_HEADERS; h++) {
            messages->headers[i * EVENT_HEADERS + h] = (struct source_header){names[h], values[h], strlen(values[h])};
        }
    }
}

static struct source_message message_of(const struct messages *messages, size_t place)
{
    const struct made_event *event = &messages->events[place];
    return (struct source_message){.topic = "bench.order.events",
        .partition = (int32_t)(event->number % PARTITIONS),
        .offset = (int64_t)(event->number / PARTITIONS),
        .timestamp_ms = event->created_us / 1000,
        .key = event->aggregate_id,
        .key_length = 36,
        .value = event->payload,
        .value_length = event->payload_length,
        .value_room = event->payload_room,
        .headers = &messages->headers[place * EVENT_HEADERS],
        .header_count = EVENT_HEADERS};
}

// As many as the block may have; returns how many it took.
static int64_t encode_block(struct row_encoder *encoder, struct native_block *block, const struct messages *messages,
    size_t bytes_most)
{
    struct relay_error error;
    enum encode_reason reason;
    size_t taken = 0;
    native_block_reset(block);
    while (taken < messages->count && native_block_bytes(block) < bytes_most) {
        struct source_message message = message_of(messages, taken++);
        bench_must(row_encoder_add(encoder, block, &message, &reason, &error), "encode", &error);
    }
    return (int64_t)taken;
}

static void keep(struct bodies *bodies, struct native_block *block)
{
    struct relay_error error;
    size_t count;
    const struct iovec *pieces = native_block_body(block, &count, &error);
    bench_must(pieces != NULL, "block", &error);
    size_t length = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        length += pieces[i].iov_len;
    }
    if (bodies->count == bodies->capacity) {
        bodies->capacity = bodies->capacity * 2 + 16;
        struct iovec *items = realloc(bodies->items, bodies->capacity * sizeof(*items));
        if (items == NULL) {
            bench_fail("out of memory");
        }
        bodies->items = items;
    }
    char *bytes = malloc(length + 1);
    if (bytes == NULL) {
        bench_fail("out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(bytes + at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    bodies->items[bodies->count++] = (struct iovec){bytes, length};
}

static void free_bodies(struct bodies *bodies)
{
    for (size_t i = 0; i < bodies->count; i++) {
        free(bodies->items[i].iov_base);
    }
    free(bodies->items);
}

static void insert_block(struct clickhouse_client *client, const char *statement, const struct iovec *body,
    int64_t number)
{
    struct relay_error error;
    struct clickhouse_outcome outcome;
    char token[64];
    // As the relay sends it, with a token of its own.
    snprintf(token, sizeof(token), "bench-%.0f-%" PRId64, bench_now() * 1e6, number);
    const struct clickhouse_setting setting = {"insert_deduplication_token", token};
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .settings = &setting,
        .setting_count = 1};
    bench_must(clickhouse_insert(client, &request, statement, body, 1, &outcome, &error), "insert", &error);
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
    struct messages messages = make_room(&shape, (size_t)block_rows);

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
    struct bodies bodies = {0};
    for (int64_t done = 0; done < rows;) {
        fetch(&messages, &shape, done, (size_t)(block_rows < rows - done ? block_rows : rows - done));
        double began = bench_now(), cpu = bench_cpu();
        done += encode_block(encoder, block, &messages, (size_t)context->config->insert.batch_bytes);
        encode += bench_now() - began;
        encode_cpu += bench_cpu() - cpu;
        bytes += native_block_bytes(block);
        if (inserts) {
            keep(&bodies, block);
        }
    }
    double began = bench_now(), cpu = bench_cpu();
    for (size_t i = 0; i < bodies.count; i++) {
        insert_block(client, statement, &bodies.items[i], (int64_t)i);
    }
    insert = bench_now() - began;
    insert_cpu = bench_cpu() - cpu;
    printf("{\"rows\": %" PRId64
           ", \"encode\": %.6f, \"encode_cpu\": %.6f, \"insert\": %.6f, \"insert_cpu\": %.6f, \"bytes\": %" PRIu64
           ", \"inserts\": %" PRId64 "}\n",
        rows, encode, encode_cpu, insert, insert_cpu, bytes, (int64_t)bodies.count);
    free_bodies(&bodies);
    free_messages(&messages);
    free(statement);
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
    clickhouse_client_free(client);
    return 0;
}
