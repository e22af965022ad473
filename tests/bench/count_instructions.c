// SPDX-License-Identifier: Apache-2.0
//
// What both pipes do with each event between the libraries, without any server: from PostgreSQL's result to the record
// with its headers and the receipt; from the message to the finished block. Run under callgrind with two numbers of
// batches, the difference is what an event costs in instructions, whatever else the machine does. See
// scripts/lib/benchmark/instructions.py.
#include "support/bench_program.h"
#include "support/event_maker.h"
#include "encoder_fixture.h"
#include "relay/publish/outbox_batch.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 2000 // of a batch

static const char usage[] = "count_instructions --pipe publish|insert-default|insert-typed [--batches N]";
static const char *const options[] = {"--pipe", "--batches", NULL};

// The columns of outbox_table.row, in binary, as PostgreSQL sends them.
static void set_value(PGresult *result, int row, int column, const void *value, size_t length)
{
    char *copy = malloc(length + 1);
    if (copy == NULL) {
        bench_fail("out of memory");
    }
    memcpy(copy, value, length);
    if (!PQsetvalue(result, row, column, copy, (int)length)) {
        bench_fail("out of memory");
    }
    free(copy);
}

static void set_uuid(PGresult *result, int row, int column, const char *text)
{
    uint8_t bytes[16];
    if (!receipt_identity_parse(text, 36, bytes)) {
        bench_fail("%s is no uuid", text);
    }
    set_value(result, row, column, bytes, sizeof(bytes));
}

static void set_jsonb(PGresult *result, int row, int column, const char *text)
{
    char with_version[2048];
    int length = snprintf(with_version, sizeof(with_version), "\1%s", text);
    set_value(result, row, column, with_version, (size_t)length);
}

static void set_int64(PGresult *result, int row, int column, int64_t value)
{
    uint64_t raw = htobe64((uint64_t)value);
    set_value(result, row, column, &raw, sizeof(raw));
}

static PGresult *make_result(const struct event_shape *shape)
{
    enum { COLUMNS = 8 };
    static const char *const names[COLUMNS] = {"seq", "id", "type", "aggregate_type", "key", "payload", "metadata",
        "created_at"};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[COLUMNS] = {0};
    for (size_t i = 0; i < COLUMNS; i++) {
        columns[i] = (PGresAttDesc){.name = (char *)(uintptr_t)names[i], .format = 1};
    }
    if (result == NULL || !PQsetResultAttrs(result, COLUMNS, columns)) {
        bench_fail("out of memory");
    }
    struct made_event event;
    made_event_init(&event, shape);
    char metadata[80];
    for (int i = 0; i < ROWS; i++) {
        made_event_fill(&event, shape, (uint64_t)i);
        snprintf(metadata, sizeof(metadata), "{\"correlation_id\": \"%s\"}", event.correlation_id);
        set_int64(result, i, 0, i + 1);
        set_uuid(result, i, 1, event.id);
        set_value(result, i, 2, event.event_type, strlen(event.event_type));
        set_value(result, i, 3, event_aggregate_type, strlen(event_aggregate_type));
        set_uuid(result, i, 4, event.aggregate_id);
        set_jsonb(result, i, 5, event.payload);
        set_jsonb(result, i, 6, metadata);
        set_int64(result, i, 7, event.created_us - INT64_C(946684800000000));
    }
    made_event_finish(&event);
    return result;
}

// As publish_send.c hands them over.
static void make_headers(const struct routed_event *event)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(event->header_count);
    for (size_t i = 0; i < event->header_count; i++) {
        const struct event_header *header = &event->headers[i];
        rd_kafka_header_add(headers, header->name, (ssize_t)header->name_length, header->value.at,
            (ssize_t)header->value.length);
    }
    rd_kafka_headers_destroy(headers);
}

static void run_publish(int64_t batches)
{
    static char topic[] = "{prefix}.{event_type:1}.events", prefix[] = "nova", key[] = "{aggregate_id}",
                payload[] = "payload", correlation[] = "correlation_id", parent[] = "traceparent",
                state[] = "tracestate";
    static char *names[] = {correlation, parent, state};
    struct config_outbox config = {
        .publish = {.topic = topic, .prefix = prefix, .key = key, .metadata_headers = {names, 3}}};
    config.columns[CONFIG_COLUMN_PAYLOAD] = payload;
    struct outbox_table table = {0};
    for (size_t i = 0; i < CONFIG_COLUMN_ROLES; i++) {
        table.forms[i] = COLUMN_TEXT;
    }
    table.forms[CONFIG_COLUMN_ID] = table.forms[CONFIG_COLUMN_KEY] = COLUMN_UUID;
    table.forms[CONFIG_COLUMN_PAYLOAD] = table.forms[CONFIG_COLUMN_METADATA] = COLUMN_JSONB;

    struct event_shape shape = {.payload_bytes = 260, .aggregates = 10000, .topics = 1, .epoch_us = 1767225600000000};
    PGresult *result = make_result(&shape);
    struct relay_error error;
    struct event_router *router = event_router_new(NULL, &config, &error);
    bench_must(router != NULL, "router", &error);
    struct outbox_batch *batch = outbox_batch_new(8 << 20, &error);
    uint8_t *receipt = malloc(receipt_size(ROWS));
    bench_must(batch != NULL && receipt != NULL, "batch", &error);
    uint64_t bytes = 0;
    for (int64_t i = 0; i < batches; i++) {
        enum publish_reason reason;
        size_t next = 0;
        bench_must(outbox_batch_add(batch, &table, 0, false, result, &error), "rows", &error);
        outbox_batch_sort(batch);
        bench_must(outbox_batch_route(batch, router, &next, &reason, &error), "route", &error);
        for (size_t k = 0; k < batch->count; k++) {
            make_headers(&batch->events[k]);
            bytes += batch->events[k].size;
        }
        struct receipt_header header = {.generation = 1, .number = (uint64_t)i};
        struct receipt_row *rows = event_arena_alloc(batch->arena, batch->count * sizeof(*rows));
        bench_must(rows != NULL, "receipt", &error);
        outbox_batch_receipt_rows(batch, rows);
        bytes += receipt_encode(&header, rows, batch->count, receipt);
        batch->result_count = 0; // the result is ours, and used again
        outbox_batch_reset(batch);
    }
    printf("{\"events\": %lld, \"bytes\": %llu}\n", (long long)batches * ROWS, (unsigned long long)bytes);
    free(receipt);
    outbox_batch_free(batch);
    event_router_free(router);
    PQclear(result);
}

static const char *const default_columns[] = {"event_id", "UUID", "event_type", "LowCardinality(String)",
    "aggregate_type", "LowCardinality(String)", "aggregate_id", "String", "payload", "String", "created_at",
    "DateTime64(6, 'UTC')", "seq", "UInt64", "kafka_topic", "LowCardinality(String)", "kafka_partition", "Int32",
    "kafka_offset", "Int64", NULL};
static const char *const typed_columns[] = {"id", "UUID", "user", "UInt64", "amount", "Decimal(18, 2)", "currency",
    "LowCardinality(String)", "op", "Int8", "at", "DateTime64(6)", "ok", "Bool", "tags", "Array(String)", "zip",
    "String", "score", "Float64", "note", "String", "trace", "String", NULL};
static const char *const typed_sources[] = {"id", "$.id", "user", "$.user", "amount", "$.amount", "currency",
    "$.currency", "op", "$.op: insert=1 delete=-1", "at", "$.at", "ok", "$.ok", "tags", "$.tags", "zip",
    "$.address.zip", "score", "$.score", "note", "$.note", "trace", "$.meta.trace", NULL};

static void add_message(struct row_encoder *encoder, struct native_block *block, const struct made_event *event,
    int64_t offset)
{
    const char *names[EVENT_HEADERS], *values[EVENT_HEADERS];
    struct source_header headers[EVENT_HEADERS];
    made_event_headers(event, names, values);
    for (size_t i = 0; i < EVENT_HEADERS; i++) {
        headers[i] = (struct source_header){names[i], values[i], strlen(values[i])};
    }
    struct source_message message = {.topic = "nova.order.events",
        .partition = (int32_t)(offset % 8),
        .offset = offset,
        .timestamp_ms = event->created_us / 1000,
        .key = event->aggregate_id,
        .key_length = 36,
        .value = event->payload,
        .value_length = event->payload_length,
        .value_room = event->payload_room,
        .headers = headers,
        .header_count = EVENT_HEADERS};
    struct relay_error error;
    enum encode_reason reason;
    bench_must(row_encoder_add(encoder, block, &message, &reason, &error), "encode", &error);
}

static void run_insert(int64_t batches, const char *const *columns, const char *const *sources)
{
    struct config_pair room[32];
    struct config_route route = fixture_route(sources, room);
    struct table_schema *schema = fixture_schema(columns);
    struct relay_error error;
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    bench_must(encoder != NULL, "encoder", &error);
    struct native_block *block = row_encoder_block(encoder, &error);
    bench_must(block != NULL, "block", &error);
    struct event_shape shape = {.payload_bytes = 754, .aggregates = 10000, .topics = 1, .epoch_us = 1767225600000000};
    struct made_event *events = calloc(ROWS, sizeof(*events));
    for (size_t i = 0; events != NULL && i < ROWS; i++) {
        made_event_init(&events[i], &shape);
        made_event_fill(&events[i], &shape, i);
    }
    uint64_t bytes = 0;
    for (int64_t batch = 0; batch < batches && events != NULL; batch++) {
        native_block_reset(block);
        for (size_t i = 0; i < ROWS; i++) {
            add_message(encoder, block, &events[i], batch * ROWS + (int64_t)i);
        }
        size_t count;
        bench_must(native_block_body(block, &count, &error) != NULL, "body", &error);
        bytes += native_block_bytes(block);
    }
    printf("{\"events\": %lld, \"bytes\": %llu}\n", (long long)batches * ROWS, (unsigned long long)bytes);
    for (size_t i = 0; events != NULL && i < ROWS; i++) {
        made_event_finish(&events[i]);
    }
    free(events);
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

int main(int argc, char **argv)
{
    bench_options(argc, argv, usage, options);
    const char *pipe = bench_text(argc, argv, "--pipe", NULL);
    int64_t batches = bench_number(argc, argv, "--batches", 1);
    if (strcmp(pipe, "publish") == 0) {
        run_publish(batches);
    } else if (strcmp(pipe, "insert-default") == 0) {
        run_insert(batches, default_columns, (const char *const[]){NULL});
    } else if (strcmp(pipe, "insert-typed") == 0) {
        run_insert(batches, typed_columns, typed_sources);
    } else {
        bench_fail("%s", usage);
    }
    return 0;
}
