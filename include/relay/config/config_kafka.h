// SPDX-License-Identifier: Apache-2.0
//
// The properties of librdkafka that [kafka] does not take, because the protocols set them. Static; any thread.
#ifndef RELAY_CONFIG_CONFIG_KAFKA_H
#define RELAY_CONFIG_CONFIG_KAFKA_H

#include <stddef.h>

struct config_kafka_refusal {
    const char *name; // one that ends in * stands for all that start so
    const char *why;  // and what to do instead
};

// The i-th, NULL at the end.
const struct config_kafka_refusal *config_kafka_refused(size_t i);

#endif
