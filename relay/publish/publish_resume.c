// SPDX-License-Identifier: Apache-2.0
//
// From which row on a term reads: from the first one, so that whatever lies below what was read before, put back by
// hand or with numbers that began anew, is published in its order.
//
// While an old snapshot is open, vacuum leaves the dead rows of everything that was published since. Each reading from
// the first row on would walk them: three times in the statement that takes rows, and once more in each batch while a
// writer stays open. With many millions that takes longer than statement_timeout, and nothing would be published. So
// they are walked once here, for a moment: if that is not enough, the term reads from behind the number up to which the
// outbox was noted as settled. Below it are only rows that wait, and those are found by their entries; whatever else is
// there is left to the sweep, which begins at once and keeps no order with what is read meanwhile.
//
// The number may be ahead of the rows: after a restore recovery notes the highest one in Kafka (publish_term.c), and
// what is written until the sequence is set above it lies below. So the term reads from the first row on all the same
// where a look from that number down finds, in a moment, a row that does not wait.
#include "relay/publish/publish_resume.h"

#include "relay/base/log.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_sweep.h"

#define WALK_LIMIT DURATION_MS(500)
// Of statement_timeout, in which a statement must be able to walk them three times.
#define WALK_SHARE 4
// Rows, not dead ones, after which the walk ends: what is read from here on takes its time for them.
#define WALK_ROWS 1000000

typedef bool question(struct publish_pipe *pipe, int64_t settled, bool *answer, struct relay_error *error);

// Whether everything up to `settled` is walked, or enough rows for many batches: it is, if it comes to an answer.
static bool walk(struct publish_pipe *pipe, int64_t settled, bool *walked, struct relay_error *error)
{
    bool more;
    int64_t end = settled;
    *walked = true;
    return outbox_sql_piece(pipe->owner.connections[0], INT64_MIN, settled, WALK_ROWS, &more, &end,
        pg_deadline(pipe->context), error);
}

// Whether a row up to `settled` waits for nothing but to be published: recovery noted a number of which Kafka has told,
// before the sequence had come so far. In that case there are no dead rows above it.
static bool find_unpublished(struct publish_pipe *pipe, int64_t settled, bool *found, struct relay_error *error)
{
    return outbox_sql_newest_below(pipe->owner.connections[0], settled, found, pg_deadline(pipe->context), error);
}

// Asks in a snapshot of its own. *answer: false, too, where there is none within a moment.
static bool ask_briefly(struct publish_pipe *pipe, question *ask, int64_t settled, bool *answer,
    struct relay_error *error)
{
    struct pg_connection *connection = pipe->owner.connections[0];
    struct duration share = DURATION_NS(pipe->context->config->postgres.statement_timeout.ns / WALK_SHARE);
    struct duration limit = share.ns > 0 ? duration_shorter(share, WALK_LIMIT) : WALK_LIMIT;
    if (!outbox_sql_begin_snapshot(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    bool answered = outbox_sql_allow(connection, limit, pg_deadline(pipe->context), error) &&
        ask(pipe, settled, answer, error);
    *answer = answered && *answer;
    bool done = answered || publish_too_slow(connection, error);
    return outbox_sql_rollback(connection, pg_deadline(pipe->context), done ? error : NULL) && done;
}

// Whether a term can read from the first row on, or has to: rows that wait for nothing have an order to keep.
static bool from_first(struct publish_pipe *pipe, int64_t settled, bool *first, struct relay_error *error)
{
    return ask_briefly(pipe, walk, settled, first, error) &&
        (*first || ask_briefly(pipe, find_unpublished, settled, first, error));
}

bool publish_resume(struct publish_pipe *pipe, struct relay_error *error)
{
    struct pg_connection *connection = pipe->owner.connections[0];
    int64_t settled;
    bool known, first = true;
    if (!outbox_sql_settled(pipe->sql, connection, &settled, &known, pg_deadline(pipe->context), error) ||
        (known && !from_first(pipe, settled, &first, error))) {
        return false;
    }
    if (!first) {
        seq_holes_reset(pipe->holes, settled);
        publish_sweep_soon(pipe);
        log_event(LOG_LEVEL_WARNING, "publish.dead_rows",
            "too many dead rows, or rows that wait, to read from the first one on: begins behind what was noted as "
            "settled, and sweeps what is below. If old transactions, prepared ones or replication slots hold the dead "
            "rows, end them, so that vacuum can remove these (docs/operations.md, \"Long snapshots\", has the queries)",
            LOG_TEXT("outbox", pipe->config->name), LOG_INT("settled_seq", settled));
    }
    return outbox_sql_drop_old_entries(connection, pg_deadline(pipe->context), error);
}
