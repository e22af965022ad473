// SPDX-License-Identifier: Apache-2.0
#include "relay/json/json_reader.h"
#include "relay/publish/event_router.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIEW(text) ((struct text_view){text, sizeof(text) - 1})
#define NONE       ((struct text_view){0})

static char topic[] = "{prefix}.{event_type:1}.events", prefix[] = "nova", key[] = "{aggregate_id}",
            payload_column[] = "payload";
static char name_a[] = "correlation_id", name_b[] = "traceparent", name_c[] = "a \"b\\";
static char *names[] = {name_a, name_b, name_c};
static char column_a[] = "tenant", column_b[] = "amount", alias_a[] = "tenant_id", alias_b[] = "amount";

static struct config_outbox outbox, others[2];
static struct config config;
static struct event_router *router;
static struct event_arena *arena;
static struct relay_error error;
static struct routed_event event;
static enum publish_reason reason;

static void set_up(void)
{
    outbox = (struct config_outbox){
        .publish = {.topic = topic, .prefix = prefix, .key = key, .metadata_headers = {names, 3}}};
    outbox.columns[CONFIG_COLUMN_PAYLOAD] = payload_column;
    static char receipts[] = "receipts", other_receipts[] = "other.receipts", letters[] = "dead.letters";
    others[0].publish.receipt_topic = receipts;
    others[1].publish.receipt_topic = other_receipts;
    config = (struct config){.outboxes = others, .outbox_count = 2, .insert = {.dead_letter_topic = letters}};
    arena = event_arena_new(1 << 20);
    router = NULL;
}

static void tear_down(void)
{
    event_router_free(router);
    event_arena_free(arena);
}

TestSuite(event_router, .init = set_up, .fini = tear_down);

static struct outbox_row a_row(void)
{
    return (struct outbox_row){.seq = 184467,
        .id = VIEW("6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10"),
        .key = VIEW("0b9f"),
        .type = VIEW("post.created"),
        .aggregate_type = VIEW("post"),
        .payload = VIEW("{\"a\": 1}"),
        .created_at_kind = CREATED_AT_FINITE,
        .created_at_us = 1768471200123456};
}

static enum route_result route(const struct outbox_row *row)
{
    if (!router) {
        router = event_router_new(&config, &outbox, &error);
        cr_assert_not_null(router, "%s", error.text);
    }
    return event_router_route(router, row, arena, &event, &reason, &error);
}

static void routed(const struct outbox_row *row)
{
    enum route_result result = route(row);
    cr_assert_eq(result, ROUTE_OK, "%d, %s: %s", result, publish_reason_name(reason), error.text);
    cr_assert_eq(reason, PUBLISH_REASON_NONE);
    cr_assert_eq(event.size, event_record_size(&event));
}

static void poisoned(const struct outbox_row *row, enum publish_reason expected, const char *text)
{
    cr_assert_eq(route(row), ROUTE_POISON, "expected: %s", text);
    cr_assert_eq(reason, expected, "%s: %s", publish_reason_name(reason), error.text);
    cr_assert(error.code == RELAY_ERROR_ROUTE && error.class == RELAY_CLASS_POISON);
    cr_assert(strstr(error.text, text), "'%s' instead of '%s'", error.text, text);
}

static void same(struct text_view view, const char *expected, const char *what)
{
    if (!expected) {
        cr_assert_null(view.at, "%s: '%.*s'", what, (int)view.length, view.at);
        return;
    }
    cr_assert_not_null(view.at, "%s is NULL", what);
    cr_assert(view.length == strlen(expected) && memcmp(view.at, expected, view.length) == 0,
        "%s: '%.*s' instead of '%s'", what, (int)view.length, view.at, expected);
}

static struct text_view header(const char *name)
{
    struct text_view found = {0};
    for (size_t i = 0; i < event.header_count; i++) {
        cr_assert_eq(strlen(event.headers[i].name), event.headers[i].name_length);
        cr_assert_not_null(event.headers[i].value.at);
        if (strcmp(event.headers[i].name, name) == 0) {
            cr_assert_null(found.at, "%s twice", name);
            found = event.headers[i].value;
        }
    }
    return found;
}

Test(event_router, an_ordinary_row)
{
    struct outbox_row row = a_row();
    row.metadata = VIEW("{\"correlation_id\": \"7d1e\", \"other\": 1}");
    routed(&row);
    cr_assert_str_eq(event.topic, "nova.post.events");
    cr_assert_eq(event.topic_length, 16);
    same(event.key, "0b9f", "key");
    cr_assert_eq(event.value.at, row.payload.at, "the payload's own bytes");
    cr_assert_eq(event.value.length, row.payload.length);
    cr_assert_eq(event.timestamp_ms, 1768471200123);
    cr_assert_eq(event.partition, -1);
    cr_assert_eq(event.header_count, 7);
    same(header("event_id"), "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10", "event_id");
    same(header("event_type"), "post.created", "event_type");
    same(header("aggregate_type"), "post", "aggregate_type");
    same(header("aggregate_id"), "0b9f", "aggregate_id");
    same(header("created_at"), "2026-01-15T10:00:00.123456Z", "created_at");
    same(header("seq"), "184467", "seq");
    same(header("correlation_id"), "7d1e", "correlation_id");
}

Test(event_router, topics_that_kafka_does_not_allow)
{
    static char long_type[400];
    memset(long_type, 'x', 300);
    static const struct {
        const char *topic, *type, *text;
        enum publish_reason reason;
    } cases[] = {
        {topic, "", "event_type '' has no part 1", PUBLISH_REASON_BAD_TOPIC},
        {topic, "...", "has no part 1", PUBLISH_REASON_BAD_TOPIC},
        {topic, NULL, "event_type is NULL; topic = {prefix}.{event_type:1}.events needs it", PUBLISH_REASON_NULL_TYPE},
        {topic, "a b.c", "has ' ' at byte 7", PUBLISH_REASON_BAD_TOPIC},
        {topic, "bestätigt", "has 'ä' at byte 10", PUBLISH_REASON_BAD_TOPIC},
        {topic, "a/b", "has '/'", PUBLISH_REASON_BAD_TOPIC},
        {topic, "a\nb", "has ' ' at", PUBLISH_REASON_BAD_TOPIC},
        {topic, long_type, "has 312 characters; Kafka allows 1 to 249", PUBLISH_REASON_BAD_TOPIC},
        {"{event_type}", "", "event_type is empty", PUBLISH_REASON_BAD_TOPIC},
        {"{event_type}", ".", "'.' is a name", PUBLISH_REASON_BAD_TOPIC},
        {"{event_type}", "..", "'..' is a name", PUBLISH_REASON_BAD_TOPIC},
        {"{event_type:2}", "post", "no part 2", PUBLISH_REASON_BAD_TOPIC},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char written[64];
        snprintf(written, sizeof(written), "%s", cases[i].topic);
        outbox.publish.topic = written;
        event_router_free(router);
        router = NULL;
        struct outbox_row row = a_row();
        row.type = (struct text_view){cases[i].type, cases[i].type ? strlen(cases[i].type) : 0};
        poisoned(&row, cases[i].reason, cases[i].text);
    }
}

Test(event_router, topics_at_the_limits)
{
    char name[260];
    memset(name, 'a', sizeof(name));
    cr_assert(event_topic_check(name, 249, &error));
    cr_assert_not(event_topic_check(name, 250, &error));
    cr_assert_not(event_topic_check(name, 0, &error));
    cr_assert(event_topic_check("...", 3, &error));
    cr_assert(event_topic_check(".a", 2, &error));
    cr_assert(event_topic_check("A-z_0.9", 7, &error));
    cr_assert_not(event_topic_check("a\0b", 3, &error));
    cr_assert_not(event_topic_check("\xff", 1, &error));
    snprintf(name, sizeof(name), "%063dä%0100d", 0, 0);
    cr_assert_not(event_topic_check(name, strlen(name), &error));
    cr_assert(strstr(error.text, "000...' has 'ä' at byte 64"), "%s", error.text);
}

Test(event_router, the_key_follows_its_template_and_a_null_column_makes_none)
{
    struct outbox_row row = a_row();
    row.key = NONE;
    routed(&row);
    same(event.key, NULL, "a NULL key");
    same(header("aggregate_id"), NULL, "aggregate_id");
    row.key = VIEW("");
    routed(&row);
    same(event.key, "", "an empty key is a key");
    event_router_free(router);
    router = NULL;
    char pair[] = "{aggregate_type}:{aggregate_id}";
    outbox.publish.key = pair;
    row.key = VIEW("7");
    routed(&row);
    same(event.key, "post:7", "two columns");
    row.aggregate_type = NONE;
    routed(&row);
    same(event.key, NULL, "one of two is NULL");
    event_router_free(router);
    router = NULL;
    char part[] = "{event_type:3}";
    outbox.publish.key = part;
    poisoned(&row, PUBLISH_REASON_BAD_KEY,
        "event_type 'post.created' has no part 3 between dots, or an empty one; key = {event_type:3}");
}

Test(event_router, an_empty_payload_is_null_text_or_a_tombstone)
{
    struct outbox_row row = a_row();
    row.payload = NONE;
    routed(&row);
    same(event.value, "null", "SQL NULL is no tombstone unless asked for");
    row.payload = VIEW("null");
    routed(&row);
    same(event.value, "null", "JSON null");
    event_router_free(router);
    router = NULL;
    outbox.publish.tombstone_on_empty = true;
    static const struct {
        struct text_view payload;
        const char *value;
    } cases[] = {{{0}, NULL}, {VIEW("null"), NULL}, {VIEW(" null\n"), NULL}, {VIEW("\"null\""), "\"null\""},
        {VIEW("{}"), "{}"}, {VIEW(""), NULL}, {VIEW("nul"), "nul"}, {VIEW(" \n "), NULL}, {VIEW("[null]"), "[null]"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        row.payload = cases[i].payload;
        routed(&row);
        same(event.value, cases[i].value, "with tombstone_on_empty");
    }
    row.key = NONE;
    routed(&row);
    row.payload = NONE;
    poisoned(&row, PUBLISH_REASON_NO_KEY, "a tombstone needs a key; key = {aggregate_id}");
}

// A Protobuf message of defaults has no bytes, and ` \n` is one whose field 4 is 10.
Test(event_router, of_bytes_only_null_is_a_tombstone)
{
    static const struct text_view payloads[] = {{"", 0}, {" \n", 2}, {"null", 4}, {" ", 1}};
    struct outbox_row row = a_row();
    row.payload_bytes = true;
    row.payload = NONE;
    routed(&row);
    same(event.value, "", "no JSON text among bytes, and no tombstone unless asked for");
    outbox.publish.tombstone_on_empty = true; // read anew with each row
    routed(&row);
    same(event.value, NULL, "SQL NULL");
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        row.payload = payloads[i];
        routed(&row);
        same(event.value, payloads[i].at, "bytes are never blank");
    }
}

Test(event_router, created_at_becomes_timestamp_and_header_where_they_can_hold_it)
{
    static const struct {
        enum created_at_kind kind;
        int64_t us, ms;
        const char *text;
    } cases[] = {
        {CREATED_AT_FINITE, 1000, 1, "1970-01-01T00:00:00.001000Z"},
        {CREATED_AT_FINITE, 999, 0, "1970-01-01T00:00:00.000999Z"},
        {CREATED_AT_FINITE, 0, 0, "1970-01-01T00:00:00.000000Z"},
        {CREATED_AT_FINITE, -1, 0, "1969-12-31T23:59:59.999999Z"},
        {CREATED_AT_FINITE, -62135596800000000, 0, "0001-01-01T00:00:00.000000Z"},
        {CREATED_AT_FINITE, -62135596800000001, 0, NULL},
        {CREATED_AT_FINITE, 253402300799999999, 253402300799999, "9999-12-31T23:59:59.999999Z"},
        {CREATED_AT_FINITE, 253402300800000000, 253402300800000, NULL},
        {CREATED_AT_INFINITY, 5, 0, NULL},
        {CREATED_AT_MINUS_INFINITY, 5, 0, NULL},
        {CREATED_AT_NONE, 5, 0, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outbox_row row = a_row();
        row.created_at_kind = cases[i].kind;
        row.created_at_us = cases[i].us;
        routed(&row);
        cr_assert_eq(event.timestamp_ms, cases[i].ms, "case %zu: %lld", i, (long long)event.timestamp_ms);
        same(header("created_at"), cases[i].text, "created_at");
    }
}

Test(event_router, members_of_the_metadata_become_headers)
{
    static const struct {
        struct text_view metadata;
        const char *correlation, *parent, *odd;
    } cases[] = {
        {{0}, NULL, NULL, NULL},
        {VIEW("null"), NULL, NULL, NULL},
        {VIEW("[\"correlation_id\"]"), NULL, NULL, NULL},
        {VIEW("7"), NULL, NULL, NULL},
        {VIEW("not JSON"), NULL, NULL, NULL},
        {VIEW(""), NULL, NULL, NULL},
        {VIEW("{\"correlation_id\": \"x\""), NULL, NULL, NULL},
        {VIEW("{\"correlation_id\": null, \"traceparent\": 12.50}"), NULL, "12.50", NULL},
        {VIEW("{\"correlation_id\": \"gr\\u00fc\\u00df\\n\\\"\", \"traceparent\": {\"a\": [1, 2]}}"), "grüß\n\"",
            "{\"a\": [1, 2]}", NULL},
        {VIEW("{\"correlation_id\": true, \"traceparent\": \"\"}"), "true", "", NULL},
        {VIEW("{\"deep\": {\"correlation_id\": \"no\"}, \"a \\\"b\\\\\": \"yes\"}"), NULL, NULL, "yes"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outbox_row row = a_row();
        row.metadata = cases[i].metadata;
        routed(&row);
        same(header("correlation_id"), cases[i].correlation, "correlation_id");
        same(header("traceparent"), cases[i].parent, "traceparent");
        same(header(name_c), cases[i].odd, "an odd name");
    }
}

Test(event_router, additional_columns_as_headers_and_partition)
{
    struct config_additional additional[] = {{column_a, CONFIG_PLACE_HEADER, alias_a},
        {column_b, CONFIG_PLACE_PARTITION, alias_b}};
    outbox.publish.additional = additional;
    outbox.publish.additional_count = 2;
    struct text_view values[] = {VIEW("acme"), VIEW("3")};
    struct outbox_row row = a_row();
    row.additional = values;
    routed(&row);
    same(header("tenant_id"), "acme", "tenant_id");
    same(header("amount"), NULL, "the partition is no header");
    cr_assert_eq(event.partition, 3);
    values[0] = values[1] = NONE;
    routed(&row);
    same(header("tenant_id"), NULL, "NULL");
    cr_assert_eq(event.partition, -1);
    static const struct text_view bad[] = {VIEW("-1"), VIEW(""), VIEW("2147483648"), VIEW("3.5"), VIEW("x"),
        VIEW("99999999999999999999")};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        values[1] = bad[i];
        poisoned(&row, PUBLISH_REASON_BAD_PARTITION, "column amount is '");
    }
}

Test(event_router, the_envelope)
{
    struct config_additional additional[] = {{column_a, CONFIG_PLACE_ENVELOPE, alias_a},
        {column_b, CONFIG_PLACE_ENVELOPE, alias_b}};
    outbox.publish.value = CONFIG_VALUE_ENVELOPE;
    outbox.publish.additional = additional;
    outbox.publish.additional_count = 2;
    struct text_view values[] = {VIEW("a\"\\\b\t\n\x01\x1fü"), VIEW("12.50")};
    uint32_t types[] = {25, 1700};
    struct outbox_row row = a_row();
    row.additional = values;
    row.additional_types = types;
    routed(&row);
    same(event.value,
        "{\"id\":\"6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10\",\"type\":\"post.created\",\"aggregate_type\":\"post\","
        "\"aggregate_id\":\"0b9f\","
        "\"created_at\":\"2026-01-15T10:00:00.123456Z\",\"seq\":184467,\"tenant_id\":"
        "\"a\\\"\\\\\\b\\t\\n\\u0001\\u001fü\","
        "\"amount\":12.50,\"payload\":{\"a\": 1}}",
        "all members");
    row.additional_types = NULL;
    row.payload = row.aggregate_type = row.key = row.id = values[0] = NONE;
    row.created_at_kind = CREATED_AT_INFINITY;
    row.seq = INT64_MIN;
    routed(&row);
    same(event.value,
        "{\"id\":null,\"type\":\"post.created\",\"aggregate_type\":null,\"aggregate_id\":null,\"created_at\":null,"
        "\"seq\":-9223372036854775808,\"tenant_id\":null,\"amount\":\"12.50\",\"payload\":null}",
        "NULLs");
    same(header("seq"), "-9223372036854775808", "seq");
}

Test(event_router, types_in_the_envelope)
{
    struct config_additional additional[] = {{column_b, CONFIG_PLACE_ENVELOPE, alias_b}};
    outbox.publish.value = CONFIG_VALUE_ENVELOPE;
    outbox.publish.additional = additional;
    outbox.publish.additional_count = 1;
    static const struct {
        uint32_t type;
        struct text_view text;
        const char *expected;
    } cases[] = {
        {16, VIEW("t"), "true"},
        {16, VIEW("f"), "false"},
        {16, {0}, "null"},
        {20, VIEW("-7"), "-7"},
        {1700, VIEW("NaN"), "\"NaN\""},
        {701, VIEW("-Infinity"), "\"-Infinity\""},
        {701, VIEW("1e+20"), "1e+20"},
        {3802, VIEW("{\"x\": [1]}"), "{\"x\": [1]}"},
        {3802, {0}, "null"},
        {114, VIEW("null"), "null"},
        {23, {0}, "null"},
        {2950, VIEW("6f1c"), "\"6f1c\""},
        {25, VIEW("7"), "\"7\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outbox_row row = a_row();
        row.additional = &cases[i].text;
        row.additional_types = &cases[i].type;
        routed(&row);
        char member[80];
        snprintf(member, sizeof(member), ",\"amount\":%s,\"payload\":{\"a\": 1}}", cases[i].expected);
        size_t length = strlen(member);
        cr_assert(event.value.length > length &&
                memcmp(event.value.at + event.value.length - length, member, length) == 0,
            "%.*s", (int)event.value.length, event.value.at);
    }
}

static size_t held_without_arena(void)
{
    event_arena_free(arena);
    size_t held = mallinfo2().uordblks + mallinfo2().hblkhd;
    arena = event_arena_new(0);
    return held;
}

Test(event_router, what_large_documents_took_comes_back)
{
    const size_t length = 4 << 20;
    char *large = malloc(length);
    cr_assert_not_null(large);
    memset(large, ' ', length);
    memcpy(large, "{", 1);
    memcpy(large + length - 1, "}", 1);
    outbox.publish.value = CONFIG_VALUE_ENVELOPE;
    struct outbox_row row = a_row();
    routed(&row);
    size_t before = held_without_arena();
    row.payload = row.metadata = (struct text_view){large, length};
    routed(&row);
    cr_assert_leq(held_without_arena(), before + 65536, "metadata, the last that was read");
    row.metadata = NONE;
    routed(&row);
    cr_assert_leq(held_without_arena(), before + 65536, "the payload");
    free(large);
}

Test(event_router, payloads_that_cannot_stand_in_an_envelope)
{
    outbox.publish.value = CONFIG_VALUE_ENVELOPE;
    static const struct text_view bad[] = {VIEW(""), VIEW("{"), VIEW("hello"), VIEW("1 2"),
        VIEW("{\"a\": 1}, \"id\": \"forged\""), VIEW("\"\xff\"")};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct outbox_row row = a_row();
        row.payload = bad[i];
        poisoned(&row, PUBLISH_REASON_BAD_PAYLOAD, "column payload, ");
        cr_assert_not(strstr(error.text, "forged"), "payloads do not belong into messages");
    }
    struct outbox_row row = a_row();
    row.payload = VIEW("\"text\"");
    routed(&row);
    outbox.publish.tombstone_on_empty = true; // read anew with each row
    row.payload = VIEW("null");
    routed(&row);
    same(event.value, NULL, "the whole record is the tombstone");
}

Test(event_router, settings_that_do_not_fit)
{
    static char event_id[] = "event_id", payload[] = "payload", bad_topic[] = "{x}", empty[] = "";
    static const struct {
        struct config_additional additional[2];
        size_t count;
        enum config_value value;
        const char *text;
    } cases[] = {
        {{{column_a, CONFIG_PLACE_ENVELOPE, alias_a}}, 1, CONFIG_VALUE_PAYLOAD,
            "additional: tenant:envelope needs value = envelope"},
        {{{column_a, CONFIG_PLACE_HEADER, event_id}}, 1, CONFIG_VALUE_PAYLOAD, "event_id is the relay's own"},
        {{{column_a, CONFIG_PLACE_HEADER, name_a}}, 1, CONFIG_VALUE_PAYLOAD, "two headers are called correlation_id"},
        {{{column_a, CONFIG_PLACE_HEADER, alias_a}, {column_b, CONFIG_PLACE_HEADER, alias_a}}, 2, CONFIG_VALUE_PAYLOAD,
            "two headers"},
        {{{column_a, CONFIG_PLACE_HEADER, empty}}, 1, CONFIG_VALUE_PAYLOAD, "without a name"},
        {{{column_a, CONFIG_PLACE_ENVELOPE, payload}}, 1, CONFIG_VALUE_ENVELOPE, "payload is the relay's own"},
        {{{column_a, CONFIG_PLACE_ENVELOPE, alias_a}, {column_b, CONFIG_PLACE_ENVELOPE, alias_a}}, 2,
            CONFIG_VALUE_ENVELOPE, "two members"},
        {{{column_a, CONFIG_PLACE_PARTITION, alias_a}, {column_b, CONFIG_PLACE_PARTITION, alias_b}}, 2,
            CONFIG_VALUE_PAYLOAD, "name the partition"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config_additional additional[2] = {cases[i].additional[0], cases[i].additional[1]};
        outbox.publish.additional = additional;
        outbox.publish.additional_count = cases[i].count;
        outbox.publish.value = cases[i].value;
        cr_assert_null(event_router_new(&config, &outbox, &error), "case %zu", i);
        cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
        cr_assert(strstr(error.text, cases[i].text), "%s", error.text);
    }
    outbox.publish.additional_count = 0;
    outbox.publish.value = CONFIG_VALUE_PAYLOAD;
    names[1] = name_a;
    cr_assert_null(event_router_new(&config, &outbox, &error));
    cr_assert(strstr(error.text, "metadata_headers: two headers are called correlation_id"), "%s", error.text);
    names[1] = name_b;
    outbox.publish.topic = bad_topic;
    cr_assert_null(event_router_new(&config, &outbox, &error));
    cr_assert(strstr(error.text, "topic: {x} at character 1"), "%s", error.text);
    outbox.publish.topic = topic;
    outbox.publish.key = bad_topic;
    cr_assert_null(event_router_new(&config, &outbox, &error));
    cr_assert(strstr(error.text, "key: "), "%s", error.text);
    event_router_free(NULL);
}

Test(event_router, no_row_goes_to_a_topic_of_the_relay)
{
    static char from_the_row[] = "{event_type}";
    static const char *const own[] = {"receipts", "other.receipts", "dead.letters"};
    struct outbox_row row = a_row();
    outbox.publish.topic = from_the_row;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        row.type = (struct text_view){own[i], strlen(own[i])};
        cr_assert_eq(route(&row), ROUTE_POISON, "%s", own[i]);
        cr_assert_eq(reason, PUBLISH_REASON_BAD_TOPIC);
        cr_assert(strstr(error.text, own[i]) && strstr(error.text, "the relay's own"), "%s", error.text);
    }
    row.type = VIEW("dead.letters.2");
    cr_assert_eq(route(&row), ROUTE_OK);
    config.insert.dead_letter_topic = prefix + sizeof(prefix) - 1; // none
    event_router_free(router);
    router = NULL;
    row.type = VIEW("dead.letters");
    cr_assert_eq(route(&row), ROUTE_OK);
}

Test(event_router, the_size_is_that_of_a_batch_of_one)
{
    struct event_header headers[] = {{"name", 4, VIEW("value")}, {"n", 1, VIEW("")}};
    struct routed_event sized = {.key = VIEW("12345"), .value = VIEW("123"), .headers = headers, .header_count = 2};
    cr_assert_eq(event_record_size(&sized), 61 + 36 + 5 + 3 + 10 + 9 + 10 + 1);
}

Test(event_router, reasons_have_names)
{
    for (int i = 0; i < PUBLISH_REASON_COUNT; i++) {
        cr_assert_gt(strlen(publish_reason_name((enum publish_reason)i)), 3);
        cr_assert_gt(strlen(publish_reason_text((enum publish_reason)i)), 10);
    }
    cr_assert_str_eq(publish_reason_name((enum publish_reason)99), "?");
    cr_assert_str_eq(publish_reason_text((enum publish_reason)99), "?");
}
