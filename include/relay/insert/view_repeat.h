// SPDX-License-Identifier: Apache-2.0
//
// Completes the views of a table after an INSERT whose sender has lost it: if the table has its rows, the server is
// told to insert exactly those once more, out of the table itself, under the INSERT's token. The table and the views
// that have had them drop them as known; the others take them. Repeating it is harmless, so each new owner of one of
// its partitions may. Blocks on the server, with deadlines; the worker's thread.
#ifndef RELAY_INSERT_VIEW_REPEAT_H
#define RELAY_INSERT_VIEW_REPEAT_H

#include "relay/clickhouse/clickhouse_client.h"
#include "relay/insert/table_plan.h"
#include "relay/insert/view_note.h"

struct view_repeat {
    const struct view_note *note;
    const char *topic; // the partition that the asker owns: its rows, which only its owner can add, tell whether the
    int32_t partition; // INSERT was executed
    const char *query_id;
    struct duration timeout;
    enum view_repeat_result {
        VIEW_REPEAT_NOTHING, // the table has none of the asker's rows: the INSERT was not executed, no view has them
        VIEW_REPEAT_DONE,    // the views have what the table has
        VIEW_REPEAT_CANNOT,  // nothing was done, `why` says why: views may lack rows that the table has
    } result;
    char why[200];
};

// No INSERT of the note may run, or begin, any more, and the replica that answers must have what the table has
// (read_back_offsets). Errors: CLICKHOUSE_OPERATOR (a view refuses the rows), as clickhouse_query otherwise; an
// unknown outcome is to be repeated.
bool view_repeat(struct clickhouse_client *client, const struct table_plan *plan, struct view_repeat *repeat,
    struct relay_error *error);

#endif
