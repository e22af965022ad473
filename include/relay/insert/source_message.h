// SPDX-License-Identifier: Apache-2.0
//
// One Kafka message as the insert stage sees it: a view, made by the consumer, read by the encoder and the dead
// letters. It owns nothing: every pointer belongs to the consumer's message and lives as long as that. No librdkafka
// type in it, so that encoders, tests and fuzzers need no broker. Read-only, hence usable from any thread that keeps it
// alive.
#ifndef RELAY_INSERT_SOURCE_MESSAGE_H
#define RELAY_INSERT_SOURCE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct source_header {
    const char *name;  // NUL-terminated
    const char *value; // length bytes, not NUL-terminated; NULL: the header has no value
    size_t length;
};

struct source_message {
    const char *topic; // NUL-terminated
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; // since 1970 UTC; -1: the message has none
    const char *key;      // NULL: no key
    size_t key_length;
    const char *value; // NULL: a tombstone
    size_t value_length;
    size_t
        value_room; // bytes that may be read from `value` on, at least value_length; more spares the JSON reader a copy
    const struct source_header *headers; // in the message's order; a name may come more than once
    size_t header_count;
    // Not NULL: the headers are still in the consumer's message, since nobody seemed to need them; this sets them, and
    // itself to NULL. false: out of memory. Only on the consumer's thread.
    bool (*take_headers)(struct source_message *message);
    void *consumer; // take_headers' own
    const void *consumed;
};

// The last header of that name (the last one wins, as Kafka clients do), or NULL.
static inline const struct source_header *source_message_header(const struct source_message *message, const char *name)
{
    for (size_t i = message->header_count; i > 0; i--) {
        const char *other = message->headers[i - 1].name;
        if (other[0] == name[0] && strcmp(other, name) == 0) { // asked for each column of each row
            return &message->headers[i - 1];
        }
    }
    return NULL;
}

#endif
