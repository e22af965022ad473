// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_batch.h"

#include "relay/base/log.h"
#include "relay/insert/table_period.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERIODS_MOST 100
#define RUN_MOST     56   // of a run's numbers, and of what an offset may grow by
#define NOTE_HEAD    150  // of a note without its runs
#define RUNS_MOST    1000 // that are kept in case that a view turns up; 272 bytes each

void batch_memory_free(struct batch_memory *memory)
{
    native_block_free(memory->block);
    insert_body_free(memory->body);
    *memory = (struct batch_memory){0};
}

struct insert_batch *insert_batch_new(struct table_plan *plan, struct batch_memory *memory, bool lz4,
    struct mono_time now, struct relay_error *error)
{
    struct insert_batch *batch = calloc(1, sizeof(*batch));
    if (batch) {
        batch->job = table_job_new(TABLE_JOB_INSERT, batch, error);
    } else {
        error_no_memory(error, "opening a batch");
    }
    if (!batch || !batch->job) {
        batch_memory_free(memory);
        free(batch);
        return NULL;
    }
    batch->job->plan = table_plan_hold(plan);
    batch->block = memory->block ? memory->block : row_encoder_block(plan->encoder, error);
    batch->job->body = memory->body || !lz4 ? memory->body : insert_body_new(error);
    *memory = (struct batch_memory){0};
    if (!batch->block || (lz4 && !batch->job->body)) {
        insert_batch_free(batch);
        return NULL;
    }
    batch->opened = now;
    batch->stamp_step = 1;
    batch->period_length = table_period(plan->schema);
    batch->keeps_runs = plan->exactly_once;
    batch->wants_note = plan->exactly_once && plan->schema->view_count > 0;
    return batch;
}

void insert_batch_free(struct insert_batch *batch)
{
    if (!batch) {
        return;
    }
    native_block_free(batch->block); // before the plan's schema
    table_job_free(batch->job);
    view_note_finish(&batch->note);
    free(batch->entries);
    free(batch);
}

// The feed's entry; a new one makes the batch one of the feed's pending ones.
static struct batch_entry *entry_of(struct insert_batch *batch, struct insert_feed *feed, int64_t offset)
{
    if (batch->entry_last < batch->entry_count && batch->entries[batch->entry_last].feed == feed) {
        return &batch->entries[batch->entry_last];
    }
    for (size_t i = 0; i < batch->entry_count; i++) {
        if (batch->entries[i].feed == feed) {
            batch->entry_last = i;
            return &batch->entries[i];
        }
    }
    if (batch->entry_count == batch->entry_room) {
        size_t room = batch->entry_room ? batch->entry_room * 2 : 8;
        struct batch_entry *entries = reallocarray(batch->entries, room, sizeof(*entries));
        if (!entries) {
            return NULL;
        }
        batch->entries = entries;
        batch->entry_room = room;
    }
    batch->entry_last = batch->entry_count++;
    batch->entries[batch->entry_last] = (struct batch_entry){.feed = feed, .after = offset, .last_row = OFFSET_NONE};
    insert_feed_pending(feed, offset);
    feed->partition->jobs++;
    return &batch->entries[batch->entry_last];
}

// Rows of how many partitions of the table there are, by their timestamps.
static void note_period(struct insert_batch *batch, const struct source_message *message)
{
    if (batch->period_length == 0 || message->timestamp_ms < 0) {
        return;
    }
    int64_t period = message->timestamp_ms / batch->period_length;
    for (size_t i = batch->period_count; i > 0; i--) {
        if (batch->periods[i - 1] == period) {
            return;
        }
    }
    if (batch->period_count < sizeof(batch->periods) / sizeof(batch->periods[0])) {
        batch->periods[batch->period_count++] = period;
    }
}

// A sample that stays evenly spread: when it is full, every second one goes.
static void note_stamp(struct insert_batch *batch, const struct source_message *message)
{
    if (message->timestamp_ms < 0 || batch->rows % batch->stamp_step != 0) {
        return;
    }
    if (batch->stamp_count == BATCH_STAMPS) {
        for (size_t i = 0; i < BATCH_STAMPS / 2; i++) {
            batch->stamps[i] = batch->stamps[2 * i];
        }
        batch->stamp_count = BATCH_STAMPS / 2;
        batch->stamp_step *= 2;
    }
    batch->stamps[batch->stamp_count++] = message->timestamp_ms;
}

static bool add_dead_letter(struct insert_batch *batch, const char *target, const struct clock *clock,
    const struct source_message *seen, enum encode_reason reason, const char *code, const char *text,
    struct relay_error *error)
{
    struct source_message whole = *seen;
    const struct source_message *message = &whole;
    if (whole.take_headers && !whole.take_headers(&whole)) {
        return error_no_memory(error, "keeping a dead letter");
    }
    if (!batch->job->dead) {
        batch->job->dead = dead_letter_block_new(batch->job->plan->dead_letters.has_timestamp, error);
    }
    if (!batch->job->dead ||
        !dead_letter_block_add(batch->job->dead, target, message, encode_reason_name(reason), code, text, error)) {
        return false;
    }
    if (clock &&
        !dead_letter_copies_add(&batch->job->copies, clock, target, message, encode_reason_name(reason), code, text,
            error)) {
        return false;
    }
    batch->dead++;
    batch->reasons[reason]++;
    log_event(LOG_LEVEL_DEBUG, "insert.dead_letter", text, LOG_TEXT("table", target), LOG_TEXT("topic", message->topic),
        LOG_INT("partition", message->partition), LOG_INT("offset", message->offset),
        LOG_TEXT("reason", encode_reason_name(reason)));
    return true;
}

static int64_t ten_times(int64_t power)
{
    int64_t next;
    return __builtin_mul_overflow(power, 10, &next) ? INT64_MAX : next;
}

// The row goes on with the run of the one before it, unless rows of others lie between them.
static bool note_run(struct insert_batch *batch, struct batch_entry *entry, int64_t offset, struct relay_error *error)
{
    const struct insert_partition *partition = entry->feed->partition;
    if (!batch->keeps_runs) {
        return true;
    }
    if (entry->rows > 0 && entry->feed->passed < entry->last_row) {
        batch->note.runs[entry->run].last = offset;
        for (; offset >= entry->longer_at; entry->longer_at = ten_times(entry->longer_at)) {
            batch->note_bytes++;
        }
        return true;
    }
    entry->run = batch->note.run_count;
    size_t name = view_note_names(&batch->note, partition->topic) ? 0 : strlen(partition->topic);
    if (!view_note_add(&batch->note, partition->topic, partition->number, offset, offset, error)) {
        return false;
    }
    batch->note_bytes += name + view_note_run_bytes(&batch->note.runs[entry->run]);
    for (entry->longer_at = 10; offset >= entry->longer_at; entry->longer_at = ten_times(entry->longer_at)) {
    }
    return true;
}

// One of its rows, by which its INSERT is found again.
static void note_row(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        const struct batch_entry *entry = &batch->entries[i];
        if (entry->rows > 0) {
            struct row_place *row = &batch->job->row;
            snprintf(row->topic, sizeof(row->topic), "%s", entry->feed->partition->topic);
            row->partition = entry->feed->partition->number;
            row->offset = entry->last_row;
            return;
        }
    }
}

static void note_places(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        const struct insert_partition *partition = batch->entries[i].feed->partition;
        insert_places_add(&batch->job->places, partition->topic, partition->number);
    }
}

static bool compress(struct insert_batch *batch, struct relay_error *error)
{
    size_t count;
    const struct iovec *pieces = native_block_body(batch->block, &count, error);
    return pieces && insert_body_fill(batch->job->body, pieces, count, error);
}

// There may be one already: of a batch before, that was stored while this one was filled.
static void keep_block(struct batch_memory *memory, struct native_block *block)
{
    native_block_free(memory->block);
    native_block_reset(block);
    memory->block = block;
}

bool insert_batch_seal(struct insert_batch *batch, struct batch_memory *memory, struct relay_error *error)
{
    if (!batch->block) {
        return true;
    }
    bool as_it_is = batch->rows > 0 && !batch->job->body;
    if (batch->rows > 0 && !as_it_is && !compress(batch, error)) {
        return false;
    }
    batch->job->rows = batch->rows;
    note_row(batch);
    note_places(batch);
    batch->sealed_bytes = native_block_bytes(batch->block);
    if (as_it_is) {
        batch->job->block = batch->block;
    } else {
        keep_block(memory, batch->block);
    }
    batch->block = NULL;
    return true;
}

void insert_batch_give_memory(struct insert_batch *batch, const struct table_plan *plan, struct batch_memory *memory)
{
    struct table_job *job = batch->job;
    if (!memory->body && job->body) {
        insert_body_reset(job->body);
        memory->body = job->body;
        job->body = NULL;
    }
    if (!memory->block && job->block && job->plan == plan) {
        keep_block(memory, job->block);
        job->block = NULL;
    }
}

bool insert_batch_is_sealed(const struct insert_batch *batch)
{
    return !batch->block;
}

bool insert_batch_add(struct insert_batch *batch, struct insert_feed *feed, const char *target,
    const struct clock *clock, const struct source_message *message, struct relay_error *error)
{
    enum encode_reason reason;
    struct relay_error why;
    struct batch_entry *entry = entry_of(batch, feed, message->offset);
    if (!entry) {
        return error_no_memory(error, "filling a batch");
    }
    const struct feed_refusal *refusal = insert_feed_refusal(feed, message->offset);
    clock = message->offset < feed->copied ? NULL : clock;
    if (refusal) {
        char code[16];
        snprintf(code, sizeof(code), "%d", refusal->code);
        if (!add_dead_letter(batch, target, clock, message, ENCODE_REJECTED, code, refusal->text, error)) {
            return false;
        }
    } else if (row_encoder_add(batch->job->plan->encoder, batch->block, message, &reason, &why)) {
        if (!note_run(batch, entry, message->offset, error)) {
            return false;
        }
        entry->last_row = message->offset;
        entry->rows++;
        note_stamp(batch, message);
        note_period(batch, message);
        batch->rows++;
    } else if (reason == ENCODE_NONE || !add_dead_letter(batch, target, clock, message, reason, "", why.text, error)) {
        return error_no_memory(error, "filling a batch");
    }
    entry->after = message->offset + 1;
    return true;
}

size_t insert_batch_bytes(const struct insert_batch *batch)
{
    return (batch->block ? native_block_bytes(batch->block) : batch->sealed_bytes) +
        (batch->job->dead ? native_block_bytes(dead_letter_block_rows(batch->job->dead)) : 0);
}

size_t insert_batch_memory(const struct insert_batch *batch)
{
    const struct table_job *job = batch->job;
    return (batch->block ? native_block_memory(batch->block) : 0) + (job->block ? native_block_memory(job->block) : 0) +
        (job->body ? insert_body_memory(job->body) : 0) + job->copies.memory +
        (job->dead ? native_block_memory(dead_letter_block_rows(job->dead)) : 0);
}

bool insert_batch_holds(const struct insert_batch *batch, const struct insert_partition *partition)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        if (batch->entries[i].feed->partition == partition) {
            return true;
        }
    }
    return false;
}

bool insert_batch_lacks_commit(const struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        if (batch->entries[i].feed->partition->committed == OFFSET_NONE) {
            return true;
        }
    }
    return false;
}

bool insert_batch_is_scattered(const struct insert_batch *batch)
{
    return batch->period_count >= PERIODS_MOST;
}

bool insert_batch_note_is_full(const struct insert_batch *batch)
{
    return !batch->wants_note ? batch->note.run_count >= RUNS_MOST
                              : batch->note_bytes > VIEW_NOTE_MOST - NOTE_HEAD - VIEW_TOPIC_ROOM - RUN_MOST;
}

char *insert_batch_note(struct insert_batch *batch, const struct config_route *route, int64_t now_seconds,
    struct relay_error *error)
{
    struct view_note *note = &batch->note;
    error_clear(error);
    if (!batch->keeps_runs || batch->rows == 0) {
        return NULL;
    }
    note->route = view_note_route(route->name, route->table);
    note->sent = now_seconds;
    note->rows = batch->rows;
    snprintf(note->token, sizeof(note->token), "%s", batch->job->token);
    view_note_sort(note); // no row is added any more
    if (!batch->wants_note) {
        batch->job->unnoted = note;
        return NULL;
    }
    batch->job->note = note; // also where it is too long to be written
    return view_note_write(note, error);
}

static void let_go(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        batch->entries[i].feed->partition->jobs--;
    }
    batch->entry_count = 0;
}

void insert_batch_copied(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        struct insert_feed *feed = batch->entries[i].feed;
        feed->copied = feed->copied < batch->entries[i].after ? batch->entries[i].after : feed->copied;
    }
}

void insert_batch_stored(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        insert_feed_stored(batch->entries[i].feed, batch->entries[i].after);
    }
    let_go(batch);
}

void insert_batch_drop(struct insert_batch *batch)
{
    for (size_t i = 0; i < batch->entry_count; i++) {
        struct insert_feed *feed = batch->entries[i].feed;
        if (feed->state == FEED_ACTIVE || feed->state == FEED_READY) {
            insert_feed_rewind(feed); // while the batch is pending: its rows do not count as stored
        }
        insert_feed_dropped(feed);
    }
    let_go(batch);
    batch->dropped = true;
}
