// SPDX-License-Identifier: Apache-2.0
//
// The sweep, every minute: rows below the watermark that nobody waits for (numbers drawn without a lock, entries that
// an operator deleted, rows mended or put back by hand). After one that took something it looks again two seconds
// later.
//
// Each row that waits costs a look at what it waits for, so where many do they are looked through in pieces, one every
// two seconds. What is mended in one transaction goes in its order, and a piece sees a part of it: once a piece has
// something, everything below the watermark is listed in one snapshot, piece by piece, and the rows go as they stand in
// that list. If some of them cannot be taken out for now, the list is forgotten, and the sweep begins anew.
#include "relay/publish/publish_sweep.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/publish/publish_careful.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"

#include <stdlib.h>

#define SWEEP_INTERVAL DURATION_S(60)
#define PIECE_INTERVAL DURATION_S(2)
// Rows that are listed at once: 1.6 MB.
#define MOST_FOUND 100000

bool publish_sweep_due(const struct publish_pipe *pipe)
{
    const struct publish_sweep *sweep = &pipe->sweep;
    bool over = sweep->upto == INT64_MIN && sweep->next == sweep->count && !sweep->found;
    struct duration interval = over ? SWEEP_INTERVAL : PIECE_INTERVAL;
    return mono_reached(clock_mono(pipe->context->clock), mono_add(sweep->at, interval));
}

void publish_sweep_begin(struct publish_pipe *pipe)
{
    publish_take_forget(pipe);
    pipe->sweep.found = false;
    pipe->sweep.at = clock_mono(pipe->context->clock);
}

void publish_sweep_finish(struct publish_pipe *pipe)
{
    free(pipe->sweep.seqs);
    free(pipe->sweep.sizes);
}

static bool make_room(struct publish_sweep *sweep, size_t more, struct relay_error *error)
{
    size_t room = sweep->count + more;
    if (room <= sweep->room) {
        return true;
    }
    int64_t *seqs = realloc(sweep->seqs, room * sizeof(*seqs));
    sweep->seqs = seqs != NULL ? seqs : sweep->seqs;
    int64_t *sizes = seqs != NULL ? realloc(sweep->sizes, room * sizeof(*sizes)) : NULL;
    sweep->sizes = sizes != NULL ? sizes : sweep->sizes;
    if (sizes == NULL) {
        return error_no_memory(error, "the sweep's rows");
    }
    sweep->room = room;
    return true;
}

// Adds what does not wait. What commits in a hole is looked up with the next rows, which keeps its order.
static bool add(struct publish_pipe *pipe, PGresult *listed, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    bool done = listed != NULL && make_room(sweep, (size_t)PQntuples(listed), error);
    for (int row = 0; done && row < PQntuples(listed); row++) {
        int64_t seq = pg_binary_int64(listed, row, 0);
        if (!seq_holes_covers(pipe->holes, seq)) {
            sweep->seqs[sweep->count] = seq;
            sweep->sizes[sweep->count++] = pg_binary_int64(listed, row, 1);
        }
    }
    PQclear(listed);
    return done;
}

// Looks through the next rows behind *from, a piece of them while rows wait, and adds what does not wait. *from: how
// far it looked. *more: there are others behind it.
static bool look(struct publish_pipe *pipe, struct pg_connection *connection, int64_t *from, size_t limit, bool *more,
    struct relay_error *error)
{
    int64_t upto = seq_holes_watermark(pipe->holes);
    *more = false;
    if ((pipe->held > 0 || pipe->parked > 0) &&
        !outbox_sql_piece(pipe->sql, connection, *from, upto, PUBLISH_PIECE_ROWS, more, &upto,
            pg_deadline(pipe->context), error)) {
        return false;
    }
    PGresult *below = outbox_sql_list_below(pipe->sql, connection, *from, upto, (int64_t)limit,
        pg_deadline(pipe->context), error);
    if (below != NULL && (size_t)PQntuples(below) >= limit) {
        *more = true;
        upto = pg_binary_int64(below, PQntuples(below) - 1, 0);
    }
    *from = upto;
    return add(pipe, below, error);
}

// Lists all rows that do not wait, in one snapshot.
static bool look_at_all(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    publish_take_forget(pipe);
    if (!outbox_sql_begin_snapshot(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    int64_t from = INT64_MIN;
    bool done = true;
    sweep->cut = true;
    while (done && sweep->cut && sweep->count < MOST_FOUND && !publish_stopping(pipe)) {
        publish_tick(pipe);
        done = look(pipe, connection, &from, MOST_FOUND - sweep->count, &sweep->cut, error);
    }
    if (!done) {
        publish_take_forget(pipe);
    }
    return outbox_sql_rollback(connection, pg_deadline(pipe->context), done ? error : NULL) && done;
}

// How many of the rows that were found are taken next: a batch, up to the first suspect.
static size_t next_ones(const struct publish_pipe *pipe)
{
    const struct publish_sweep *sweep = &pipe->sweep;
    size_t limit = (size_t)publish_take_limit(pipe), count = 0;
    for (int64_t bytes = 0; sweep->next + count < sweep->count && count < limit && bytes < pipe->config->batch_bytes;) {
        bytes += sweep->sizes[sweep->next + count++];
    }
    return publish_suspects_cut(&pipe->verdicts, sweep->seqs + sweep->next, count);
}

static bool take_next(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    size_t count = next_ones(pipe);
    bool more = sweep->next + count < sweep->count || sweep->cut;
    sweep->next += count; // an undo forgets them all
    if (!publish_take_these(pipe, lane, sweep->seqs + sweep->next - count, count, NULL, NULL, error)) {
        return false;
    }
    bool taken = lane->state == LANE_ROUTED;
    publish_after_these(pipe, lane, taken && more, &sweep->at);
    if (sweep->next == sweep->count) {
        publish_take_forget(pipe);
    }
    sweep->found = taken && !lane->kept;
    if (sweep->found) {
        log_event(LOG_LEVEL_INFO, "publish.swept", "rows below the watermark", LOG_TEXT("outbox", pipe->config->name),
            LOG_INT("rows", count));
    }
    return true;
}

// Looks at the next piece, and where it has something at all the others.
static bool find(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    int64_t from = sweep->upto;
    bool more;
    sweep->count = sweep->next = 0;
    if (!look(pipe, connection, &from, MOST_FOUND, &more, error)) {
        return false;
    }
    bool all = sweep->upto == INT64_MIN && !more;
    sweep->upto = more ? from : INT64_MIN;
    sweep->found = sweep->found && (more || sweep->count > 0);
    return all || sweep->count == 0 || look_at_all(pipe, connection, error);
}

bool publish_sweep(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    sweep->at = clock_mono(pipe->context->clock);
    int64_t watermark = seq_holes_watermark(pipe->holes);
    if (watermark == INT64_MIN || !safeguard_active(SAFEGUARD_HOLE_SWEEP)) {
        return true;
    }
    if (sweep->next == sweep->count && !find(pipe, publish_connection(pipe, lane), error)) {
        return false;
    }
    if (sweep->next < sweep->count) {
        return take_next(pipe, lane, error);
    }
    if (pipe->held == 0 && pipe->parked == 0) { // somebody else took the suspects away
        publish_suspects_clear_upto(&pipe->verdicts, watermark);
    }
    return true;
}
