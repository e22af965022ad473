// SPDX-License-Identifier: Apache-2.0
//
// Happy path: the worker reads the table; each feed is read back; messages fill the open batch; full, or old enough, it
// becomes the flight as soon as there is none, and is stored; its feeds' marks move.
//
// What a verdict other than DONE does:
// - UNCLEAR, CANCELLED: the feeds of both batches go back to their marks and are read back: exactly the missing rows
//   are sent, in a smaller batch if the INSERT took too long;
// - REJECTED, TOO_LARGE: the same, and the next batch is half as large. One row that is rejected alone becomes a dead
//   letter when it comes again;
// - OPERATOR: the table is paused. With dependent views, and a note, every refusal is the operator's, as it may be a
//   view's, unless the table has none of the rows; the same insert is kept and repeated first when the pause ends.
//   Without a note the refusal's words decide.
// Rejections, and dead letters above max_bad_ratio, never make the table lose its place.
#include "relay/insert/insert_table.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/clickhouse/clickhouse_compression.h"
#include "relay/insert/insert_note.h"
#include "relay/insert/insert_table_show.h"
#include "relay/insert/insert_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REREAD_EVERY DURATION_S(180)
#define LAST_SHARE   8     // of a full batch, at least: what ends a backlog goes at once
#define RATIO_LEAST  20    // bad messages before max_bad_ratio is judged
#define RATIO_WINDOW 10000 // messages

static size_t rows_allowed(const struct insert_table *table)
{
    return insert_limit_rows(&table->limit, table->context);
}

static bool at_limit(const struct insert_table *table)
{
    const struct insert_batch *open = table->open;
    return open &&
        (open->rows + open->dead >= rows_allowed(table) ||
            insert_batch_bytes(open) >= insert_limit_bytes(table->context) || insert_batch_is_scattered(open) ||
            insert_batch_note_is_full(open));
}

bool insert_table_full(const struct insert_table *table)
{
    return table->flight && at_limit(table);
}

bool insert_table_reads_headers(const struct insert_table *table)
{
    const struct table_plan *plan = table->open ? table->open->job->plan : table->plan;
    return row_encoder_reads_headers(plan->encoder);
}

size_t insert_table_memory(const struct insert_table *table)
{
    return (table->open ? insert_batch_memory(table->open) : 0) +
        (table->flight ? insert_batch_memory(table->flight) : 0) +
        (table->spare.block ? native_block_memory(table->spare.block) : 0) +
        (table->spare.body ? insert_body_memory(table->spare.body) : 0);
}

void insert_table_trim(struct insert_table *table)
{
    batch_memory_free(&table->spare);
}

bool insert_table_busy(const struct insert_table *table)
{
    return table->open || table->flight;
}

static void submit_open_job(struct insert_table *table, struct mono_time now)
{
    struct relay_error error;
    struct table_job *job = table->opening ? NULL : table_job_new(TABLE_JOB_OPEN, NULL, &error);
    table->open_at = mono_add(now, REREAD_EVERY);
    if (job) {
        table->opening = true;
        table_worker_submit(table->worker, job);
    }
}

struct insert_table *insert_table_new(const struct table_worker_options *options, const char *name,
    struct insert_partitions *partitions, struct relay_error *error)
{
    struct metrics *metrics = options->context->metrics;
    struct insert_table *table = calloc(1, sizeof(*table));
    if (!table) {
        error_no_memory(error, "preparing a table");
        return NULL;
    }
    table->context = options->context;
    table->route = options->route;
    table->name = name;
    table->partitions = partitions;
    table->makes_copies = options->copies != NULL;
    insert_limit_init(&table->limit);
    backoff_init(&table->backoff, DURATION_S(1), DURATION_S(60));
    table->inserted = metrics_series1(metrics, METRIC_EVENTS_INSERTED, name);
    table->skipped = metrics_series1(metrics, METRIC_TOMBSTONES_SKIPPED, name);
    table->seconds = metrics_series1(metrics, METRIC_INSERT_SECONDS, name);
    table->batch_rows = metrics_series1(metrics, METRIC_INSERT_BATCH_ROWS, name);
    table->paused = metrics_series1(metrics, METRIC_PAUSED_TABLES, name);
    table->views_behind = metrics_series1(metrics, METRIC_VIEWS_BEHIND, name); // from 0: the first one is an increase
    metric_set(table->paused, 0);
    table->worker = table_worker_start(options, error);
    if (!table->worker) {
        free(table);
        return NULL;
    }
    status_board_set_starting(table->context->board, STATUS_INSERT, table->name, "reading the table's schema");
    submit_open_job(table, clock_mono(table->context->clock));
    return table;
}

void insert_table_free(struct insert_table *table)
{
    if (!table) {
        return;
    }
    insert_batch_free(table->open);
    if (table->flight) {
        if (!table->parked && !table->noting) {
            table->flight->job = NULL; // the worker frees its jobs
        }
        insert_batch_free(table->flight);
    }
    free(table->note);
    batch_memory_free(&table->spare);
    table_worker_free(table->worker);
    table_plan_release(table->plan);
    table_plan_release(table->next_plan);
    free(table);
}

// The feeds of this table, in all partitions that are ours.
static void for_feeds(struct insert_table *table, void (*act)(struct insert_table *, struct insert_feed *))
{
    for (size_t i = 0; i < table->partitions->count; i++) {
        struct insert_partition *partition = table->partitions->items[i];
        for (size_t j = 0; !partition->gone && j < partition->feed_count; j++) {
            if (partition->feeds[j].table == table) {
                act(table, &partition->feeds[j]);
            }
        }
    }
}

static void drop_open(struct insert_table *table)
{
    if (table->open) {
        insert_batch_drop(table->open);
        insert_batch_free(table->open);
        table->open = NULL;
    }
}

// A flight that the worker does not have.
static void drop_kept(struct insert_table *table)
{
    if (table->noting && !table->note_late) {
        insert_note_forget(table); // it was not sent
    } else {
        insert_note_owe(table);
    }
    insert_batch_drop(table->flight);
    insert_batch_free(table->flight);
    table->flight = NULL;
    table->parked = false;
}

static void drop_batches(struct insert_table *table)
{
    drop_open(table);
    if (table->parked || table->noting) {
        drop_kept(table);
    }
    if (table->flight && !table->flight->dropped) {
        insert_note_owe(table);
        insert_batch_drop(table->flight);
        table_worker_cancel(table->worker, table->flight->job);
    }
}

static void pause_feed(struct insert_table *table, struct insert_feed *feed)
{
    (void)table;
    if (feed->state != FEED_PAUSED) {
        insert_feed_rewind(feed);
        feed->state = FEED_PAUSED;
    }
}

static void wake_feed(struct insert_table *table, struct insert_feed *feed)
{
    (void)table;
    if (feed->state == FEED_PAUSED) {
        feed->state = FEED_WAITING;
    }
}

static void pause_table(struct insert_table *table, struct mono_time now, const struct relay_error *error)
{
    drop_open(table);
    if (!table->parked) {
        drop_batches(table);
    }
    for_feeds(table, pause_feed);
    table->on_trial = table->on_trial || table->state == INSERT_TABLE_OPEN;
    table->state = INSERT_TABLE_PAUSED;
    table->open_at = mono_add(now, backoff_next(&table->backoff));
    insert_table_show_pause(table, error);
    log_event(LOG_LEVEL_ERROR, "insert.table_paused",
        "inserts into this table are paused until an operator fixes the cause; the others go on",
        LOG_TEXT("table", table->name), LOG_ERROR(error));
}

// The insert that was refused, or that a view broke, is repeated as it was, if the table still takes it like that.
static void repeat_parked(struct insert_table *table, struct table_plan *plan)
{
    if (!table->parked) {
        return;
    }
    struct table_job *job = table->flight->job;
    if (!table_job_may_repeat(job, plan)) {
        drop_kept(table);
        return;
    }
    table->parked = false;
    table_plan_release(job->again);
    job->again = table_plan_hold(plan);
    error_clear(&job->error);
    table->noting = table->note && table->note_late;
    if (!table->noting) {
        table_worker_submit(table->worker, job);
    }
}

// The plan that waits becomes the present one; no batch of the old one may be open.
static void take_next_plan(struct insert_table *table)
{
    batch_memory_free(&table->spare); // its columns are the old ones
    table_plan_release(table->plan);
    table->plan = table->next_plan;
    table->next_plan = NULL;
    log_event(LOG_LEVEL_INFO, "insert.table_opened", NULL, LOG_TEXT("table", table->name),
        LOG_TEXT("guarantee", table->plan->exactly_once ? "exactly_once" : "at_least_once"),
        LOG_INT("views", table->plan->schema->view_count));
    status_board_text(table->context->board, STATUS_INSERT, table->name, "guarantee",
        table->plan->exactly_once ? "exactly_once" : "at_least_once");
}

static void opened(struct insert_table *table, struct table_job *job, struct mono_time now)
{
    table->opening = false;
    if (job->verdict != TABLE_DONE) {
        if (job->verdict == TABLE_OPERATOR) {
            pause_table(table, now, &job->error);
        } else {
            table->open_at = mono_add(now, backoff_next(&table->backoff));
        }
        return;
    }
    bool changed = !table->plan || table->plan->schema->fingerprint != job->plan->schema->fingerprint ||
        table->plan->exactly_once != job->plan->exactly_once ||
        table->plan->dead_letters.is_replicated != job->plan->dead_letters.is_replicated ||
        table->plan->dead_letters.has_timestamp != job->plan->dead_letters.has_timestamp;
    if (changed) {
        table_plan_release(table->next_plan);
        table->next_plan = table_plan_hold(job->plan);
    }
    if (table->state != INSERT_TABLE_OPEN) {
        table->state = INSERT_TABLE_OPEN;
        if (!table->on_trial) {
            insert_table_show_open(table);
        }
        for_feeds(table, wake_feed);
        repeat_parked(table, job->plan);
    }
    if (table->next_plan && !table->open) {
        take_next_plan(table);
    }
}

// The dead letters of this batch would be too many of the last messages. Judged before they are sent.
static bool too_bad(struct insert_table *table, const struct insert_batch *batch, struct relay_error *error)
{
    double limit = table->context->config->insert.max_bad_ratio;
    double rows = table->window_rows + (double)(batch->rows + batch->dead);
    double bad = table->window_bad + (double)batch->dead;
    if (limit <= 0 || batch->dead == 0 || bad < RATIO_LEAST || bad <= limit * rows) {
        return false;
    }
    error_set(error, RELAY_ERROR_CLICKHOUSE_OPERATOR,
        "%.0f of the last %.0f messages do not fit the table, more than max_bad_ratio = %g allows; fix the route, the "
        "table or the "
        "publisher, or raise the ratio",
        bad, rows, limit);
    return true;
}

// Out of memory: what is whole is given up and read again in smaller pieces.
static void read_smaller(struct insert_table *table)
{
    table->limit.rejected = table->open->rows > 2 ? table->open->rows / 2 : 1;
    drop_open(table);
}

static void submit(struct insert_table *table, struct mono_time now)
{
    struct insert_batch *batch = table->open;
    struct relay_error error;
    if (too_bad(table, batch, &error)) {
        pause_table(table, now, &error);
        return;
    }
    if (!insert_batch_seal(batch, &table->spare, &error)) {
        read_smaller(table);
        return;
    }
    table->after_full = at_limit(table);
    table->open = NULL;
    table->flight = batch;
    insert_token_write(batch->job->token, table->context->instance, table_worker_client(table->worker));
    table->note = insert_batch_note(batch, table->route, clock_wall(table->context->clock).us / 1000000, &error);
    if (error.class != RELAY_CLASS_NONE) {
        insert_note_say_none(table, &error);
    }
    table->noting = table->note || insert_batch_lacks_commit(batch);
    if (!table->noting) {
        table_worker_submit(table->worker, batch->job);
    }
    if (table->next_plan) {
        take_next_plan(table);
    }
}

void insert_table_flush(struct insert_table *table)
{
    if (table->open && !table->flight && table->state == INSERT_TABLE_OPEN) {
        submit(table, clock_mono(table->context->clock));
    }
}

bool insert_table_add(struct insert_table *table, struct insert_feed *feed, const struct source_message *message)
{
    struct relay_error error;
    struct mono_time now = {0};
    const struct table_plan *plan = table->open ? table->open->job->plan : table->plan;
    if (row_encoder_skips(plan->encoder, message)) {
        metric_add(table->skipped, 1);
        return true; // the feed is past it, as past a row that the table has
    }
    if (!table->open) {
        now = clock_mono(table->context->clock);
        bool lz4 = clickhouse_compresses(&table->context->config->clickhouse);
        table->open = insert_batch_new(table->plan, &table->spare, lz4, now, &error);
        if (!table->open) {
            insert_feed_give_back(feed, message->offset);
            return false;
        }
    }
    if (insert_batch_is_sealed(table->open)) {
        insert_feed_give_back(feed, message->offset); // full: the consumer should have waited
        return false;
    }
    const struct clock *clock = table->makes_copies ? table->context->clock : NULL;
    if (!insert_batch_add(table->open, feed, table->route->table, clock, message, &error)) {
        feed->next = message->offset;
        read_smaller(table);
        insert_feed_give_back(feed, message->offset); // where the batch had no place for the feed
        return false;
    }
    if (at_limit(table) && !table->flight) {
        submit(table, clock_mono(table->context->clock));
    } else if (at_limit(table) && !insert_batch_seal(table->open, &table->spare, &error)) { // while there is time
        read_smaller(table);
    }
    return true;
}

static void observe(struct insert_table *table, const struct insert_batch *batch)
{
    struct metrics *metrics = table->context->metrics;
    metric_add(table->inserted, batch->rows);
    metric_observe(table->seconds, duration_seconds(batch->job->elapsed));
    metric_observe(table->batch_rows, (double)batch->rows);
    struct metric_series *latency = metrics_series0(metrics, METRIC_END_TO_END_SECONDS);
    int64_t now_ms = clock_wall(table->context->clock).us / 1000;
    for (size_t i = 0; i < batch->stamp_count; i++) {
        double seconds = (double)(now_ms - batch->stamps[i]) / 1000;
        metric_observe_many(latency, seconds > 0 ? seconds : 0, batch->stamp_step);
    }
    for (int reason = 0; batch->dead > 0 && reason < ENCODE_REASON_COUNT; reason++) {
        if (batch->reasons[reason] > 0) {
            metric_add(
                metrics_series2(metrics, METRIC_DEAD_LETTERS, "insert", encode_reason_name((enum encode_reason)reason)),
                batch->reasons[reason]);
        }
    }
}

static void stored(struct insert_table *table, struct insert_batch *batch)
{
    insert_note_forget(table);
    if (table->on_trial) {
        insert_table_show_open(table);
    }
    insert_batch_stored(batch);
    observe(table, batch);
    table->window_rows += (double)(batch->rows + batch->dead);
    table->window_bad += (double)batch->dead;
    if (table->window_rows > RATIO_WINDOW) {
        table->window_bad *= RATIO_WINDOW / 2 / table->window_rows;
        table->window_rows = RATIO_WINDOW / 2.0;
    }
    backoff_reset(&table->backoff);
    insert_limit_stored(&table->limit, table->context, batch->rows + batch->dead, batch->job->took);
    insert_batch_give_memory(batch, table->plan, &table->spare);
}

// One row, alone in its INSERT, was refused.
static void note_refusal(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        struct batch_entry *entry = &batch->entries[i];
        if (entry->rows > 0) {
            insert_feed_refuse(entry->feed, entry->last_row, batch->job->error.detail, batch->job->refusal);
        }
    }
}

static void rejected(struct insert_table *table, struct insert_batch *batch, struct mono_time now)
{
    struct table_job *job = batch->job;
    bool blames_row = job->verdict == TABLE_REJECTED;
    size_t all = batch->rows + (blames_row ? 0 : batch->dead); // dead letters may be what is too large
    if (all <= 1 && !blames_row) {
        pause_table(table, now, &job->error);
        return;
    }
    if (all > 1) {
        table->limit.rejected = all / 2;
    } else {
        note_refusal(batch);
        table->limit.rejected = 1; // so that it is put away before another refusal can take its place
    }
    drop_batches(table);
}

static void unclear(struct insert_table *table, struct insert_batch *batch)
{
    const struct table_job *job = batch->job;
    log_event(LOG_LEVEL_WARNING, "insert.unclear",
        "the outcome of an INSERT is unknown; the table is asked what it has", LOG_TEXT("table", table->name),
        LOG_INT("rows", batch->rows), LOG_ERROR(&job->error));
    if (job->verdict == TABLE_UNCLEAR && insert_limit_took_too_long(table->context, job->took)) {
        bool divided = insert_limit_too_slow(&table->limit, batch->rows + batch->dead, insert_batch_bytes(batch));
        log_event(LOG_LEVEL_WARNING, "insert.too_slow",
            divided ? "an INSERT took too long; the next ones are smaller"
                    : "an INSERT took too long, and it is small already: look what ClickHouse waits for, or raise "
                      "[clickhouse] request_timeout",
            LOG_TEXT("table", table->name), LOG_INT("rows", batch->rows),
            LOG_REAL("seconds", duration_seconds(job->took)));
    }
    drop_batches(table);
}

static void inserted(struct insert_table *table, struct table_job *job, struct mono_time now)
{
    struct insert_batch *batch = job->owner;
    if (batch->dropped) {
        table->flight = NULL;
        insert_batch_free(batch);
        return;
    }
    if (job->copied) {
        insert_batch_copied(batch); // whatever becomes of the dead letters
    }
    if (job->stored) {
        insert_note_forget(table); // views have the rows; dead letters, if they failed, have none
    }
    bool views_may_lack = job->note && !job->stored && !job->absent;
    if (views_may_lack &&
        (job->verdict == TABLE_OPERATOR || job->verdict == TABLE_REJECTED || job->verdict == TABLE_TOO_LARGE)) {
        insert_note_late(table);
        table->parked = true;
        pause_table(table, now, &job->error);
        return;
    }
    switch (job->verdict) {
    case TABLE_DONE: stored(table, batch); break;
    case TABLE_CANCELLED:
    case TABLE_UNCLEAR: unclear(table, batch); break;
    case TABLE_REJECTED:
    case TABLE_TOO_LARGE: rejected(table, batch, now); break;
    case TABLE_OPERATOR: pause_table(table, now, &job->error); break;
    }
    table->flight = NULL;
    insert_batch_free(batch);
}

static void read_back_done(struct insert_table *table, struct table_job *job, struct mono_time now)
{
    struct insert_feed *feed = job->owner;
    struct insert_partition *partition = feed->partition;
    feed->reading = NULL;
    partition->jobs--;
    metric_add(table->views_behind, job->views_behind);
    if (partition->gone || feed->generation != job->read_back.generation || feed->state != FEED_READING) {
        if (feed->state == FEED_READING) {
            feed->state = FEED_WAITING;
        }
        return;
    }
    if (job->verdict != TABLE_DONE) {
        feed->state = FEED_WAITING;
        if (job->verdict == TABLE_OPERATOR) {
            pause_table(table, now, &job->error);
        }
        return;
    }
    offset_ranges_finish(&feed->found);
    feed->found = job->read_back.found;
    job->read_back.found = (struct offset_ranges){0};
    feed->found_through = job->read_back.through;
    feed->next = feed->mark = job->read_back.from;
    if (job->owed) {
        free(feed->owed);
        feed->owed = NULL;
    }
    feed->highest = job->read_back.highest;
    if (!insert_partition_has(partition, FEED_DOUBTED)) {
        partition->short_since = (struct mono_time){0}; // of a doubt that a pause of the table ended
    }
    feed->state = feed->compared || feed->highest == READ_BACK_NONE ? FEED_READY : FEED_DOUBTED;
    if (feed->found.count > 0) {
        metric_add(metrics_series1(table->context->metrics, METRIC_REPLAYS, "insert"), 1);
        log_event(LOG_LEVEL_INFO, "insert.read_back",
            "the table has messages behind the committed offset; they are passed over", LOG_TEXT("table", table->name),
            LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number), LOG_INT("from", feed->next),
            LOG_INT("highest", offset_ranges_after(&feed->found) - 1), LOG_INT("ranges", feed->found.count));
    }
    TEST_POINT(INSERT_AFTER_READ_BACK);
}

static void take_results(struct insert_table *table, struct mono_time now)
{
    struct table_job *job;
    while ((job = table_worker_take_done(table->worker)) != NULL) {
        switch (job->kind) {
        case TABLE_JOB_OPEN: opened(table, job, now); break;
        case TABLE_JOB_READ_BACK: read_back_done(table, job, now); break;
        case TABLE_JOB_INSERT: inserted(table, job, now); continue; // with its batch
        }
        table_job_free(job);
    }
}

static void ask_feed(struct insert_table *table, struct insert_feed *feed)
{
    struct insert_partition *partition = feed->partition;
    struct relay_error error;
    if (feed->state != FEED_WAITING || feed->reading || !partition->committed_known || feed->pending > 0) {
        return;
    }
    struct table_job *job = table_job_new(TABLE_JOB_READ_BACK, feed, &error);
    if (!job) {
        return; // next time
    }
    job->plan = table_plan_hold(table->plan);
    job->read_back.target = table->route->table;
    job->read_back.topic = partition->topic;
    job->read_back.partition = partition->number;
    job->read_back.from = feed->mark;
    job->read_back.highest = READ_BACK_NONE; // where the table is not asked
    job->read_back.highest_known = feed->compared;
    job->read_back.generation = feed->generation;
    job->owed = feed->owed ? strdup(feed->owed) : NULL;
    if (feed->owed && !job->owed) {
        table_job_free(job);
        return;
    }
    job->since = partition->since;
    feed->state = FEED_READING;
    feed->reading = job;
    partition->jobs++;
    table_worker_submit(table->worker, job);
}

// Everything that there is for it is read, and (stored) stored.
static bool has_all(const struct insert_table *table, bool stored)
{
    for (size_t i = 0; i < table->partitions->count; i++) {
        const struct insert_partition *partition = table->partitions->items[i];
        for (size_t j = 0; !partition->gone && j < partition->feed_count; j++) {
            const struct insert_feed *feed = &partition->feeds[j];
            if (feed->table == table &&
                (feed->state != FEED_ACTIVE || partition->end == OFFSET_NONE || feed->next < partition->end ||
                    (stored && feed->pending > 0))) {
                return false;
            }
        }
    }
    return !stored || !insert_table_busy(table);
}

// What had failed may be stored all the same, or be another member's by now.
static void look_for_trouble(struct insert_table *table)
{
    struct relay_error trouble;
    bool troubled = table_worker_trouble(table->worker, &trouble) &&
        !(table->state == INSERT_TABLE_OPEN && has_all(table, true));
    insert_table_show_trouble(table, troubled ? &trouble : NULL);
}

// The open batch is the last one of a backlog: nothing is there for it to wait for. Not if it is small, since a stream
// that fills batches before linger is over would get a small one behind each of them.
static bool ends_backlog(const struct insert_table *table)
{
    const struct insert_batch *open = table->open;
    bool much = (open->rows + open->dead) * LAST_SHARE >= rows_allowed(table) ||
        insert_batch_bytes(open) * LAST_SHARE >= insert_limit_bytes(table->context);
    return table->after_full && much && has_all(table, false);
}

static bool may_go(const struct insert_table *table, struct mono_time now)
{
    return at_limit(table) || table->next_plan || ends_backlog(table) ||
        mono_reached(now, mono_add(table->open->opened, table->context->config->insert.linger));
}

void insert_table_work(struct insert_table *table, struct mono_time now)
{
    take_results(table, now);
    look_for_trouble(table);
    if (mono_reached(now, table->open_at) && !(table->context->stop && stop_raised(table->context->stop))) {
        submit_open_job(table, now);
    }
    if (table->state != INSERT_TABLE_OPEN) {
        return;
    }
    for_feeds(table, ask_feed);
    if (table->on_trial && has_all(table, true)) {
        insert_table_show_open(table); // what had failed was stored all the same
    }
    if (table->open && !table->flight && may_go(table, now)) {
        submit(table, now);
    }
}

struct mono_time insert_table_due(const struct insert_table *table)
{
    struct mono_time due = table->open_at;
    if (table->open && !table->flight) {
        struct mono_time close = mono_add(table->open->opened, table->context->config->insert.linger);
        close = ends_backlog(table) ? table->open->opened : close;
        due = mono_before(close, due) ? close : due;
    }
    return due;
}

bool insert_table_holds(const struct insert_table *table, const struct insert_partition *partition)
{
    return (table->open && insert_batch_holds(table->open, partition)) ||
        (table->flight && !table->parked && insert_batch_holds(table->flight, partition));
}

// Of a partition that is gone: a read-back would repeat for views what may be the next owner's rows.
static void give_up_read_back(struct insert_table *table, const struct insert_partition *partition)
{
    for (size_t i = 0; i < partition->feed_count; i++) {
        if (partition->feeds[i].table == table && partition->feeds[i].reading) {
            table_worker_cancel(table->worker, partition->feeds[i].reading);
        }
    }
}

void insert_table_forget(struct insert_table *table, const struct insert_partition *partition)
{
    give_up_read_back(table, partition);
    bool parked = table->parked && insert_batch_holds(table->flight, partition);
    if (parked || insert_table_holds(table, partition)) {
        drop_batches(table);
    }
}
