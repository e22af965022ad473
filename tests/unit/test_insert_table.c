// SPDX-License-Identifier: Apache-2.0
//
// When an open batch is closed and sent: by rows, bytes or linger, on a clock that the test moves. Nobody answers at
// the other end; whether a batch is under way is what is judged. And what a table shows whose server answers and cannot
// write.
#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/insert_note.h"
#include "relay/insert/insert_table_show.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static struct clock_fake fake;
static struct config config;
static struct config_route route;
static struct stop stop;
static struct relay_context context;
static struct insert_lease lease;
static struct insert_table table;
static struct insert_partitions partitions;
static struct insert_partition *partition;
static struct clickhouse_client *client;
static int64_t next_offset;
static char url[64] = "http://127.0.0.1:1";
static struct http_script *server;
static _Atomic(const char *) answer; // to INSERTs
static const char *const *says;      // before that, in this order, to whatever is asked
static atomic_int takes;             // seconds, before that answer

static void wake(void *unused)
{
    (void)unused;
}

static void start(void)
{
    static const char *const columns[] = {"value", "String", NULL}, *const pairs[] = {"value", "kafka.value", NULL};
    static struct config_pair room[4];
    static char name[] = "t", *urls[] = {url}, empty[] = "";
    struct relay_error error;
    clock_fake_init(&fake, (struct mono_time){INT64_C(1000000000000)}, (struct wall_time){0});
    config.insert = (struct config_insert){.batch_rows = 3, .batch_bytes = 1000, .linger = DURATION_S(2)};
    config.clickhouse = (struct config_clickhouse){.urls = {.items = urls, .count = 1},
        .database = empty,
        .user = empty,
        .password = empty,
        .ca_file = empty,
        .cert_file = empty,
        .key_file = empty,
        .connect_timeout = DURATION_S(1),
        .request_timeout = DURATION_S(5),
        .compression = CONFIG_COMPRESSION_LZ4};
    cr_assert(stop_init(&stop, &error));
    context = (struct relay_context){.config = &config,
        .clock = &fake.base,
        .metrics = metrics_new(&error),
        .stop = &stop,
        .instance = "i"};
    context.board = status_board_new(&fake.base, &error);
    route = fixture_route(pairs, room);
    route.table = name;
    client = clickhouse_client_new(&context, &error);
    cr_assert_not_null(client, "%s", error.text);
    insert_lease_init(&lease, &fake.base, DURATION_S(20), wake, NULL);
    struct table_plan *plan = fixture_plan(columns, "INSERT");
    plan->encoder = row_encoder_new(&route, plan->schema, NULL, &error);
    cr_assert_not_null(plan->encoder, "%s", error.text);
    struct table_worker_options options = {.context = &context,
        .client = client,
        .route = &route,
        .group_tag = "01234567",
        .lease = &lease,
        .wake = wake};
    table = (struct insert_table){.context = &context,
        .route = &route,
        .name = name,
        .partitions = &partitions,
        .plan = plan,
        .state = INSERT_TABLE_OPEN,
        .limit = {.rejected = SIZE_MAX, .slow = SIZE_MAX},
        .open_at = {INT64_MAX},
        .inserted = metrics_series1(context.metrics, METRIC_EVENTS_INSERTED, name),
        .skipped = metrics_series1(context.metrics, METRIC_TOMBSTONES_SKIPPED, name),
        .seconds = metrics_series1(context.metrics, METRIC_INSERT_SECONDS, name),
        .batch_rows = metrics_series1(context.metrics, METRIC_INSERT_BATCH_ROWS, name),
        .paused = metrics_series1(context.metrics, METRIC_PAUSED_TABLES, name),
        .views_behind = metrics_series1(context.metrics, METRIC_VIEWS_BEHIND, name),
        .worker = table_worker_start(&options, &error)};
    cr_assert_not_null(table.worker, "%s", error.text);
    partition = insert_partition_new("topic", 0, 1, &error);
    partition->feeds[0].table = &table;
    partition->feeds[0].state = FEED_ACTIVE;
    partition->feeds[0].next = partition->feeds[0].mark = partition->committed = 0;
    partitions = (struct insert_partitions){.items = &partition, .count = 1, .room = 1};
}

static void finish(void)
{
    table_worker_quit(table.worker);
    cr_assert(table_worker_join(table.worker, (struct mono_time){INT64_MAX}));
    insert_batch_free(table.open);
    if (table.flight) {
        if (!table.noting) {
            table.flight->job = NULL; // the worker's
        }
        insert_batch_free(table.flight);
    }
    batch_memory_free(&table.spare);
    table_worker_free(table.worker);
    table_plan_release(table.plan);
    insert_partition_free(partition);
    clickhouse_client_free(client);
    insert_lease_finish(&lease);
    status_board_free(context.board);
    metrics_free(context.metrics);
    stop_finish(&stop);
}

static void add(const char *value) // NULL: no row can be made of it
{
    struct insert_feed *feed = &partition->feeds[0];
    struct source_message message = {.topic = "topic",
        .offset = next_offset++,
        .timestamp_ms = -1,
        .value = value,
        .value_length = value ? strlen(value) : 0};
    bool found;
    cr_assert(insert_feed_takes(feed, message.offset, &found));
    cr_assert(insert_table_add(&table, feed, &message));
}

static void pass(struct duration time)
{
    clock_fake_advance(&fake, time);
    insert_table_work(&table, clock_mono(&fake.base));
}

TestSuite(insert_table, .init = start, .fini = finish);

Test(insert_table, a_batch_is_closed_by_its_rows)
{
    add("a");
    add("b");
    cr_assert_null(table.flight);
    add("c");
    cr_assert_not_null(table.flight);
    cr_assert_eq(table.flight->rows, 3);
    cr_assert_null(table.open);
}

Test(insert_table, a_batch_is_closed_by_its_bytes)
{
    char value[600];
    memset(value, 'x', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    add(value);
    cr_assert_null(table.flight);
    add(value);
    cr_assert_not_null(table.flight);
    cr_assert_eq(table.flight->rows, 2);
}

Test(insert_table, a_batch_is_closed_when_its_first_message_has_waited_for_linger)
{
    add("a");
    cr_assert_eq(insert_table_due(&table).ns, clock_mono(&fake.base).ns + 2000000000);
    pass(DURATION_MS(1500));
    add("b");
    pass(DURATION_MS(499));
    cr_assert_null(table.flight);
    pass(DURATION_MS(1));
    cr_assert_not_null(table.flight);
    cr_assert_eq(table.flight->rows, 2);
}

Test(insert_table, what_ends_a_backlog_does_not_wait_for_linger)
{
    add("a");
    insert_partition_reached_end(partition, next_offset, false);
    pass(DURATION_MS(1));
    cr_assert_null(table.flight, "not behind a batch that had waited itself");
    table.after_full = true;
    partition->end = OFFSET_NONE; // as the next message does
    add("b");
    pass(DURATION_MS(1));
    cr_assert_null(table.flight, "there may be more");
    insert_partition_reached_end(partition, next_offset, false);
    cr_assert_leq(insert_table_due(&table).ns, clock_mono(&fake.base).ns);
    pass(DURATION_MS(1));
    cr_assert_not_null(table.flight);
    cr_assert_not(table.after_full);
}

Test(insert_table, a_batch_waits_for_the_one_before_it_and_is_full_meanwhile)
{
    add("a");
    pass(DURATION_S(2));
    struct insert_batch *first = table.flight;
    cr_assert_not_null(first);
    add("b");
    add("c");
    pass(DURATION_S(3));
    cr_assert_not(insert_table_full(&table));
    cr_assert_not(insert_batch_is_sealed(table.open));
    add("d");
    cr_assert(insert_table_full(&table));
    cr_assert(insert_batch_is_sealed(table.open), "ready to be sent when the one before it is stored");
    cr_assert_not_null(table.spare.block);
    cr_assert_eq(table.flight, first);
    cr_assert_eq(table.open->rows, 3);
    insert_table_flush(&table);
    cr_assert_eq(table.flight, first);
}

// It might repeat for views what the next owner has inserted.
Test(insert_table, the_read_back_of_a_partition_that_is_gone_is_given_up)
{
    struct insert_feed *feed = &partition->feeds[0];
    feed->state = FEED_WAITING;
    partition->committed_known = true;
    pass(DURATION_MS(1));
    cr_assert_eq(feed->state, FEED_READING);
    cr_assert_not_null(feed->reading);
    cr_assert_not(atomic_load(&feed->reading->cancelled));
    insert_table_forget(&table, partition);
    cr_assert(atomic_load(&feed->reading->cancelled));
    char id[CLICKHOUSE_QUERY_ID_ROOM];
    int endpoint;
    cr_assert_not(table_worker_runs_given_up(table.worker, id, &endpoint), "nothing was sent");
    for (int i = 0; feed->reading && i < 10000; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pass(DURATION_MS(1));
    }
    cr_assert_neq(feed->state, FEED_READING);
}

// A pause may begin and end while it waits for the worker. One that nobody knows of could not be given up.
Test(insert_table, a_feed_has_one_read_back_at_a_time)
{
    struct insert_feed *feed = &partition->feeds[0];
    table.plan->exactly_once = true; // it does not end: there is no server
    feed->state = FEED_WAITING;
    partition->committed_known = true;
    pass(DURATION_MS(1));
    const struct table_job *first = feed->reading;
    cr_assert_not_null(first);
    insert_feed_rewind(feed);
    feed->state = FEED_WAITING;
    pass(DURATION_MS(1));
    cr_assert_eq(feed->reading, first);
    cr_assert_eq(partition->jobs, 1);
    insert_table_forget(&table, partition);
    for (int i = 0; feed->state != FEED_READING && i < 10000; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pass(DURATION_MS(1));
    }
    cr_assert_eq(feed->state, FEED_READING, "asked for again when that one has ended");
    cr_assert_eq(feed->reading->read_back.generation, feed->generation);
    cr_assert_eq(partition->jobs, 1);
}

// Else "none" would not mean that the partition has neither rows nor dead letters.
Test(insert_table, nothing_is_sent_of_a_partition_before_an_offset_of_it_is_committed)
{
    partition->committed = OFFSET_NONE;
    add("a");
    cr_assert_not(insert_note_wanted(&table));
    pass(DURATION_S(2));
    cr_assert_not_null(table.flight);
    cr_assert(insert_note_wanted(&table));
    cr_assert(insert_table_holds(&table, partition));
    insert_table_forget(&table, partition);
    cr_assert_null(table.flight, "it was not sent, so nobody asks what became of it");
    cr_assert_not(table.noting);
    partition->feeds[0].state = FEED_ACTIVE;
    next_offset = partition->feeds[0].next;
    add("a");
    pass(DURATION_S(2));
    insert_note_accepted(&table);
    cr_assert_not(table.noting, "the worker has it");
    cr_assert_not_null(table.flight);
}

// ClickHouse stores nothing of a second block under the same token.
Test(insert_table, each_batch_has_a_token_of_its_own_however_long_the_route_is_called)
{
    static char long_name[] = "a_name_of_a_route_that_has_forty_eight_letters_x";
    char first[sizeof(table.flight->job->token)];
    cr_assert_eq(strlen(long_name), 48, "as long as the configuration takes it");
    route.name = long_name;
    snprintf(context.instance, sizeof(context.instance), "0123456789abcdef0123456789abcdef");
    partition->committed = OFFSET_NONE; // they wait for a commit
    add("a");
    pass(DURATION_S(2));
    cr_assert_not_null(table.flight);
    snprintf(first, sizeof(first), "%s", table.flight->job->token);
    insert_table_forget(&table, partition);
    partition->feeds[0].state = FEED_ACTIVE;
    next_offset = partition->feeds[0].next;
    add("a");
    pass(DURATION_S(2));
    cr_assert_not_null(table.flight);
    cr_assert_str_neq(table.flight->job->token, first);
}

// Not copied: a batch that waits and one under way are all the memory there is.
Test(insert_table, rows_that_are_not_compressed_stay_in_their_block)
{
    struct relay_error error;
    struct table_plan another = {0};
    config.clickhouse.compression = CONFIG_COMPRESSION_NONE;
    add("a");
    struct native_block *block = table.open->block;
    size_t bytes = insert_batch_bytes(table.open), memory = insert_batch_memory(table.open);
    cr_assert(insert_batch_seal(table.open, &table.spare, &error), "%s", error.text);
    cr_assert_eq(table.open->job->block, block);
    cr_assert_null(table.open->job->body);
    cr_assert_null(table.spare.block);
    cr_assert_eq(native_block_rows(block), 1);
    cr_assert_eq(insert_batch_bytes(table.open), bytes);
    cr_assert_eq(insert_batch_memory(table.open), memory);
    insert_batch_give_memory(table.open, &another, &table.spare);
    cr_assert_null(table.spare.block, "its columns are those of another table");
    insert_batch_give_memory(table.open, table.plan, &table.spare);
    cr_assert_eq(table.spare.block, block);
    cr_assert_eq(native_block_rows(block), 0);
    cr_assert_null(table.open->job->block);
}

// One was stored while the next, which has no rows, was filled: each has a block that it does not need any more.
Test(insert_table, there_is_one_spare_block)
{
    struct relay_error error;
    config.clickhouse.compression = CONFIG_COMPRESSION_NONE;
    table.spare.block = row_encoder_block(table.plan->encoder, &error);
    struct native_block *stored = table.spare.block;
    cr_assert_not_null(stored);
    add("a");
    cr_assert_eq(table.open->block, stored);
    struct insert_batch *first = table.open;
    cr_assert(insert_batch_seal(first, &table.spare, &error));
    table.open = NULL;
    add(NULL);
    struct native_block *next = table.open->block;
    cr_assert_eq(table.open->rows, 0);
    cr_assert_eq(table.open->dead, 1);
    insert_batch_give_memory(first, table.plan, &table.spare);
    cr_assert_eq(table.spare.block, stored);
    cr_assert(insert_batch_seal(table.open, &table.spare, &error));
    cr_assert_eq(table.spare.block, next);
    insert_batch_stored(first);
    insert_batch_free(first);
}

Test(insert_table, after_a_rejection_batches_are_as_small_as_the_table_allows)
{
    table.limit.rejected = 1;
    add("a");
    cr_assert_not_null(table.flight);
    cr_assert_eq(table.flight->rows, 1);
}

Test(insert_table, a_message_that_comes_though_the_table_is_full_comes_again)
{
    struct insert_feed *feed = &partition->feeds[0];
    add("a");
    pass(DURATION_S(2));
    add("b");
    add("c");
    add("d");
    cr_assert(insert_table_full(&table));
    int64_t offset = next_offset;
    struct source_message message = {.topic = "topic",
        .offset = offset,
        .timestamp_ms = -1,
        .value = "e",
        .value_length = 1};
    bool found;
    cr_assert(insert_feed_takes(feed, offset, &found));
    cr_assert_not(insert_table_add(&table, feed, &message));
    cr_assert_eq(table.open->rows, 3);
    cr_assert_eq(feed->state, FEED_WAITING, "to be read back, and read again, once its batches are stored");
    cr_assert_eq(feed->pending, 2);
    cr_assert_eq(feed->mark, 0);
}

// Its dead letters' statement names the columns that the dead-letter table had.
Test(insert_table, a_kept_insert_is_repeated_when_the_dead_letter_table_has_got_a_column_more)
{
    struct relay_error error;
    struct table_plan now = *table.plan;
    struct table_job job = {.plan = table.plan, .dead = dead_letter_block_new(false, &error)};
    cr_assert_not_null(job.dead, "%s", error.text);
    now.dead_letters.has_timestamp = true;
    cr_assert(table_job_may_repeat(&job, &now));
    table.plan->dead_letters.has_timestamp = true;
    cr_assert(table_job_may_repeat(&job, &now));
    now.dead_letters.has_timestamp = false;
    cr_assert_not(table_job_may_repeat(&job, &now), "a column that it names is gone");
    dead_letter_block_free(job.dead);
    job.dead = NULL;
    cr_assert(table_job_may_repeat(&job, &now));
}

Test(insert_table, for_a_view_that_turned_up_without_a_window_nothing_is_repeated)
{
    static const struct view_note note = {0};
    struct table_plan now = *table.plan;
    struct table_job job = {.plan = table.plan, .note = &note, .unnoted = &note};
    now.exactly_once = false;
    cr_assert_not(table_job_may_repeat(&job, &now), "its token says nothing there, and would be asked for ever");
    now.exactly_once = true;
    cr_assert(table_job_may_repeat(&job, &now));
    job.unnoted = NULL;
    now.exactly_once = false;
    cr_assert(table_job_may_repeat(&job, &now), "of a view that was known: another replica may have been asked");
}

static const char well[] = HTTP_OK(0, "");
static const char too_large[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nnginx";
static const char timed_out[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 159\r\nContent-Length: 19\r\n\r\n"
                                "Code: 159. Too late";
static const char no_login[] = "HTTP/1.1 403 Oops\r\nX-ClickHouse-Exception-Code: 516\r\nContent-Length: 20\r\n\r\n"
                               "Code: 516. No entry.";
static const char no_room[] = "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 243\r\nContent-Length: 19\r\n\r\n"
                              "Code: 243. No room.";

static void handle(void *unused, const struct http_seen *seen, struct http_reply *reply)
{
    static _Thread_local char learned[4096]; // each connection has its thread
    const char *learns = clickhouse_peer_learned(seen), *body = !learns && says && *says ? *says++ : learns;
    (void)unused;
    clock_fake_advance(&fake, DURATION_S(body ? 0 : atomic_load(&takes)));
    reply->answer = body ? clickhouse_peer_ok(learned, sizeof(learned), body) : atomic_load(&answer);
}

static void start_with_a_server(void)
{
    server = http_script_start(handle, NULL);
    snprintf(url, sizeof(url), "%s", http_script_url(server));
    start();
}

static void finish_with_a_server(void)
{
    finish();
    http_script_stop(server);
}

TestSuite(insert_table_show, .init = start_with_a_server, .fini = finish_with_a_server);

// One row, sent; until its job has come back and the table is troubled, or is not.
static void send_one(const char *with, bool troubled)
{
    struct mono_time until = mono_add(clock_mono(clock_system()), DURATION_S(20));
    atomic_store(&answer, with);
    partition->feeds[0].state = FEED_ACTIVE; // as if it had been read back
    add("a");
    pass(DURATION_S(2));
    while (table.flight || table.troubled != troubled) {
        cr_assert(!mono_reached(clock_mono(clock_system()), until), "it never ends");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pass(DURATION_MS(10));
    }
}

// As the stage does it, which has this table alone.
static void show_after(struct duration time, bool explained)
{
    pass(time);
    insert_table_show_lasting(&table, explained, clock_mono(&fake.base));
    insert_table_show_paused(&table, insert_table_shows_paused(&table));
}

static void expect(enum status_level level, bool paused, const char *reason)
{
    size_t count;
    struct status_entry *entries = status_board_entries(context.board, &count);
    const struct status_entry *entry = NULL;
    for (size_t i = 0; i < count; i++) {
        entry = entries[i].check == STATUS_INSERT ? &entries[i] : entry;
    }
    cr_assert_not_null(entry);
    cr_assert_eq(entry->level, level, "%d", entry->level);
    cr_assert_not_null(strstr(entry->reason, reason), "%s", entry->reason);
    cr_assert_eq(insert_table_shows_paused(&table), paused);
    cr_assert_float_eq(metric_value(table.paused), paused, 0.1);
    free(entries);
}

Test(insert_table_show, a_server_that_cannot_write_for_long_counts_as_a_pause)
{
    send_one(no_room, true);
    show_after(DURATION_S(0), false);
    expect(STATUS_DEGRADED, false, "243");
    show_after(DURATION_S(119), false);
    expect(STATUS_DEGRADED, false, "243");
    show_after(DURATION_S(1), false);
    expect(STATUS_DOWN, true, "243");
    cr_assert_eq(table.state, INSERT_TABLE_OPEN, "it goes on trying");
    insert_table_show_paused(&table, false); // another table is well
    expect(STATUS_DEGRADED, true, "243");
    send_one(no_room, true);
    show_after(DURATION_S(0), false);
    expect(STATUS_DOWN, true, "243");
    send_one(well, false);
    show_after(DURATION_S(0), false);
    expect(STATUS_OK, false, "");
    show_after(DURATION_S(300), false);
    expect(STATUS_OK, false, "");
}

Test(insert_table_show, a_server_that_is_away_explains_it)
{
    send_one(no_room, true);
    show_after(DURATION_S(300), true);
    expect(STATUS_DEGRADED, false, "243");
    show_after(DURATION_S(0), false);
    show_after(DURATION_S(119), false);
    expect(STATUS_DEGRADED, false, "243");
    show_after(DURATION_S(1), false);
    expect(STATUS_DOWN, true, "243");
    show_after(DURATION_S(1), true);
    expect(STATUS_DEGRADED, false, "243");
}

Test(insert_table_show, nothing_that_waits_is_no_trouble)
{
    send_one(no_room, true);
    show_after(DURATION_S(0), false);
    show_after(DURATION_S(120), false);
    expect(STATUS_DOWN, true, "243");
    partition->gone = true; // another member inserts it
    show_after(DURATION_S(1), false);
    expect(STATUS_OK, false, "");
}

static void wait_for_the_flight(void)
{
    struct mono_time until = mono_add(clock_mono(clock_system()), DURATION_S(20));
    while (table.flight) {
        cr_assert(!mono_reached(clock_mono(clock_system()), until), "it never ends");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pass(DURATION_MS(5)); // the worker pauses after what is unclear
    }
}

Test(insert_table_show, dead_letters_that_are_too_large_are_divided)
{
    static char name[] = "letters";
    config.insert.dead_letter_table = name;
    table.plan->dead_letter_statement = strdup("INSERT");
    atomic_store(&answer, too_large);
    add(NULL);
    add(NULL);
    add(NULL);
    cr_assert_not_null(table.flight);
    wait_for_the_flight();
    cr_assert_eq(table.state, INSERT_TABLE_OPEN);
    cr_assert_eq(table.limit.rejected, 1);
    partition->feeds[0].state = FEED_ACTIVE; // as if it had been read back
    add(NULL);
    cr_assert_not_null(table.flight);
    wait_for_the_flight();
    cr_assert_eq(table.state, INSERT_TABLE_PAUSED, "one alone");
    show_after(DURATION_MS(0), false);
    expect(STATUS_DOWN, true, "dead-letter table letters: ");
}

// A full batch, as many rows as that is; `seconds` later it is answered.
static size_t send_full(int seconds, const char *with)
{
    atomic_store(&answer, with);
    atomic_store(&takes, seconds);
    partition->feeds[0].state = FEED_ACTIVE; // as if it had been read back
    next_offset = partition->feeds[0].next;
    while (!table.flight) {
        add("a");
    }
    size_t rows = table.flight->rows;
    wait_for_the_flight();
    return rows;
}

static void give_time(int rows)
{
    config.insert.batch_rows = rows;
    config.insert.batch_bytes = 64 << 20;
    config.insert.linger = DURATION_S(3600);
    config.clickhouse.request_timeout = DURATION_S(60);
}

Test(insert_table_show, an_insert_that_took_too_long_is_followed_by_smaller_ones)
{
    give_time(8000);
    cr_assert_eq(send_full(1, timed_out), 8000);
    cr_assert_eq(send_full(40, timed_out), 8000, "the first one ended for another reason than its size");
    cr_assert_eq(partition->feeds[0].mark, 0);
    cr_assert_eq(send_full(12, timed_out), 4000, "what stands between may give up before request_timeout");
    cr_assert_eq(send_full(20, well), 2000);
    cr_assert_eq(partition->feeds[0].mark, 2000);
    cr_assert_eq(send_full(0, well), 2000, "twice the rows could have taken too long again");
    cr_assert_eq(send_full(0, well), 4000);
    cr_assert_eq(send_full(0, well), 8000);
}

Test(insert_table_show, what_is_small_is_not_divided_for_its_time)
{
    give_time(1500);
    cr_assert_eq(send_full(40, timed_out), 1500);
    cr_assert_eq(send_full(0, well), 1500);
}

// nginx gives up after a minute, Envoy after 15 s, whatever request_timeout says.
Test(insert_table_show, rows_that_took_too_long_are_not_sent_again_at_once_after_half_of_them_went_through)
{
    give_time(8000);
    config.clickhouse.request_timeout = DURATION_S(300);
    cr_assert_eq(send_full(60, timed_out), 8000);
    cr_assert_eq(send_full(59, well), 4000);
    cr_assert_eq(send_full(5, well), 4000);
    cr_assert_eq(send_full(4, well), 4000);
    cr_assert_eq(send_full(0, well), 8000);
}

// A read-back would find the rows in the table and pass them over, for the view as well.
Test(insert_table_show, what_a_view_refuses_that_was_made_since_is_noted_and_kept)
{
    static const char in_a_view[] =
        "HTTP/1.1 500 Oops\r\nX-ClickHouse-Exception-Code: 675\r\nContent-Length: 98\r\n\r\n"
        "Code: 675. DB::Exception: Invalid IPv4 value: while pushing to view db.v (id). "
        "(CANNOT_PARSE_IPV4)";
    struct insert_feed *feed = &partition->feeds[0];
    table.plan->exactly_once = true;
    atomic_store(&answer, in_a_view); // also to the question what the table has: nobody knows that it has none
    feed->state = FEED_ACTIVE;
    add("a");
    pass(DURATION_S(2));
    for (int i = 0; i < 20000 && table.state != INSERT_TABLE_PAUSED; i++) {
        pass(DURATION_US(1));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    cr_assert_eq(table.state, INSERT_TABLE_PAUSED);
    cr_assert(table.parked, "the same INSERT is repeated when the pause ends");
    cr_assert_eq(insert_note_of(&table, feed), table.note);
    cr_assert_not_null(table.note);
    cr_assert_not_null(strstr(table.note, " topic:0:0-0"), "%s", table.note);
    insert_table_forget(&table, partition);
    cr_assert_null(table.flight);
    cr_assert_not_null(feed->owed, "whoever reads the partition back completes the view");
}

// A view may have been made, and a note sent, after this process had read the table.
Test(insert_table_show, no_note_is_passed_over_before_the_table_was_read_anew)
{
    static const char *const no_rows[] = {"outbox-relay: end\n", "9223372036854775807\t0\t0\toutbox-relay: end\n",
        "9223372036854775807\t0\t0\toutbox-relay: end\n", NULL};
    static char name[] = "letters";
    struct insert_feed *feed = &partition->feeds[0];
    config.insert.dead_letter_table = name;
    table.plan->exactly_once = true;
    feed->owed = strdup("a note");
    feed->state = FEED_WAITING;
    partition->committed_known = true;
    says = no_rows;
    atomic_store(&answer, no_login); // to the table's reading
    for (int i = 0; i < 20000 && feed->state != FEED_READY && table.state != INSERT_TABLE_PAUSED; i++) {
        pass(DURATION_MS(1));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    cr_assert_null(*says, "the offsets were read");
    cr_assert_eq(table.state, INSERT_TABLE_PAUSED);
    cr_assert_not_null(feed->owed);
}
