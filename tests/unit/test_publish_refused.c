// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/publish_refused.h"

#include "relay/publish/publish_take.h"

#include <criterion/criterion.h>

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
