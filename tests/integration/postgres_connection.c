// SPDX-License-Identifier: Apache-2.0
//
// Connections against a real PostgreSQL. Run by test_postgres_connection.py, which gives POSTGRES_DSN (as admin) and
// its parts.
#include "relay/postgres/pg_connection.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct config config;
static struct stop stop;
static struct relay_context context;
static struct relay_error error;
static char empty[] = "";
static const struct pg_options options = {.role = "test"};

static char *environment(const char *name)
{
    char *value = getenv(name);
    cr_assert_not_null(value, "%s is not set: run this by pytest tests/integration", name);
    return value;
}

static void setup(void)
{
    config.postgres = (struct config_postgres){.dsn = environment("POSTGRES_DSN"),
        .password = empty,
        .connect_timeout = DURATION_S(5),
        .statement_timeout = DURATION_S(5),
        .idle_timeout = DURATION_S(60),
        .acquire_timeout = DURATION_S(1)};
    cr_assert(stop_init(&stop, &error));
    context = (struct relay_context){.config = &config, .clock = clock_system(), .stop = &stop};
    snprintf(context.instance, sizeof(context.instance), "0123456789abcdef0123456789abcdef");
}
TestSuite(postgres_connection, .init = setup);

static struct pg_connection *connected(const struct pg_options *with)
{
    struct pg_connection *connection = pg_connect(&context, with, &error);
    cr_assert_not_null(connection, "%s", error.text);
    return connection;
}

static void expect_cell(struct pg_connection *connection, const char *sql, const char *expected)
{
    PGresult *result = pg_query(connection, sql, NULL, 0, false, pg_deadline(&context), &error);
    cr_assert_not_null(result, "%s: %s", sql, error.text);
    cr_assert_str_eq(PQgetvalue(result, 0, 0), expected, "%s gives %s", sql, PQgetvalue(result, 0, 0));
    PQclear(result);
}

Test(postgres_connection, a_session_is_set_up_whatever_the_role_says)
{
    struct pg_options leased = {.role = "owner", .read_write = true, .lease = DURATION_S(3)};
    setenv("PGOPTIONS",
        "-c synchronous_commit=off -c default_transaction_isolation=serializable -c search_path=pg_temp "
        "-c row_security=on",
        1);
    struct pg_connection *connection = connected(&leased);
    expect_cell(connection, "SHOW synchronous_commit", "on");
    expect_cell(connection, "SHOW transaction_isolation", "read committed");
    expect_cell(connection, "SHOW search_path", "pg_catalog, pg_temp");
    expect_cell(connection, "SHOW row_security", "off");
    expect_cell(connection, "SHOW statement_timeout", "5s");
    expect_cell(connection, "SHOW idle_in_transaction_session_timeout", "3s");
    expect_cell(connection, "SHOW application_name", "outbox-relay-owner-0123456789ab");
    if (pg_server_version(connection) >= 140000) {
        expect_cell(connection, "SHOW idle_session_timeout", "3s");
    }
    pg_close(connection);
}

Test(postgres_connection, parameters_binary_results_and_prepared_statements)
{
    struct pg_connection *connection = connected(&options);
    struct pg_value values[] = {PG_TEXT("41"), PG_TEXT(NULL)};
    PGresult *result = pg_query(connection, "SELECT $1::int8 + 1, $2::text", values, 2, true, pg_deadline(&context),
        &error);
    cr_assert_not_null(result, "%s", error.text);
    cr_assert_eq(PQgetlength(result, 0, 0), 8);
    cr_assert_eq(PQgetvalue(result, 0, 0)[7], 42);
    cr_assert_null(pg_cell(result, 0, 1));
    PQclear(result);
    for (int i = 0; i < 2; i++) {
        cr_assert(pg_prepare(connection, "twice", "SELECT $1::int8 * 2", pg_deadline(&context), &error), "%s",
            error.text);
        result = pg_query_prepared(connection, "twice", values, 1, false, pg_deadline(&context), &error);
        cr_assert_not_null(result, "%s", error.text);
        cr_assert_eq(pg_cell_int64(result, 0, 0), 82);
        PQclear(result);
    }
    pg_close(connection);
}

Test(postgres_connection, a_refusal_has_a_class_and_leaves_the_connection)
{
    struct pg_connection *connection = connected(&options);
    cr_assert_null(pg_query(connection, "SELECT * FROM no_such_table", NULL, 0, false, pg_deadline(&context), &error));
    cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_OPERATOR, "%s", error.text);
    cr_assert_str_eq(pg_last_sqlstate(connection), "42P01");
    cr_assert_not(pg_broken(connection));
    cr_assert_not(
        pg_execute(connection, "SET statement_timeout = 10; SELECT pg_sleep(5)", pg_deadline(&context), &error));
    cr_assert_eq(error.class, RELAY_CLASS_RETRIABLE, "%s", error.text);
    // What transaction_timeout says; servers before PostgreSQL 17 have none.
    cr_assert_not(pg_execute(connection, "DO $$BEGIN RAISE SQLSTATE '25P04'; END$$", pg_deadline(&context), &error));
    cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s", error.text);
    expect_cell(connection, "SELECT 1", "1");
    pg_close(connection);
}

// libpq answers each question for a result anew while it waits for the rows.
Test(postgres_connection, a_copy_ends_the_connection)
{
    const char *copies[] = {"CREATE TEMP TABLE t (a int); COPY t FROM STDIN", "COPY (SELECT 1) TO STDOUT"};
    for (size_t i = 0; i < 2; i++) {
        struct pg_connection *connection = connected(&options);
        cr_assert_not(pg_execute(connection, copies[i], pg_deadline(&context), &error));
        cr_assert_not_null(strstr(error.text, "COPY"), "%s", error.text);
        cr_assert_eq(error.class, RELAY_CLASS_OPERATOR, "%s", error.text);
        cr_assert(pg_broken(connection));
        pg_close(connection);
    }
}

Test(postgres_connection, the_deadline_breaks_a_connection_that_does_not_answer)
{
    struct pg_connection *connection = connected(&options);
    struct mono_time soon = mono_add(clock_mono(context.clock), DURATION_MS(50));
    cr_assert_null(pg_query(connection, "SELECT pg_sleep(3)", NULL, 0, false, soon, &error));
    cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s", error.text);
    cr_assert(pg_broken(connection));
    cr_assert_not(pg_execute(connection, "SELECT 1", pg_deadline(&context), &error));
    pg_close(connection);
}

Test(postgres_connection, a_commit_without_an_answer_is_unknown_and_one_that_rolls_back_is_told)
{
    struct pg_connection *connection = connected(&options), *killer = connected(&options);
    cr_assert(pg_execute(connection, "BEGIN", pg_deadline(&context), &error));
    cr_assert_null(pg_query(connection, "SELECT 1/0", NULL, 0, false, pg_deadline(&context), &error));
    cr_assert_not(pg_commit(connection, pg_deadline(&context), &error));
    cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_QUERY, "%s", error.text);

    cr_assert(pg_execute(connection, "BEGIN", pg_deadline(&context), &error));
    char sql[96], pid[16];
    snprintf(pid, sizeof(pid), "%d", PQbackendPID(pg_libpq(connection)));
    snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%s)", pid);
    cr_assert(pg_execute(killer, sql, pg_deadline(&context), &error), "%s", error.text);
    cr_assert_not(pg_commit(connection, pg_deadline(&context), &error));
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN, "%s", error.text);
    cr_assert(pg_broken(connection));
    pg_close(connection);
    pg_close(killer);
}

Test(postgres_connection, notifications_are_taken_without_waiting)
{
    struct pg_connection *connection = connected(&options);
    cr_assert_not(pg_take_notification(connection));
    cr_assert(pg_execute(connection, "LISTEN relay_test", pg_deadline(&context), &error));
    cr_assert(pg_execute(connection, "NOTIFY relay_test", pg_deadline(&context), &error));
    cr_assert(pg_take_notification(connection));
    cr_assert_not(pg_take_notification(connection));
    pg_close(connection);
}

// A listening socket that never answers stands for a host that swallows everything. The caller closes it.
static int silent_host(int backlog, int *port)
{
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    cr_assert_eq(bind(silent, (struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(silent, backlog), 0);
    getsockname(silent, (struct sockaddr *)&at, &length);
    *port = ntohs(at.sin_port);
    return silent;
}

Test(postgres_connection, a_silent_host_does_not_keep_us_from_the_next)
{
    int port;
    int silent = silent_host(1, &port);
    char dsn[256];
    snprintf(dsn, sizeof(dsn), "host=127.0.0.1,%s port=%d,%s user=%s dbname=%s", environment("PGHOST"), port,
        environment("PGPORT"), environment("PGUSER"), environment("PGDATABASE"));
    config.postgres.dsn = dsn;
    config.postgres.connect_timeout = DURATION_S(2);
    struct pg_options writer = {.role = "owner", .read_write = true};
    struct pg_connection *connection = connected(&writer);
    expect_cell(connection, "SELECT 1", "1");
    pg_close(connection);
    close(silent);
}

// The same where the hosts stand outside the dsn: libpq alone would stay with the first for as long as there is.
Test(postgres_connection, a_silent_host_of_a_service_file_or_the_environment_does_not_either)
{
    int port;
    int silent = silent_host(8, &port);
    char file[64], hosts[256], ports[64], user[256];
    snprintf(hosts, sizeof(hosts), "127.0.0.1,%s", environment("PGHOST"));
    snprintf(ports, sizeof(ports), "%d,%s", port, environment("PGPORT"));
    int services = memfd_create("pg_service.conf", MFD_CLOEXEC);
    dprintf(services, "[shop]\nhost=%s\nport=%s\nuser=%s\ndbname=%s\ntarget_session_attrs=read-write\n", hosts, ports,
        environment("PGUSER"), environment("PGDATABASE"));
    snprintf(file, sizeof(file), "/proc/self/fd/%d", services);
    setenv("PGSERVICEFILE", file, 1);
    snprintf(user, sizeof(user), "user=%s", environment("PGUSER"));
    setenv("PGHOST", hosts, 1);
    setenv("PGPORT", ports, 1);
    static char service[] = "service=shop";
    char *dsns[] = {service, user};
    config.postgres.connect_timeout = DURATION_MS(500);
    for (size_t i = 0; i < 2; i++) {
        config.postgres.dsn = dsns[i];
        struct pg_options writer = {.role = "owner", .read_write = true};
        struct pg_connection *connection = connected(&writer);
        expect_cell(connection, "SELECT 1", "1");
        pg_close(connection);
    }
    close(services);
    close(silent);
}

// Two hosts that never answer and one that does: each of those that are tried has its share of what is left.
Test(postgres_connection, a_brief_wait_is_shared_by_all_hosts_and_is_no_verdict_on_the_server)
{
    int port;
    int silent = silent_host(8, &port);
    char dsn[256];
    config.postgres.connect_timeout = DURATION_S(300); // longer than the test may take
    config.postgres.acquire_timeout = DURATION_S(3);
    struct pg_options brief = {.role = "test", .brief = true};
    snprintf(dsn, sizeof(dsn), "host=127.0.0.1,127.0.0.1,%s port=%d,%d,%s user=%s dbname=%s", environment("PGHOST"),
        port, port, environment("PGPORT"), environment("PGUSER"), environment("PGDATABASE"));
    config.postgres.dsn = dsn;
    pg_close(connected(&brief));

    snprintf(dsn, sizeof(dsn), "host=127.0.0.1 port=%d user=x dbname=x", port);
    config.postgres.acquire_timeout = DURATION_MS(20);
    context.postgres_breaker = breaker_new((struct breaker_options){1, DURATION_S(30), 1}, clock_system(), NULL, NULL,
        NULL, NULL, &error);
    cr_assert_null(pg_connect(&context, &brief, &error));
    cr_assert_not_null(strstr(error.text, "acquire_timeout"), "%s", error.text);
    cr_assert_eq(breaker_state_of(context.postgres_breaker), BREAKER_CLOSED);
    breaker_free(context.postgres_breaker);
    close(silent);
}

// The breaker tells whether it waited for all of acquire_timeout: that alone is no failure of the server.
Test(postgres_connection, one_host_of_several_has_all_of_a_brief_wait_if_only_it_is_tried)
{
    int port;
    int silent = silent_host(8, &port);
    char dsn[256];
    config.postgres.connect_timeout = DURATION_S(300); // longer than the test may take
    struct pg_options first = {.role = "test", .brief = true, .only_host = 1};
    snprintf(dsn, sizeof(dsn), "host=127.0.0.1,127.0.0.1,127.0.0.1 port=%d user=x dbname=x", port);
    config.postgres.dsn = dsn;
    context.postgres_breaker = breaker_new((struct breaker_options){1, DURATION_S(30), 1}, clock_system(), NULL, NULL,
        NULL, NULL, &error);
    cr_assert_null(pg_connect(&context, &first, &error));
    cr_assert_eq(breaker_state_of(context.postgres_breaker), BREAKER_CLOSED);
    breaker_free(context.postgres_breaker);
    close(silent);
}

static void beat(void *other)
{
    pg_beat(other);
}

// One long answer, and then many short ones: the other session is in a transaction, since only those are ended before
// PostgreSQL 14.
Test(postgres_connection, a_session_with_a_lease_outlives_what_another_one_waits_for)
{
    struct pg_options leased = {.role = "owner", .lease = DURATION_S(1)};
    struct pg_connection *other = connected(&leased);
    struct pg_options ticking = {.role = "test", .tick = beat, .tick_context = other};
    struct pg_connection *connection = connected(&ticking);
    cr_assert(pg_execute(other, "BEGIN", pg_deadline(&context), &error), "%s", error.text);
    cr_assert(pg_execute(connection, "SELECT pg_sleep(2.5)", pg_deadline(&context), &error), "%s", error.text);
    for (int i = 0; i < 50; i++) {
        cr_assert(pg_execute(connection, "SELECT pg_sleep(0.05)", pg_deadline(&context), &error), "%s", error.text);
    }
    expect_cell(other, "SELECT 1", "1");
    cr_assert_not(pg_broken(other));
    pg_close(connection);
    pg_close(other);
}

// A server that stalls: the session's process stands still until wake() lets it go on.
static pid_t stopped;
static struct mono_time wake_at;

static void stop_process_of(struct pg_connection *connection, struct duration length)
{
    stopped = PQbackendPID(pg_libpq(connection));
    wake_at = mono_add(clock_mono(context.clock), length);
    cr_assert_eq(kill(stopped, SIGSTOP), 0, "the server's processes are to be of this user");
}

static void wake(void *unused)
{
    (void)unused;
    if (mono_reached(clock_mono(context.clock), wake_at)) {
        kill(stopped, SIGCONT);
    }
}

// Later than the next heartbeat would be due, within the lease: it is sent after 5 s and answered after 12.
Test(postgres_connection, a_heartbeat_may_be_answered_late, .timeout = 90)
{
    struct pg_options leased = {.role = "owner", .lease = DURATION_S(15), .tick = wake};
    config.postgres.statement_timeout = DURATION_S(60);
    struct pg_connection *other = connected(&leased);
    struct pg_options ticking = {.role = "test", .tick = beat, .tick_context = other};
    struct pg_connection *connection = connected(&ticking);
    cr_assert(pg_execute(other, "BEGIN", pg_deadline(&context), &error), "%s", error.text);
    stop_process_of(other, DURATION_S(12));
    cr_assert(pg_execute(connection, "SELECT pg_sleep(6)", pg_deadline(&context), &error), "%s", error.text);
    kill(stopped, SIGCONT);
    expect_cell(other, "SELECT 1", "1");
    pg_close(connection);
    pg_close(other);
}

Test(postgres_connection, a_heartbeat_without_an_answer_is_named_at_the_next_use, .timeout = 90)
{
    struct pg_options leased = {.role = "owner", .lease = DURATION_S(1)};
    struct pg_connection *other = connected(&leased);
    struct pg_options ticking = {.role = "test", .tick = beat, .tick_context = other};
    struct pg_connection *connection = connected(&ticking);
    stop_process_of(other, DURATION_S(0));
    cr_assert(pg_execute(connection, "SELECT pg_sleep(1)", pg_deadline(&context), &error), "%s", error.text);
    kill(stopped, SIGCONT);
    cr_assert_not(pg_execute(other, "SELECT 1", pg_deadline(&context), &error));
    cr_assert_not_null(strstr(error.text, "a heartbeat was not answered within 1.0 s"), "%s", error.text);
    pg_close(connection);
    pg_close(other);
}

// For the server a session is idle once it has answered, whether or not the answer is taken.
Test(postgres_connection, an_answer_that_is_not_taken_does_not_keep_a_session_from_beating, .timeout = 60)
{
    struct pg_options leased = {.role = "owner", .lease = DURATION_S(1)};
    struct pg_connection *other = connected(&leased);
    struct pg_options ticking = {.role = "test", .tick = beat, .tick_context = other};
    struct pg_connection *connection = connected(&ticking);
    static const char longer[] = "SELECT pg_sleep(1.5)";
    cr_assert(pg_execute(other, "BEGIN", pg_deadline(&context), &error), "%s", error.text);
    cr_assert(pg_send(other, "SELECT 7", NULL, 0, false, &error), "%s", error.text);
    cr_assert(pg_execute(connection, longer, pg_deadline(&context), &error), "%s", error.text);
    cr_assert(pg_busy(other) && pg_ready(other));
    PGresult *result = pg_receive(other, pg_deadline(&context), &error);
    cr_assert_not_null(result, "%s", error.text);
    cr_assert_eq(pg_cell_int64(result, 0, 0), 7);
    cr_assert_not(pg_busy(other));
    PQclear(result);

    cr_assert(pg_send_commit(other, &error), "%s", error.text);
    cr_assert(pg_execute(connection, longer, pg_deadline(&context), &error), "%s", error.text);
    cr_assert_not(pg_idle(other), "its answer is to be taken");
    cr_assert(pg_receive_commit(other, pg_deadline(&context), &error), "%s", error.text);
    cr_assert(pg_idle(other));

    cr_assert(pg_send(other, "SELECT 1/0", NULL, 0, false, &error), "%s", error.text);
    cr_assert(pg_execute(connection, longer, pg_deadline(&context), &error), "%s", error.text);
    cr_assert_null(pg_receive(other, pg_deadline(&context), &error));
    cr_assert_not_null(strstr(error.text, "division"), "%s", error.text);
    expect_cell(other, "SELECT 1", "1");

    cr_assert(pg_send(other, "SELECT 8", NULL, 0, false, &error), "%s", error.text);
    cr_assert(pg_execute(connection, longer, pg_deadline(&context), &error), "%s", error.text);
    pg_close(other); // with an answer that nobody has taken
    pg_close(connection);
}

Test(postgres_connection, lists_of_unequal_length_in_the_dsn_are_refused)
{
    static char short_ports[] = "host=127.0.0.1,127.0.0.1,127.0.0.1 port=1,1 user=x dbname=x";
    static char short_hosts[] = "host=127.0.0.1,127.0.0.1 hostaddr=127.0.0.1,127.0.0.1,127.0.0.1 port=1 user=x";
    char *lists[] = {short_ports, short_hosts};
    for (size_t i = 0; i < 2; i++) {
        config.postgres.dsn = lists[i];
        cr_assert_null(pg_connect(&context, &options, &error));
        cr_assert_eq(error.class, RELAY_CLASS_OPERATOR, "%s", error.text);
        cr_assert_not_null(strstr(error.text, "[postgres] dsn"), "%s", error.text);
    }
}

// The resolver. "stuck.test" takes until the name server is there again; "two.test" has the address of a host that is
// silent before that of the server. The threads that are held end with the process.
static sem_t nameserver;
static char silent_address[] = "127.0.0.77";

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL && strcmp(node, "stuck.test") == 0) {
        while (sem_wait(&nameserver) != 0) {
        }
        return real(environment("PGHOST"), service, hints, found);
    }
    if (node == NULL || strcmp(node, "two.test") != 0) {
        return real(node, service, hints, found);
    }
    struct addrinfo *second;
    int failure = real(silent_address, service, hints, found);
    if (failure == 0 && (failure = real(environment("PGHOST"), service, hints, &second)) == 0) {
        (*found)->ai_next = second; // a number is one address
    }
    return failure;
}

static void name_host(char dsn[256], const char *host)
{
    snprintf(dsn, 256, "host=%s port=%s user=%s dbname=%s", host, environment("PGPORT"), environment("PGUSER"),
        environment("PGDATABASE"));
    config.postgres.dsn = dsn;
}

static void release_at_third_tick(void *ticks)
{
    if (++*(int *)ticks == 3) {
        sem_post(&nameserver);
    }
}

// The time to connect begins when the name is resolved, and those who wait tick until then.
Test(postgres_connection, a_slow_nameserver_takes_no_time_of_the_host, .timeout = 60)
{
    char dsn[256];
    int ticks = 0;
    name_host(dsn, "stuck.test");
    config.postgres.connect_timeout = DURATION_MS(500); // three ticks take longer
    sem_init(&nameserver, 0, 0);
    struct pg_options ticking = {.role = "test", .tick = release_at_third_tick, .tick_context = &ticks};
    struct pg_connection *connection = connected(&ticking);
    expect_cell(connection, "SELECT 1", "1");
    cr_assert_geq(ticks, 3);
    pg_close(connection);
}

Test(postgres_connection, a_name_that_is_not_resolved_in_time_is_told_as_that, .timeout = 60)
{
    char dsn[256];
    name_host(dsn, "stuck.test");
    config.postgres.acquire_timeout = DURATION_MS(50);
    sem_init(&nameserver, 0, 0);
    struct pg_options brief = {.role = "test", .brief = true};
    cr_assert_null(pg_connect(&context, &brief, &error));
    cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "\"stuck.test\" was not resolved within"), "%s", error.text);
    sem_post(&nameserver);
}

Test(postgres_connection, each_address_of_a_name_is_tried, .timeout = 60)
{
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)strtol(environment("PGPORT"), NULL, 10))};
    inet_pton(AF_INET, silent_address, &at.sin_addr);
    cr_assert_eq(bind(silent, (struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(silent, 8), 0);
    char dsn[256];
    name_host(dsn, "two.test");
    config.postgres.connect_timeout = DURATION_S(2);
    config.postgres.acquire_timeout = DURATION_S(4);
    struct pg_options brief = {.role = "test", .brief = true};
    pg_close(connected(&options));
    struct pg_connection *connection = connected(&brief);
    expect_cell(connection, "SELECT 1", "1");
    pg_close(connection);
    close(silent);
}

// A server that lets us in, reads nothing further until it has been told to, and then fails as libpq itself does: with
// an error that has no SQLSTATE.
struct rude_server {
    int listening, port;
    sem_t reads;
    pthread_t thread;
};

static void *run_rude_server(void *argument)
{
    struct rude_server *server = argument;
    char bytes[4096];
    int peer = accept(server->listening, NULL, NULL);
    cr_assert_geq(peer, 0);
    cr_assert_gt(recv(peer, bytes, sizeof(bytes), 0), 0);
    static const char welcome[] = "R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", failure[] = "E\0\0\0\x0aMbad\0\0Z\0\0\0\x05I";
    cr_assert_eq(send(peer, welcome, sizeof(welcome) - 1, 0), (ssize_t)sizeof(welcome) - 1);
    while (sem_wait(&server->reads) != 0) {
    }
    if (recv(peer, bytes, sizeof(bytes), 0) > 0) {
        send(peer, failure, sizeof(failure) - 1, MSG_NOSIGNAL);
    }
    while (recv(peer, bytes, sizeof(bytes), 0) > 0) {
    }
    close(peer);
    return NULL;
}

static struct pg_connection *connect_rude(struct rude_server *server, char dsn[256])
{
    server->listening = silent_host(1, &server->port);
    sem_init(&server->reads, 0, 0);
    cr_assert_eq(pthread_create(&server->thread, NULL, run_rude_server, server), 0);
    snprintf(dsn, 256, "host=127.0.0.1 port=%d user=x dbname=x sslmode=disable gssencmode=disable", server->port);
    config.postgres.dsn = dsn;
    struct pg_options raw = {.role = "test", .raw = true};
    return connected(&raw);
}

static void end_rude(struct rude_server *server)
{
    sem_post(&server->reads);
    pthread_join(server->thread, NULL);
    close(server->listening);
}

Test(postgres_connection, the_deadline_holds_for_sending_too, .timeout = 60)
{
    struct rude_server server;
    char dsn[256];
    struct pg_connection *connection = connect_rude(&server, dsn);
    config.postgres.statement_timeout = DURATION_S(300); // longer than the test may take
    size_t size = (size_t)64 << 20;                      // more than the sockets hold
    char *sql = malloc(size + 1);
    cr_assert_not_null(sql);
    memset(sql, ' ', size);
    sql[size] = '\0';
    struct mono_time soon = mono_add(clock_mono(context.clock), DURATION_MS(50));
    cr_assert_not(pg_execute(connection, sql, soon, &error));
    cr_assert_not_null(strstr(error.text, "no answer in time"), "%s", error.text);
    cr_assert(pg_broken(connection));
    free(sql);
    pg_close(connection);
    end_rude(&server);
}

Test(postgres_connection, a_commit_that_fails_without_a_word_of_the_server_is_unknown, .timeout = 60)
{
    struct rude_server server;
    char dsn[256];
    struct pg_connection *connection = connect_rude(&server, dsn);
    sem_post(&server.reads);
    cr_assert_not(pg_commit(connection, pg_deadline(&context), &error));
    cr_assert_eq(error.class, RELAY_CLASS_UNKNOWN, "%s", error.text);
    cr_assert(pg_broken(connection));
    pg_close(connection);
    end_rude(&server);
}

Test(postgres_connection, an_idle_session_without_a_lock_is_ended_by_the_server)
{
    config.postgres.idle_timeout = DURATION_MS(50);
    struct pg_connection *connection = connected(&options);
    if (pg_server_version(connection) >= 140000) {
        struct pollfd end = {.fd = pg_socket(connection), .events = POLLIN};
        cr_assert_eq(poll(&end, 1, 30000), 1);
        cr_assert_not(pg_execute(connection, "SELECT 1", pg_deadline(&context), &error));
        cr_assert(pg_broken(connection));
    }
    pg_close(connection);
}

Test(postgres_connection, what_the_server_refuses_is_an_operators_error_without_the_password)
{
    struct {
        const char *user, *database, *state;
    } cases[] = {{"nobody_of_that_name", "postgres", "28"}, {environment("PGUSER"), "no_such_database", "3D000"}};
    static char password[] = "s3cret-word";
    for (size_t i = 0; i < 2; i++) {
        char dsn[256];
        snprintf(dsn, sizeof(dsn), "host=%s port=%s user=%s dbname=%s", environment("PGHOST"), environment("PGPORT"),
            cases[i].user, cases[i].database);
        config.postgres.dsn = dsn;
        config.postgres.password = i == 0 ? password : environment("PGPASSWORD");
        cr_assert_null(pg_connect(&context, &options, &error));
        cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_OPERATOR, "%s", error.text);
        cr_assert_not_null(strstr(error.text, cases[i].state), "%s", error.text);
        cr_assert_null(strstr(error.text, config.postgres.password));
    }
    static char nonsense[] = "postgresql://user:s3cret-word@[broken";
    config.postgres.dsn = nonsense;
    cr_assert_null(pg_connect(&context, &options, &error));
    cr_assert_null(strstr(error.text, password), "%s", error.text);
}

Test(postgres_connection, the_stop_moves_every_deadline)
{
    struct pg_connection *connection = connected(&options);
    stop_raise(&stop, mono_add(clock_mono(context.clock), DURATION_MS(30)));
    cr_assert_null(pg_query(connection, "SELECT pg_sleep(4)", NULL, 0, false, pg_deadline(&context), &error));
    cr_assert(pg_broken(connection));
    pg_close(connection);
    cr_assert_null(pg_connect(&context, &options, &error));
    cr_assert_eq(error.code, RELAY_ERROR_STOPPED);
}

Test(postgres_connection, a_read_only_server_is_refused_to_those_that_write)
{
    setenv("PGOPTIONS", "-c default_transaction_read_only=on", 1);
    struct pg_options writer = {.role = "owner", .read_write = true};
    cr_assert_null(pg_connect(&context, &writer, &error));
    cr_assert_eq(error.code, RELAY_ERROR_POSTGRES_OPERATOR, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "read-only"));
    pg_close(connected(&options));
}
