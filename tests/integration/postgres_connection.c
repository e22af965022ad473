// SPDX-License-Identifier: Apache-2.0
//
// Connections against a real PostgreSQL. Run by test_postgres_connection.py, which gives POSTGRES_DSN (as admin) and
// its parts.
#include "relay/postgres/pg_connection.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    setenv("PGOPTIONS", "-c synchronous_commit=off -c default_transaction_isolation=serializable -c row_security=on",
        1);
    struct pg_connection *connection = connected(&leased);
    expect_cell(connection, "SHOW synchronous_commit", "on");
    expect_cell(connection, "SHOW transaction_isolation", "read committed");
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
