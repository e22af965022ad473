// SPDX-License-Identifier: Apache-2.0
//
// How much memory a consumer may take for what it fetches ahead: librdkafka's own limits are those of a program that
// has a machine to itself. Nothing is contacted; any thread.
#ifndef RELAY_KAFKA_KAFKA_CONSUMER_CONF_H
#define RELAY_KAFKA_KAFKA_CONSUMER_CONF_H

#include "relay/base/error.h"
#include "relay/config/context.h"

#include <librdkafka/rdkafka.h>

#include <stdint.h>

// memory: bytes that messages fetched ahead may take. What [kafka] gives stays. The largest record set that can be read
// follows from [insert] memory_limit alone, so that each consumer reads what another has read. Errors: CONFIG.
bool kafka_consumer_bound(rd_kafka_conf_t *conf, const struct relay_context *context, int64_t memory,
    struct relay_error *error);

#endif
