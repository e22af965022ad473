// SPDX-License-Identifier: Apache-2.0
//
// A librdkafka configuration made from the [kafka] section: each property goes only to the kind of client that knows it
// (librdkafka's own table decides), the relay's defaults are laid under the user's settings, log lines go to our log.
// The caller owns the conf until rd_kafka_new() takes it. Any thread.
#ifndef RELAY_KAFKA_KAFKA_CONF_H
#define RELAY_KAFKA_KAFKA_CONF_H

#include "relay/base/error.h"
#include "relay/config/context.h"

#include <librdkafka/rdkafka.h>

enum kafka_client_kind { KAFKA_CLIENT_PRODUCER, KAFKA_CLIENT_CONSUMER };

// role: static word for client.id ("publish", "insert", "check"): outbox-relay-<role>-<instance>.
// Errors: CONFIG when librdkafka refuses a property (the value of a secret is not in the text), NO_MEMORY.
rd_kafka_conf_t *kafka_conf_new(const struct relay_context *context, enum kafka_client_kind kind, const char *role,
    struct relay_error *error);

// Sets one property that is ours. error CONFIG with the property's name.
bool kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, struct relay_error *error);
bool kafka_conf_set_number(rd_kafka_conf_t *conf, const char *name, int64_t value, struct relay_error *error);
// The same, unless [kafka] gives it.
bool kafka_conf_set_default(rd_kafka_conf_t *conf, const struct config *config, const char *name, int64_t value,
    struct relay_error *error);
// What it is set to so far; otherwise: where that is not known.
int64_t kafka_conf_number(const rd_kafka_conf_t *conf, const char *name, int64_t otherwise);
int64_t kafka_conf_message_max(const rd_kafka_conf_t *conf); // message.max.bytes

// Writes a line of librdkafka to our log: its log callback, and to be called by one that takes its place.
void kafka_conf_log(const rd_kafka_t *client, int level, const char *facility, const char *text);

// rd_kafka_new() that never leaks the conf and speaks our error type. Errors: CONFIG in librdkafka's words, SYSTEM
// where a thread is missing.
rd_kafka_t *kafka_client_new(enum kafka_client_kind kind, rd_kafka_conf_t *conf, struct relay_error *error);

// Whether librdkafka makes a client of the conf: it judges values together, and some by themselves, only then. Makes
// one that reaches nobody and ends it at once; takes some milliseconds. Takes the conf over; NULL: one that could not
// be made, error says why. Errors: as kafka_client_new().
bool kafka_conf_try(enum kafka_client_kind kind, rd_kafka_conf_t *conf, struct relay_error *error);

#endif
