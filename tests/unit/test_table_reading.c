// SPDX-License-Identifier: Apache-2.0
//
// A read-back at a scripted server. One that finds a noted INSERT, and has it repeated for the views of its table: what
// it tells while it waits, and what becomes of the repetition when the partition goes. One behind an INSERT that has no
// answer, and may yet begin: when it looks for what runs. Several that wait: what one settling does for all of them.
#include "clickhouse_peer.h"
#include "encoder_fixture.h"
#include "relay/insert/insert_kill.h"
#include "relay/insert/insert_query_id.h"
#include "relay/insert/table_worker_inside.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static struct clock_fake fake;
static struct clickhouse_peer peer;
static struct insert_lease lease;
static struct config_route route;
static struct table_view_target view; // that keeps nothing: no window of its own
static struct table_plan *plan;
static struct table_worker *worker;
static bool hangs; // the repetition has no answer
static char sent[4096];
static atomic_size_t repetitions;

// In this order, to all that is no repetition; then "0".
static const char *const script[] = {"outbox-relay: end\n", // nothing of ours runs
    "9223372036854775807\t0\t0\toutbox-relay: end\n",       // no rows above the committed offset
    "9223372036854775807\t0\t0\toutbox-relay: end\n",       // nor dead letters
    "1\t1\t1700000000\toutbox-relay: end\n",                // the table has the rows of the note
    "20\t0\toutbox-relay: end\n",                           // and knows its token
    "1\n", "1700000000000000\n",                            // its clock
    NULL};
static const char *const *says;
static struct http_script *second; // another replica, of two
static const char *const *second_says;
static size_t asked;                       // of the first, by its script
static struct mono_time asked_at[16];      // each time
static void (*meanwhile)(size_t question); // what happens before it has answered that one

static void handle(void *is_second, const struct http_seen *seen, struct http_reply *reply)
{
    static _Thread_local char answer[4096]; // each connection has its thread
    const char *const **script_of = is_second ? &second_says : &says;
    const char *body = clickhouse_peer_learned(seen);
    if (!body && strstr(seen->target, "insert_deduplication_token")) {
        snprintf(sent, sizeof(sent), "%s", seen->target);
        atomic_fetch_add(&repetitions, 1);
        if (hangs) {
            reply->then = HTTP_HANG;
            return;
        }
        body = "";
    } else if (!body && strncmp(seen->target, "/ping", 5) == 0) {
        body = "Ok.\n";
    } else if (!body) {
        if (!is_second) {
            asked_at[asked % 16] = clock_mono(&fake.base);
            if (meanwhile) {
                meanwhile(asked);
            }
            asked++;
        }
        body = **script_of ? *(*script_of)++ : "0\n";
    }
    reply->answer = clickhouse_peer_ok(answer, sizeof(answer), body);
}

static void wake(void *unused)
{
    (void)unused;
}

static void start_with(const char *second_url)
{
    static const char *const columns[] = {"value", "String", NULL};
    static char name[] = "t", dead_letters[] = "d", target[] = "db.v";
    struct relay_error error;
    says = script;
    clock_fake_init(&fake, (struct mono_time){INT64_C(1000000000000)}, (struct wall_time){INT64_C(1700000000000000)});
    clickhouse_peer_start(&peer, handle, NULL, second_url);
    peer.config.insert.dead_letter_table = dead_letters;
    peer.context.clock = &fake.base;
    peer.context.metrics = metrics_new(&error);
    peer.context.board = status_board_new(&fake.base, &error);
    insert_lease_init(&lease, &fake.base, DURATION_S(20), wake, NULL);
    route = (struct config_route){.name = name, .table = name};
    view.target = target;
    plan = fixture_plan(columns, "INSERT INTO t FORMAT Native");
    plan->exactly_once = plan->guarded = true;
    plan->schema->views = &view;
    plan->schema->view_count = 1;
    plan->schema->dedup_window = 100;
    plan->schema->dedup_seconds = INT64_MAX;
    struct table_worker_options options = {.context = &peer.context,
        .client = peer.client,
        .route = &route,
        .group_tag = "01234567",
        .lease = &lease,
        .wake = wake};
    worker = table_worker_start(&options, &error);
    cr_assert_not_null(worker, "%s", error.text);
}

static void start(void)
{
    start_with(NULL);
}

static void start_two(void)
{
    static int is_second;
    second = http_script_start(handle, &is_second);
    start_with(http_script_url(second));
    plan->schema->is_replicated = true;
}

static void finish(void)
{
    stop_raise(&peer.stop, clock_mono(&fake.base)); // and its drain is over: what hangs ends
    table_worker_quit(worker);
    cr_assert(table_worker_join(worker, (struct mono_time){INT64_MAX}));
    table_worker_free(worker);
    plan->schema->views = NULL;
    plan->schema->view_count = 0;
    table_plan_release(plan);
    insert_lease_finish(&lease);
    clickhouse_peer_finish(&peer);
    if (second) {
        http_script_stop(second);
    }
    status_board_free(peer.context.board);
    metrics_free(peer.context.metrics);
}

TestSuite(table_reading, .init = start, .fini = finish);
TestSuite(table_reading_two, .init = start_two, .fini = finish);

static struct table_job *submit(void)
{
    struct relay_error error;
    struct table_job *job = table_job_new(TABLE_JOB_READ_BACK, NULL, &error);
    cr_assert_not_null(job);
    job->plan = table_plan_hold(plan);
    job->read_back.target = route.table;
    job->read_back.topic = "topic";
    job->owed = strdup("views1 00000000 1600000000 1 token topic:0:0-0\n");
    table_worker_submit(worker, job);
    return job;
}

// At most 20 s.
#define AWAIT(condition)                                                                                               \
    for (int i = 0; !(condition); i++) {                                                                               \
        cr_assert_lt(i, 20000, "never: " #condition);                                                                  \
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);                                                       \
    }

Test(table_reading, its_wait_for_the_lease_is_not_the_trouble_of_an_insert)
{
    struct relay_error trouble;
    struct table_job *job = submit(), *done = NULL;
    AWAIT(insert_lease_is_wanted(&lease));
    clock_fake_advance(&fake, DURATION_S(6));
    AWAIT(table_worker_trouble(worker, &trouble));
    cr_assert_not_null(strstr(trouble.text, "repetition of an earlier INSERT"), "%s", trouble.text);
    insert_lease_grant(&lease, clock_mono(&fake.base));
    AWAIT((done = table_worker_take_done(worker)) != NULL);
    cr_assert_eq(done, job);
    cr_assert_eq(job->verdict, TABLE_DONE, "%s", job->error.text);
    cr_assert_eq(atomic_load(&repetitions), 1);
    cr_assert_not(table_worker_trouble(worker, &trouble), "it is over without any INSERT: %s", trouble.text);
    table_job_free(job);
}

// KILL QUERY for the id that the repetition was sent under.
static void expect_killed(void)
{
    char id[CLICKHOUSE_QUERY_ID_ROOM];
    size_t kills = 0;
    const char *at = strstr(sent, "query_id=");
    cr_assert(at && sscanf(at, "query_id=%120[^&]", id) == 1, "%s", sent);
    for (size_t i = 0; i < http_script_requests(peer.http); i++) {
        const char *statement = http_script_body(peer.http, i, NULL);
        kills += statement && strncmp(statement, "KILL QUERY", 10) == 0 && strstr(statement, id);
    }
    cr_assert_eq(kills, 1, "%s", id);
}

static void give_up(bool stopping)
{
    struct insert_table table = {.worker = worker}, *tables[] = {&table};
    struct mono_time until;
    hangs = true;
    insert_lease_grant(&lease, clock_mono(&fake.base));
    struct table_job *job = submit();
    AWAIT(atomic_load(&repetitions) == 1);
    insert_kill_dropped(tables, 1);
    cr_assert_not(table_worker_has_in_doubt(worker, &until));
    if (stopping) {
        stop_raise(&peer.stop, mono_add(clock_mono(&fake.base), DURATION_S(30)));
    }
    table_worker_cancel(worker, job);
    cr_assert(table_worker_has_in_doubt(worker, &until), "it may yet begin");
    insert_kill_dropped(tables, 1);
    expect_killed();
}

Test(table_reading, its_repetition_is_killed_when_the_partition_goes)
{
    give_up(false);
}

Test(table_reading, its_repetition_is_killed_when_the_relay_stops)
{
    give_up(true);
}

#define NOT_RUNNING "outbox-relay: end\n"
#define HAS_THE_ROW "0\t1\t1\t\n9223372036854775807\t0\t0\toutbox-relay: end\n"
#define HAS_NONE    "9223372036854775807\t0\t0\toutbox-relay: end\n"
#define COUNTS_IT   "1\t1\t1700000000\toutbox-relay: end\n"
#define COUNTS_NONE "0\t0\t1700000000\toutbox-relay: end\n"
#define KNOWS_TOKEN "20\t0\toutbox-relay: end\n"
#define CLOCK       "1\n", "1700000000000000\n"

static void leave_behind_the_rows(size_t question)
{
    if (question == 3) {
        clickhouse_client_leave(peer.client, 0);
    }
}

// The other tables' threads move the client's choice of an endpoint at any time.
Test(table_reading_two, its_repetition_asks_the_replica_that_was_read_back)
{
    static const char *const first[] = {NOT_RUNNING, "" /* SYNC REPLICA */, HAS_THE_ROW, HAS_NONE, COUNTS_IT,
        KNOWS_TOKEN, CLOCK, NULL};
    static const char *const lags[] = {NOT_RUNNING, COUNTS_NONE, NULL};
    struct table_job *done = NULL;
    says = first;
    second_says = lags;
    meanwhile = leave_behind_the_rows;
    insert_lease_grant(&lease, clock_mono(&fake.base));
    submit();
    AWAIT((done = table_worker_take_done(worker)) != NULL);
    cr_assert_eq(done->verdict, TABLE_DONE, "%s", done->error.text);
    cr_assert_eq(clickhouse_client_preferred(peer.client), 1);
    cr_assert_eq(atomic_load(&repetitions), 1, "the views lack the rows");
    cr_assert_not_null(strstr(sent, "&insert_keeper_max_retries="), "it inserts: %s", sent);
    table_job_free(done);
}

Test(table_reading, rows_that_were_there_and_are_not_any_more_are_no_reason_to_drop_the_note)
{
    static const char *const changes[] = {NOT_RUNNING, HAS_THE_ROW, HAS_NONE, COUNTS_NONE, // the second time:
        HAS_THE_ROW, HAS_NONE, COUNTS_IT, KNOWS_TOKEN, CLOCK, NULL};
    struct relay_error trouble;
    struct table_job *done = NULL;
    says = changes;
    submit();
    AWAIT(table_worker_trouble(worker, &trouble) || (done = table_worker_take_done(worker)) != NULL);
    cr_assert_null(done, "the note is dropped");
    cr_assert_not_null(strstr(trouble.text, "are not any more"), "%s", trouble.text);
    AWAIT((clock_fake_advance(&fake, DURATION_MS(1)), insert_lease_is_wanted(&lease))); // its pause begins and ends
    insert_lease_grant(&lease, clock_mono(&fake.base));
    AWAIT((done = table_worker_take_done(worker)) != NULL);
    cr_assert_eq(done->verdict, TABLE_DONE, "%s", done->error.text);
    cr_assert_eq(atomic_load(&repetitions), 1);
    table_job_free(done);
}

Test(table_reading, dead_letters_among_the_noted_offsets_are_no_rows)
{
    static const char *const answers[] = {NOT_RUNNING, HAS_NONE, HAS_THE_ROW, COUNTS_NONE, NULL};
    struct table_job *done = NULL;
    says = answers;
    submit();
    AWAIT((done = table_worker_take_done(worker)) != NULL);
    cr_assert_eq(done->verdict, TABLE_DONE, "%s", done->error.text);
    cr_assert_eq(atomic_load(&repetitions), 0);
    table_job_free(done);
}

#define RUNS       "id-1\noutbox-relay: end\n"
#define HAS_ENDED  "0\toutbox-relay: end\n"
#define STILL_RUNS "1\toutbox-relay: end\n"
#define CUT        ""

static struct mono_time may_begin_until; // an INSERT that has no answer
static struct table_job *jobs[3];

static void begin_doubt(const struct row_place *row)
{
    struct mono_time now = clock_mono(&fake.base);
    may_begin_until = mono_add(now, DURATION_S(1));
    pthread_mutex_lock(&worker->lock);
    insert_doubt_note(&worker->doubt, row, "token", may_begin_until, now);
    pthread_mutex_unlock(&worker->lock);
}

static void begin_doubt_of_the_row(void)
{
    static const struct row_place row = {.topic = "topic"};
    begin_doubt(&row);
}

static struct table_job *read_back_of(int32_t partition)
{
    struct relay_error error;
    struct table_job *job = table_job_new(TABLE_JOB_READ_BACK, NULL, &error);
    cr_assert_not_null(job);
    job->plan = table_plan_hold(plan);
    job->read_back.target = route.table;
    job->read_back.topic = "topic";
    job->read_back.partition = partition;
    return job;
}

// step: so much time passes in a millisecond.
static void expect_done(const struct table_job *job, enum table_verdict verdict, struct duration step)
{
    struct table_job *done = NULL;
    AWAIT((clock_fake_advance(&fake, step), (done = table_worker_take_done(worker)) != NULL));
    cr_assert_eq(done, job);
    cr_assert_eq(done->verdict, verdict, "%s", done->error.text);
    table_job_free(done);
}

static void read_back(const char *const *answers, struct duration step)
{
    struct table_job *job = read_back_of(0);
    says = answers;
    table_worker_submit(worker, job);
    expect_done(job, TABLE_DONE, step);
}

static char kind_of(const char *statement)
{
    return strstr(statement, "SELECT query_id FROM system.processes") ? 'p'
        : strstr(statement, "FROM system.processes")                  ? 'e'
        : strstr(statement, "target IN (")                            ? 'd'
        : strstr(statement, "kafka_offset")                           ? 'r'
                                                                      : '\0';
}

// A letter for each question, in their order: for processes, whether those have ended, for rows, for dead letters.
static void expect_questions(const char *letters)
{
    char kinds[64] = "";
    size_t used = 0, requests = http_script_requests(peer.http);
    for (size_t i = 0; i < requests && used < sizeof(kinds) - 1; i++) {
        const char *statement = http_script_body(peer.http, i, NULL);
        kinds[used] = statement ? kind_of(statement) : '\0';
        used += kinds[used] != '\0';
    }
    cr_assert_str_eq(kinds, letters);
}

Test(table_reading, an_insert_in_doubt_that_has_begun_is_awaited_before_offsets_are_read)
{
    static const char *const answers[] = {NOT_RUNNING, HAS_THE_ROW, HAS_NONE, RUNS, HAS_ENDED, HAS_THE_ROW, HAS_NONE,
        NULL};
    begin_doubt_of_the_row();
    read_back(answers, DURATION_MS(0));
    expect_questions("prdperd");
}

Test(table_reading, an_insert_in_doubt_that_began_until_its_deadline_is_awaited_before_offsets_are_read)
{
    static const char *const answers[] = {NOT_RUNNING, HAS_NONE, HAS_NONE, RUNS, HAS_ENDED, HAS_THE_ROW, HAS_NONE,
        NULL};
    begin_doubt_of_the_row();
    read_back(answers, DURATION_MS(1));
    expect_questions("prdperd");
    cr_assert(mono_reached(asked_at[3], may_begin_until), "it may yet begin");
}

static void outlast_the_second_question(size_t question)
{
    if (question == 1) {
        clock_fake_advance(&fake, DURATION_S(2));
    }
}

// When the question is put again nothing can begin any more, but it did meanwhile.
Test(table_reading, what_runs_is_looked_for_after_a_deadline_that_passed_while_the_table_could_not_be_asked)
{
    static const char *const answers[] = {NOT_RUNNING, CUT, RUNS, HAS_ENDED, HAS_THE_ROW, HAS_NONE, NULL};
    meanwhile = outlast_the_second_question;
    begin_doubt_of_the_row();
    read_back(answers, DURATION_MS(1));
    expect_questions("prperd");
}

Test(table_reading, what_runs_is_looked_for_after_a_deadline_that_passed_while_another_insert_was_awaited)
{
    static const char *const answers[] = {RUNS, HAS_ENDED, RUNS, HAS_ENDED, HAS_THE_ROW, HAS_NONE, NULL};
    meanwhile = outlast_the_second_question;
    begin_doubt_of_the_row();
    read_back(answers, DURATION_MS(1));
    expect_questions("peperd");
}

static void give_the_first_up(size_t question)
{
    if (question == 2) { // both wait when the first of them is begun
        begin_doubt(NULL);
        table_worker_submit(worker, jobs[0]);
        table_worker_submit(worker, jobs[1]);
    } else if (question == 4) {
        table_worker_cancel(worker, jobs[0]);
    }
}

Test(table_reading, what_runs_is_looked_for_by_the_next_read_back_where_the_one_before_was_given_up_behind_a_deadline)
{
    static const char *const answers[] = {NOT_RUNNING, HAS_NONE, HAS_NONE, // the second: and for the third
        NOT_RUNNING, RUNS, STILL_RUNS, RUNS, HAS_ENDED, HAS_THE_ROW, HAS_NONE, NULL};
    meanwhile = give_the_first_up;
    jobs[0] = read_back_of(1);
    jobs[1] = read_back_of(2);
    read_back(answers, DURATION_MS(0));
    expect_done(jobs[0], TABLE_CANCELLED, DURATION_MS(1));
    expect_done(jobs[1], TABLE_DONE, DURATION_MS(1));
    cr_assert(mono_reached(asked_at[4], may_begin_until));
    expect_questions("prdppeperd");
}

static void submit_all(size_t question)
{
    for (size_t i = 0; question == 2 && i < 3 && jobs[i]; i++) { // all wait when the first of them is begun
        table_worker_submit(worker, jobs[i]);
    }
}

// Of an INSERT that has rows of that partition alone, as the list of what runs.
static void write_running(char *to, size_t room, int32_t partition)
{
    char id[CLICKHOUSE_QUERY_ID_ROOM];
    struct insert_places places = {0};
    insert_places_add(&places, "topic", partition);
    insert_query_id_write(id, sizeof(id), "outbox-relay-", "other", "t", 0, &places);
    insert_places_finish(&places);
    snprintf(to, room, "%s\n" NOT_RUNNING, id);
}

// The settling of the first is that of the second, too.
Test(table_reading, an_insert_with_rows_of_another_partition_that_waits_is_awaited_before_offsets_are_read)
{
    static char runs[CLICKHOUSE_QUERY_ID_ROOM + sizeof(NOT_RUNNING) + 1];
    static const char *const answers[] = {NOT_RUNNING, HAS_NONE, HAS_NONE, // those that wait:
        runs, HAS_ENDED, HAS_NONE, HAS_NONE, HAS_THE_ROW, HAS_NONE, NULL};
    write_running(runs, sizeof(runs), 2);
    meanwhile = submit_all;
    jobs[0] = read_back_of(1);
    jobs[1] = read_back_of(2);
    read_back(answers, DURATION_MS(0));
    expect_done(jobs[0], TABLE_DONE, DURATION_MS(1));
    expect_done(jobs[1], TABLE_DONE, DURATION_MS(1));
    expect_questions("prdperdrd");
}

// What the former owner of a partition began before it became ours runs for request_timeout and a second at most.
static void outlast_the_former_owner(size_t question)
{
    submit_all(question);
    if (question == 4) {
        clock_fake_advance(&fake, DURATION_S(21));
    }
}

// The partition that came last is neither the first nor the last that waits.
Test(table_reading_two, a_silent_server_is_passed_over_once_no_insert_runs_there_of_any_partition_that_waits)
{
    static const char *const first[] = {NOT_RUNNING, HAS_NONE, HAS_NONE, // those that wait:
        NOT_RUNNING, NOT_RUNNING, HAS_NONE, HAS_NONE, HAS_NONE, HAS_NONE, HAS_NONE, HAS_NONE, NULL};
    static const char *const silent[] = {CUT, CUT, CUT, NULL};
    struct mono_time now = clock_mono(&fake.base);
    plan->schema->is_replicated = false; // no SYSTEM SYNC REPLICA
    second_says = silent;
    meanwhile = outlast_the_former_owner;
    for (int32_t i = 0; i < 3; i++) {
        jobs[i] = read_back_of(i + 1);
        jobs[i]->since = i == 1 ? now : (struct mono_time){now.ns - DURATION_S(100).ns};
    }
    read_back(first, DURATION_MS(0));
    for (size_t i = 0; i < 3; i++) {
        expect_done(jobs[i], TABLE_DONE, DURATION_MS(1));
    }
    expect_questions("prdpprdrdrd");
}
