// SPDX-License-Identifier: Apache-2.0
//
// Waiting for librdkafka's answer to an admin request in slices, so that whoever waits goes on beating: an answer may
// take longer than the lease of the sessions that the same thread owns. Any thread.
#ifndef RELAY_KAFKA_KAFKA_WAIT_H
#define RELAY_KAFKA_KAFKA_WAIT_H

#include "relay/base/clock.h"

#include <librdkafka/rdkafka.h>

// Called between slices of a wait.
struct kafka_tick {
    void (*function)(void *context);
    void *context;
};

// The next event of the queue, for the caller to destroy. NULL: none until the deadline.
rd_kafka_event_t *kafka_wait_event(rd_kafka_queue_t *queue, struct kafka_tick tick, const struct clock *clock,
    struct mono_time deadline);

#endif
