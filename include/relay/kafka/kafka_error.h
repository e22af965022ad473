// SPDX-License-Identifier: Apache-2.0
//
// librdkafka's error numbers as the project's classes. The number stays in `detail`; the text says what was tried, then
// librdkafka's own words. Any thread.
#ifndef RELAY_KAFKA_KAFKA_ERROR_H
#define RELAY_KAFKA_KAFKA_ERROR_H

#include "relay/base/error.h"

#include <librdkafka/rdkafka.h>

// RETRIABLE (unreachable, not for now), OPERATOR (topic, rights, TLS, protocol), POISON (this record), FATAL (fenced,
// or the handle is finished).
enum relay_error_code kafka_error_code(rd_kafka_resp_err_t code);

// Sets the error from a response code: "<what>: <librdkafka's text> (NAME)", where what does not end with that text by
// itself. Returns false.
bool kafka_error_set(struct relay_error *error, rd_kafka_resp_err_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The same from an error object of the transactional API, which it destroys. Fatal and fenced come from the object's
// flags, an abortable one becomes KAFKA_ABORTED. object NULL (no error) returns true and leaves *error alone.
bool kafka_error_take(struct relay_error *error, rd_kafka_error_t *object, const char *what);

// What librdkafka says of a connection that failed, without what changes each time it fails again: the thread in front
// ("[thrd:NAME]: ") and " (after 3ms in state CONNECT, 2 identical error(s) suppressed)" behind.
void kafka_error_steady(char *text, size_t room, const char *said);

#endif
