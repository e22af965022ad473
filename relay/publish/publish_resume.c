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
#include "relay/publish/publish_resume.h"

#include "relay/base/log.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_sweep.h"

#define WALK_LIMIT DURATION_MS(500)
// Of statement_timeout, in which a statement must be able to walk them three times.
#define WALK_SHARE 4
// Rows, not dead ones, after which the walk ends: what is read from here on takes its time for them.
#define WALK_ROWS 1000000

// Whether everything up to `settled` is walked in a moment, or enough rows for many batches.
static bool walk(struct publish_pipe *pipe, int64_t settled, bool *quick, struct relay_error *error)
{
    struct pg_connection *connection = pipe->owner.connections[0];
    struct duration share = DURATION_NS(pipe->context->config->postgres.statement_timeout.ns / WALK_SHARE);
    struct duration limit = share.ns > 0 ? duration_shorter(share, WALK_LIMIT) : WALK_LIMIT;
    bool more;
    int64_t end = settled;
    if (!outbox_sql_begin_snapshot(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    bool done = outbox_sql_allow(connection, limit, pg_deadline(pipe->context), error) &&
        outbox_sql_piece(pipe->sql, connection, INT64_MIN, settled, WALK_ROWS, &more, &end, pg_deadline(pipe->context),
            error);
    *quick = done;
    done = done || publish_too_slow(connection, error);
    return outbox_sql_rollback(connection, pg_deadline(pipe->context), done ? error : NULL) && done;
}

bool publish_resume(struct publish_pipe *pipe, struct relay_error *error)
{
    struct pg_connection *connection = pipe->owner.connections[0];
    int64_t settled;
    bool known, quick = true;
    if (!outbox_sql_settled(pipe->sql, connection, &settled, &known, pg_deadline(pipe->context), error) ||
        (known && !walk(pipe, settled, &quick, error))) {
        return false;
    }
    if (!quick) {
        seq_holes_reset(pipe->holes, settled);
        publish_sweep_soon(pipe);
        log_event(LOG_LEVEL_WARNING, "publish.dead_rows",
            "too many dead rows, or rows that wait, to read from the first one on: begins behind what was noted as "
            "settled, and sweeps what is below. If old transactions are open (pg_stat_activity.backend_xmin), end "
            "them, so that vacuum can remove the dead rows",
            LOG_TEXT("outbox", pipe->config->name), LOG_INT("settled_seq", settled));
    }
    return outbox_sql_drop_old_entries(pipe->sql, connection, pg_deadline(pipe->context), error);
}
