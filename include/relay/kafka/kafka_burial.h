// SPDX-License-Identifier: Apache-2.0
//
// Destroying a client without hanging with it: librdkafka waits for the client's threads, and one of them may be in the
// resolver, which nothing interrupts while a name server does not answer. Each client is destroyed on a thread of its
// own. Any thread.
#ifndef RELAY_KAFKA_KAFKA_BURIAL_H
#define RELAY_KAFKA_KAFKA_BURIAL_H

#include "relay/base/clock.h"
#include "relay/kafka/kafka_wait.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

// How long a client that is at nothing is waited for: librdkafka itself waits a second for telemetry.
#define KAFKA_BURIAL_WAIT DURATION_S(3)

// A consumer does not leave its group. false: it has not ended at the deadline, or there is no memory or thread for it.
// It is left behind then, perhaps still running its callbacks: for the log and all of `opaque`.
bool kafka_client_destroy_until(rd_kafka_t *client, struct mono_time deadline);

// What a client's callbacks use: released once it is destroyed, by whichever thread does that. release may be NULL.
struct kafka_estate {
    void (*release)(void *what);
    void *what;
};

// The same, ticking while it waits (function NULL: no ticks); without memory or a thread this one destroys the client,
// as long as that takes. What the client's messages point to must last until it returns true.
bool kafka_client_bury(rd_kafka_t *client, struct kafka_estate estate, struct kafka_tick tick,
    struct mono_time deadline);

#endif
