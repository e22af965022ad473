// SPDX-License-Identifier: Apache-2.0
//
// Which format to send: the same rows of the default table as Native, RowBinary and JSONEachRow, by our own client,
// with LZ4 and without; and what parsing and encoding cost us. Prints a table; figures are of one machine and one run,
// ratios hold longer.
//   . DIR/env of scripts/services; build/tests/bench/clickhouse_formats [ROWS_PER_BATCH [BATCHES]]
#include "encoder_fixture.h"
#include "relay/clickhouse/clickhouse_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct config config;
static struct relay_context context;
static struct clickhouse_client *client;
static size_t rows_per_batch = 50000, batches = 10;

static double now(void)
{
    return (double)clock_mono(clock_system()).ns / 1e9;
}

static double own_cpu(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// utime + stime of the server, 0 where its pid is not known.
static double server_cpu(void)
{
    char path[64], text[1024] = "";
    const char *file = getenv("CLICKHOUSE_PID_FILE");
    FILE *in = file ? fopen(file, "r") : NULL;
    int pid = 0;
    if (!in || fscanf(in, "%d", &pid) != 1) {
        pid = 0;
    }
    if (in) {
        fclose(in);
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    in = fopen(path, "r");
    size_t length = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
    if (in) {
        fclose(in);
    }
    text[length] = '\0';
    unsigned long user = 0, kernel = 0;
    const char *after = strrchr(text, ')');
    if (after && sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2) {
        user = kernel = 0;
    }
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static void must(bool ok, const struct relay_error *error)
{
    if (!ok) {
        fprintf(stderr, "clickhouse_formats: %s\n", error->text);
        exit(1);
    }
}

static void run(const char *statement)
{
    struct relay_error error;
    struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    must(clickhouse_query(client, &any, statement, NULL, NULL, &error), &error);
}

// One event of about 750 bytes of JSON with 12 members.
struct event {
    char payload[1024], id[40], aggregate[24], created[32], seq[24];
    struct source_header headers[6];
    struct source_message message;
};

static void make_event(struct event *event, uint64_t number)
{
    uint64_t noise = number * 11400714819323198485u;
    snprintf(event->id, sizeof(event->id), "%08x-%04x-4%03x-8%03x-%012llx", (unsigned)(noise >> 32),
        (unsigned)(noise >> 16 & 0xFFFF), (unsigned)(noise & 0xFFF), (unsigned)(number & 0xFFF),
        (unsigned long long)number);
    snprintf(event->aggregate, sizeof(event->aggregate), "agg-%llu", (unsigned long long)(noise % 10000));
    snprintf(event->created, sizeof(event->created), "2026-03-%02uT%02u:%02u:%02u.%06uZ", (unsigned)(1 + number % 28),
        (unsigned)(number % 24), (unsigned)(number % 60), (unsigned)(noise % 60), (unsigned)(noise % 1000000));
    snprintf(event->seq, sizeof(event->seq), "%llu", (unsigned long long)number);
    snprintf(event->payload, sizeof(event->payload),
        "{\"id\": \"%s\", \"user\": %llu, \"amount\": \"%llu.%02u\", \"currency\": \"EUR\", \"op\": \"insert\", "
        "\"at\": \"%s\", \"ok\": true, "
        "\"tags\": [\"red\", \"green\", \"%u\"], \"address\": {\"street\": \"Long Street %u\", \"city\": "
        "\"Somewhere\", \"zip\": \"%05u\"}, "
        "\"score\": %u.%u, \"note\": \"The quick brown fox jumps over the lazy dog and runs away from %llx; the quick "
        "brown fox jumps over the lazy "
        "dog again, and again, until the text is about as long as an ordinary event of an ordinary service is, which "
        "is rather more than one "
        "thinks, and then it stops, having said nothing at all in so many words\", \"meta\": {\"source\": \"web\", "
        "\"version\": 3, \"trace\": \"%016llx\"}}",
        event->id, (unsigned long long)(noise % 1000000), (unsigned long long)(noise % 100000), (unsigned)(noise % 100),
        event->created, (unsigned)(noise % 50), (unsigned)(noise % 200), (unsigned)(noise % 100000),
        (unsigned)(noise % 100), (unsigned)(noise % 10), (unsigned long long)noise, (unsigned long long)noise);
    static const char type[] = "order.created", aggregate_type[] = "order";
    const struct source_header headers[6] = {{"event_id", event->id, strlen(event->id)},
        {"event_type", type, strlen(type)}, {"aggregate_type", aggregate_type, 5},
        {"aggregate_id", event->aggregate, strlen(event->aggregate)},
        {"created_at", event->created, strlen(event->created)}, {"seq", event->seq, strlen(event->seq)}};
    memcpy(event->headers, headers, sizeof(headers));
    event->message = (struct source_message){.topic = "nova.order.events",
        .partition = (int32_t)(number % 8),
        .offset = (int64_t)number,
        .timestamp_ms = 1772368496123,
        .value = event->payload,
        .value_length = strlen(event->payload),
        .value_room = sizeof(event->payload),
        .headers = event->headers,
        .header_count = 6};
}

static void put_varint_text(struct clickhouse_text *to, const char *text)
{
    char head[10];
    size_t length = strlen(text), used = 0;
    for (size_t rest = length;; rest >>= 7) {
        head[used++] = (char)(rest >= 0x80 ? rest | 0x80 : rest);
        if (rest < 0x80) {
            break;
        }
    }
    clickhouse_text_bytes(to, head, used);
    clickhouse_text_bytes(to, text, length);
}

// The rows as other clients send them; how fast we write them here says nothing.
static void make_row_binary(struct clickhouse_text *to, const struct event *event)
{
    unsigned char id[16] = {0};
    int64_t created = 1772368496123456 + event->message.offset, seq = event->message.offset;
    memcpy(id, &seq, 8);
    clickhouse_text_bytes(to, (const char *)id, 16);
    put_varint_text(to, "order.created");
    put_varint_text(to, "order");
    put_varint_text(to, event->aggregate);
    put_varint_text(to, event->payload);
    clickhouse_text_bytes(to, (const char *)&created, 8);
    clickhouse_text_bytes(to, (const char *)&seq, 8);
    put_varint_text(to, event->message.topic);
    clickhouse_text_bytes(to, (const char *)&event->message.partition, 4);
    clickhouse_text_bytes(to, (const char *)&event->message.offset, 8);
}

static void make_json_row(struct clickhouse_text *to, const struct event *event)
{
    clickhouse_text_add(to,
        "{\"event_id\":\"%s\",\"event_type\":\"order.created\",\"aggregate_type\":\"order\",\"aggregate_id\":\"%s\","
        "\"payload\":\"",
        event->id, event->aggregate);
    for (const char *at = event->payload; *at; at++) {
        if (*at == '"') {
            clickhouse_text_bytes(to, "\\", 1);
        }
        clickhouse_text_bytes(to, at, 1);
    }
    clickhouse_text_add(to,
        "\",\"created_at\":\"%.19s\",\"seq\":%lld,\"kafka_topic\":\"%s\",\"kafka_partition\":%d,\"kafka_offset\":%lld}"
        "\n",
        event->created, (long long)event->message.offset, event->message.topic, event->message.partition,
        (long long)event->message.offset);
}

#define COLUMNS                                                                                                        \
    "event_id, event_type, aggregate_type, aggregate_id, payload, created_at, seq, kafka_topic, kafka_partition, "     \
    "kafka_offset"
#define STRUCTURE                                                                                                      \
    "event_id UUID, event_type String, aggregate_type String, aggregate_id String, payload String, created_at "        \
    "DateTime64(6), seq UInt64, "                                                                                      \
    "kafka_topic String, kafka_partition Int32, kafka_offset Int64"

static void time_inserts(const char *name, const char *table, const char *format, const struct iovec *body,
    size_t count)
{
    struct relay_error error;
    struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    char statement[2048];
    for (int way = 0; way < 3; way++) { // plain; input(); input() without compression
        config.clickhouse.compression = way == 2 ? CONFIG_COMPRESSION_NONE : CONFIG_COMPRESSION_LZ4;
        if (way == 0) {
            snprintf(statement, sizeof(statement), "INSERT INTO %s (" COLUMNS ") FORMAT %s", table, format);
        } else {
            snprintf(statement, sizeof(statement),
                "INSERT INTO %s (" COLUMNS ") SELECT " COLUMNS " FROM input('" STRUCTURE "') "
                "WHERE throwIf(now() > toDateTime(4000000000)) = 0 FORMAT %s",
                table, format);
        }
        struct clickhouse_outcome outcome;
        double before_server = server_cpu(), before_own = own_cpu(), start = now();
        uint64_t sent = 0;
        for (size_t batch = 0; batch < batches; batch++) {
            const struct clickhouse_setting each_counts[] = {{"insert_deduplicate", "0"},
                {"deduplicate_insert", "disable"}, {"deduplicate_insert_select", "disable"}};
            any.settings = each_counts;
            any.setting_count = sizeof(each_counts) / sizeof(each_counts[0]);
            must(clickhouse_insert(client, &any, statement, body, count, &outcome, &error), &error);
            sent += outcome.bytes_sent;
        }
        double elapsed = now() - start, rows = (double)(rows_per_batch * batches);
        printf("| %s, %s, %s | %.0f | %.2f | %.2f | %.0f |\n", name, table,
            way == 0       ? "plain"
                : way == 1 ? "input()"
                           : "input(), no LZ4",
            rows / elapsed / 1000, (server_cpu() - before_server) / rows * 1e6, (own_cpu() - before_own) / rows * 1e6,
            (double)sent / rows);
    }
    run("TRUNCATE TABLE target");
}

static void time_encoding(const char *name, const char *const *columns, const char *const *pairs)
{
    static struct event events[1000];
    struct config_pair room[32];
    struct config_route route = fixture_route(pairs, room);
    struct relay_error error;
    enum encode_reason reason;
    struct table_schema *schema = fixture_schema(columns);
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    must(encoder != NULL, &error);
    struct native_block *block = row_encoder_block(encoder, &error);
    for (size_t i = 0; i < 1000; i++) {
        make_event(&events[i], i);
    }
    double best = 1e9;
    for (int round = 0; round < 10; round++) {
        native_block_reset(block);
        double start = own_cpu();
        for (size_t i = 0; i < rows_per_batch; i++) {
            must(row_encoder_add(encoder, block, &events[i % 1000].message, &reason, &error), &error);
        }
        double elapsed = own_cpu() - start;
        best = elapsed < best ? elapsed : best;
    }
    printf("| %s | %.3f us a row | %zu B a row in the block | %zu B of JSON |\n", name,
        best / (double)rows_per_batch * 1e6, native_block_bytes(block) / rows_per_batch,
        events[0].message.value_length);
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

static const char *const default_table[] = {"event_id", "UUID", "event_type", "LowCardinality(String)",
    "aggregate_type", "LowCardinality(String)", "aggregate_id", "String", "payload", "String", "created_at",
    "DateTime64(6, 'UTC')", "seq", "UInt64", "kafka_topic", "LowCardinality(String)", "kafka_partition", "Int32",
    "kafka_offset", "Int64", NULL};

static void time_encodings(void)
{
    printf("| encode | cost | | |\n|---|---|---|---|\n");
    time_encoding("default route", default_table, (const char *const[]){NULL});
    time_encoding("12 typed columns",
        (const char *const[]){"id", "UUID", "user", "UInt64", "amount", "Decimal(18, 2)", "currency",
            "LowCardinality(String)", "op", "Int8", "at", "DateTime64(6)", "ok", "Bool", "tags", "Array(String)", "zip",
            "String", "score", "Float64", "note", "String", "trace", "String", NULL},
        (const char *const[]){"id", "$.id", "user", "$.user", "amount", "$.amount", "currency", "$.currency", "op",
            "$.op: insert=1 delete=-1", "at", "$.at", "ok", "$.ok", "tags", "$.tags", "zip", "$.address.zip", "score",
            "$.score", "note", "$.note", "trace", "$.meta.trace", NULL});
}

static void use_database(char *name)
{
    struct relay_error error;
    clickhouse_client_free(client);
    config.clickhouse.database = name;
    client = clickhouse_client_new(&context, &error);
    must(client != NULL, &error);
}

static void create_tables(void)
{
    static char database[] = "formats_bench", none[] = "";
    use_database(none);
    run("DROP DATABASE IF EXISTS formats_bench");
    run("CREATE DATABASE formats_bench");
    use_database(database);
    run("CREATE TABLE target (event_id UUID, event_type LowCardinality(String), aggregate_type LowCardinality(String), "
        "aggregate_id String, payload "
        "String, created_at DateTime64(6, 'UTC'), seq UInt64, kafka_topic LowCardinality(String), kafka_partition "
        "Int32, kafka_offset Int64) ENGINE = "
        "MergeTree PARTITION BY toYYYYMM(created_at) ORDER BY (event_type, created_at, event_id)");
    run("CREATE TABLE nowhere AS target ENGINE = Null");
}

static void time_formats(void)
{
    struct relay_error error;
    struct config_pair room[1];
    struct config_route route = fixture_route((const char *const[]){NULL}, room);
    struct table_schema *schema = fixture_schema(default_table);
    struct row_encoder *encoder = row_encoder_new(&route, schema, NULL, &error);
    must(encoder != NULL, &error);
    struct native_block *block = row_encoder_block(encoder, &error);
    struct clickhouse_text binary = {0}, json = {0};
    struct event event;
    enum encode_reason reason;
    for (size_t i = 0; i < rows_per_batch; i++) {
        make_event(&event, i);
        must(row_encoder_add(encoder, block, &event.message, &reason, &error), &error);
        make_row_binary(&binary, &event);
        make_json_row(&json, &event);
    }
    size_t count;
    const struct iovec *native = native_block_body(block, &count, &error);
    struct iovec binary_body = {binary.at, binary.length}, json_body = {json.at, json.length};
    printf("\n| format, table, way (%zu rows x %zu) | krow/s | server CPU us/row | own CPU us/row | bytes/row on the "
           "wire |\n|---|---|---|---|---|\n",
        rows_per_batch, batches);
    const char *const tables[] = {"target", "nowhere"};
    for (size_t i = 0; i < 2; i++) {
        time_inserts("Native", tables[i], "Native", native, count);
        time_inserts("RowBinary", tables[i], "RowBinary", &binary_body, 1);
        time_inserts("JSONEachRow", tables[i], "JSONEachRow", &json_body, 1);
    }
    clickhouse_text_finish(&binary);
    clickhouse_text_finish(&json);
    native_block_free(block);
    row_encoder_free(encoder);
    table_schema_free(schema);
}

int main(int argc, char **argv)
{
    char *url = getenv("CLICKHOUSE_URL"), *user = getenv("CLICKHOUSE_USER"), *password = getenv("CLICKHOUSE_PASSWORD");
    rows_per_batch = argc > 1 ? strtoul(argv[1], NULL, 10) : rows_per_batch;
    batches = argc > 2 ? strtoul(argv[2], NULL, 10) : batches;
    time_encodings();
    if (!url || !user || !password) {
        printf("CLICKHOUSE_URL is not set: no server, no formats\n");
        return 0;
    }
    config.clickhouse = (struct config_clickhouse){.urls = {.items = &url, .count = 1},
        .user = user,
        .password = password,
        .connect_timeout = DURATION_S(5),
        .request_timeout = DURATION_S(60)};
    context = (struct relay_context){.config = &config, .clock = clock_system(), .instance = "bench"};
    create_tables();
    time_formats();
    run("DROP DATABASE formats_bench");
    clickhouse_client_free(client);
    return 0;
}
