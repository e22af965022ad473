// SPDX-License-Identifier: Apache-2.0
//
// The start of a term. The happy path: a new producer, init_transactions (which fences every older producer of this
// outbox and ends what it left open), a round trip on both sessions (which proves that we own the outbox now, after the
// fence), the last batch number, the receipts behind it, nothing to do; then where to read from (publish_resume.c).
// Nothing that was read before the fence survives it.
//
// The receipts, compared with the number n that PostgreSQL has:
// - none behind n: in step.
// - n+1 .. m, unbroken: Kafka committed these and PostgreSQL did not: a crash between the two commits, or a server that
//   lost commits it had given. Exactly the rows whose number and hash agree are taken out, and the numbers written. A
//   row of another hash is another event under a reused number: it stays. Where rows are missing, none may be in a
//   transaction that was prepared before: an operator, or the transaction manager, ends these first.
// - the one of n missing: the topic was wiped, or cut, or made anew: nobody can tell what Kafka has. An operator
//   decides.
// - a gap, a generation or a timeline above ours: PostgreSQL went back in time, or is an old primary: an operator
//   decides.
// - more than RECEIPT_RING behind n, over a time that no failover loses: PostgreSQL was restored, or is a copy that
//   stayed behind. That has the same receipts as a failover, so time is what tells them apart. An operator decides.
//
// The receipts have numbers of rows, too. A sequence below them went back with the database, and its next numbers would
// be used a second time, which consumers and tables that take them for versions drop. That is told, stopped or not.
//
// From an old primary the sessions are closed, and from then on this process prefers every other host of the dsn that
// takes writes. The next try is a while away: if there is no such host it is the old one again, and each term on it
// fences the relay that publishes from the new one.
// In a generation that an operator began after such an end, only receipts of that generation count.
#include "relay/publish/publish_term.h"

#include "relay/base/log.h"
#include "relay/base/test_points.h"
#include "relay/kafka/kafka_error.h"
#include "relay/postgres/pg_newest.h"
#include "relay/publish/publish_board.h"
#include "relay/publish/publish_lane.h"
#include "relay/publish/publish_resume.h"
#include "relay/publish/publish_sweep.h"
#include "relay/publish/publish_waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INIT_DEADLINE    DURATION_S(30)
#define RECEIPT_DEADLINE DURATION_S(30)
#define HOLE_RANGES      8192
#define CLOCKS_DIFFER_MS 5000
// What a primary commits and its standbys do not get: until it is known to be gone, and no longer writes. Patroni's
// defaults make that half a minute.
#define FAILOVER_MS 120000
// Of the rows in the receipts beyond the ring, which are only there as long as Kafka has not compacted them.
#define AHEAD_BYTES (32 << 20)
// In a transaction of several batches: beyond, nothing is gained, and a receipt should be one that every topic takes.
#define JOINED_ROWS 25000

// A batch that Kafka committed and PostgreSQL did not.
struct batch_ahead {
    struct receipt receipt;
    struct receipt_place place;
};

// What the reading of the receipts found.
struct findings {
    const struct publish_pipe *pipe;
    struct batch_number last;
    bool has_number;
    bool last_is_there;
    int64_t highest_generation, highest_number; // of generations from ours on
    int64_t highest_seq;                        // of a row, of any generation; INT64_MIN: none
    bool too_far;
    uint32_t highest_timeline;
    struct batch_ahead *ahead; // behind the last number, in the order of their offsets
    size_t ahead_count, ahead_room, ahead_bytes;
    size_t finished, finished_rows, finished_taken; // of those ahead: batches, their rows, rows that were still there
};

// Whether a failover may have lost the batch of this receipt, too.
static bool may_be_lost(const struct findings *findings, const struct receipt_place *place)
{
    return !findings->too_far &&
        (findings->ahead_count < RECEIPT_RING ||
            (findings->ahead_bytes <= AHEAD_BYTES &&
                place->timestamp_ms - findings->ahead[0].place.timestamp_ms <= FAILOVER_MS));
}

static bool keep_ahead(struct findings *findings, const struct receipt *receipt, const struct receipt_place *place,
    struct relay_error *error)
{
    if (findings->ahead_count == findings->ahead_room) {
        size_t room = findings->ahead_room > 0 ? 2 * findings->ahead_room : RECEIPT_RING;
        struct batch_ahead *more = realloc(findings->ahead, room * sizeof(*more));
        if (more == NULL) {
            return error_no_memory(error, "receipts");
        }
        findings->ahead = more;
        findings->ahead_room = room;
    }
    struct batch_ahead *ahead = &findings->ahead[findings->ahead_count];
    *ahead = (struct batch_ahead){*receipt, *place};
    ahead->receipt.rows = malloc((receipt->row_count + 1) * sizeof(*ahead->receipt.rows));
    if (ahead->receipt.rows == NULL) {
        return error_no_memory(error, "a receipt");
    }
    memcpy(ahead->receipt.rows, receipt->rows, receipt->row_count * sizeof(*ahead->receipt.rows));
    findings->ahead_bytes += receipt->row_count * sizeof(*ahead->receipt.rows);
    findings->ahead_count++;
    return true;
}

static bool found_receipt(void *context, const struct receipt *receipt, const struct receipt_place *place,
    struct relay_error *error)
{
    struct findings *findings = context;
    int64_t generation = (int64_t)receipt->header.generation, number = (int64_t)receipt->header.number;
    if (generation > findings->highest_generation) {
        findings->highest_generation = generation;
    }
    if (receipt->row_count > 0 && receipt->rows[receipt->row_count - 1].seq > findings->highest_seq) {
        findings->highest_seq = receipt->rows[receipt->row_count - 1].seq;
    }
    if (receipt->header.timeline > findings->highest_timeline && generation >= findings->last.generation &&
        receipt->header.system_identifier == findings->pipe->owner.table->system_identifier) {
        findings->highest_timeline = receipt->header.timeline;
    }
    if (findings->last.offset >= 0 && place->offset == findings->last.offset) {
        findings->last_is_there = generation == findings->last.generation && number == findings->last.number;
    }
    if (generation >= findings->last.generation && number > findings->highest_number) {
        findings->highest_number = number;
    }
    if (generation != findings->last.generation || number <= findings->last.number) {
        return true;
    }
    if (!may_be_lost(findings, place)) {
        findings->too_far = true;
        return true;
    }
    return keep_ahead(findings, receipt, place, error);
}

static void findings_finish(struct findings *findings)
{
    for (size_t i = 0; i < findings->ahead_count; i++) {
        free(findings->ahead[i].receipt.rows);
    }
    free(findings->ahead);
}

// What is known of the topic that the last receipt went to: it is this one (1), another one (-1), nothing (0).
static int same_topic(const struct publish_pipe *pipe, const struct batch_number *last)
{
    if (last->topic_id[0] == '\0' || pipe->store.topic_id[0] == '\0') {
        return 0;
    }
    return strcmp(last->topic_id, pipe->store.topic_id) == 0 ? 1 : -1;
}

// Where the last receipt stands is known from the number; an outbox without any number is looked for in every
// partition, as is one whose partition a topic that was made anew has not.
static bool read_receipts(struct publish_pipe *pipe, struct findings *findings, struct relay_error *error)
{
    const struct batch_number *last = &findings->last;
    bool nowhere = last->partition >= pipe->store.partitions && same_topic(pipe, last) <= 0;
    return receipt_store_read(&pipe->store, pipe->owner.table->identity_bytes, nowhere ? -1 : last->partition,
        nowhere ? -1 : last->offset, found_receipt, findings, publish_kafka_tick(pipe), RECEIPT_DEADLINE, error);
}

// "SELECT setval(...); " where the sequence is below what Kafka has. Nothing is written: it may be the wrong database.
static void advise_numbers(const struct findings *findings, char *text, size_t room)
{
    const struct publish_pipe *pipe = findings->pipe;
    struct outbox_numbers numbers;
    struct relay_error ignored; // the advice is good without it
    text[0] = '\0';
    if (findings->highest_seq != INT64_MIN &&
        outbox_sql_published(pipe->sql, pipe->owner.connections[0], findings->highest_seq, false, &numbers,
            pg_deadline(pipe->context), &ignored) &&
        numbers.gone_back) {
        snprintf(text, room, "%s; ", numbers.statement);
    }
}

// The statement that goes on behind everything in Kafka: a generation later than any there, too, of which each call
// begins the next one.
// A copy has the original's identity, and its system identifier too unless it was dumped and restored into another
// server.
static void advise(const struct findings *findings, char *text, size_t room)
{
    const struct batch_number *last = &findings->last;
    int64_t above = findings->highest_number > last->number ? findings->highest_number : last->number;
    int64_t behind = findings->highest_generation > last->generation ? findings->highest_generation - last->generation
                                                                     : 0;
    // Where nothing was published from, the first call begins generation 1, which is the one that Kafka has.
    int64_t count = behind + (findings->has_number ? 1 : 2);
    char calls[64] = "", numbers[340];
    if (count > 1) {
        snprintf(calls, sizeof(calls), " FROM generate_series(1, %lld)", (long long)count);
    }
    advise_numbers(findings, numbers, sizeof(numbers));
    snprintf(text, room,
        "If it is a copy beside the original: SELECT outbox_relay.renew_identity('%s'). To go on, though the last "
        "events may be published again%s: %sSELECT outbox_relay.begin_generation('%s', %lld)%s",
        findings->pipe->owner.table->name, numbers[0] == '\0' ? "" : ", as the tables' owner", numbers,
        findings->pipe->owner.table->identity, (long long)above, calls);
}

static bool went_back(const struct findings *findings, struct relay_error *error)
{
    return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
        "Kafka is at batch %lld of this outbox, PostgreSQL at %lld: the database went back in time",
        (long long)findings->highest_number, (long long)findings->last.number);
}

// Whether the findings allow to go on. They do when they are in step, or ahead by an unbroken chain.
static bool agrees(struct publish_pipe *pipe, const struct findings *findings, struct relay_error *error)
{
    const struct batch_number *last = &findings->last;
    uint32_t timeline = pipe->owner.table->timeline;
    if (timeline != 0 && findings->highest_timeline > timeline) {
        pipe->outdated = true;
        (void)pg_newest_note(pipe->context->postgres_newest, pipe->owner.table->system_identifier,
            findings->highest_timeline);
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "PostgreSQL at %s is on timeline %u, but events of this outbox were published from timeline %u: it is an "
            "old primary, or a copy is published from under its identity. Take an old primary off [postgres] dsn",
            pg_server_address(pipe->owner.connections[0]), timeline, findings->highest_timeline);
    }
    if (findings->highest_generation > last->generation) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "Kafka has receipts of generation %lld, PostgreSQL is at %lld: the database went back in time",
            (long long)findings->highest_generation, (long long)last->generation);
    }
    if (findings->too_far) {
        return went_back(findings, error);
    }
    bool moved = same_topic(pipe, last) < 0;
    bool overwritten = !moved && findings->highest_number - last->number >= RECEIPT_RING; // its key, by a later one
    if (last->offset >= 0 && !findings->last_is_there && overwritten) {
        return went_back(findings, error);
    }
    if (last->offset >= 0 && (moved || !findings->last_is_there)) {
        return error_set(error, RELAY_ERROR_KAFKA_OPERATOR,
            "the receipt of batch %lld is not in topic %s (partition %d, offset %lld)%s: Kafka was wiped, or the topic",
            (long long)last->number, pipe->store.topic, last->partition, (long long)last->offset,
            moved ? ", which was recreated" : "");
    }
    for (size_t i = 0; i < findings->ahead_count; i++) {
        if ((int64_t)findings->ahead[i].receipt.header.number != last->number + 1 + (int64_t)i) {
            return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "Kafka has batch %lld of this outbox, PostgreSQL ends at %lld, and the receipts between are gone: the "
                "database went back in time",
                (long long)findings->ahead[i].receipt.header.number, (long long)last->number);
        }
    }
    return true;
}

static bool judge(struct publish_pipe *pipe, const struct findings *findings, struct relay_error *error)
{
    struct relay_error why;
    if (agrees(pipe, findings, &why)) {
        return true;
    }
    char advice[sizeof(why.text)];
    advise(findings, advice, sizeof(advice));
    return error_set(error, why.code, "%s. %s", why.text, advice);
}

// Where the outbox goes on under numbers that Kafka has. Not asked of a term that is in step with its own last receipt:
// the numbers of that one are of this database.
static bool tell_numbers(struct publish_pipe *pipe, const struct findings *findings, struct relay_error *error)
{
    struct outbox_numbers numbers = {0};
    bool in_step = findings->ahead_count == 0 && findings->last.offset >= 0;
    if (in_step || findings->highest_seq == INT64_MIN) {
        return true;
    }
    if (!outbox_sql_published(pipe->sql, pipe->owner.connections[0], findings->highest_seq, true, &numbers,
            pg_deadline(pipe->context), error)) {
        return false;
    }
    if (numbers.gone_back) {
        log_event(LOG_LEVEL_WARNING, "publish.numbers_gone_back",
            "new events get numbers that published ones have, until the statement is run as the table's owner",
            LOG_TEXT("outbox", pipe->config->name), LOG_INT("last_seq", numbers.last),
            LOG_INT("published_seq", numbers.published), LOG_TEXT("statement", numbers.statement));
    }
    return true;
}

// Which of the rows found are the ones of the receipt. Both ascend.
static size_t agree(const struct outbox_batch *found, const struct receipt *receipt, int64_t *seqs)
{
    size_t count = 0, k = 0;
    for (size_t i = 0; i < found->count; i++) {
        const struct outbox_row *row = &found->rows[i];
        while (k < receipt->row_count && receipt->rows[k].seq < row->seq) {
            k++;
        }
        if (k < receipt->row_count && receipt->rows[k].seq == row->seq &&
            receipt->rows[k].hash == receipt_row_hash(row->id, row->created_at_kind, row->created_at_us)) {
            seqs[count++] = row->seq;
        }
    }
    return count;
}

// Takes these rows out of the table. seqs and *count: then those that are the receipt's. *strangers: others were among
// them, events under numbers that were used again.
static bool take_these(struct publish_pipe *pipe, const struct receipt *receipt, int64_t *seqs, size_t *count,
    bool *strangers, struct relay_error *error)
{
    struct outbox_batch *batch = pipe->lanes[0].batch;
    outbox_batch_reset(batch);
    PGresult *gone = outbox_sql_take_receipt(pipe->owner.connections[0], seqs, *count, pg_deadline(pipe->context),
        error);
    bool done = gone != NULL && outbox_batch_add(batch, pipe->owner.table, 0, false, gone, error);
    if (done) {
        outbox_batch_sort(batch);
        *count = agree(batch, receipt, seqs);
        *strangers = *count < batch->count;
    }
    outbox_batch_reset(batch);
    return done;
}

// Begins a transaction and takes the rows of one receipt out of the table. *taken: how many. What it is must be known
// of each row that goes, and locking rows without changing them would need one more right: so they are taken out, and
// if one is a stranger, all stay and those that are not are taken out anew.
static bool take_rows(struct publish_pipe *pipe, const struct receipt *receipt, size_t *taken,
    struct relay_error *error)
{
    struct pg_connection *connection = pipe->owner.connections[0];
    int64_t *seqs = malloc((receipt->row_count + 1) * sizeof(*seqs));
    if (seqs == NULL) {
        return error_no_memory(error, "a receipt's numbers");
    }
    for (size_t i = 0; i < receipt->row_count; i++) {
        seqs[i] = receipt->rows[i].seq;
    }
    *taken = receipt->row_count;
    bool strangers = false, done;
    do {
        done = (!strangers || outbox_sql_rollback(connection, pg_deadline(pipe->context), error)) &&
            outbox_sql_begin(connection, pg_deadline(pipe->context), error) &&
            take_these(pipe, receipt, seqs, taken, &strangers, error);
    } while (done && strangers);
    free(seqs);
    return done;
}

// Finishes one batch that Kafka committed and PostgreSQL did not. Rows that were published and that nobody sees may yet
// come back: a standby that was promoted has prepared transactions whose end it had not received, and the transaction
// manager ends them anew. These are asked for before the rows: of one that ends in between the rows are seen. Only what
// was prepared before the receipt was written counts; the clocks of the three machines may differ a little.
static bool finish_batch(struct publish_pipe *pipe, struct findings *findings, size_t i, struct relay_error *error)
{
    struct pg_connection *connection = pipe->owner.connections[0];
    const struct receipt *receipt = &findings->ahead[i].receipt;
    const struct receipt_place *place = &findings->ahead[i].place;
    struct batch_number number = {
        .generation = (int64_t)receipt->header.generation,
        .number = (int64_t)receipt->header.number,
        .partition = place->partition,
        .offset = place->offset,
    };
    memcpy(number.topic_id, pipe->store.topic_id, sizeof(number.topic_id));
    size_t taken = 0;
    char prepared[300];
    if (!outbox_sql_prepared(pipe->sql, connection, place->timestamp_ms + CLOCKS_DIFFER_MS, prepared, sizeof(prepared),
            pg_deadline(pipe->context), error) ||
        !take_rows(pipe, receipt, &taken, error)) {
        return false;
    }
    if (taken < receipt->row_count && prepared[0] != '\0') {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "%zu rows that were published are not visible, and may be in transactions that were prepared before: end "
            "each of them (COMMIT PREPARED or ROLLBACK PREPARED): %s",
            receipt->row_count - taken, prepared);
    }
    if (!outbox_sql_write_number(pipe->sql, connection, &number, pg_deadline(pipe->context), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_RECOVERY_DELETE);
    if (!pg_commit(connection, pg_deadline(pipe->context), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_RECOVERY_COMMIT);
    pipe->number = number;
    metric_add(pipe->series.replays, 1);
    findings->finished++;
    findings->finished_rows += receipt->row_count;
    findings->finished_taken += taken;
    return true;
}

// So many take their time, a transaction of PostgreSQL each.
static void tell_finishing(struct publish_pipe *pipe, size_t count)
{
    char what[96];
    snprintf(what, sizeof(what), "finishing %zu batches that Kafka has committed and PostgreSQL has not", count);
    log_event(LOG_LEVEL_INFO, "publish.finishing_batches", what, LOG_TEXT("outbox", pipe->config->name),
        LOG_INT("batches", count));
    publish_show(pipe, STATUS_DEGRADED, publish_role(pipe), what);
}

// One line for all of them: the log drops what repeats itself, and after a failover there may be many.
static void tell_finished(const struct publish_pipe *pipe, const struct findings *findings)
{
    if (findings->finished > 0) {
        metric_add(pipe->series.not_there, findings->finished_rows - findings->finished_taken);
        log_event(LOG_LEVEL_WARNING, "publish.batch_finished", "Kafka had committed what PostgreSQL had not",
            LOG_TEXT("outbox", pipe->config->name), LOG_INT("number", pipe->number.number),
            LOG_INT("batches", findings->finished), LOG_INT("rows", findings->finished_rows),
            LOG_INT("taken_out", findings->finished_taken),
            LOG_INT("not_there", findings->finished_rows - findings->finished_taken));
    }
}

static bool recover(struct publish_pipe *pipe, struct relay_error *error)
{
    struct findings findings = {.pipe = pipe, .highest_seq = INT64_MIN};
    metrics_retire(pipe->context->metrics, pipe->store.handle->published); // receipts are no events
    if (!outbox_sql_last_number(pipe->owner.connections[0], &findings.last, &findings.has_number,
            pg_deadline(pipe->context), error)) {
        return false;
    }
    bool done = !safeguard_active(SAFEGUARD_RECEIPTS) || read_receipts(pipe, &findings, error);
    TEST_POINT(PUBLISH_AFTER_RECOVERY_READ);
    done = done && (!safeguard_active(SAFEGUARD_RECEIPTS) || judge(pipe, &findings, error));
    pipe->number = findings.last;
    pipe->receipt_partition = findings.last.partition >= 0
        ? findings.last.partition
        : receipt_store_partition(&pipe->store, pipe->owner.table->identity_bytes);
    done = done && tell_numbers(pipe, &findings, error);
    if (done && findings.ahead_count > RECEIPT_RING) {
        tell_finishing(pipe, findings.ahead_count);
    }
    for (size_t i = 0; done && i < findings.ahead_count; i++) {
        if (publish_stopping(pipe)) { // the next term finishes the others
            done = error_set(error, RELAY_ERROR_STOPPED, "finishing batches: the relay is stopping");
            break;
        }
        done = finish_batch(pipe, &findings, i, error);
        pipe->receipt_partition = findings.ahead[i].place.partition;
        publish_tick(pipe);
    }
    tell_finished(pipe, &findings);
    findings_finish(&findings);
    return done;
}

// The fence, and then the proof that it was ours to set.
static bool fence(struct publish_pipe *pipe, struct relay_error *error)
{
    if (!kafka_producer_init(pipe->producer, publish_deadline(pipe, INIT_DEADLINE), error)) {
        return false;
    }
    TEST_POINT(PUBLISH_AFTER_INIT);
    return !safeguard_active(SAFEGUARD_FENCING) || outbox_owner_prove(&pipe->owner, error);
}

struct kafka_producer_options publish_term_options(const struct config_outbox *config, const char *transactional_id)
{
    return (struct kafka_producer_options){
        .transactional_id = config->publish.guarantee == CONFIG_EXACTLY_ONCE ? transactional_id : NULL,
        .batch_rows = config->batch_rows,
        .batch_bytes = config->batch_bytes,
    };
}

static bool make_producer(struct publish_pipe *pipe, const char *transactional_id, struct relay_error *error)
{
    struct kafka_producer_options options = publish_term_options(pipe->config, transactional_id);
    options.set_bytes = pipe->set_bytes;
    pipe->producer = kafka_producer_new(pipe->context, &options, publish_kafka_tick(pipe), error);
    return pipe->producer != NULL;
}

static bool make_own_producer(struct publish_pipe *pipe, struct relay_error *error)
{
    char id[300];
    snprintf(id, sizeof(id), "%s-%s", pipe->config->publish.transactional_id, pipe->owner.table->identity);
    if (!safeguard_active(SAFEGUARD_FENCING)) {
        snprintf(id + strlen(id), sizeof(id) - strlen(id), "-%.8s", pipe->context->instance);
    }
    return make_producer(pipe, id, error);
}

// How many rows fit into a batch and a transaction: the receipt, of as many new rows and as many late ones, is one
// record.
static bool size_batches(struct publish_pipe *pipe, struct relay_error *error)
{
    size_t most = kafka_producer_message_max(pipe->producer);
    int64_t within = (int64_t)receipt_rows_within(most < RECEIPT_BYTES ? most : RECEIPT_BYTES) / 2;
    if (pipe->receipt_refused > 0 && within > pipe->receipt_refused / 4) {
        within = pipe->receipt_refused / 4 > 0 ? pipe->receipt_refused / 4 : 1;
    }
    pipe->most_rows = pipe->exactly_once && within < pipe->config->batch_rows ? within : pipe->config->batch_rows;
    pipe->receipt_rows = 2 * pipe->most_rows > JOINED_ROWS ? 2 * pipe->most_rows : JOINED_ROWS;
    pipe->receipt_rows = pipe->receipt_rows < within * 2 ? pipe->receipt_rows : within * 2;
    return pipe->most_rows > 0 ||
        error_set(error, RELAY_ERROR_CONFIG, "[kafka] message.max.bytes is too small for a receipt");
}

static bool prepare(struct publish_pipe *pipe, struct relay_error *error)
{
    pipe->sql = outbox_sql_new(pipe->owner.table, pipe->config, kafka_producer_message_max(pipe->producer), error);
    pipe->holders = pipe->sql == NULL ? NULL : seq_holders_new(error);
    pipe->holes = pipe->holders == NULL ? NULL : seq_holes_new(INT64_MIN, HOLE_RANGES, error);
    if (pipe->holes == NULL) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        struct publish_lane *lane = &pipe->lanes[i];
        *lane = (struct publish_lane){.slot = i, .state = LANE_IDLE};
        lane->batch = outbox_batch_new((size_t)pipe->config->batch_bytes, error);
        lane->before = lane->batch == NULL ? NULL : seq_holes_new(INT64_MIN, HOLE_RANGES, error);
        if (lane->before == NULL || !publish_transaction_init(&pipe->transactions[i], HOLE_RANGES, error) ||
            !outbox_sql_prepare(pipe->sql, pipe->owner.connections[i], pg_deadline(pipe->context), error)) {
            return false;
        }
    }
    return publish_count_waiting(pipe, pipe->owner.connections[0], error);
}

bool publish_term_reach(struct publish_pipe *pipe, struct relay_error *error)
{
    if (!publish_ask_breaker(pipe, error)) {
        return false;
    }
    // Of the same settings as a term's, so that it can be made if that can; its id is never used.
    bool reached = make_producer(pipe, pipe->config->publish.transactional_id, error) && size_batches(pipe, error) &&
        kafka_producer_reach(pipe->producer, publish_deadline(pipe, INIT_DEADLINE), error);
    pipe->left_client = !kafka_producer_free(pipe->producer) || pipe->left_client;
    pipe->producer = NULL;
    publish_report_kafka(pipe, reached ? NULL : error);
    return reached;
}

bool publish_term_start(struct publish_pipe *pipe, struct relay_error *error)
{
    pipe->fenced = false;
    if (!publish_ask_breaker(pipe, error)) {
        return false;
    }
    pipe->holes_first = false;
    pipe->commits_slowly = false;
    pipe->looks_slowly = false;
    pipe->found = false;
    pipe->in_vain = false;
    pipe->chores_in_vain = 0;
    pipe->purges = 0;
    publish_verdicts_clear_rows(&pipe->verdicts);
    publish_sweep_begin(pipe);
    pipe->noted = INT64_MIN;
    pipe->noted_at = pipe->waiting_checked_at = clock_mono(pipe->context->clock);
    pipe->waiting_pause = DURATION_NS(0);
    // The locks are held: the fence may be set while PostgreSQL prepares its statements. Nothing is read yet.
    bool fenced = make_own_producer(pipe, error) && size_batches(pipe, error) &&
        (kafka_producer_init_start(pipe->producer, DURATION_MS(1)), true) && prepare(pipe, error) && fence(pipe, error);
    pipe->fenced = fenced;
    bool recovered = fenced &&
        (!pipe->exactly_once ||
            (receipt_store_open(&pipe->store, pipe->context, pipe->producer, pipe->config->publish.receipt_topic,
                 publish_kafka_tick(pipe), publish_deadline(pipe, RECEIPT_DEADLINE), error) &&
                recover(pipe, error)));
    if (pipe->context->kafka_breaker != NULL) {
        publish_report_kafka(pipe, recovered ? NULL : error);
    }
    return recovered && publish_resume(pipe, error);
}

void publish_term_end(struct publish_pipe *pipe)
{
    outbox_sleep_finish(&pipe->sleep);
    pipe->left_client = !kafka_producer_free(pipe->producer) || pipe->left_client;
    pipe->producer = NULL;
    pipe->left_client = pipe->left_client || pipe->store.left;
    receipt_store_finish(&pipe->store);
    for (int i = 0; i < 2; i++) {
        outbox_batch_free(pipe->lanes[i].batch);
        seq_holes_free(pipe->lanes[i].before);
        publish_transaction_finish(&pipe->transactions[i]);
        pipe->lanes[i] = (struct publish_lane){.slot = i};
    }
    PQclear(pipe->topics);
    pipe->topics = NULL;
    seq_holes_free(pipe->holes);
    seq_holders_free(pipe->holders);
    outbox_sql_free(pipe->sql);
    pipe->holes = NULL;
    pipe->holders = NULL;
    pipe->sql = NULL;
    publish_show_holes(pipe);
}
