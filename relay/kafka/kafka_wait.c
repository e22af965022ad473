// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_wait.h"

#include <stddef.h>

#define SLICE DURATION_MS(200)

rd_kafka_event_t *kafka_wait_event(rd_kafka_queue_t *queue, struct kafka_tick tick, const struct clock *clock,
    struct mono_time deadline)
{
    for (;;) {
        struct duration left = mono_left(clock_mono(clock), deadline);
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, duration_to_poll_ms(left.ns < SLICE.ns ? left : SLICE));
        if (event != NULL || left.ns <= SLICE.ns) {
            return event;
        }
        tick.function(tick.context);
    }
}
