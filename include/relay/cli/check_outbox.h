// SPDX-License-Identifier: Apache-2.0
//
// The parts of check_outbox(), divided by what is judged, and how they ask and report. Each part asks about the one
// table and reports what it finds; none changes anything. They are called for a table that exists and is registered.
// One thread.
#ifndef RELAY_CLI_CHECK_OUTBOX_H
#define RELAY_CLI_CHECK_OUTBOX_H

#include "relay/cli/check.h"

#define OUTBOX_NAMED_MAX "10" // of each kind of finding

// Whether the oid is that of the table ($1), or of one of its partitions.
#define OF_THE_OUTBOX(oid)                                                                                             \
    "(" oid " = pg_catalog.to_regclass($1)::oid OR " oid                                                               \
    " IN (SELECT part.relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) part)) "

struct outbox_check {
    struct check *check;
    const struct config_outbox *outbox;
    char what[128];
    bool clean;      // nothing was found yet
    bool failed;     // something of what was found is CHECK_FAIL
    bool lost_marks; // the table had a column published_at when it was attached, and has none
};

void outbox_find(struct outbox_check *at, enum check_level level, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// The rows of a question about this table ($1 is its name); NULL: it was reported why not.
PGresult *outbox_ask(struct outbox_check *at, const char *sql, const struct pg_value *values, int count);
// Also true where it could not be asked, which was reported then.
bool outbox_has_column(struct outbox_check *at, const char *column);

// That it is as it was attached and a crash does not empty it; columns, the number's sequence and index, the wake-up
// trigger.
void check_outbox_form(struct outbox_check *at);
// What else the database does, or refuses, when the relay deletes or marks a row; what takes rows away before that.
void check_outbox_taking(struct outbox_check *at);
// Rights, row security.
void check_outbox_access(struct outbox_check *at);
// Rows that another publisher has given up. Only where nothing failed: it reads rows, by the index.
void check_outbox_waiting(struct outbox_check *at);

#endif
