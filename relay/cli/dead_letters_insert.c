// SPDX-License-Identifier: Apache-2.0
//
// Dead letters of the insert stage: rows of ClickHouse that hold the message as the bytes it was. Retry reads the
// letters of a page with their bytes, makes messages of them, lets refill.c put each into its target under its own
// offset, and deletes those that are there now, of many pages at once: each DELETE has its price, however few it takes.
// If we die in between, the next retry finds the row and only deletes. A
// letter whose target no route fills any more, or is not there, or that still does not fit, stays, and stderr says why.
#include "relay/cli/dead_letters.h"

#include "relay/cli/refill.h"
#include "relay/cli/time_argument.h"
#include "relay/config/config_checks.h"
#include "relay/clickhouse/clickhouse_text.h"
#include "relay/insert/dead_letter_block.h"
#include "relay/insert/dead_letter_table.h"
#include "relay/insert/insert_routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_LIMIT   ((size_t)512 << 20)
#define DELETE_TIMEOUT DURATION_S(300)
#define DELETE_KEYS    2000                // of one statement
#define DELETE_BYTES   ((size_t)200 << 10) // below max_query_size, and what Keeper holds of a mutation
#define DELETE_LATEST  DURATION_S(30)

static bool add_literal(struct clickhouse_text *text, const char *value)
{
    return clickhouse_text_literal(text, value, strlen(value));
}

// ('target', 'topic', partition, offset)
static bool add_key(struct clickhouse_text *text, const struct letter_id *id)
{
    return clickhouse_text_add(text, "(") && add_literal(text, id->table) && clickhouse_text_add(text, ", ") &&
        add_literal(text, id->topic) &&
        clickhouse_text_add(text, ", %d, %lld)", (int)id->partition, (long long)id->number);
}

#define KEY_COLUMNS "(target, kafka_topic, kafka_partition, kafka_offset)"
#define TYPE_HEADER "ifNull(arrayFirst(h -> h.1 = 'event_type', headers).2, '')"

static bool add_conditions(struct clickhouse_text *text, const struct letter_filter *filter,
    const struct letter_cursor *cursor)
{
    bool done = clickhouse_text_add(text, "1");
    if (cursor->begun) {
        done = done && clickhouse_text_add(text, " AND " KEY_COLUMNS " > ") && add_key(text, &cursor->last);
    }
    if (cursor->bound.known) {
        done = done &&
            clickhouse_text_add(text, " AND at <= fromUnixTimestamp64Micro(%lld)", (long long)cursor->bound.last);
    }
    if (filter->since_given) {
        done = done &&
            clickhouse_text_add(text, " AND at >= fromUnixTimestamp64Milli(%lld)",
                (long long)(filter->since.us / 1000));
    }
    if (filter->until_given) {
        done = done &&
            clickhouse_text_add(text, " AND at < fromUnixTimestamp64Milli(%lld)", (long long)(filter->until.us / 1000));
    }
    if (filter->type) {
        done = done && clickhouse_text_add(text, " AND " TYPE_HEADER " = ") && add_literal(text, filter->type);
    }
    if (filter->reason) {
        done = done && clickhouse_text_add(text, " AND reason = ") && add_literal(text, filter->reason);
    }
    if (filter->id_count > 0) {
        bool any = false;
        done = done && clickhouse_text_add(text, " AND " KEY_COLUMNS " IN (");
        for (size_t i = 0; done && i < filter->id_count; i++) {
            if (filter->ids[i].stage == LETTER_INSERT) {
                done = clickhouse_text_add(text, any ? ", " : "") && add_key(text, &filter->ids[i]);
                any = true;
            }
        }
        done = done && clickhouse_text_add(text, any ? ")" : "('', '', -1, -1))");
    }
    return done;
}

// A text that JSON can hold, else the bytes in hex.
static json_t *bytes_json(const char *bytes, size_t length)
{
    if (!bytes) {
        return json_null();
    }
    json_t *text = json_stringn(bytes, length);
    if (text) {
        return text;
    }
    char *hex = malloc(2 * length + 7);
    if (!hex) {
        return NULL;
    }
    memcpy(hex, "hex:", 5);
    for (size_t i = 0; i < length; i++) {
        snprintf(hex + 4 + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
    }
    text = json_string(hex);
    free(hex);
    return text;
}

enum { TARGET, TOPIC, PARTITION, OFFSET, AT, TYPE, EVENT_ID, REASON, TEXT, CODE, KEY, VALUE, HEADERS };

static json_t *letter_of(const struct clickhouse_result *rows, size_t row, bool whole)
{
    char id[640];
    const char *cells[HEADERS + 1];
    size_t lengths[HEADERS + 1];
    for (size_t i = 0; i <= HEADERS; i++) {
        cells[i] = clickhouse_result_text(rows, row, i, &lengths[i]);
    }
    snprintf(id, sizeof(id), "insert:%s:%s:%s:%s", cells[TARGET], cells[TOPIC], cells[PARTITION], cells[OFFSET]);
    json_t *letter = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:o, s:i}", "id", id, "stage", "insert", "at",
        cells[AT], "place", cells[TARGET], "event_type", bytes_json(cells[TYPE], lengths[TYPE]), "event_id",
        bytes_json(cells[EVENT_ID], lengths[EVENT_ID]), "reason", cells[REASON], "text",
        bytes_json(cells[TEXT], lengths[TEXT]), "attempts", 1);
    if (letter && whole) {
        json_object_set_new(letter, "code", json_string(cells[CODE]));
        json_object_set_new(letter, "topic", json_string(cells[TOPIC]));
        json_object_set_new(letter, "partition", json_integer(clickhouse_result_int(rows, row, PARTITION)));
        json_object_set_new(letter, "offset", json_integer(clickhouse_result_int(rows, row, OFFSET)));
        json_object_set_new(letter, "key", bytes_json(cells[KEY], lengths[KEY]));
        json_object_set_new(letter, "value", bytes_json(cells[VALUE], lengths[VALUE]));
        json_object_set_new(letter, "headers", bytes_json(cells[HEADERS], lengths[HEADERS]));
    }
    return letter;
}

static void note_key(const struct clickhouse_result *rows, size_t row, struct letter_id *id)
{
    *id = (struct letter_id){.stage = LETTER_INSERT,
        .partition = (int32_t)clickhouse_result_int(rows, row, PARTITION),
        .number = clickhouse_result_int(rows, row, OFFSET)};
    snprintf(id->table, sizeof(id->table), "%s", clickhouse_result_text(rows, row, TARGET, NULL));
    snprintf(id->topic, sizeof(id->topic), "%s", clickhouse_result_text(rows, row, TOPIC, NULL));
}

// Where the table is not there, ClickHouse answers with the whole statement.
static bool explain(const struct relay_context *context, struct relay_error *error)
{
    return clickhouse_error_no_table(error) &&
        error_set(error, RELAY_ERROR_CLICKHOUSE_OPERATOR,
            "table %s does not exist: run `outbox-relay migrate clickhouse up`",
            context->config->insert.dead_letter_table);
}

// By the times that the letters bear, as the servers' clocks gave them: our own clock may differ.
bool insert_letters_bound(const struct relay_context *context, struct clickhouse_client *client,
    struct letter_bound *bound, struct relay_error *error)
{
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_text text = {0};
    struct clickhouse_result *rows = NULL;
    bool done = clickhouse_text_add(&text, "SELECT toUnixTimestamp64Micro(toDateTime64(max(at), 6, 'UTC')) FROM ") &&
        clickhouse_text_table(&text, context->config->insert.dead_letter_table);
    done = done ? clickhouse_query(client, &request, text.at, &rows, NULL, error) || explain(context, error)
                : error_no_memory(error, "reading dead letters");
    if (done) {
        *bound = (struct letter_bound){.known = true, .last = clickhouse_result_int(rows, 0, 0)};
    }
    clickhouse_result_free(rows);
    clickhouse_text_finish(&text);
    return done;
}

bool insert_letters_page(const struct relay_context *context, struct clickhouse_client *client,
    const struct letter_filter *filter, size_t limit, bool whole, struct letter_cursor *cursor, json_t *page,
    struct relay_error *error)
{
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .max_response = ANSWER_LIMIT};
    struct clickhouse_text text = {0};
    struct clickhouse_result *rows = NULL;
    bool done = clickhouse_text_add(&text,
                    "SELECT target, kafka_topic, kafka_partition, kafka_offset, "
                    "formatDateTime(at, '%%Y-%%m-%%dT%%H:%%i:%%SZ', 'UTC'), " TYPE_HEADER ", "
                    "ifNull(arrayFirst(h -> h.1 = 'event_id', headers).2, ''), reason, text, code, %s FROM ",
                    whole ? "key, value, toString(headers)" : "NULL, NULL, ''") &&
        clickhouse_text_table(&text, context->config->insert.dead_letter_table) &&
        clickhouse_text_add(&text, " WHERE ") && add_conditions(&text, filter, cursor) &&
        clickhouse_text_add(&text,
            " ORDER BY target, kafka_topic, kafka_partition, kafka_offset LIMIT 1 BY target, kafka_topic, "
            "kafka_partition, kafka_offset LIMIT %zu",
            limit);
    done = done ? clickhouse_query(client, &request, text.at, &rows, NULL, error) || explain(context, error)
                : error_no_memory(error, "reading dead letters");
    for (size_t i = 0; done && i < clickhouse_result_rows(rows); i++) {
        cursor->begun = true;
        note_key(rows, i, &cursor->last);
        done = json_array_append_new(page, letter_of(rows, i, whole)) == 0 ||
            error_no_memory(error, "reading dead letters");
    }
    clickhouse_result_free(rows);
    clickhouse_text_finish(&text);
    return done;
}

// Retry

struct letter {
    struct letter_id id;
    struct source_message message;
    struct source_header *headers;
    char *header_bytes; // names and values of the headers
};

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// "6E616D65:76616C7565,6E616D65:-" into headers; - is a header without value.
static bool parse_headers(const char *text, struct letter *letter)
{
    size_t count = 1, used = 0;
    if (text[0] == '\0') {
        return true;
    }
    for (const char *at = text; *at != '\0'; at++) {
        count += *at == ',';
    }
    letter->headers = calloc(count, sizeof(*letter->headers));
    letter->header_bytes = malloc(strlen(text) + 2 * count + 1);
    if (!letter->headers || !letter->header_bytes) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct source_header *header = &letter->headers[i];
        header->name = letter->header_bytes + used;
        for (; hex_digit(text[0]) >= 0; text += 2) {
            letter->header_bytes[used++] = (char)(hex_digit(text[0]) * 16 + hex_digit(text[1]));
        }
        letter->header_bytes[used++] = '\0';
        text++; // the colon
        if (*text == '-') {
            text++;
        } else {
            header->value = letter->header_bytes + used;
            for (; hex_digit(text[0]) >= 0; text += 2) {
                letter->header_bytes[used++] = (char)(hex_digit(text[0]) * 16 + hex_digit(text[1]));
                header->length++;
            }
        }
        text += *text == ',';
    }
    letter->message.headers = letter->headers;
    letter->message.header_count = count;
    return true;
}

// Of letters without it (schemas/clickhouse/003), the timestamp of the message was its created_at, which stands in the
// header.
static void take_timestamp(struct source_message *message, const char *milliseconds)
{
    char text[64];
    struct wall_time at;
    const struct source_header *header = source_message_header(message, "created_at");
    message->timestamp_ms = milliseconds ? strtoll(milliseconds, NULL, 10) : -1;
    if (!milliseconds && header && header->value && header->length < sizeof(text)) {
        snprintf(text, sizeof(text), "%.*s", (int)header->length, header->value);
        if (time_argument_parse(text, (struct wall_time){0}, &at, NULL)) {
            message->timestamp_ms = at.us < 0 ? -1 : at.us / 1000;
        }
    }
}

static bool take_letter(const struct clickhouse_result *rows, size_t row, struct letter *letter)
{
    struct source_message *message = &letter->message;
    note_key(rows, row, &letter->id);
    *message = (struct source_message){.topic = letter->id.topic,
        .partition = letter->id.partition,
        .offset = letter->id.number};
    message->key = clickhouse_result_text(rows, row, 4, &message->key_length);
    message->value = clickhouse_result_text(rows, row, 5, &message->value_length);
    message->value_room = message->value_length;
    if (!parse_headers(clickhouse_result_text(rows, row, 6, NULL), letter)) {
        return false;
    }
    take_timestamp(message, clickhouse_result_text(rows, row, 7, NULL));
    return true;
}

static bool add_page_keys(struct clickhouse_text *text, const json_t *page)
{
    size_t i;
    json_t *one;
    struct letter_id id;
    bool done = clickhouse_text_add(text, KEY_COLUMNS " IN (");
    json_array_foreach(page, i, one)
    {
        done = done && letter_id_parse(json_string_value(json_object_get(one, "id")), &id, NULL) &&
            clickhouse_text_add(text, i > 0 ? ", " : "") && add_key(text, &id);
    }
    return done && clickhouse_text_add(text, ")");
}

static struct clickhouse_result *read_bytes(const struct relay_context *context, struct clickhouse_client *client,
    const json_t *page, struct relay_error *error)
{
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT, .max_response = ANSWER_LIMIT};
    const char *table = context->config->insert.dead_letter_table;
    struct clickhouse_text text = {0};
    struct clickhouse_result *rows = NULL;
    struct dead_letter_table found;
    if (!dead_letter_table_read(client, &request, table, &found, error)) {
        return NULL;
    }
    bool done =
        clickhouse_text_add(&text,
            "SELECT target, kafka_topic, kafka_partition, kafka_offset, key, value, "
            "arrayStringConcat(arrayMap(h -> concat(hex(h.1), ':', ifNull(hex(h.2), '-')), headers), ','), %s FROM ",
            found.has_timestamp ? "toUnixTimestamp64Milli(" DEAD_LETTER_TIMESTAMP ")" : "NULL") &&
        clickhouse_text_table(&text, context->config->insert.dead_letter_table) &&
        clickhouse_text_add(&text, " WHERE ") && add_page_keys(&text, page) &&
        clickhouse_text_add(&text,
            " ORDER BY target, kafka_topic, kafka_partition, kafka_offset LIMIT 1 BY target, "
            "kafka_topic, kafka_partition, kafka_offset");
    if (!done) {
        error_no_memory(error, "reading dead letters");
    } else {
        clickhouse_query(client, &request, text.at, &rows, NULL, error);
    }
    clickhouse_text_finish(&text);
    return rows;
}

// form: of the statement, around table and conditions.
static bool run_delete(const struct relay_context *context, struct clickhouse_client *client, const char *const form[2],
    const struct clickhouse_text *conditions, struct clickhouse_outcome *outcome, struct relay_error *error)
{
    // Waits for it on every replica: a letter that was put back must not come back itself. In 23.3 to 24.3 the first
    // setting is for both forms.
    const struct clickhouse_setting settings[] = {{"mutations_sync", "2"}, {"lightweight_deletes_sync", "2"}};
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT,
        .timeout = DELETE_TIMEOUT,
        .while_stopping = true,
        .settings = settings,
        .setting_count = 2};
    struct clickhouse_text text = {0};
    bool done = clickhouse_text_add(&text, "%s", form[0]) &&
        clickhouse_text_table(&text, context->config->insert.dead_letter_table) &&
        clickhouse_text_add(&text, "%s", form[1]) && clickhouse_text_bytes(&text, conditions->at, conditions->length);
    done = done ? clickhouse_query(client, &request, text.at, NULL, outcome, error)
                : error_no_memory(error, "deleting dead letters");
    clickhouse_text_finish(&text);
    return done;
}

static bool delete_refused(const struct relay_context *context, const struct clickhouse_outcome *outcome,
    struct relay_error *error)
{
    if (outcome->exception_code == CLICKHOUSE_CODE_ACCESS_DENIED) {
        return error_prefix(error,
            "user %s may not delete dead letters; GRANT outbox_operator TO a user (the daemon's has no such right), "
            "and name that in OUTBOX_RELAY_CLICKHOUSE_USER",
            context->config->clickhouse.user);
    }
    return error_prefix(error, "deleting dead letters");
}

// DELETE marks rows, which stay on the disk until a merge that need never come. This form writes each part anew without
// them.
static const char *const heavy[2] = {"ALTER TABLE ", " DELETE WHERE "};

static bool remove_where(const struct relay_context *context, struct clickhouse_client *client,
    const struct clickhouse_text *conditions, struct relay_error *error)
{
    struct clickhouse_outcome outcome = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    return run_delete(context, client, heavy, conditions, &outcome, error) || delete_refused(context, &outcome, error);
}

// Of what its table has now: marking is enough, and costs less. The other form is for servers before 23.3, and for
// tables that refuse the first (with projections), which they do with codes that speak of nothing else here.
static bool mark_where(const struct relay_context *context, struct clickhouse_client *client,
    const struct clickhouse_text *conditions, struct relay_error *error)
{
    static const char *const light[2] = {"DELETE FROM ", " WHERE "};
    struct clickhouse_outcome outcome = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    return run_delete(context, client, light, conditions, &outcome, error) ||
        (outcome.failure == CLICKHOUSE_UNKNOWN_CODE &&
            run_delete(context, client, heavy, conditions, &outcome, error)) ||
        delete_refused(context, &outcome, error);
}

// The route that fills the target from the topic, as the insert stage chooses it; NULL: none any more.
static const struct config_route *route_of(const struct insert_routes *routes, const struct letter_id *id)
{
    char table[sizeof(id->table)]; // older letters have it in the backticks of the configuration
    snprintf(table, sizeof(table), "%s", id->table);
    config_plain_clickhouse_table(table);
    for (size_t i = 0; i < insert_routes_count(routes); i++) {
        if (insert_routes_fills(routes, i, table) && insert_routes_match(routes, i, id->topic)) {
            return insert_routes_at(routes, i);
        }
    }
    return NULL;
}

struct insert_retry {
    const struct relay_context *context;
    struct clickhouse_client *client;
    struct insert_routes *routes;
    const struct config_route *filled; // refill's
    struct refill *refill;
    struct letter_counts *counts;     // of the page
    struct clickhouse_text done_keys; // of what is in its table now
    size_t done_count;
    struct mono_time delete_at; // of the first of them
};

struct insert_retry *insert_retry_open(const struct relay_context *context, struct clickhouse_client *client,
    struct relay_error *error)
{
    struct insert_retry *retry = calloc(1, sizeof(*retry));
    if (!retry) {
        error_no_memory(error, "retrying dead letters");
        return NULL;
    }
    *retry = (struct insert_retry){.context = context,
        .client = client,
        .routes = insert_routes_new(context->config, error)};
    if (!retry->routes) {
        free(retry);
        return NULL;
    }
    return retry;
}

static bool note_done(struct insert_retry *retry, const struct letter_id *id)
{
    if (retry->done_count++ == 0) {
        retry->delete_at = mono_add(clock_mono(retry->context->clock), DELETE_LATEST);
    }
    return clickhouse_text_add(&retry->done_keys, retry->done_count == 1 ? KEY_COLUMNS " IN (" : ", ") &&
        add_key(&retry->done_keys, id);
}

static bool delete_done(struct insert_retry *retry, struct relay_error *error)
{
    bool done = retry->done_count == 0 ||
        (clickhouse_text_add(&retry->done_keys, ")")
                ? mark_where(retry->context, retry->client, &retry->done_keys, error)
                : error_no_memory(error, "deleting dead letters")) ||
        error_prefix(error, "the rows are in their tables, but their dead letters stay; the next retry deletes them");
    clickhouse_text_reset(&retry->done_keys);
    retry->done_count = 0;
    return done;
}

bool insert_retry_close(struct insert_retry *retry, struct relay_error *error)
{
    bool done = delete_done(retry, error);
    clickhouse_text_finish(&retry->done_keys);
    refill_close(retry->refill);
    insert_routes_free(retry->routes);
    free(retry);
    return done;
}

// Of the page before, mostly.
static bool open_refill(struct insert_retry *retry, const struct config_route *route, struct relay_error *error)
{
    if (!retry->refill || retry->filled != route) {
        refill_close(retry->refill);
        retry->refill = refill_open(retry->context, retry->client, route, NULL, error);
        retry->filled = route;
    }
    return retry->refill != NULL;
}

// Letters of one target and one route.
static bool retry_group(struct insert_retry *retry, const struct config_route *route, const struct letter *letters,
    size_t count, struct relay_error *error)
{
    if (!open_refill(retry, route, error)) {
        return false;
    }
    bool done = false;
    struct source_message *messages = calloc(count, sizeof(*messages));
    struct refill_result *results = calloc(count, sizeof(*results));
    if (!messages || !results) {
        error_no_memory(error, "retrying dead letters");
        goto group_held;
    }
    for (size_t i = 0; i < count; i++) {
        messages[i] = letters[i].message;
    }
    if (!refill_write(retry->refill, messages, count, false, results, error)) {
        retry->filled = NULL; // the table may have changed
        goto group_held;
    }
    done = true;
    for (size_t i = 0; done && i < count; i++) {
        if (results[i].state == REFILL_REFUSED || results[i].views_behind) {
            const struct letter_id *id = &letters[i].id;
            fprintf(stderr, "insert:%s:%s:%d:%lld stays: %s\n", id->table, id->topic, (int)id->partition,
                (long long)id->number, results[i].views_behind ? "views may lack it" : results[i].text);
            retry->counts->left++;
        } else {
            retry->counts->done += results[i].state == REFILL_WRITTEN || results[i].state == REFILL_SKIPPED;
            retry->counts->present += results[i].state == REFILL_PRESENT;
            done = note_done(retry, &letters[i].id) || error_no_memory(error, "retrying dead letters");
        }
    }
group_held:
    free(results);
    free(messages);
    return done;
}

static bool retry_letters(struct insert_retry *retry, const struct letter *letters, size_t count,
    struct relay_error *error)
{
    for (size_t first = 0, next; first < count; first = next) {
        const struct config_route *route = route_of(retry->routes, &letters[first].id);
        for (next = first + 1; next < count && next - first < REFILL_MAX &&
             strcmp(letters[next].id.table, letters[first].id.table) == 0 &&
             route_of(retry->routes, &letters[next].id) == route;) {
            next++;
        }
        if (!route) {
            fprintf(stderr, "%zu dead letters of %s from topic %s stay: no enabled route fills it from there\n",
                next - first, letters[first].id.table, letters[first].id.topic);
            retry->counts->left += next - first;
        } else if (retry_group(retry, route, letters + first, next - first, error)) {
            continue;
        } else if (error->class == RELAY_CLASS_OPERATOR) { // of this table; the others need not be so
            fprintf(stderr, "%zu dead letters of %s stay: %s\n", next - first, letters[first].id.table, error->text);
            retry->counts->left += next - first;
        } else {
            retry->counts->left += count - first;
            return false;
        }
    }
    return true;
}

bool insert_retry_page(struct insert_retry *retry, const json_t *page, struct letter_counts *counts,
    struct relay_error *error)
{
    bool done = false;
    struct clickhouse_result *rows = read_bytes(retry->context, retry->client, page, error);
    if (!rows) {
        return false;
    }
    size_t count = clickhouse_result_rows(rows);
    struct letter *letters = calloc(count + 1, sizeof(*letters));
    done = letters != NULL;
    for (size_t i = 0; done && i < count; i++) {
        done = take_letter(rows, i, &letters[i]);
    }
    if (!done) {
        error_no_memory(error, "retrying dead letters");
        goto rows_held;
    }
    retry->counts = counts;
    done = retry_letters(retry, letters, count, error);
    if (done &&
        (retry->done_count >= DELETE_KEYS || retry->done_keys.length >= DELETE_BYTES ||
            (retry->done_count > 0 && mono_reached(clock_mono(retry->context->clock), retry->delete_at)))) {
        done = delete_done(retry, error);
    }
rows_held:
    for (size_t i = 0; letters && i < count; i++) {
        free(letters[i].headers);
        free(letters[i].header_bytes);
    }
    free(letters);
    clickhouse_result_free(rows);
    return done;
}

// Drop

bool insert_letters_drop(const struct relay_context *context, struct clickhouse_client *client, const json_t *page,
    struct relay_error *error)
{
    struct clickhouse_text keys = {0};
    bool done = add_page_keys(&keys, page) ? remove_where(context, client, &keys, error)
                                           : error_no_memory(error, "deleting dead letters");
    clickhouse_text_finish(&keys);
    return done;
}

static bool count_letters(const struct relay_context *context, struct clickhouse_client *client,
    const struct clickhouse_text *conditions, size_t *count, struct relay_error *error)
{
    const struct clickhouse_request request = {.endpoint = CLICKHOUSE_ANY_ENDPOINT};
    struct clickhouse_text text = {0};
    struct clickhouse_result *rows = NULL;
    bool done = clickhouse_text_add(&text, "SELECT uniqExact" KEY_COLUMNS " FROM ") &&
        clickhouse_text_table(&text, context->config->insert.dead_letter_table) &&
        clickhouse_text_add(&text, " WHERE ") && clickhouse_text_bytes(&text, conditions->at, conditions->length);
    done = done ? clickhouse_query(client, &request, text.at, &rows, NULL, error) || explain(context, error)
                : error_no_memory(error, "counting dead letters");
    *count = done ? (size_t)clickhouse_result_int(rows, 0, 0) : 0;
    clickhouse_result_free(rows);
    clickhouse_text_finish(&text);
    return done;
}

bool insert_letters_drop_all(const struct relay_context *context, struct clickhouse_client *client,
    const struct letter_filter *filter, const struct letter_bound *bound, size_t *count, struct relay_error *error)
{
    const struct letter_cursor everything = {.bound = *bound};
    struct clickhouse_text conditions = {0};
    *count = 0;
    bool done = add_conditions(&conditions, filter, &everything)
        ? count_letters(context, client, &conditions, count, error) &&
            (*count == 0 || remove_where(context, client, &conditions, error))
        : error_no_memory(error, "deleting dead letters");
    clickhouse_text_finish(&conditions);
    return done;
}
