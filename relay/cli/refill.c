// SPDX-License-Identifier: Apache-2.0
//
// Happy path: for each partition among the messages one question for the offsets that are there; the others are encoded
// into one block; one INSERT.
//   The outcome is unknown (cut, timeout): what still runs under our query id is ended on every endpoint, then the
//   table is
//     asked again and only what is missing is sent. A few rounds, with pauses.
//   The server refuses: nothing is guessed; an error with its words. (It may still have stored a part, since rows of
//   several
//     table partitions are not one; a later run finds them by their offsets.)
//   A message does not fit the table: REFUSED with the encoder's reason, the others go on.
#include "relay/cli/refill.h"

#include "relay/base/backoff.h"
#include "relay/insert/clickhouse_text.h"
#include "relay/insert/row_encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 6

struct refill {
    const struct relay_context *context;
    struct clickhouse_client *client;
    struct config_route route; // a shallow copy, its table replaced
    char *table;
    struct table_schema *schema;
    struct row_encoder *encoder;
    struct native_block *block;
    char *statement;
    char name[512];
    uint64_t attempts;
};

static bool compile(struct refill *refill, struct relay_error *error)
{
    const struct clickhouse_request any = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct table_findings findings = {0};
    refill->schema = table_schema_read(refill->client, &any, NULL, refill->table, error);
    if (!refill->schema) {
        return error_prefix(error, "table %s", refill->table);
    }
    snprintf(refill->name, sizeof(refill->name), "%s.%s", refill->schema->database, refill->schema->table);
    if (!refill->schema->has_offset_columns) {
        return error_set(error, RELAY_ERROR_CONFIG,
            "table %s has no columns kafka_topic, kafka_partition and kafka_offset, so what it has already cannot be "
            "known",
            refill->name);
    }
    refill->encoder = row_encoder_new(&refill->route, refill->schema, &findings, error);
    if (!refill->encoder) {
        for (size_t i = 0; i < findings.count; i++) {
            fprintf(stderr, "route %s: %s; %s\n", refill->route.name, findings.items[i].what, findings.items[i].mend);
        }
        table_findings_finish(&findings);
        return error_prefix(error, "route %s does not fit table %s", refill->route.name, refill->name);
    }
    table_findings_finish(&findings);
    refill->block = row_encoder_block(refill->encoder, error);
    refill->statement = refill->block ? row_encoder_statement(refill->encoder, false, NULL, error) : NULL;
    return refill->statement != NULL;
}

struct refill *refill_open(const struct relay_context *context, struct clickhouse_client *client,
    const struct config_route *route, const char *table, struct relay_error *error)
{
    struct refill *refill = calloc(1, sizeof(*refill));
    if (!refill || !(refill->table = strdup(table ? table : route->table))) {
        free(refill);
        error_no_memory(error, "preparing to fill a table");
        return NULL;
    }
    refill->context = context;
    refill->client = client;
    refill->route = *route;
    refill->route.table = refill->table;
    if (compile(refill, error)) {
        return refill;
    }
    refill_close(refill);
    return NULL;
}

void refill_close(struct refill *refill)
{
    if (!refill) {
        return;
    }
    free(refill->statement);
    native_block_free(refill->block);
    row_encoder_free(refill->encoder);
    table_schema_free(refill->schema);
    free(refill->table);
    free(refill);
}

const char *refill_table(const struct refill *refill)
{
    return refill->name;
}

// What is there

static bool same_partition(const struct source_message *a, const struct source_message *b)
{
    return a->partition == b->partition && strcmp(a->topic, b->topic) == 0;
}

static bool build_question(const struct refill *refill, const struct source_message *messages, size_t count,
    size_t first, struct clickhouse_text *text)
{
    const struct source_message *one = &messages[first];
    int64_t low = one->offset, high = one->offset;
    for (size_t i = first; i < count; i++) {
        if (same_partition(&messages[i], one)) {
            low = messages[i].offset < low ? messages[i].offset : low;
            high = messages[i].offset > high ? messages[i].offset : high;
        }
    }
    bool done = clickhouse_text_add(text, "SELECT DISTINCT kafka_offset FROM ") &&
        clickhouse_text_name(text, refill->schema->database) && clickhouse_text_add(text, ".") &&
        clickhouse_text_name(text, refill->schema->table) && clickhouse_text_add(text, " WHERE kafka_topic = ") &&
        clickhouse_text_literal(text, one->topic, strlen(one->topic)) &&
        clickhouse_text_add(text,
            " AND kafka_partition = %d AND kafka_offset >= %lld AND kafka_offset <= %lld AND kafka_offset IN (",
            (int)one->partition, (long long)low, (long long)high);
    for (size_t i = first; done && i < count; i++) {
        if (same_partition(&messages[i], one)) {
            done = clickhouse_text_add(text, i == first ? "%lld" : ",%lld", (long long)messages[i].offset);
        }
    }
    return done && clickhouse_text_add(text, ")");
}

static int by_number(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

// Marks the messages of the partition of messages[first] that the table has.
static bool ask_partition(struct refill *refill, const struct source_message *messages, size_t count, size_t first,
    struct refill_result *results, struct relay_error *error)
{
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_text text = {0};
    struct clickhouse_result *found = NULL;
    int64_t *offsets = NULL;
    bool built = build_question(refill, messages, count, first, &text);
    bool done = built ? clickhouse_query(refill->client, &request, text.at, &found, NULL, error)
                      : error_no_memory(error, "asking a table what it has");
    clickhouse_text_finish(&text);
    if (!done) {
        return false;
    }
    size_t rows = clickhouse_result_rows(found);
    offsets = calloc(rows + 1, sizeof(*offsets));
    if (!offsets) {
        clickhouse_result_free(found);
        return error_no_memory(error, "asking a table what it has");
    }
    for (size_t i = 0; i < rows; i++) {
        offsets[i] = clickhouse_result_int(found, i, 0);
    }
    clickhouse_result_free(found);
    qsort(offsets, rows, sizeof(*offsets), by_number);
    for (size_t i = first; i < count; i++) {
        if (same_partition(&messages[i], &messages[first]) &&
            bsearch(&messages[i].offset, offsets, rows, sizeof(*offsets), by_number)) {
            results[i].state = REFILL_PRESENT;
        }
    }
    free(offsets);
    return true;
}

static bool ask_all(struct refill *refill, const struct source_message *messages, size_t count,
    struct refill_result *results, struct relay_error *error)
{
    for (size_t i = 0; i < count; i++) {
        bool asked = false;
        for (size_t j = 0; j < i && !asked; j++) {
            asked = same_partition(&messages[i], &messages[j]);
        }
        if (!asked && !ask_partition(refill, messages, count, i, results, error)) {
            return false;
        }
    }
    return true;
}

// Sending

static bool encode(struct refill *refill, const struct source_message *messages, size_t count,
    struct refill_result *results, struct relay_error *error)
{
    native_block_reset(refill->block);
    for (size_t i = 0; i < count; i++) {
        if (results[i].state != REFILL_WRITTEN) {
            continue;
        }
        if (!row_encoder_add(refill->encoder, refill->block, &messages[i], &results[i].reason, error)) {
            if (results[i].reason == ENCODE_NONE) {
                return false;
            }
            results[i].state = REFILL_REFUSED;
            snprintf(results[i].text, sizeof(results[i].text), "%s", error->text);
        }
    }
    return true;
}

// Whatever still runs of the attempt is ended, so that the next question has a final answer.
static bool end_attempt(struct refill *refill, const char *query_id, struct relay_error *error)
{
    size_t left = 0;
    for (size_t i = 0; i < clickhouse_client_endpoints(refill->client); i++) {
        if (!clickhouse_kill_query(refill->client, (int)i, query_id, DURATION_S(10), &left, error)) {
            return error_prefix(error, "ending an INSERT of unknown outcome");
        }
    }
    return true;
}

enum sending { SENT, UNCLEAR, NOT_SENT };

static enum sending send_block(struct refill *refill, char query_id[CLICKHOUSE_QUERY_ID_ROOM],
    struct relay_error *error)
{
    struct clickhouse_outcome outcome;
    size_t pieces;
    snprintf(query_id, CLICKHOUSE_QUERY_ID_ROOM, "outbox-relay-refill-%s-%llu", refill->context->instance,
        (unsigned long long)refill->attempts++);
    // The server's own memory of blocks would silently drop one that it has had before, though its rows are gone by
    // now.
    const struct clickhouse_setting settings[] = {{"insert_deduplicate", "0"}};
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .query_id = query_id,
        .settings = settings,
        .setting_count = 1};
    const struct iovec *body = native_block_body(refill->block, &pieces, error);
    if (!body) {
        return NOT_SENT;
    }
    if (clickhouse_insert(refill->client, &request, refill->statement, body, pieces, &outcome, error)) {
        return SENT;
    }
    return error->class == RELAY_CLASS_RETRIABLE || error->class == RELAY_CLASS_UNKNOWN ? UNCLEAR : NOT_SENT;
}

bool refill_write(struct refill *refill, const struct source_message *messages, size_t count, bool dry,
    struct refill_result *results, struct relay_error *error)
{
    struct backoff backoff;
    char query_id[CLICKHOUSE_QUERY_ID_ROOM] = "";
    bool unclear = false;
    backoff_init(&backoff, DURATION_MS(200), DURATION_S(5));
    memset(results, 0, count * sizeof(*results));
    for (int round = 1;; round++) {
        bool known = (!unclear || end_attempt(refill, query_id, error)) &&
            ask_all(refill, messages, count, results, error);
        if (known) {
            if (!encode(refill, messages, count, results, error)) {
                return false;
            }
            if (dry || native_block_rows(refill->block) == 0) {
                return true;
            }
            enum sending sending = send_block(refill, query_id, error);
            if (sending != UNCLEAR) {
                return sending == SENT;
            }
            unclear = true;
        } else if (error->class != RELAY_CLASS_RETRIABLE && error->class != RELAY_CLASS_UNKNOWN) {
            return false;
        }
        if (round == ROUNDS) {
            return false;
        }
        const struct clock *clock = refill->context->clock;
        if (stop_wait(refill->context->stop, clock, mono_add(clock_mono(clock), backoff_next(&backoff)))) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped");
        }
    }
}
