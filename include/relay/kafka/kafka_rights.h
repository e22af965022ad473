// SPDX-License-Identifier: Apache-2.0
//
// What Kafka lets this client do. A transaction that may not write to one of its topics fails as a whole, with reports
// that name neither the topic nor the reason; a look-up of the topic by metadata succeeds with any right on it.
#ifndef RELAY_KAFKA_KAFKA_RIGHTS_H
#define RELAY_KAFKA_KAFKA_RIGHTS_H

#include "relay/kafka/kafka_wait.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

// Asks a broker, ticking, at most until the deadline. true also when it does not tell.
bool kafka_may_write(rd_kafka_t *client, const char *topic, struct kafka_tick tick, const struct clock *clock,
    struct mono_time deadline);

#endif
