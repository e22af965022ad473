// SPDX-License-Identifier: Apache-2.0
//
// [kafka]: librdkafka's properties, and those of them that are not taken, because the protocols set them. Filling is a
// part of config_build.h: reports to the source's report.
#ifndef RELAY_CONFIG_CONFIG_KAFKA_H
#define RELAY_CONFIG_CONFIG_KAFKA_H

#include "relay/config/config_build.h"

#include <stddef.h>

struct config_kafka_refusal {
    const char *name; // one that ends in * stands for all that start so
    const char *why;  // and what to do instead
};

// Fills kafka and kafka_count.
void config_build_kafka(const struct config_source *source, struct config *config);

// The property that a pair gives: that of its name, or the one that an alias stands for.
const char *config_kafka_meant(const struct config_pair *pair);
// Who gives a property, by its name or by an alias of it: of several the last, as librdkafka takes them. NULL: nobody.
// name is no alias. Owned by the config.
const struct config_pair *config_kafka_given(const struct config *config, const char *name);

// The i-th, NULL at the end.
const struct config_kafka_refusal *config_kafka_refused(size_t i);

#endif
