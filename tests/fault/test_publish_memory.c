// SPDX-License-Identifier: Apache-2.0
//
// Every allocation of the pure parts of the publish stage fails once: nothing leaks, nothing is half done, and no row
// is called poison because memory ran out.
#include "fault_alloc.h"
#include "relay/publish/event_router.h"
#include "relay/publish/receipt.h"
#include "relay/publish/seq_holes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define VIEW(text) ((struct text_view){text, sizeof(text) - 1})

static struct relay_error error;

// Runs work() with the n-th allocation failing, for all n, until it is done without a failure.
static void visit(bool (*work)(void), const char *what)
{
    long n = 0;
    for (bool hit = true; hit; n++) {
        size_t before = fault_alloc_live();
        error_clear(&error);
        fault_alloc_fail_at(n);
        bool done = work();
        hit = fault_alloc_off();
        cr_assert_eq(fault_alloc_live(), before, "%s: blocks left after failure %ld", what, n);
        cr_assert(done || hit, "%s failed without a fault: %s", what, error.text);
        cr_assert(done || error.code == RELAY_ERROR_NO_MEMORY, "%s, %ld: %s", what, n, error.text);
    }
    cr_assert_gt(n, 2, "%s allocates", what);
}

static bool route_rows(void)
{
    static char topic[] = "{prefix}.{event_type:1}.events", prefix[] = "p", key[] = "{aggregate_type}-{aggregate_id}";
    static char name[] = "traceparent", column[] = "tenant";
    static char *names[] = {name};
    struct config_additional additional = {column, CONFIG_PLACE_ENVELOPE, column};
    struct config_outbox outbox = {.publish = {.topic = topic,
                                       .prefix = prefix,
                                       .key = key,
                                       .value = CONFIG_VALUE_ENVELOPE,
                                       .metadata_headers = {names, 1},
                                       .additional = &additional,
                                       .additional_count = 1}};
    outbox.columns[CONFIG_COLUMN_PAYLOAD] = column;
    static char big[3 << 20];
    memset(big, ' ', sizeof(big) - 1);
    big[0] = '7';
    struct text_view value = VIEW("acme");
    struct outbox_row row = {.id = VIEW("1"),
        .key = VIEW("2"),
        .type = VIEW("post.created"),
        .aggregate_type = VIEW("post"),
        .metadata = VIEW("{\"traceparent\": \"00\"}"),
        .payload = {big, sizeof(big) - 1},
        .created_at_kind = CREATED_AT_FINITE,
        .additional = &value};
    struct config_outbox other = {.publish = {.receipt_topic = topic}};
    struct config config = {.outboxes = &other, .outbox_count = 1, .insert = {.dead_letter_topic = key}};
    struct event_router *router = event_router_new(&config, &outbox, &error);
    struct event_arena *arena = router ? event_arena_new(0) : NULL;
    enum route_result result = ROUTE_FAILED;
    if (router && !arena) {
        error_no_memory(&error, "an arena"); // event_arena_new says so by NULL alone
    }
    for (int i = 0; arena && i < 3; i++) {
        struct routed_event event;
        enum publish_reason reason;
        result = event_router_route(router, &row, arena, &event, &reason, &error);
        cr_assert_neq(result, ROUTE_POISON, "%s", error.text);
        if (result == ROUTE_FAILED) {
            break;
        }
        cr_assert(event.header_count == 7 && event.value.length > sizeof(big));
        event_arena_reset(arena);
    }
    event_arena_free(arena);
    event_router_free(router);
    return result == ROUTE_OK;
}

Test(fault_publish, the_router)
{
    visit(route_rows, "routing rows");
}

static bool follow_holes(void)
{
    struct seq_holders *holders = seq_holders_new(&error);
    struct seq_holes *holes = holders ? seq_holes_new(0, 16, &error) : NULL;
    bool done = holes != NULL;
    uint64_t list[300];
    for (uint64_t i = 0; i < 300; i++) {
        list[i] = i;
    }
    for (size_t count = 50; done && count <= 300; count += 50) {
        int64_t seq = seq_holes_watermark(holes) + 2;
        seq_holes_saw(holes, &seq, 1, (struct mono_time){0});
        size_t before = seq_holders_count(holders);
        done = seq_holders_listed(holders, list, count, &error);
        cr_assert_eq(seq_holders_count(holders), done ? count : before, "a listing that failed changes nothing");
        if (done) {
            seq_holes_listed(holes, holders);
        }
    }
    seq_holes_free(holes);
    seq_holders_free(holders);
    return done;
}

Test(fault_publish, holes)
{
    visit(follow_holes, "following holes");
}

static bool read_receipts(void)
{
    struct receipt_header header = {.number = 1};
    struct receipt_row rows[] = {{1, 2}, {3, 4}};
    uint8_t bytes[128];
    size_t length = receipt_encode(&header, rows, 2, bytes);
    struct receipt one = {0}, two = {0};
    bool done = receipt_decode(bytes, length, &one, &error) && receipt_decode(bytes, length, &two, &error);
    receipt_finish(&one);
    receipt_finish(&two);
    return done;
}

Test(fault_publish, receipts)
{
    visit(read_receipts, "reading receipts");
}
