// SPDX-License-Identifier: Apache-2.0
//
// The two ways of `replay`: events that an outbox keeps (disposition = mark) are published once more, or a table of
// ClickHouse is refilled from what Kafka keeps. Both work in batches, wait between them to keep the rate, end with the
// context's stop after the batch at hand, and may be run again: the first publishes again, the second finds what it has
// written. One thread.
#ifndef RELAY_CLI_REPLAY_H
#define RELAY_CLI_REPLAY_H

#include "relay/config/context.h"

struct replay_options {
    bool from_given, to_given; // without the second until now
    struct wall_time from, to;
    const char *event_type, *aggregate_id; // NULL: any
    const char *outbox;                    // its name, NULL: the only one
    const char *into, *route;              // NULL: none
    int64_t rate;                          // events a second
    bool allow_doubles;                    // into a table, or before views, that may have had the rows
    bool dead_letters;                     // of messages that do not fit
    bool dry_run;
};

// Errors: USAGE (which outbox?), POSTGRES_*, STOPPED, NO_MEMORY.
bool replay_outbox(const struct relay_context *context, const struct replay_options *options,
    struct relay_error *error);
// Errors: USAGE (which route?), CONFIG (what the table has had cannot be known), KAFKA_*, CLICKHOUSE_*, STOPPED,
// NO_MEMORY. *left: messages that the table does not take, or that views of it may lack, and topics that are not there.
bool replay_topics(const struct relay_context *context, const struct replay_options *options, size_t *left,
    struct relay_error *error);

// Waits until `done` events since `start` are no more than the rate allows. false: the stop was raised.
bool replay_pace(const struct relay_context *context, struct mono_time start, int64_t done, int64_t rate);

#endif
