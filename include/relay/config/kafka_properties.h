// SPDX-License-Identifier: Apache-2.0
//
// librdkafka's own table of its properties, read from what it prints, so that no list of ours can age. Never changes;
// any thread.
#ifndef RELAY_CONFIG_KAFKA_PROPERTIES_H
#define RELAY_CONFIG_KAFKA_PROPERTIES_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct kafka_properties;

struct kafka_properties *kafka_properties_new(struct relay_error *error); // NO_MEMORY
void kafka_properties_free(struct kafka_properties *properties);          // accepts NULL
size_t kafka_properties_count(const struct kafka_properties *properties);
const char *kafka_properties_name(const struct kafka_properties *properties, size_t i);
// 'P' for producers, 'C' for consumers, '*' for both, '\0' for a name that librdkafka does not know.
char kafka_properties_kind(const struct kafka_properties *properties, const char *name);
// The property that the name means: itself, or the one that it is an alias for. Lives as long as both.
const char *kafka_properties_meant(const struct kafka_properties *properties, const char *name);

// Whether the value must not be told. By the name, so also for properties of versions to come.
bool kafka_property_is_secret(const char *name);

#endif
