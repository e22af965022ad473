// SPDX-License-Identifier: Apache-2.0
//
// Why a row cannot become a record: the words of outbox_dead_letters (column `reason`), metrics and docs. The first
// group the router finds by itself, before anything is sent; the second Kafka says. Pure.
#ifndef RELAY_PUBLISH_PUBLISH_REASON_H
#define RELAY_PUBLISH_PUBLISH_REASON_H

#include "relay/base/reason.h"

// reason, its name in metrics, dead letters and docs, sentence
#define PUBLISH_REASONS(X)                                                                                             \
    X(NONE, "none", "the record was made")                                                                             \
    X(NULL_TYPE, "null_type", "a column that the topic is made of is NULL")                                            \
    X(BAD_TOPIC, "bad_topic", "the topic template gives no name that Kafka allows")                                    \
    X(BAD_KEY, "bad_key", "the key template asks for a part that the event type does not have")                        \
    X(NO_KEY, "no_key", "a tombstone without a key deletes nothing")                                                   \
    X(BAD_PARTITION, "bad_partition", "the partition column holds no partition of the topic")                          \
    X(BAD_PAYLOAD, "bad_payload", "the payload is not JSON and cannot stand in an envelope")                           \
    X(BAD_ENCODING, "bad_encoding", "PostgreSQL cannot convert the row's text to UTF-8")                               \
    X(TOO_LARGE, "too_large", "the record is larger than the producer or the topic takes")                             \
    X(REFUSED, "refused", "the broker refuses this record")

enum publish_reason {
#define X(id, name, text) PUBLISH_REASON_##id,
    PUBLISH_REASONS(X)
#undef X
        PUBLISH_REASON_COUNT
};
REASON_LOOKUPS(publish_reason, PUBLISH_REASONS)

#endif
