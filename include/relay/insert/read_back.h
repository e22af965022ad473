// SPDX-License-Identifier: Apache-2.0
//
// The table itself is asked what it has. First whatever still runs under our query ids for it, with rows of the
// partitions in question, is awaited, then killed, on every replica (after that, nothing that a former owner of our
// partitions sent can still arrive: its lease is over, so the server refuses it); then the offsets are read. A read
// that fails is an error, never "none". Functions block on the server, with deadlines; any thread.
#ifndef RELAY_INSERT_READ_BACK_H
#define RELAY_INSERT_READ_BACK_H

#include "relay/config/context.h"
#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/insert_query_id.h"
#include "relay/insert/offset_ranges.h"
#include "relay/insert/table_plan.h"
#include "relay/insert/view_note.h"

#include <stdatomic.h>
#include <stdbool.h>

struct read_back_settling {
    const char *prefix;                    // of the ids
    const struct insert_places *places;    // the partitions in question
    struct duration patience;              // with what concerns them; then it is killed
    struct duration longest;               // the same for INSERTs whose partitions are not known: none lasts longer
    const struct mono_time *may_run_until; // for each endpoint: INSERTs that concern them may run there
    const atomic_bool *given_up;           // NULL: never
};

// Waits until no such query that runs now is left on any endpoint that answers. INSERTs that concern other partitions
// only are let alone: they are live members'. An endpoint that does not answer, while another one does, is passed over
// once no INSERT that counts can run there any more. Errors: TIMEOUT (one outlived its kill), STOPPED (given up), none
// of the endpoints answers, or (RETRIABLE) it is too early to pass one over; as clickhouse_query.
bool read_back_settle(const struct relay_context *context, struct clickhouse_client *client,
    const struct read_back_settling *of, struct relay_error *error);

struct read_back {
    const char *target; // the route's table: what dead letters call it
    const char *topic;
    int32_t partition;
    int64_t from; // the committed offset, READ_BACK_NONE: none is committed
    // How many offsets one question looks at; 0: the most. The answer, for the next one: fewer if the server took too
    // long, or too much memory, more if it was quick.
    int64_t span;
    const struct view_note *note; // of an INSERT that may be among it; NULL: none
    bool highest_known;           // need not be asked for where the answer does not reach that far
    const char *database;         // set here: where target is, if it names none
    // The answer; `from` is then where to begin: READ_BACK_NONE = at the log's beginning.
    struct offset_ranges found;
    uint64_t generation; // the caller's
    int64_t through;     // `found` is complete for offsets below; INT64_MAX: for all
    int64_t highest;     // of all from `from` on, rows and dead letters; READ_BACK_NONE: there is none, or it is known
    bool has_noted;      // among it are rows of the note, no dead letters, of this partition
};
#define READ_BACK_NONE INT64_MIN

// Rows of the table and dead letters of it. With no committed offset, begins at the lowest offset that the table has,
// so that a hole among its rows is found, too. *endpoint: whom to ask, or CLICKHOUSE_ANY_ENDPOINT; then who has
// answered, and has been brought up to date: what goes on from the answer asks the same. Errors: as clickhouse_query.
bool read_back_offsets(const struct relay_context *context, struct clickhouse_client *client,
    const struct table_plan *plan, struct read_back *read_back, int *endpoint, struct relay_error *error);

#endif
