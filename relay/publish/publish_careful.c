// SPDX-License-Identifier: Apache-2.0
//
// How rows come out of the table while some of them wait, or have to be judged one by one. Verdicts are carried out
// first and committed alone; then the rows are only listed, and exactly those that may go are taken. Rows that waited,
// and those of the sweep, are taken by their numbers as well. It runs alone, without a sibling; what fails is undone
// and put off as in publish_take.c.
#include "relay/publish/publish_careful.h"

#include "relay/publish/publish_board.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"

#define VERDICT_WITHIN DURATION_S(600)
// Rows that are too large to be read, in a batch.
#define GIANTS_AT_ONCE 8

struct listed {
    int64_t *seqs, *sizes; // in the arena, ascending by seq
    bool *waits;
    size_t count;
};

static bool take_listing(struct outbox_batch *batch, PGresult *result, struct listed *listed, struct relay_error *error)
{
    if (result == NULL) {
        return false;
    }
    listed->count = (size_t)PQntuples(result);
    listed->seqs = event_arena_alloc(batch->arena, (listed->count + 1) * sizeof(*listed->seqs));
    listed->sizes = event_arena_alloc(batch->arena, (listed->count + 1) * sizeof(*listed->sizes));
    listed->waits = event_arena_alloc(batch->arena, listed->count + 1);
    bool done = (listed->seqs != NULL && listed->sizes != NULL && listed->waits != NULL) ||
        error_no_memory(error, "a listing");
    for (size_t i = 0; done && i < listed->count; i++) {
        listed->seqs[i] = pg_binary_int64(result, (int)i, 0);
        listed->sizes[i] = pg_binary_int64(result, (int)i, 1);
        listed->waits[i] = PQnfields(result) > 2 && PQgetvalue(result, (int)i, 2)[0] != 0;
    }
    PQclear(result);
    return done;
}

// Carries out the verdicts, in the open transaction. PostgreSQL makes JSON of a dead letter, which takes its time of
// hundreds of megabytes.
static bool carry_out(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct pg_connection *connection = publish_connection(pipe, lane);
    if (!outbox_sql_allow(connection, VERDICT_WITHIN, pg_deadline(pipe->context), error)) {
        return false;
    }
    for (size_t i = 0; i < pipe->verdicts.count; i++) {
        struct publish_verdict *verdict = &pipe->verdicts.items[i];
        struct mono_time deadline = publish_deadline(pipe, DURATION_NS(VERDICT_WITHIN.ns + DURATION_S(1).ns));
        bool done = false, parked;
        switch (verdict->action) {
        case VERDICT_DEAD_LETTER:
            done = outbox_sql_dead_letter(pipe->sql, connection, verdict->seq, verdict->code, verdict->reason, 1,
                deadline, error);
            break;
        case VERDICT_HOLD:
            done = outbox_sql_hold_aggregate(connection, verdict->seq, verdict->code, verdict->reason, deadline, error);
            break;
        case VERDICT_PARK:
            done = outbox_sql_park_topic(connection, verdict->seq, verdict->topic, verdict->code, verdict->reason,
                &parked, deadline, error);
            verdict->moot = done && !parked;
            break;
        }
        if (!done) {
            return false;
        }
        publish_tick(pipe);
    }
    return true;
}

// Lists the new rows, and then what has committed in the holes. A listing of holes that was cut leaves no new rows: the
// rest of the holes comes before them.
static bool list_both(struct publish_pipe *pipe, struct publish_lane *lane, struct listed *fresh, struct listed *late,
    struct relay_error *error)
{
    struct pg_connection *connection = publish_connection(pipe, lane);
    int64_t limit = publish_take_limit(pipe);
    *fresh = (struct listed){0};
    *late = (struct listed){0};
    if (!lane->holes_only &&
        !take_listing(lane->batch,
            outbox_sql_list_new(connection, seq_holes_watermark(pipe->holes), limit, pg_deadline(pipe->context), error),
            fresh, error)) {
        return false;
    }
    lane->full = (int64_t)fresh->count >= limit || lane->holes_only;
    if (!publish_take_holders(pipe, lane, error)) {
        return false;
    }
    const struct seq_range *ranges;
    size_t count = publish_take_ask(pipe, &ranges);
    if (count > 0 &&
        !take_listing(lane->batch,
            outbox_sql_list_ranges(pipe->sql, connection, ranges, count, limit, pg_deadline(pipe->context), error),
            late, error)) {
        return false;
    }
    pipe->holes_first = count > 0 && (int64_t)late->count >= limit;
    if (pipe->holes_first) {
        fresh->count = 0;
        lane->full = true;
    }
    return true;
}

// Exactly these rows, those that are still there, and that nothing keeps there.
static bool take_list(struct publish_pipe *pipe, struct publish_lane *lane, const int64_t *seqs, size_t count,
    struct relay_error *error)
{
    struct mono_time began = clock_mono(pipe->context->clock);
    lane->asked = seqs;
    lane->asked_count = count;
    bool unprintable = count == 1 && pipe->unprintable && pipe->unprintable_seq == seqs[0];
    PGresult *result = outbox_sql_take_list(publish_connection(pipe, lane), seqs, count, unprintable,
        pg_deadline(pipe->context), error);
    if (result == NULL || !publish_take_add(pipe, lane, true, result, error)) {
        return false;
    }
    lane->asked_count = 0;
    pipe->unprintable = pipe->unprintable && !unprintable;
    if (count == 1 && lane->batch->count == 1 && lane->batch->rows[0].cut) { // alone it was allowed all that is read
        lane->batch->rows[0].above = outbox_sql_largest(pipe->sql);
    }
    publish_take_judge(pipe, lane, lane->batch->count, began);
    outbox_batch_sort(lane->batch);
    lane->kept = lane->batch->count == 0;
    return true;
}

// Takes the listed rows that may go, those before the first suspect. *bound: what is behind it was not looked at.
static bool take_chosen(struct publish_pipe *pipe, struct publish_lane *lane, const struct listed *fresh,
    const struct listed *late, int64_t *bound, struct relay_error *error)
{
    int64_t *seqs = event_arena_alloc(lane->batch->arena, (fresh->count + late->count + 1) * sizeof(*seqs));
    if (seqs == NULL) {
        return error_no_memory(error, "a batch's numbers");
    }
    size_t all = 0, within = 0;
    int64_t bytes = 0;
    for (size_t i = 0; i < late->count + fresh->count; i++) {
        const struct listed *from = i < late->count ? late : fresh;
        size_t at = i < late->count ? i : i - late->count;
        if (!from->waits[at]) {
            within += bytes < pipe->config->batch_bytes;
            bytes += from->sizes[at] > outbox_sql_largest(pipe->sql) ? pipe->config->batch_bytes / GIANTS_AT_ONCE
                                                                     : from->sizes[at];
            seqs[all++] = from->seqs[at];
        }
    }
    size_t count = publish_suspects_cut(&pipe->verdicts, seqs, within);
    *bound = count < all ? seqs[count] - 1 : INT64_MAX;
    lane->full = lane->full || count < all;
    if (count == 0) {
        return true;
    }
    return take_list(pipe, lane, seqs, count, error);
}

// Which of the listed rows up to the bound are settled: taken, or waiting. One that was listed and then not there
// (somebody moved it) is not, and so becomes, or stays, a hole.
static int64_t *settled(struct publish_lane *lane, const struct listed *listed, int64_t bound, size_t *count,
    struct relay_error *error)
{
    struct outbox_batch *batch = lane->batch;
    int64_t *seqs = event_arena_alloc(batch->arena, (listed->count + 1) * sizeof(*seqs));
    if (seqs == NULL) {
        error_no_memory(error, "a batch's numbers");
        return NULL;
    }
    *count = 0;
    size_t row = 0;
    for (size_t i = 0; i < listed->count && listed->seqs[i] <= bound; i++) {
        while (row < batch->count && batch->rows[row].seq < listed->seqs[i]) {
            row++;
        }
        if (listed->waits[i] || (row < batch->count && batch->rows[row].seq == listed->seqs[i])) {
            seqs[(*count)++] = listed->seqs[i];
        }
    }
    return seqs;
}

static bool read_listed(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    struct listed fresh, late;
    int64_t bound = INT64_MAX;
    if (!list_both(pipe, lane, &fresh, &late, error) || !take_chosen(pipe, lane, &fresh, &late, &bound, error)) {
        return false;
    }
    size_t late_count, fresh_count;
    int64_t *late_settled = settled(lane, &late, bound, &late_count, error);
    int64_t *fresh_settled = late_settled == NULL ? NULL : settled(lane, &fresh, bound, &fresh_count, error);
    if (fresh_settled == NULL) {
        return false;
    }
    int64_t complete = pipe->holes_first ? late.seqs[late.count - 1] : INT64_MAX;
    seq_holes_looked_up(pipe->holes, late_settled, late_count, complete < bound ? complete : bound);
    // Only now: what is missing between the new rows had not committed when they were listed, so nothing among them
    // comes after it.
    seq_holes_saw(pipe->holes, fresh_settled, fresh_count, clock_mono(pipe->context->clock));
    return true;
}

static bool take_carefully(struct publish_pipe *pipe, struct publish_lane *lane, void *context,
    struct relay_error *error)
{
    (void)context;
    lane->careful = true;
    if (pipe->verdicts.count > 0) {
        // They are committed alone: were the next rows poison as well, undoing these would undo the verdicts too, and
        // a long row of poison would never end.
        lane->full = true;
        publish_take_forget(pipe);
        return carry_out(pipe, lane, error);
    }
    return read_listed(pipe, lane, error);
}

bool publish_take_carefully(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    return publish_take_with(pipe, lane, take_carefully, NULL, error);
}

struct these {
    const int64_t *seqs;
    size_t count;
    publish_step *then;
    void *context;
};

static bool take_these(struct publish_pipe *pipe, struct publish_lane *lane, void *context, struct relay_error *error)
{
    const struct these *these = context;
    size_t count = publish_suspects_cut(&pipe->verdicts, these->seqs, these->count);
    lane->chosen = true;
    lane->full = true; // look at once what there is besides
    if (count > 0 && !take_list(pipe, lane, these->seqs, count, error)) {
        return false;
    }
    bool all = count == these->count && !lane->kept;
    return !all || these->then == NULL || these->then(pipe, lane, these->context, error);
}

bool publish_take_these(struct publish_pipe *pipe, struct publish_lane *lane, const int64_t *seqs, size_t count,
    publish_step *then, void *context, struct relay_error *error)
{
    struct these these = {.seqs = seqs, .count = count, .then = then, .context = context};
    return publish_take_with(pipe, lane, take_these, &these, error);
}

void publish_after_these(struct publish_pipe *pipe, const struct publish_lane *lane, bool more, struct mono_time *last)
{
    // What was listed once may have been deleted by somebody.
    pipe->chores_in_vain = lane->kept ? pipe->chores_in_vain + 1 : 0;
    if (pipe->chores_in_vain > 1) {
        publish_show_kept(pipe);
    }
    if (more && !lane->kept) {
        *last = (struct mono_time){0};
    }
}
