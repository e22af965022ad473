// SPDX-License-Identifier: Apache-2.0
//
// What a term does now and then, between batches:
// - Rows that wait, every two seconds: are parked topics there now, have rows gone behind which aggregates are held?
//   (Every ten seconds one that has not gone is tried all the same, since it may have been fixed; if it was, the next
//   one at once.) Then the rows are published in their order, and with the last of them, in the same transaction, the
//   entries go. What comes meanwhile waits behind.
// - The sweep, every minute (publish_sweep.c).
// - Is the table still the one that is owned, every few seconds?
// - Sharing, every two seconds, with several outboxes: how many replicas does it have, and do we own too many?
// - Progress, every second: settled_seq for the health function.
#include "relay/publish/publish_chores.h"

#include "relay/base/log.h"
#include "relay/postgres/pg_array.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_careful.h"
#include "relay/publish/publish_commit.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_take.h"
#include "relay/publish/publish_sweep.h"
#include "relay/publish/publish_timestamp.h"
#include "relay/publish/publish_topics.h"
#include "relay/publish/publish_waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_INTERVAL  DURATION_S(2)
#define COUNT_INTERVAL    DURATION_S(5)
#define HELD_RETRY        DURATION_S(10)
#define REPLICAS_INTERVAL DURATION_S(2)
// Topics that are looked at by one request to the broker.
#define TOPICS_AT_ONCE 1000
// Of the time a look at what waits takes, with both lanes idle, so many times as much is left to batches.
#define WAITING_REST     9
#define WAITING_REST_MAX DURATION_S(30)
// Rows that are looked through for those that wait for a topic whose lowest row has gone: some 0.1 s of PostgreSQL.
#define IDLE_ROWS 100000
// A batch notes it in its own transaction for nothing; a chore would hold up the rows for a COMMIT of its own.
#define NOTE_ALONE DURATION_MS(1500)

static struct duration waiting_interval(const struct publish_pipe *pipe)
{
    struct duration interval = pipe->held > 0 || pipe->parked > 0 ? WAITING_INTERVAL : COUNT_INTERVAL;
    return pipe->waiting_pause.ns > interval.ns ? pipe->waiting_pause : interval;
}

bool publish_chores_due(const struct publish_pipe *pipe)
{
    return publish_due(pipe, pipe->waiting_checked_at, waiting_interval(pipe)) || publish_sweep_due(pipe) ||
        (pipe->share != NULL && publish_due(pipe, pipe->replicas_counted_at, REPLICAS_INTERVAL)) ||
        (pipe->noted != seq_holes_settled(pipe->holes) && seq_holes_settled(pipe->holes) != INT64_MIN &&
            publish_due(pipe, pipe->noted_at, NOTE_ALONE));
}

// The numbers of a listing, as many as fit into batch_bytes where it says their sizes; malloc'd. *more: the listing was
// cut. NULL: out of memory, or no result.
static int64_t *seqs_of(const struct publish_pipe *pipe, PGresult *result, int64_t limit, size_t *count, bool *more,
    struct relay_error *error)
{
    if (result == NULL) {
        return NULL;
    }
    size_t all = (size_t)PQntuples(result);
    int64_t *seqs = malloc((all + 1) * sizeof(*seqs)), bytes = 0;
    *count = 0;
    while (seqs != NULL && *count < all && bytes < pipe->config->batch_bytes) {
        seqs[*count] = pg_binary_int64(result, (int)*count, 0);
        bytes += PQnfields(result) > 1 ? pg_binary_int64(result, (int)*count, 1) : 0;
        ++*count;
    }
    *more = *count < all || (int64_t)all >= limit;
    PQclear(result);
    if (seqs == NULL) {
        error_no_memory(error, "a listing");
    }
    return seqs;
}

// What is released: topics, or (NULL) the aggregates that are held behind these rows.
struct release {
    char *topics; // as an array
    const char *first_topic;
    size_t topic_count;
    const int64_t *held;
    size_t held_count;
    int64_t upto; // what waits up to here goes in this batch,
    bool more;    // and there may be more above
};

static bool drop_held(struct publish_pipe *pipe, struct publish_lane *lane, const struct release *release,
    struct relay_error *error)
{
    PGresult *released = outbox_sql_release_held(publish_connection(pipe, lane), release->held, release->held_count,
        pg_deadline(pipe->context), error);
    if (released == NULL) {
        return false;
    }
    lane->released_count = PQntuples(released);
    snprintf(lane->released_name, sizeof(lane->released_name), "%s",
        lane->released_count > 0 ? PQgetvalue(released, 0, 0) : "");
    PQclear(released);
    return true;
}

// With the batch, in its transaction. An entry that is raised past a hole would let go what commits in it, while what
// is above it still waits.
static bool settle_entries(struct publish_pipe *pipe, struct publish_lane *lane, void *context,
    struct relay_error *error)
{
    const struct release *release = context;
    if (release->more) {
        int64_t settled = seq_holes_settled(pipe->holes);
        return release->topics == NULL ||
            outbox_sql_raise_topics(publish_connection(pipe, lane), release->topics,
                release->upto < settled ? release->upto : settled, pg_deadline(pipe->context), error);
    }
    lane->released = true;
    lane->released_topics = release->topics != NULL;
    if (!lane->released_topics) {
        return drop_held(pipe, lane, release, error);
    }
    lane->released_count = (int)release->topic_count;
    snprintf(lane->released_name, sizeof(lane->released_name), "%s", release->first_topic);
    return outbox_sql_unpark_topics(publish_connection(pipe, lane), release->topics, pg_deadline(pipe->context), error);
}

// Some of these rows go alone: the others are left for the next time.
static bool cut_by_suspects(const struct publish_pipe *pipe, const int64_t *seqs, size_t count)
{
    return publish_suspects_cut(&pipe->verdicts, seqs, count) < count;
}

// Each row that waits for anything costs a look at its entry: while many do, one piece of them after the other, as far
// as the entries can be raised. Behind a hole all of them, since what commits in it belongs before the others.
static bool cut_to_piece(const struct publish_pipe *pipe, struct pg_connection *connection, struct release *release,
    struct relay_error *error)
{
    return outbox_sql_piece_of_topics(connection, release->topics, seq_holes_settled(pipe->holes), PUBLISH_PIECE_ROWS,
        &release->more, &release->upto, pg_deadline(pipe->context), error);
}

// The rows of the release that fit into a batch; malloc'd.
static int64_t *released_rows(struct publish_pipe *pipe, struct pg_connection *connection, struct release *release,
    size_t *count, struct relay_error *error)
{
    struct mono_time deadline = pg_deadline(pipe->context);
    int64_t limit = publish_take_limit(pipe);
    PGresult *result = release->topics != NULL
        ? outbox_sql_list_of_topics(connection, release->topics, release->upto, limit, deadline, error)
        : outbox_sql_list_of_held(connection, release->held, release->held_count, release->upto, limit, deadline,
              error);
    bool more;
    int64_t *seqs = seqs_of(pipe, result, limit, count, &more, error);
    if (seqs != NULL && more && *count > 0) {
        release->more = true;
        release->upto = seqs[*count - 1];
    }
    return seqs;
}

static bool release_rows(struct publish_pipe *pipe, struct publish_lane *lane, struct release *release,
    struct relay_error *error)
{
    struct pg_connection *connection = publish_connection(pipe, lane);
    release->upto = seq_holes_watermark(pipe->holes);
    if (release->topics != NULL && !cut_to_piece(pipe, connection, release, error)) {
        return false;
    }
    size_t count = 0;
    int64_t *seqs = released_rows(pipe, connection, release, &count, error);
    if (seqs == NULL) {
        return false;
    }
    bool cut = cut_by_suspects(pipe, seqs, count);
    bool done = publish_take_these(pipe, lane, seqs, count, settle_entries, release, error);
    free(seqs);
    publish_after_these(pipe, lane, release->more || cut, &pipe->waiting_checked_at);
    return done;
}

// The next topics to be looked at, after those of the last look; without those that are not to be tried now.
static int next_topics(struct publish_pipe *pipe, char *names[TOPICS_AT_ONCE])
{
    int all = PQntuples(pipe->topics), count = 0;
    for (; count < all && count < TOPICS_AT_ONCE; count++) {
        pipe->next_topic = (pipe->next_topic + 1) % all;
        names[count] = PQgetvalue(pipe->topics, pipe->next_topic, 0);
    }
    return (int)publish_timestamp_due(pipe, names, (size_t)count);
}

// Releases all of these topics that are there now: together, in one order.
static bool release_topics(struct publish_pipe *pipe, struct publish_lane *lane, char *const *names, int count,
    struct relay_error *error)
{
    bool may[TOPICS_AT_ONCE];
    char *ready[TOPICS_AT_ONCE];
    size_t there = 0, looked = 0;
    if (!publish_topics_ready(pipe, names, (size_t)count, may, &looked, error)) {
        return false;
    }
    if (looked < (size_t)count) { // the next look begins with the others
        int all = PQntuples(pipe->topics);
        pipe->next_topic = (pipe->next_topic + all - (count - (int)looked)) % all;
    }
    for (size_t i = 0; i < looked; i++) {
        ready[there] = names[i];
        there += may[i];
    }
    if (there == 0) {
        return true;
    }
    struct release release = {.topics = pg_array_of_texts(ready, there), .first_topic = ready[0], .topic_count = there};
    bool done = release.topics != NULL ? release_rows(pipe, lane, &release, error)
                                       : error_no_memory(error, "a list of topics");
    free(release.topics);
    return done;
}

// The aggregate whose turn it is to be tried although its row is still there: its lowest_seq. *count 0: none is. A row
// above the watermark has not been read since it was held: there is nothing to try.
static int64_t *next_held(struct publish_pipe *pipe, const struct publish_lane *lane, size_t *count,
    struct relay_error *error)
{
    struct pg_connection *connection = publish_connection(pipe, lane);
    struct mono_time deadline = pg_deadline(pipe->context);
    pipe->held_tried_at = clock_mono(pipe->context->clock);
    PGresult *next = outbox_sql_list_next_held(connection, pipe->held_tried, deadline, error);
    if (next != NULL && PQntuples(next) == 0) {
        PQclear(next);
        next = outbox_sql_list_next_held(connection, INT64_MIN, deadline, error);
    }
    bool more;
    int64_t *seqs = seqs_of(pipe, next, INT64_MAX, count, &more, error);
    if (seqs != NULL && *count > 0) {
        pipe->held_tried = seqs[0];
        *count = seqs[0] <= seq_holes_watermark(pipe->holes);
    }
    return seqs;
}

// The aggregates whose rows have gone, of the next piece of all that are held: however many these are, a look costs the
// same. A piece is left when nothing of it has gone.
static int64_t *gone_ones(struct publish_pipe *pipe, const struct publish_lane *lane, size_t *count,
    struct relay_error *error)
{
    bool more;
    PGresult *gone = outbox_sql_list_gone(publish_connection(pipe, lane), pipe->held_looked, pg_deadline(pipe->context),
        error);
    int64_t *seqs = seqs_of(pipe, gone, INT64_MAX, count, &more, error);
    if (seqs == NULL || *count == 0) {
        return seqs;
    }
    --*count;
    if (*count == 0) {
        pipe->held_looked = seqs[0];
    }
    memmove(seqs, seqs + 1, *count * sizeof(*seqs));
    return seqs;
}

// Releases the aggregates whose obstacles have gone, all at once; or one that is old enough to be tried again.
static bool release_aggregates(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    size_t count = 0;
    int64_t *seqs = gone_ones(pipe, lane, &count, error);
    if (seqs != NULL && count == 0 && publish_due(pipe, pipe->held_tried_at, HELD_RETRY)) {
        free(seqs);
        seqs = next_held(pipe, lane, &count, error);
    }
    if (seqs == NULL) {
        return false;
    }
    struct release release = {.held = seqs, .held_count = count};
    bool done = count == 0 || release_rows(pipe, lane, &release, error);
    free(seqs);
    return done;
}

// A topic that nobody makes need not be made when its rows have been fixed, or deleted.
static bool drop_idle_topics(struct publish_pipe *pipe, const struct publish_lane *lane, char *const *names, int count,
    struct relay_error *error)
{
    char *topics = pg_array_of_texts(names, (size_t)count);
    if (topics == NULL) {
        return error_no_memory(error, "a list of topics");
    }
    PGresult *gone = outbox_sql_drop_idle_topics(publish_connection(pipe, lane), topics,
        seq_holes_watermark(pipe->holes), seq_holes_settled(pipe->holes), IDLE_ROWS, pg_deadline(pipe->context), error);
    free(topics);
    if (gone == NULL) {
        return false;
    }
    int dropped = PQntuples(gone);
    if (dropped > 0) {
        log_event(LOG_LEVEL_INFO, "publish.released", "no row waits any more", LOG_TEXT("outbox", pipe->config->name),
            LOG_TEXT("topic", PQgetvalue(gone, 0, 0)), LOG_COUNT("topics", dropped));
    }
    PQclear(gone);
    if (dropped == 0) {
        return true;
    }
    bool counted = publish_count_waiting(pipe, publish_connection(pipe, lane), error);
    publish_show_waiting(pipe);
    return counted;
}

// What can go on comes first: nothing that is only tidied up may hold it up.
static bool check_waiting(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (!publish_count_waiting(pipe, publish_connection(pipe, lane), error)) {
        return false;
    }
    publish_show_waiting(pipe);
    char *names[TOPICS_AT_ONCE];
    int count = next_topics(pipe, names);
    if (!release_topics(pipe, lane, names, count, error)) {
        return false;
    }
    if (pipe->held > 0 && lane->state == LANE_IDLE && !release_aggregates(pipe, lane, error)) {
        return false;
    }
    return count == 0 || lane->state != LANE_IDLE || drop_idle_topics(pipe, lane, names, count, error);
}

// One listing of the sessions for all outboxes of the process: with many of them and many replicas it is long.
static bool count_for_all(struct publish_pipe *pipe, struct relay_error *error)
{
    int64_t *outboxes;
    size_t count;
    if (!publish_share_counts(pipe->share, &pipe->sharer, pipe->owner.table->oid, pipe->replicas_counted_at, &outboxes,
            &count)) {
        return true;
    }
    int *replicas = calloc(count + 1, sizeof(*replicas));
    bool done = outboxes != NULL && replicas != NULL;
    if (!done) {
        error_no_memory(error, "counting replicas");
    }
    done = done && outbox_owner_count(&pipe->owner, outboxes, count, replicas, error);
    if (done) {
        publish_share_counted(pipe->share, outboxes, replicas, count);
    }
    free(outboxes);
    free(replicas);
    return done;
}

bool publish_count_replicas(struct publish_pipe *pipe, struct relay_error *error)
{
    if (pipe->share == NULL || !publish_due(pipe, pipe->replicas_counted_at, REPLICAS_INTERVAL)) {
        return true;
    }
    pipe->replicas_counted_at = clock_mono(pipe->context->clock);
    if (!count_for_all(pipe, error)) {
        return false;
    }
    if (pipe->owner.owned && publish_share_give_up(pipe->share, &pipe->sharer, pipe->replicas_counted_at)) {
        log_event(LOG_LEVEL_INFO, "publish.given_up", "another replica may own it",
            LOG_TEXT("outbox", pipe->config->name),
            LOG_INT("replicas", publish_share_replicas(pipe->share, &pipe->sharer)));
        pipe->giving_up = true;
    }
    return true;
}

// A transaction with a receipt asks as well; this is for an outbox without one, and for one that is asleep.
static bool check_table(struct publish_pipe *pipe, struct relay_error *error)
{
    bool current = false;
    return outbox_owner_current(&pipe->owner, &current, error) &&
        (current || error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, OUTBOX_SQL_ANOTHER_TABLE, pipe->owner.table->name));
}

// However many topics are parked, or aggregates held, and however slow the servers are: batches have most of the time.
// Unless more of what is released is to follow at once.
static void rest_from_waiting(struct publish_pipe *pipe, struct mono_time began)
{
    struct mono_time now = clock_mono(pipe->context->clock);
    bool at_once = pipe->waiting_checked_at.ns != began.ns;
    int64_t rest = at_once ? 0 : WAITING_REST * mono_since(now, began).ns;
    pipe->waiting_pause = DURATION_NS(rest < WAITING_REST_MAX.ns ? rest : WAITING_REST_MAX.ns);
    pipe->waiting_checked_at = at_once ? pipe->waiting_checked_at : now;
}

static bool do_chores(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (publish_due(pipe, pipe->waiting_checked_at, waiting_interval(pipe))) {
        struct mono_time began = clock_mono(pipe->context->clock);
        pipe->waiting_checked_at = began; // also of a look that is refused
        bool done = check_table(pipe, error) && check_waiting(pipe, lane, error);
        rest_from_waiting(pipe, began);
        if (!done) {
            return false;
        }
    }
    if (lane->state == LANE_IDLE && publish_sweep_due(pipe) && !publish_sweep(pipe, lane, error)) {
        return false;
    }
    return (lane->state != LANE_IDLE || publish_note_progress(pipe, lane, error)) &&
        publish_count_replicas(pipe, error);
}

bool publish_chores(struct publish_pipe *pipe, struct publish_lane *lane, struct relay_error *error)
{
    if (do_chores(pipe, lane, error)) {
        return true;
    }
    if (error->code != RELAY_ERROR_POSTGRES_QUERY || lane->state != LANE_IDLE ||
        pg_broken(publish_connection(pipe, lane))) {
        return false;
    }
    // PostgreSQL refused a statement outside of any transaction, and the session is whole: batches go on, and the chore
    // comes again when it is due again.
    log_event(LOG_LEVEL_WARNING, "publish.chore_refused", "trying again later", LOG_TEXT("outbox", pipe->config->name),
        LOG_ERROR(error));
    publish_show_trouble(pipe, error);
    return true;
}
