// SPDX-License-Identifier: Apache-2.0
//
// How rows come out of the table. The happy path: BEGIN, take the new rows (above the watermark), look up the holes
// (numbers below it that may have committed since), sort, route. The new rows first: what commits between the two
// statements is then in the second, and belongs before anything that was inserted after it. Look-ups happen strictly in
// the order of the batches, and never ask for what an open transaction of the other session has taken: it ends only by
// this thread, which would wait for it.
//
// - Holes may cover rows of that transaction (ranges that were merged, rows that a sweep took): they are looked up when
//   it has ended.
// - A look-up cut by its limit: the rest of the holes belongs before the new rows. The batch is undone and holes are
//   read alone until they are through.
// - A row that cannot be routed is judged (dead letter, hold, stop); the batch is undone and read again the careful
//   way (publish_careful.c).
// - A row that PostgreSQL cannot convert to UTF-8, or whose text is longer than it can send, makes the statement fail:
//   undone, and looked for the careful way, among half of the rows, then half of those.
// - A row's text is far longer than its size said: with many such rows the connection is given up, and the next term
//   reads the careful way. There it comes cut: undone, and read alone.
// - A locked row makes the statement fail after lock_timeout: undone, and tried again later.
// - PostgreSQL takes long for the rows, or does not answer in time at all: the next batches have fewer.
// - It takes long to look the holes up, which smaller batches would not make quicker: no batch is read while another
//   one is in Kafka, whose time limit would run out.
#include "relay/publish/publish_take.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_commit.h"
#include "relay/publish/publish_judge.h"
#include "relay/publish/publish_lane.h"

#include <assert.h>
#include <stdlib.h>

// For each outbox of the process: all of them read the same list, which is as long as the server has sessions.
#define LISTING_INTERVAL DURATION_MS(20)
#define LISTING_SLOWEST  DURATION_MS(500)
#define JOINED_LIMIT     DURATION_S(5)

int64_t publish_take_limit(const struct publish_pipe *pipe)
{
    // A little less than batch_bytes: where the statement has to cut by bytes, it measures its rows twice.
    int64_t bytes = pipe->config->batch_bytes - pipe->config->batch_bytes / 8;
    int64_t limit = bytes / (pipe->row_bytes > 0 ? pipe->row_bytes : 1);
    limit = limit < pipe->most_rows ? limit : pipe->most_rows;
    limit = pipe->carried_rows == 0 || limit < pipe->carried_rows ? limit : pipe->carried_rows;
    return limit > 1 ? limit : 1;
}

void publish_take_fewer(struct publish_pipe *pipe)
{
    pipe->carried_rows = (publish_take_limit(pipe) + 1) / 2;
}

// A big row is believed at once, a small one slowly: the limit must never be far too high.
static void learn_row_size(struct publish_pipe *pipe, const struct outbox_batch *batch)
{
    if (batch->count == 0) {
        return;
    }
    int64_t average = (int64_t)(batch->bytes / batch->count) + 1;
    pipe->row_bytes = average > pipe->row_bytes ? average : (pipe->row_bytes * 3 + average) / 4;
}

static void reset_lane(struct publish_pipe *pipe, struct publish_lane *lane)
{
    assert(lane->state == LANE_IDLE);
    outbox_batch_reset(lane->batch);
    lane->full = false;
    lane->late = false;
    lane->waited = DURATION_NS(0);
    lane->asked_count = 0;
    lane->slow = false;
    lane->chosen = false;
    lane->careful = false;
    lane->kept = false;
    lane->released = false;
    lane->seen = false;
    lane->behind = false;
    lane->holes_only = pipe->holes_first;
    seq_holes_copy(lane->before, pipe->holes);
}

// What was read before a joined batch waits for it, in a Kafka transaction that has its own time limit.
static struct duration joined_limit(const struct publish_pipe *pipe)
{
    struct duration own = pipe->context->config->postgres.statement_timeout;
    return own.ns > 0 && own.ns < JOINED_LIMIT.ns ? own : JOINED_LIMIT;
}

// before: NULL, or the lane in whose transaction this one goes on.
static bool begin_batch(struct publish_pipe *pipe, struct publish_lane *lane, const struct publish_lane *before,
    struct relay_error *error)
{
    const struct publish_lane *other = publish_other(pipe, lane);
    reset_lane(pipe, lane);
    lane->joined = before != NULL;
    if (other->state != LANE_IDLE) {
        lane->slot = before != NULL ? before->slot : 1 - other->slot;
    }
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    assert(transaction->open == lane->joined);
    struct pg_connection *connection = publish_connection(pipe, lane);
    if (lane->joined ? !outbox_sql_savepoint(connection, joined_limit(pipe), pg_deadline(pipe->context), error)
                     : !outbox_sql_begin(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    if (!lane->joined) {
        publish_transaction_begin(transaction, clock_mono(pipe->context->clock), pipe->holes);
    }
    transaction->batches++;
    publish_lane_move(pipe, lane, LANE_TAKING);
    return true;
}

bool publish_take_start(struct publish_pipe *pipe, struct publish_lane *lane, const struct publish_lane *before,
    struct relay_error *error)
{
    if (!begin_batch(pipe, lane, before, error)) {
        return false;
    }
    if (lane->holes_only) {
        return true;
    }
    return outbox_sql_send_take(pipe->sql, publish_connection(pipe, lane), seq_holes_watermark(pipe->holes),
        publish_take_limit(pipe), error);
}

static struct duration listing_interval(const struct publish_pipe *pipe)
{
    int owned = pipe->share == NULL ? 1 : publish_share_owned(pipe->share);
    return duration_shorter(DURATION_NS(LISTING_INTERVAL.ns * (owned > 1 ? owned : 1)), LISTING_SLOWEST);
}

// With many sessions reading pg_locks costs something, and writers wait for it. A hole that is kept for longer is
// looked up more often.
bool publish_take_holders(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct mono_time now = clock_mono(pipe->context->clock);
    if (!seq_holes_wants_listing(pipe->holes) ||
        !mono_reached(now, mono_add(pipe->listed_at, listing_interval(pipe)))) {
        return true;
    }
    pipe->listed_at = now;
    int pids[2] = {PQbackendPID(pg_libpq(pipe->owner.connections[0])),
        PQbackendPID(pg_libpq(pipe->owner.connections[1]))};
    PGresult *result = outbox_sql_holders(publish_connection(pipe, lane), pids, pg_deadline(pipe->context), error);
    if (result == NULL) {
        return false;
    }
    size_t count = (size_t)PQntuples(result);
    uint64_t *list = event_arena_alloc(lane->batch->arena, count * sizeof(*list));
    bool done = list != NULL || error_no_memory(error, "the holders of a lock");
    for (size_t i = 0; done && i < count; i++) {
        done = seq_holder_parse(PQgetvalue(result, (int)i, 0), &list[i], error);
    }
    PQclear(result);
    if (!done || !seq_holders_listed(pipe->holders, list, count, error)) {
        return false;
    }
    seq_holes_listed(pipe->holes, pipe->holders);
    return true;
}

void publish_take_judge(struct publish_pipe *pipe, struct publish_lane *lane, size_t rows, struct mono_time began)
{
    bool many = rows > 1 && (int64_t)rows > publish_take_limit(pipe) / 2; // half as many would have cut them
    lane->slow = lane->slow || (many && publish_took_long(pipe, mono_since(clock_mono(pipe->context->clock), began)));
}

static int64_t *all_seqs(struct outbox_batch *batch, size_t from, struct relay_error *error)
{
    int64_t *seqs = event_arena_alloc(batch->arena, (batch->count - from + 1) * sizeof(*seqs));
    if (seqs == NULL) {
        error_no_memory(error, "a batch's numbers");
        return NULL;
    }
    for (size_t i = from; i < batch->count; i++) {
        seqs[i - from] = batch->rows[i].seq;
    }
    return seqs;
}

static int ascending(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

bool publish_take_add(struct publish_pipe *pipe, struct publish_lane *lane, bool guarded, PGresult *result,
    struct relay_error *error)
{
    return outbox_batch_add(lane->batch, pipe->owner.table, pipe->config->publish.additional_count, guarded, result,
        error);
}

size_t publish_take_ask(struct publish_pipe *pipe, const struct seq_range **ranges)
{
    *ranges = NULL;
    return safeguard_active(SAFEGUARD_HOLE_SWEEP) ? seq_holes_ask(pipe->holes, ranges) : 0;
}

// Looks up the holes and takes what is there. *cut: there may be more. (With no row nothing says so: when somebody has
// deleted all that it was to take while it waited for their locks, the rest is left to the sweep. Asking again would
// cost a round trip for each hole, and most are of transactions that rolled back.)
static bool take_holes(struct publish_pipe *pipe, struct publish_lane *lane, bool *cut, struct relay_error *error)
{
    *cut = false;
    const struct seq_range *ranges;
    size_t count = publish_take_ask(pipe, &ranges);
    if (count == 0) {
        return true;
    }
    int64_t limit = publish_take_limit(pipe);
    struct mono_time began = clock_mono(pipe->context->clock);
    PGresult *result = outbox_sql_take_ranges(pipe->sql, publish_connection(pipe, lane), ranges, count, limit,
        pg_deadline(pipe->context), error);
    size_t before = lane->batch->count;
    if (result == NULL || !publish_take_add(pipe, lane, true, result, error)) {
        return false;
    }
    size_t found = lane->batch->count - before;
    publish_take_judge(pipe, lane, found, began);
    lane->late = found > 0;
    int64_t *seqs = all_seqs(lane->batch, before, error);
    if (seqs == NULL) {
        return false;
    }
    qsort(seqs, found, sizeof(*seqs), ascending);
    *cut = found > 0 && PQgetvalue(result, 0, PQnfields(result) - 1)[0] != 0;
    seq_holes_looked_up(pipe->holes, seqs, found, *cut ? seqs[found - 1] : INT64_MAX);
    return true;
}

// Routes all rows. Every row that cannot be is judged; the batch must then be read again. *clean: none was.
static bool route(struct publish_pipe *pipe, struct publish_lane *lane, bool *clean, struct relay_error *error)
{
    *clean = true;
    for (size_t next = 0; next < lane->batch->count; next++) {
        enum publish_reason reason;
        struct relay_error why;
        if (outbox_batch_route(lane->batch, pipe->router, &next, &reason, &why)) {
            break;
        }
        if (reason == PUBLISH_REASON_NONE) {
            *error = why;
            return false;
        }
        *clean = false;
        const struct outbox_row *row = &lane->batch->rows[next];
        bool alone = row->cut && row->above == 0; // it may be whole then
        if (alone ? !publish_suspects_add(&pipe->verdicts, row->seq, error)
                  : !publish_judge_poison(pipe, lane, row->seq, publish_reason_name(reason), why.text, error)) {
            return false;
        }
    }
    return !*clean || publish_validate(pipe, lane, clean, error);
}

void publish_take_forget(struct publish_pipe *pipe)
{
    publish_found_empty(&pipe->sweep.list);
    pipe->sweep.pieces.from = INT64_MIN; // else what is behind them would overtake them
}

bool publish_take_undo(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (lane->state == LANE_IDLE) {
        return true;
    }
    assert(lane->state != LANE_COMMITTING);
    struct pg_connection *connection = publish_connection(pipe, lane);
    if (pg_busy(connection)) { // its answer must be out of the way before anything else can be said
        PQclear(pg_receive(connection, pg_deadline(pipe->context), NULL));
    }
    if (lane->joined ? !outbox_sql_rollback_batch(connection, pg_deadline(pipe->context), error)
                     : !outbox_sql_rollback(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    if (!lane->joined) {
        publish_transaction_of(pipe, lane)->open = false;
    }
    if (lane->chosen) { // rows of the sweep that were found with these must not overtake them
        publish_take_forget(pipe);
    }
    seq_holes_copy(pipe->holes, lane->before);
    outbox_batch_reset(lane->batch);
    publish_lane_move(pipe, lane, LANE_IDLE);
    return true;
}

bool publish_take_undo_all(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    if (other->state == LANE_COMMITTING ? !publish_committed(pipe, other, error)
                                        : !publish_take_undo(pipe, other, error)) {
        return false;
    }
    lane->joined = false;
    seq_holes_copy(lane->before, publish_transaction_of(pipe, lane)->before);
    return publish_take_undo(pipe, lane, error);
}

void publish_take_nothing(struct publish_pipe *pipe, struct publish_lane *lane)
{
    assert(lane->joined && publish_transaction_of(pipe, lane)->open);
    reset_lane(pipe, lane);
    lane->settled = seq_holes_settled(pipe->holes);
    publish_lane_move(pipe, lane, LANE_TAKING);
    publish_lane_move(pipe, lane, LANE_TAKEN);
    publish_lane_move(pipe, lane, LANE_ROUTED);
}

// All its rows are in memory. The next batch may be read before this one is routed.
static void is_taken(struct publish_pipe *pipe, struct publish_lane *lane)
{
    outbox_batch_sort(lane->batch);
    learn_row_size(pipe, lane->batch);
    lane->settled = seq_holes_settled(pipe->holes);
    struct publish_transaction *transaction = publish_transaction_of(pipe, lane);
    transaction->rows += lane->batch->count;
    if (!transaction->in_kafka) {
        transaction->limit_from = clock_mono(pipe->context->clock);
    }
    publish_lane_move(pipe, lane, LANE_TAKEN);
    if (lane->batch->count > 0) {
        TEST_POINT(PUBLISH_AFTER_TAKE);
    }
}

// Whether the holes cover rows that the transaction in the other session has taken out.
static bool meets_other(const struct publish_pipe *pipe, const struct publish_lane *lane)
{
    const struct publish_transaction *transaction = &pipe->transactions[1 - lane->slot];
    if (!transaction->open || seq_holes_ranges(pipe->holes) == 0) {
        return false;
    }
    const struct outbox_batch *last = publish_other(pipe, lane)->batch;
    bool meets = false;
    for (size_t i = 0; !meets && i < last->count; i++) {
        meets = seq_holes_covers(pipe->holes, last->rows[i].seq);
    }
    for (size_t i = 0; !meets && i < transaction->sent_count; i++) { // of the batches before it, too
        meets = seq_holes_covers(pipe->holes, transaction->sent[i].seq);
    }
    return meets;
}

static bool take_new(struct publish_pipe *pipe, struct publish_lane *lane, void *context, struct relay_error *error)
{
    (void)context;
    if (!lane->holes_only) {
        int64_t limit = publish_take_limit(pipe);
        struct mono_time began = clock_mono(pipe->context->clock);
        PGresult *result = pg_receive(publish_connection(pipe, lane), pg_deadline(pipe->context), error);
        if (result == NULL || !publish_take_add(pipe, lane, false, result, error)) {
            return false;
        }
        publish_take_judge(pipe, lane, lane->batch->count, began);
        outbox_batch_sort(lane->batch);
        int64_t *seqs = all_seqs(lane->batch, 0, error);
        if (seqs == NULL) {
            return false;
        }
        lane->full = (int64_t)lane->batch->count >= limit ||
            (int64_t)lane->batch->bytes >= pipe->config->batch_bytes / 2;
        seq_holes_saw(pipe->holes, seqs, lane->batch->count, clock_mono(pipe->context->clock));
    }
    lane->seen = true;
    lane->behind = meets_other(pipe, lane);
    return true;
}

static bool take_late(struct publish_pipe *pipe, struct publish_lane *lane, void *context, struct relay_error *error)
{
    (void)context;
    bool cut;
    if (!publish_take_holders(pipe, lane, error) || !take_holes(pipe, lane, &cut, error)) {
        return false;
    }
    if (cut && !lane->holes_only) { // the rest of the holes comes first
        pipe->holes_first = true;
        return publish_take_undo(pipe, lane, error);
    }
    pipe->holes_first = cut;
    lane->full = lane->full || cut || lane->holes_only;
    is_taken(pipe, lane);
    return true;
}

// Some row among those that were to be read cannot be sent. Only a list of rows tells which, so the next readings are
// careful. One that knows its rows and was refused besides them (it carried out verdicts) has met something else.
static bool find_unsendable(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (lane->asked_count == 0 && (lane->careful || lane->chosen)) {
        return false;
    }
    if (lane->asked_count == 0) {
        log_event(LOG_LEVEL_WARNING, "publish.read_refused", "looking for the row",
            LOG_TEXT("outbox", pipe->config->name), LOG_ERROR(error));
        pipe->closely = true;
    } else if (!publish_judge_unsendable(pipe, lane, error)) {
        return false;
    }
    return publish_take_undo(pipe, lane, error);
}

// PostgreSQL refused a statement of the reading, for now: a row stays locked by somebody, a statement took too long (of
// fewer rows it may not). The batch is undone and read again a little later; the session is whole.
static bool put_off(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (publish_not_sent(publish_connection(pipe, lane), error)) {
        return find_unsendable(pipe, lane, error);
    }
    if (error->code != RELAY_ERROR_POSTGRES_QUERY || pg_broken(publish_connection(pipe, lane))) {
        if (error->code == RELAY_ERROR_POSTGRES_UNREACHABLE && publish_took_long(pipe, lane->waited)) {
            publish_take_fewer(pipe); // a server that did not even end the statement by its own time limit
        }
        // It may have sent more than there is memory for, of rows that it holds in a fraction of that.
        pipe->closely = pipe->closely || pg_broken(publish_connection(pipe, lane));
        return false;
    }
    if (!lane->joined && publish_too_slow(publish_connection(pipe, lane), error)) {
        publish_take_fewer(pipe);
    }
    log_event(LOG_LEVEL_WARNING, "publish.read_refused", "trying again", LOG_TEXT("outbox", pipe->config->name),
        LOG_ERROR(error));
    publish_show_trouble(pipe, error);
    pipe->read_again_at = mono_add(clock_mono(pipe->context->clock), DURATION_MS(200));
    return publish_take_undo(pipe, lane, error);
}

// One step of the reading, all of whose time this thread waits for PostgreSQL.
static bool timed(struct publish_pipe *pipe, struct publish_lane *lane, publish_step *step, void *context,
    struct relay_error *error)
{
    struct mono_time began = clock_mono(pipe->context->clock);
    bool done = step(pipe, lane, context, error);
    lane->waited.ns += mono_since(clock_mono(pipe->context->clock), began).ns;
    return done;
}

// The rows are in memory, but it took long: the next ones are fewer. A little more, and statement_timeout would have
// ended it, or Kafka the transaction before it.
static void after_slow_rows(struct publish_pipe *pipe, const struct publish_lane *lane)
{
    if (!lane->slow) {
        return;
    }
    if (pipe->carried_rows == 0) { // once, and not with each halving
        log_event(LOG_LEVEL_WARNING, "publish.read_slow", "going on with smaller batches until PostgreSQL is quicker",
            LOG_TEXT("outbox", pipe->config->name), LOG_COUNT("rows", lane->batch->count),
            LOG_REAL("seconds", duration_seconds(lane->waited)));
    }
    publish_take_fewer(pipe);
}

bool publish_take_rows(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *other,
    struct relay_error *error)
{
    assert(lane->state == LANE_TAKING);
    if (!lane->seen && !timed(pipe, lane, take_new, NULL, error)) {
        return put_off(pipe, lane, error);
    }
    if (lane->behind && other->state != LANE_IDLE) {
        if (other->state != LANE_COMMITTING) {
            return true;
        }
        if (!publish_committed(pipe, other, error)) {
            return false;
        }
    }
    struct duration before = lane->waited;
    if (!timed(pipe, lane, take_late, NULL, error)) {
        return put_off(pipe, lane, error);
    }
    pipe->looks_slowly = publish_took_long(pipe, DURATION_NS(lane->waited.ns - before.ns));
    if (lane->state == LANE_TAKEN) {
        after_slow_rows(pipe, lane);
    }
    return true;
}

bool publish_take_route(struct publish_pipe *pipe, struct publish_lane *lane, struct publish_lane *later,
    struct relay_error *error)
{
    assert(lane->state == LANE_TAKEN);
    bool clean = true;
    if (!route(pipe, lane, &clean, error)) {
        return false;
    }
    if (!clean) {
        return (later == NULL || publish_take_undo(pipe, later, error)) && publish_take_undo(pipe, lane, error);
    }
    publish_lane_move(pipe, lane, LANE_ROUTED);
    return true;
}

bool publish_take_with(struct publish_pipe *pipe, struct publish_lane *lane, publish_step *take, void *context,
    struct relay_error *error)
{
    if (!begin_batch(pipe, lane, NULL, error)) {
        return false;
    }
    if (!timed(pipe, lane, take, context, error)) {
        return put_off(pipe, lane, error);
    }
    is_taken(pipe, lane);
    after_slow_rows(pipe, lane);
    return publish_take_route(pipe, lane, NULL, error);
}

bool publish_take_probe(struct publish_pipe *pipe, bool *found, struct relay_error *error)
{
    assert(pipe->lanes[0].state == LANE_IDLE && pipe->lanes[1].state == LANE_IDLE);
    event_arena_reset(pipe->lanes[0].batch->arena);
    if (!publish_take_holders(pipe, &pipe->lanes[0], error)) {
        return false;
    }
    const struct seq_range *ranges;
    size_t count = publish_take_ask(pipe, &ranges);
    struct pg_connection *connection = pipe->owner.connections[0];
    if (!outbox_sql_send_probe(connection, seq_holes_watermark(pipe->holes), ranges, count, error)) {
        return false;
    }
    PGresult *result = pg_receive(connection, pg_deadline(pipe->context), error);
    if (result == NULL) {
        return false;
    }
    *found = PQgetvalue(result, 0, 0)[0] != 0;
    PQclear(result);
    if (!*found && count > 0) { // a look-up that found nothing is one all the same
        seq_holes_looked_up(pipe->holes, NULL, 0, INT64_MAX);
    }
    publish_show_holes(pipe);
    return true;
}
