// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_refused.h"

#include "relay/publish/publish_take.h"

#include <criterion/criterion.h>
#include <string.h>

static struct config_outbox config = {.batch_bytes = 8 << 20};
static struct outbox_batch batch = {.count = 1000};
static struct publish_pipe pipe = {.config = &config, .most_rows = 5000, .row_bytes = 100};
static struct publish_lane lane = {.state = LANE_SENT, .batch = &batch}, other;

static int64_t limit_after(enum relay_error_code code, size_t pending)
{
    struct relay_error error = {.code = code};
    batch.flight.pending = pending;
    cr_assert_not(publish_send_failed(&pipe, &lane, &other, &error));
    cr_assert_eq(error.code, code, "the error stands");
    return publish_take_limit(&pipe);
}

Test(publish_refused, a_batch_that_ran_out_of_time_half_way_makes_smaller_ones)
{
    cr_assert_eq(limit_after(RELAY_ERROR_KAFKA_UNREACHABLE, 999), 500);
    batch.count = 500;
    cr_assert_eq(limit_after(RELAY_ERROR_KAFKA_UNREACHABLE, 10), 250);
}

Test(publish_refused, a_receipt_that_ran_out_of_time_behind_its_batch_makes_smaller_ones)
{
    struct relay_error error = {.code = RELAY_ERROR_KAFKA_UNREACHABLE};
    publish_note_late(&pipe, &lane, &error);
    cr_assert_eq(publish_take_limit(&pipe), 500);
}

Test(publish_refused, brokers_that_take_nothing_and_other_errors_leave_batches_as_they_are)
{
    cr_assert_eq(limit_after(RELAY_ERROR_KAFKA_UNREACHABLE, 1000), 5000);
    cr_assert_eq(limit_after(RELAY_ERROR_KAFKA_RETRIABLE, 10), 5000);
}

// Of a batch whose slots say what became of its records.
static const char *named(const struct kafka_slot *slots, size_t count, rd_kafka_resp_err_t code)
{
    static struct relay_error error;
    static struct kafka_slot made[4];
    static struct routed_event events[4] = {{.topic = "a"}, {.topic = "b"}, {.topic = "a"}, {.topic = "a"}};
    memcpy(made, slots, count * sizeof(*slots));
    const struct outbox_batch these = {.events = events, .slots = made, .count = count};
    error_set(&error, RELAY_ERROR_KAFKA_UNREACHABLE, "late");
    publish_name_place(&these, code, &error);
    cr_assert_eq(error.code, RELAY_ERROR_KAFKA_UNREACHABLE, "what is done about it is the same");
    return error.text;
}

Test(publish_refused, the_partition_that_did_not_acknowledge_is_named)
{
    const rd_kafka_resp_err_t late = RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, thrown = RD_KAFKA_RESP_ERR__PURGE_QUEUE;
    struct kafka_flight flight = {0};
    struct kafka_slot slots[4] = {{&flight, thrown, 7}, {&flight, 0, 1}, {&flight, late, 2}, {&flight, late, 2}};
    cr_assert_str_eq(named(slots, 4, late), "topic a [2]: late");
    slots[3].partition = 3;
    cr_assert_str_eq(named(slots, 4, late), "topic a [2] and others: late");
    slots[1] = (struct kafka_slot){&flight, late, KAFKA_NO_PARTITION};
    cr_assert_str_eq(named(slots, 4, late), "topic b and others: late");
}

Test(publish_refused, the_topic_of_what_is_still_on_its_way_is_named)
{
    struct kafka_flight flight = {0};
    struct kafka_slot slots[4] = {{&flight, 0, 7}, {&flight, 0, KAFKA_NO_PARTITION}, {0}, {0}};
    cr_assert_str_eq(named(slots, 4, RD_KAFKA_RESP_ERR_NO_ERROR), "topic b: late",
        "what was never handed over is not on its way");
    slots[1].partition = 0;
    cr_assert_str_eq(named(slots, 4, RD_KAFKA_RESP_ERR_NO_ERROR), "late");
}
