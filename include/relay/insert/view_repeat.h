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

// What the sender of an INSERT knows of the blocks that came since.
struct view_seen {
    uint64_t blocks; // of the table and all targets together, its own as well
    int64_t changed; // when that was seen to have grown: none of them is newer
};

struct view_repeat {
    const struct view_note *note;
    const char *topic; // the partition that the asker owns: its rows, which only its owner can add, tell whether the
    int32_t partition; // INSERT was executed
    // The read-back's: who answered it, and was brought up to date, is asked; whether it found rows of the INSERT.
    int endpoint;
    bool found;
    const char *query_id;
    struct duration timeout;
    // Around what is sent. begin: nobody else can own the partition until *deadline, the server's seconds since 1970,
    // which it may make earlier; else it fails. end: answered or not; late: refused, since it came after the deadline.
    bool (*begin)(void *context, int endpoint, int64_t *deadline, struct relay_error *error);
    void (*end)(void *context, bool answered, bool late);
    void *context;
    const struct table_plan *before; // of the sender: the table as it was read before the first attempt; NULL: unknown
    struct view_seen *seen;          // the sender's, all 0 at first; NULL: the asker is not the sender
    unsigned hashes; // of the token, kept by all that may have executed the INSERT (insert_token.h); the sender's
    enum view_repeat_result {
        VIEW_REPEAT_NOTHING, // the table has none of the asker's rows: the INSERT was not executed, no view has them
        VIEW_REPEAT_DONE,    // the views have what the table has
        VIEW_REPEAT_CANNOT,  // nothing was done, `why` says why: views may lack rows that the table has
    } result;
    char why[200];
};

// The rows are the INSERT's own only if the asker still owns the partition: the next owner, who finds none, inserts
// them under another token. So begin() comes after they were counted.
// No INSERT of the note may run, or begin, any more. Errors: RETRIABLE where the table has none of the rows that the
// read-back found; CLICKHOUSE_OPERATOR (a view refuses the rows), as clickhouse_query otherwise; an unknown outcome is
// to be repeated.
bool view_repeat(struct clickhouse_client *client, const struct table_plan *plan, struct view_repeat *repeat,
    struct relay_error *error);

// For the sender, which still has the INSERT and may repeat it to the endpoint that it has sent it to, or where all of
// them have its blocks. Whether the table, and all that its views fill, surely still know the token of repeat->note;
// *known false: `why` says who may not. plan: as the table was read last; now: seconds since 1970 by the sender's
// clock. That a table was altered says nothing here: it is how a view is fixed. The server is asked anew for its
// version, since it may have been upgraded to one that recognises no token of before. Errors: as clickhouse_query.
bool view_repeat_is_known(struct clickhouse_client *client, int endpoint, const struct table_plan *plan,
    struct view_repeat *repeat, int64_t now, bool *known, struct relay_error *error);
// Whether the table has none of the INSERT's rows. Errors: as clickhouse_query.
bool view_repeat_has_none(struct clickhouse_client *client, int endpoint, const struct table_plan *plan,
    const struct view_note *note, bool *none, struct relay_error *error);

#endif
