// SPDX-License-Identifier: Apache-2.0
//
// Happy path of an INSERT: choose an endpoint, measure its clock (every half minute), wait for a lease whose commit was
// sent after that, send the rows with the deadline in the statement, then the dead letters the same way. Done.
//
// Failures, for each of the two parts:
// - not sent, or refused before it began (too many queries, or parts of the table itself): back off and send again;
//   another replica will do;
// - a replica that cannot write and says so (no Keeper, no room), or has no answer for long: another one is next, where
//   all of them have the rows;
// - one that lacks the table, or our login: the same, unless an earlier attempt of this INSERT may have been executed.
//   The table is paused all the same, and opened where it is found;
// - "late": the server's clock is past the deadline. The clock is measured again, the lease renewed, the INSERT
//   repeated;
// - everything else may have been executed, whole or in part, or may be yet. The token would make the same bytes
//   harmless, but only as long as the server remembers it, and others may fill its window meanwhile: so the job ends
//   with a verdict, and the table is asked. A short pause first, growing, where nobody is to blame;
// - with dependent views a read-back does not show what they lack: the same bytes under the same token, to the same
//   endpoint (unless table and targets are replicated, so that all of them know the token), until it is clear, or until
//   the token may be forgotten. That is asked before each repetition; after a pause the table then stays paused, since
//   the view may still fail. After a refusal the rows are counted;
// - nor does it show, where tables are replicated, whether the rows are there to stay: with a quorum one replica shows
//   them before the others have them, and after UNKNOWN_STATUS_OF_INSERT one that Keeper does not know of drops them.
//   The same again: the server lets the repetition wait for the block that it has. Of dead letters no window is known;
// - nor behind one url where another replica may answer next (a Shared engine, of ClickHouse Cloud): the same again, as
//   long as it does not take too long.
// Verdicts: UNCLEAR (unknown outcome, network inside the cluster), TOO_LARGE (memory; a proxy's limit of the body; a
// code that says nothing sure, thrice: so the pause, if it comes to that, names the row), REJECTED (data: our encoder
// has checked every value, so this is a constraint of the table, or a view), OPERATOR (schema, rights; all that a view
// refuses, if only for now, where the table has no offsets).
// The job is cancelled or the relay's drain deadline is over: CANCELLED.
#include "relay/insert/table_insert.h"

#include "relay/base/fnv.h"
#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/insert/insert_limit.h"
#include "relay/insert/table_worker_inside.h"
#include "relay/insert/view_repeat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRANGE_ATTEMPTS 3
#define STOP_ATTEMPTS    2 // failures after the stop that end a job

// The endpoint to send to: the last good one, else the next that lets requests through.
static int choose_endpoint(struct table_worker *worker)
{
    int count = (int)clickhouse_client_endpoints(worker->options.client);
    for (int i = 0; i < count; i++) {
        int index = (worker->endpoint + i) % count;
        if (clickhouse_endpoint_usable(worker->options.client, index)) {
            return index;
        }
    }
    return worker->endpoint;
}

// One part of a batch: its bytes, and what has been tried.
struct part {
    const char *statement;
    const char *token;
    const struct row_place *row; // of one of its rows; NULL: dead letters
    const struct iovec *body;
    size_t pieces;
    bool body_is_lz4;
    int endpoint;
    int64_t sent;   // seconds since 1970, before the first attempt
    bool unclear;   // an attempt may have been executed
    bool unproven;  // and its rows, if they are found, may not stay
    bool elsewhere; // and another replica may be asked next, which does not show its rows
    bool forgotten; // and its token may be
    int after_stop;
};

// The table as it was read last: views may have been made since the batch was.
static const struct table_plan *as_read(const struct table_job *job)
{
    return job->again ? job->again : job->plan;
}

// The views of its table may lack its rows if it is not repeated as it is.
static bool is_for_views(const struct table_job *job, const struct part *part)
{
    return part->row && job->note;
}

// A read-back cannot tell what has become of it, but only the same INSERT, repeated.
static bool goes_by_token(const struct table_job *job, const struct part *part)
{
    return is_for_views(job, part) || part->unproven || part->elsewhere;
}

// What may have been executed goes out again only while all who may have it surely know its token.
static bool may_repeat(struct table_worker *worker, struct table_job *job, struct part *part,
    struct clickhouse_outcome *outcome, struct relay_error *error)
{
    const struct view_note plain = {.sent = part->sent};
    struct view_repeat repeat = {.note = job->note ? job->note : &plain,
        .before = job->note ? job->before : NULL,
        .seen = &job->seen,
        .hashes = job->hashes};
    int64_t now = clock_wall(worker->options.context->clock).us / 1000000;
    bool known;
    if (!part->unclear || !goes_by_token(job, part)) {
        return true;
    }
    if (!view_repeat_is_known(worker->options.client, part->endpoint, as_read(job), &repeat, now, &known, error)) {
        outcome->failure = error->class == RELAY_CLASS_OPERATOR ? CLICKHOUSE_OPERATOR : CLICKHOUSE_NOT_SENT;
        return false;
    }
    part->forgotten = job->forgotten = !known;
    if (!known) {
        outcome->failure = CLICKHOUSE_OUTCOME_UNKNOWN;
        error_set(error, RELAY_ERROR_CLICKHOUSE_UNKNOWN,
            "an INSERT that may have been executed is not sent again: %s%s", repeat.why,
            job->again ? "; once the view is fixed, restart the relay: insert.views_behind then names the rows to "
                         "insert by hand"
                       : "");
    }
    return known;
}

// One attempt. *outcome says what became of it.
static bool attempt(struct table_worker *worker, struct table_job *job, struct part *part,
    struct clickhouse_outcome *outcome, struct relay_error *error)
{
    const struct relay_context *context = worker->options.context;
    int64_t deadline = 0;
    struct mono_time end = {0};
    *outcome = (struct clickhouse_outcome){.failure = CLICKHOUSE_NOT_SENT, .endpoint = part->endpoint};
    // Held again after what may have taken long.
    if ((job->plan->guarded && !table_worker_hold_deadline(worker, job, part->endpoint, &end, error)) ||
        !may_repeat(worker, job, part, outcome, error) ||
        (job->plan->guarded && part->unclear &&
            !table_worker_hold_deadline(worker, job, part->endpoint, &end, error))) {
        return false;
    }
    if (job->plan->guarded) {
        deadline = table_worker_deadline(worker, part->endpoint, &end);
    }
    char *statement = strdup(part->statement);
    if (!statement) {
        return error_no_memory(error, "sending an INSERT");
    }
    insert_deadline_set(statement, deadline);
    char query_id[CLICKHOUSE_QUERY_ID_ROOM];
    insert_query_id_write(query_id, sizeof(query_id), worker->prefix, context->instance, worker->options.route->name,
        worker->next_query++, &job->places);
    struct clickhouse_setting token = {"insert_deduplication_token", part->token};
    struct clickhouse_request request = {.endpoint = part->endpoint,
        .query_id = query_id,
        .while_stopping = true,
        .body_is_lz4 = part->body_is_lz4,
        .fresh_connection = part->unclear,
        .settings = &token,
        .setting_count = 1};
    table_worker_set_running(worker, query_id, part->endpoint, end);
    // After that: who cancels either sees this INSERT in table_worker_has_in_doubt, or is seen here.
    bool done = !table_worker_given_up(worker, job);
    if (done) {
        done = clickhouse_insert(worker->options.client, &request, statement, part->body, part->pieces, outcome, error);
    } else {
        error_set(error, RELAY_ERROR_STOPPED, "the insert was given up");
    }
    table_worker_end_running(worker, part->row, part->token, done || clickhouse_outcome_is_answered(outcome));
    free(statement);
    return done;
}

// The verdict on a part whose last attempt may have been executed. Where no note tells which rows the table has, what a
// view refuses is not divided: each piece would be stored once more. Nor are dead letters. And where no read-back
// follows, each repetition of what a view cannot take, be it for a while, would be stored once more.
static enum table_verdict verdict_of(struct table_worker *worker, const struct table_job *job,
    const struct clickhouse_outcome *outcome, const struct part *part)
{
    bool divides = part->row && (is_for_views(job, part) || !outcome->in_view);
    switch (outcome->failure) {
    case CLICKHOUSE_OPERATOR:
    case CLICKHOUSE_SCHEMA_DRIFT: return TABLE_OPERATOR;
    case CLICKHOUSE_BAD_ROW: return divides ? TABLE_REJECTED : TABLE_OPERATOR;
    case CLICKHOUSE_MEMORY: return TABLE_TOO_LARGE;
    case CLICKHOUSE_UNKNOWN_CODE:
        return ++worker->strange < STRANGE_ATTEMPTS ? TABLE_UNCLEAR : divides ? TABLE_TOO_LARGE : TABLE_OPERATOR;
    case CLICKHOUSE_OUTCOME_UNKNOWN:
    case CLICKHOUSE_TRANSIENT:
    case CLICKHOUSE_NOT_SENT:
    case CLICKHOUSE_BACK_PRESSURE:
    case CLICKHOUSE_DONE:
    case CLICKHOUSE_FAILURES: break;
    }
    return outcome->in_view && !job->plan->exactly_once ? TABLE_OPERATOR : TABLE_UNCLEAR;
}

// The other replicas get what this one has stored of the part, and know its token, down to what the views fill.
static bool is_replicated(const struct table_plan *plan, const struct part *part)
{
    bool replicated = plan->schema->is_replicated && (part->row || plan->dead_letters.is_replicated);
    for (size_t i = 0; part->row && i < plan->schema->view_count; i++) {
        const struct table_view_target *view = &plan->schema->views[i];
        replicated = replicated && (view->is_replicated || !view->is_mergetree);
    }
    return replicated;
}

static int next_endpoint(const struct table_worker *worker, const struct part *part)
{
    return (part->endpoint + 1) % (int)clickhouse_client_endpoints(worker->options.client);
}

// The next endpoint after the part's, of those that let requests through.
static void pass_on(struct table_worker *worker, struct part *part)
{
    worker->endpoint = next_endpoint(worker, part);
    part->endpoint = choose_endpoint(worker);
}

// Refused before anything ran, by a replica that lacks the table or refuses our login: nothing of the part is anywhere.
static bool may_leave(const struct table_job *job, const struct part *part, const struct clickhouse_outcome *outcome,
    const struct relay_error *error)
{
    return !part->unclear && !outcome->in_view && clickhouse_error_lacks(error) && is_replicated(as_read(job), part);
}

// Too many parts in a view's target may be found out when the table has the block already, on some servers' versions.
static bool was_not_executed(const struct clickhouse_outcome *outcome)
{
    return outcome->failure == CLICKHOUSE_NOT_SENT ||
        (outcome->failure == CLICKHOUSE_BACK_PRESSURE && !outcome->in_view);
}

static bool is_unproven(const struct table_job *job, const struct part *part, const struct clickhouse_outcome *outcome)
{
    return (outcome->wants_quorum || outcome->exception_code == CLICKHOUSE_CODE_UNKNOWN_STATUS_OF_INSERT ||
               outcome->exception_code == CLICKHOUSE_CODE_UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE) &&
        part->unclear && part->row && job->plan->exactly_once && is_replicated(as_read(job), part);
}

// One that has to be repeated as it is cannot be divided, so that time alone helps.
static void say_if_slow(const struct table_worker *worker, const struct table_job *job,
    const struct clickhouse_outcome *outcome)
{
    if (outcome->body_sent && insert_limit_took_too_long(worker->options.context, outcome->elapsed)) {
        log_event(LOG_LEVEL_WARNING, "insert.too_slow",
            "an INSERT took too long and is repeated as it is: if that goes on, raise [clickhouse] request_timeout",
            LOG_TEXT("table", worker->options.route->table), LOG_INT("rows", job->rows),
            LOG_REAL("seconds", duration_seconds(outcome->elapsed)));
    }
}

// It may wait for Keeper, or be frozen, and go on so for as long as it is asked.
static bool took_too_long(const struct table_worker *worker, const struct clickhouse_outcome *outcome)
{
    return outcome->failure == CLICKHOUSE_OUTCOME_UNKNOWN &&
        insert_limit_took_too_long(worker->options.context, outcome->elapsed);
}

// Behind the one url of ClickHouse Cloud, where replicas come and go, the next answer may come from another one, while
// the one before still stores the rows. All of them know the token. One that took too long is read back and divided: it
// may never end otherwise, and by then what was begun has had its time.
static bool is_elsewhere(const struct table_worker *worker, const struct table_job *job, const struct part *part,
    const struct clickhouse_outcome *outcome)
{
    return part->unclear && part->row && job->plan->exactly_once && is_replicated(as_read(job), part) &&
        clickhouse_client_endpoints(worker->options.client) == 1 && table_schema_is_shared(job->plan->schema) &&
        !took_too_long(worker, outcome);
}

// A view refuses rows that was made after the table was read. The table may have them, and a read-back would pass them
// over: so the INSERT is kept as for a view that was known, from here on.
static bool meets_new_view(struct table_job *job, const struct part *part, const struct clickhouse_outcome *outcome)
{
    if (!outcome->in_view || !part->unclear || !part->row || job->note || !job->unnoted) {
        return false;
    }
    job->note = job->unnoted;
    return true;
}

// After a failed attempt: true = try again, after the pause that was made here; else *verdict.
static bool judge(struct table_worker *worker, struct table_job *job, struct part *part,
    const struct clickhouse_outcome *outcome, const struct relay_error *error, enum table_verdict *verdict)
{
    enum clickhouse_failure failure = outcome->failure;
    bool late = insert_deadline_was_over(outcome, error), leaves = may_leave(job, part, outcome, error);
    metric_add(worker->retries[failure], 1);
    table_worker_log_retry(worker, "an INSERT failed", error);
    table_worker_note(worker, job, error);
    if (!late && !was_not_executed(outcome)) {
        part->unclear = true;
        job->hashes &= part->row ? insert_token_kept_of(worker->options.client, outcome) : INSERT_TOKEN_HASHES;
        worker->doubted = outcome->exception_code != 0 ? part->endpoint : CLICKHOUSE_ANY_ENDPOINT;
    }
    bool new_view = meets_new_view(job, part, outcome);
    part->unproven = part->unproven || is_unproven(job, part, outcome);
    part->elsewhere = is_elsewhere(worker, job, part, outcome);
    *verdict = !part->unclear ? TABLE_CANCELLED : late ? TABLE_UNCLEAR : verdict_of(worker, job, outcome, part);
    if (part->forgotten && job->again) {
        *verdict = TABLE_OPERATOR; // a view failed, and may yet: it would miss what comes next, too
    } else if (new_view && *verdict == TABLE_UNCLEAR) {
        *verdict = TABLE_OPERATOR; // its window is known when the table was read, which a pause has done
    }
    if (!new_view && (failure == CLICKHOUSE_TRANSIENT || took_too_long(worker, outcome)) &&
        is_replicated(as_read(job), part)) {
        pass_on(worker, part);
    }
    if (leaves) {
        worker->endpoint = next_endpoint(worker, part); // for what comes next; this part is asked about where it was
    }
    if (table_worker_given_up(worker, job) || (table_worker_stopping(worker) && part->after_stop++ >= STOP_ATTEMPTS)) {
        return false;
    }
    bool again = goes_by_token(job, part) && *verdict == TABLE_UNCLEAR && !part->forgotten;
    if (again) {
        say_if_slow(worker, job, outcome);
    }
    if (part->unclear && !again) {
        if (*verdict == TABLE_UNCLEAR) {
            table_worker_pause(worker, job,
                backoff_next(&worker->backoff)); // what follows is a read-back and the next attempt
        }
        return false;
    }
    if (late) {
        worker->clocks[part->endpoint].known = false;
        insert_lease_revoke(worker->options.lease);
    } else if (failure == CLICKHOUSE_NOT_SENT && (!part->unclear || is_replicated(as_read(job), part))) {
        // The search begins there, and passes over what is not usable.
        worker->endpoint = leaves ? worker->endpoint : part->endpoint;
        part->endpoint = choose_endpoint(worker);
    }
    table_worker_pause(worker, job, backoff_next(&worker->backoff));
    return !table_worker_given_up(worker, job);
}

static void note_time(struct table_job *job, const struct clickhouse_outcome *outcome)
{
    if (outcome->body_sent && outcome->elapsed.ns > job->took.ns) {
        job->took = outcome->elapsed;
    }
}

static enum table_verdict insert_part(struct table_worker *worker, struct table_job *job, struct part *part)
{
    struct clickhouse_outcome outcome;
    enum table_verdict verdict = TABLE_CANCELLED;
    // What may have been executed is known where it was sent to, and elsewhere if all of it is replicated.
    bool stays = part->row && job->again && !is_replicated(as_read(job), part);
    part->endpoint = stays ? job->sent_to : choose_endpoint(worker);
    TEST_POINT(INSERT_BEFORE_INSERT);
    for (;;) {
        if (table_worker_given_up(worker, job)) {
            error_set(&job->error, RELAY_ERROR_STOPPED, "the insert was given up");
            return TABLE_CANCELLED;
        }
        bool done = attempt(worker, job, part, &outcome, &job->error);
        note_time(job, &outcome);
        if (done) {
            worker->endpoint = part->endpoint;
            worker->doubted = CLICKHOUSE_ANY_ENDPOINT;
            worker->strange = 0;
            backoff_reset(&worker->backoff);
            table_worker_note(worker, job, NULL);
            return TABLE_DONE;
        }
        if (!judge(worker, job, part, &outcome, &job->error, &verdict)) {
            memcpy(job->refusal, outcome.refusal, sizeof(job->refusal));
            return verdict;
        }
    }
}

// Before the dead letters themselves, so that none is without its copy.
static bool copies_acknowledged(struct table_worker *worker, struct table_job *job)
{
    const struct relay_context *context = worker->options.context;
    struct mono_time until = mono_add(clock_mono(context->clock), DEAD_LETTER_COPIES_LIMIT);
    until = mono_before(table_worker_stop_limit(worker), until) ? table_worker_stop_limit(worker) : until;
    job->copied = !worker->options.copies ||
        dead_letter_topic_send(worker->options.copies, &job->copies, until, &job->cancelled, &job->error);
    if (job->copied) {
        TEST_POINT(INSERT_AFTER_COPIES);
        return true;
    }
    if (table_worker_given_up(worker, job)) {
        return false;
    }
    table_worker_log_retry(worker, "copies of dead letters are not acknowledged", &job->error);
    table_worker_note(worker, job, &job->error);
    table_worker_pause(worker, job, backoff_next(&worker->backoff));
    return false;
}

// Refused, where views hang on the table: it says who refused. The server gives a block to the views after the table
// has it.
static bool has_none(struct table_worker *worker, const struct table_job *job, const struct part *part,
    enum table_verdict verdict)
{
    struct relay_error error;
    bool none = false;
    if (!is_for_views(job, part) || table_worker_given_up(worker, job) ||
        (verdict != TABLE_REJECTED && verdict != TABLE_TOO_LARGE && verdict != TABLE_OPERATOR)) {
        return false;
    }
    if (!view_repeat_has_none(worker->options.client, part->endpoint, job->plan, job->note, &none, &error)) {
        table_worker_log_retry(worker, "cannot count the rows of an INSERT that was refused", &error);
    }
    return none;
}

static enum table_verdict insert_rows(struct table_worker *worker, struct table_job *job)
{
    struct part part = {.statement = job->plan->statement,
        .token = job->token,
        .row = &job->row,
        .body_is_lz4 = job->body != NULL,
        .sent = clock_wall(worker->options.context->clock).us / 1000000,
        .unclear = job->again != NULL};
    part.body = job->body ? insert_body_pieces(job->body, &part.pieces)
                          : native_block_body(job->block, &part.pieces, &job->error);
    if ((job->note || job->unnoted) && !job->before && worker->read) {
        job->before = table_plan_hold(worker->read);
    }
    enum table_verdict verdict = part.body ? insert_part(worker, job, &part) : TABLE_CANCELLED;
    job->sent_to = part.body ? part.endpoint : job->sent_to;
    job->stored = verdict == TABLE_DONE;
    job->absent = has_none(worker, job, &part, verdict);
    if (verdict == TABLE_TOO_LARGE && job->rows == 1) {
        error_prefix(&job->error, "the message at %s[%d]@%lld alone", job->row.topic, (int)job->row.partition,
            (long long)job->row.offset);
    }
    return verdict;
}

static enum table_verdict insert_dead_letters(struct table_worker *worker, struct table_job *job,
    struct native_block *dead)
{
    char token[sizeof(job->token) + 8];
    snprintf(token, sizeof(token), "%s-dead", job->token);
    struct part part = {.statement = job->plan->dead_letter_statement, .token = token};
    part.body = native_block_body(dead, &part.pieces, &job->error);
    return part.body ? insert_part(worker, job, &part) : TABLE_CANCELLED;
}

void table_insert(struct table_worker *worker, struct table_job *job)
{
    job->verdict = TABLE_DONE;
    job->took = DURATION_S(0);
    if (job->rows > 0 && !job->stored) {
        job->verdict = insert_rows(worker, job);
    }
    if (job->stored) {
        TEST_POINT(INSERT_AFTER_ROWS);
    }
    struct native_block *dead = job->dead ? dead_letter_block_rows(job->dead) : NULL;
    bool has_dead = job->verdict == TABLE_DONE && dead && native_block_rows(dead) > 0;
    if (has_dead && !copies_acknowledged(worker, job)) {
        job->verdict = TABLE_UNCLEAR;
    } else if (has_dead) {
        job->verdict = insert_dead_letters(worker, job, dead);
        if (job->verdict == TABLE_REJECTED || job->verdict == TABLE_OPERATOR || job->verdict == TABLE_TOO_LARGE) {
            error_prefix(&job->error, "dead-letter table %s",
                worker->options.context->config->insert.dead_letter_table);
            job->verdict = job->verdict == TABLE_REJECTED ? TABLE_OPERATOR : job->verdict;
        }
    }
    if (job->verdict == TABLE_DONE) {
        TEST_POINT(INSERT_AFTER_INSERT);
    }
}
