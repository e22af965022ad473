// SPDX-License-Identifier: Apache-2.0
//
// The sweep, every minute: rows below the watermark that nobody waits for (numbers drawn without a lock, entries that
// an operator deleted, rows fixed or put back by hand). After one that took something it looks again two seconds
// later.
//
// Each row that waits costs a look at what it waits for, and each dead row that an old snapshot keeps a look at the
// table: so they are looked through in pieces (sweep_pieces.c), some 0.1 s of them every two seconds, and a round takes
// as long as it takes. What is fixed in one transaction goes in its order, and a piece sees a part of it: once a piece
// has something, everything below the watermark is listed in one snapshot, and the rows go as they stand in that list.
// If some of them cannot be taken out for now, the list is forgotten, and the sweep begins anew. Where that listing
// takes too long, since nothing is published meanwhile, the rows of the piece go alone.
#include "relay/publish/publish_sweep.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/publish/publish_careful.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"

#include <stdlib.h>

#define SWEEP_INTERVAL DURATION_S(60)
#define PIECE_INTERVAL DURATION_S(2)
// Of the time between two looks, so much is taken from batches.
#define LOOK_TIME  DURATION_MS(100)
#define PIECE_TIME DURATION_MS(50)
// A piece that takes so long is given up.
#define PIECE_LIMIT DURATION_MS(500)
// For one listing of everything: when it comes to that, somebody has put rows back or fixed them.
#define ALL_TIME DURATION_S(10)
// After one that took longer: most likely the next one does, too.
#define ALL_PAUSE DURATION_S(600)
// Rows that are listed at once: 1.6 MB.
#define MOST_FOUND 100000

bool publish_sweep_due(const struct publish_pipe *pipe)
{
    const struct publish_sweep *sweep = &pipe->sweep;
    bool over = sweep->pieces.from == INT64_MIN && sweep->list.next == sweep->list.count && !sweep->found;
    struct duration interval = over ? SWEEP_INTERVAL : PIECE_INTERVAL;
    return mono_reached(clock_mono(pipe->context->clock), mono_add(sweep->at, interval));
}

void publish_sweep_begin(struct publish_pipe *pipe)
{
    publish_take_forget(pipe);
    sweep_pieces_init(&pipe->sweep.pieces);
    pipe->sweep.found = false;
    pipe->sweep.all_again_at = (struct mono_time){0};
    pipe->sweep.at = clock_mono(pipe->context->clock);
}

void publish_sweep_soon(struct publish_pipe *pipe)
{
    pipe->sweep.found = true;
}

static void free_list(struct publish_found *list)
{
    free(list->seqs);
    free(list->sizes);
    *list = (struct publish_found){0};
}

void publish_sweep_finish(struct publish_pipe *pipe)
{
    free_list(&pipe->sweep.list);
}

static bool make_room(struct publish_found *list, size_t more, struct relay_error *error)
{
    size_t room = list->count + more;
    if (room <= list->room) {
        return true;
    }
    int64_t *seqs = realloc(list->seqs, room * sizeof(*seqs));
    list->seqs = seqs != NULL ? seqs : list->seqs;
    int64_t *sizes = seqs != NULL ? realloc(list->sizes, room * sizeof(*sizes)) : NULL;
    list->sizes = sizes != NULL ? sizes : list->sizes;
    if (sizes == NULL) {
        return error_no_memory(error, "the sweep's rows");
    }
    list->room = room;
    return true;
}

// Adds what does not wait. What commits in a hole is looked up with the next rows, which keeps its order.
static bool add(struct publish_pipe *pipe, PGresult *listed, struct relay_error *error)
{
    struct publish_found *list = &pipe->sweep.list;
    bool done = make_room(list, (size_t)PQntuples(listed), error);
    for (int row = 0; done && row < PQntuples(listed); row++) {
        int64_t seq = pg_binary_int64(listed, row, 0);
        if (!seq_holes_covers(pipe->holes, seq)) {
            list->seqs[list->count] = seq;
            list->sizes[list->count++] = pg_binary_int64(listed, row, 1);
        }
    }
    PQclear(listed);
    return done;
}

// Looks through the next piece, and adds what does not wait. *over: it was the last one.
static bool look(struct publish_pipe *pipe, struct pg_connection *connection, struct sweep_pieces *pieces, bool *over,
    struct relay_error *error)
{
    int64_t watermark = seq_holes_watermark(pipe->holes), end = sweep_pieces_end(pieces, watermark);
    size_t limit = MOST_FOUND - pipe->sweep.list.count;
    struct mono_time began = clock_mono(pipe->context->clock);
    PGresult *below = outbox_sql_list_below(connection, pieces->from, end, (int64_t)limit, pg_deadline(pipe->context),
        error);
    if (below == NULL) {
        return false;
    }
    struct duration took = mono_since(clock_mono(pipe->context->clock), began);
    if ((size_t)PQntuples(below) >= limit) { // what is behind the last one was not looked at
        int64_t last = pg_binary_int64(below, PQntuples(below) - 1, 0);
        *over = sweep_pieces_done(pieces, last, watermark, PIECE_TIME, PIECE_TIME);
    } else {
        *over = sweep_pieces_done(pieces, end, watermark, took, PIECE_TIME);
    }
    return add(pipe, below, error);
}

// Looks through pieces in one snapshot, for so long, or until MOST_FOUND are found. *over: up to the end of the round.
// A piece that takes longer than the limit ends it; the next one will be smaller.
static bool look_through(struct publish_pipe *pipe, struct pg_connection *connection, struct sweep_pieces *pieces,
    struct duration time, struct duration limit, bool *over, struct relay_error *error)
{
    const struct clock *clock = pipe->context->clock;
    struct duration own = pipe->context->config->postgres.statement_timeout;
    struct mono_time until = mono_add(clock_mono(clock), time);
    *over = false;
    if (!outbox_sql_begin_snapshot(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    bool done = outbox_sql_allow(connection, own.ns > 0 ? duration_shorter(own, limit) : limit,
        pg_deadline(pipe->context), error);
    do {
        publish_tick(pipe);
        done = done && look(pipe, connection, pieces, over, error);
    } while (done && !*over && pipe->sweep.list.count < MOST_FOUND && !publish_stopping(pipe) &&
        !mono_reached(clock_mono(clock), until));
    if (!done && publish_too_slow(connection, error)) {
        done = sweep_pieces_narrow(pieces, seq_holes_watermark(pipe->holes));
    }
    return outbox_sql_rollback(connection, pg_deadline(pipe->context), done ? error : NULL) && done;
}

// Lists all rows that do not wait, in one snapshot, in place of those that were found; these stay if that takes too
// long.
static bool look_at_all(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    struct publish_found some = sweep->list;
    struct sweep_pieces pieces = sweep->pieces;
    pieces.from = INT64_MIN;
    sweep->list = (struct publish_found){0};
    bool over;
    bool done = look_through(pipe, connection, &pieces, ALL_TIME, ALL_TIME, &over, error);
    sweep->list.cut = !over;
    if (done && (over || sweep->list.count >= MOST_FOUND)) {
        free_list(&some);
        sweep->pieces.from = INT64_MIN;
        return true;
    }
    free_list(&sweep->list);
    sweep->list = some;
    sweep->all_again_at = mono_add(clock_mono(pipe->context->clock), ALL_PAUSE);
    if (!done) {
        publish_take_forget(pipe);
    }
    return done;
}

// How many of the rows that were found are taken next: a batch, up to the first suspect.
static size_t next_ones(const struct publish_pipe *pipe)
{
    const struct publish_found *list = &pipe->sweep.list;
    size_t limit = (size_t)publish_take_limit(pipe), count = 0;
    for (int64_t bytes = 0; list->next + count < list->count && count < limit && bytes < pipe->config->batch_bytes;) {
        bytes += list->sizes[list->next + count++];
    }
    return publish_suspects_cut(&pipe->verdicts, list->seqs + list->next, count);
}

static bool take_next(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    struct publish_found *list = &sweep->list;
    size_t count = next_ones(pipe), suspects = pipe->verdicts.suspect_count;
    bool more = list->next + count < list->count || list->cut;
    list->next += count; // an undo forgets them all
    if (!publish_take_these(pipe, lane, list->seqs + list->next - count, count, NULL, NULL, error)) {
        return false;
    }
    bool taken = lane->state == LANE_ROUTED;
    // One of them cannot be converted: it is in one half, and until it is found the whole outbox goes carefully.
    bool halved = lane->state == LANE_IDLE && pipe->verdicts.suspect_count > suspects;
    publish_after_these(pipe, lane, halved || (taken && more), &sweep->at);
    if (list->next == list->count) {
        publish_found_empty(list);
    }
    sweep->found = taken && !lane->kept;
    if (sweep->found) {
        log_event(LOG_LEVEL_INFO, "publish.swept", "rows below the watermark", LOG_TEXT("outbox", pipe->config->name),
            LOG_INT("rows", count));
    }
    return true;
}

// Looks at the next pieces, and where they have something at all the others.
static bool find(struct publish_pipe *pipe, struct pg_connection *connection, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    bool whole = sweep->pieces.from == INT64_MIN, over;
    publish_found_empty(&sweep->list);
    if (!look_through(pipe, connection, &sweep->pieces, LOOK_TIME, PIECE_LIMIT, &over, error)) {
        publish_found_empty(&sweep->list);
        return false;
    }
    sweep->found = sweep->found && (!over || sweep->list.count > 0);
    bool some = sweep->list.count > 0 && !(whole && over);
    return !some || !mono_reached(clock_mono(pipe->context->clock), sweep->all_again_at) ||
        look_at_all(pipe, connection, error);
}

bool publish_sweep(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct publish_sweep *sweep = &pipe->sweep;
    sweep->at = clock_mono(pipe->context->clock);
    int64_t watermark = seq_holes_watermark(pipe->holes);
    if (watermark == INT64_MIN || !safeguard_active(SAFEGUARD_HOLE_SWEEP)) {
        return true;
    }
    struct publish_found *list = &sweep->list;
    if (list->next == list->count && !find(pipe, publish_connection(pipe, lane), error)) {
        return false;
    }
    if (list->next < list->count) {
        return take_next(pipe, lane, error);
    }
    if (pipe->held == 0 && pipe->parked == 0 &&
        sweep->pieces.from == INT64_MIN) { // somebody else took the suspects away
        publish_suspects_clear_upto(&pipe->verdicts, watermark);
    }
    return true;
}
