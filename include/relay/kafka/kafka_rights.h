// SPDX-License-Identifier: Apache-2.0
//
// What Kafka has, and lets this client do. A transaction that may not write to one of its topics fails as a whole, with
// reports that name neither the topic nor the reason; a look-up of the topic by metadata succeeds with any right on it.
#ifndef RELAY_KAFKA_KAFKA_RIGHTS_H
#define RELAY_KAFKA_KAFKA_RIGHTS_H

#include "relay/base/error.h"
#include "relay/kafka/kafka_wait.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

struct kafka_topic_answer {
    rd_kafka_resp_err_t code; // 0: it is there; _NOENT: the broker has not told
    bool may_write;           // also when it does not tell
};

// Asks a broker for all of these topics by one request, which makes none of them, whatever [kafka] says. Each name
// once. Ticks, waits at most until the deadline. Errors: as kafka_error.h; KAFKA_UNREACHABLE at the deadline;
// NO_MEMORY.
bool kafka_ask_topics(rd_kafka_t *client, const char **names, struct kafka_topic_answer *answers, size_t count,
    struct kafka_tick tick, const struct clock *clock, struct mono_time deadline, struct relay_error *error);
// The same for one. true also when it does not tell.
bool kafka_may_write(rd_kafka_t *client, const char *topic, struct kafka_tick tick, const struct clock *clock,
    struct mono_time deadline);

#endif
