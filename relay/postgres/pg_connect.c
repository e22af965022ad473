// SPDX-License-Identifier: Apache-2.0
//
// Making a connection: the dsn is taken apart, with its service file and the environment where it names no host, each
// of its hosts is looked up, each of its addresses is tried alone and asynchronously under its own deadline, the first
// that answers properly gets the session's settings.
//   A name is not resolved in time or not at all: the next host. libpq would wait for the resolver without a deadline.
//   A host does not answer, refuses, is starting up or is the wrong kind (target_session_attrs): the next one.
//   It is an old primary, on an earlier timeline than this process knows of: the next one, though it takes writes. Only
//   if no other will do it is taken after all; the receipts tell whether it may be published from.
//   The server says no (password, pg_hba, database, role): an operator's error. The other hosts are tried all the same,
//   since a standby may be the one that is misconfigured; the operator's error is told if none works.
// libpq's messages hold no password; a dsn that it cannot parse is not quoted, since it may.
#include "relay/postgres/pg_connect.h"

#include "relay/base/log.h"
#include "relay/config/config_checks.h"
#include "relay/postgres/pg_dsn.h"
#include "relay/postgres/pg_error.h"
#include "relay/postgres/pg_lookup.h"
#include "relay/postgres/pg_newest.h"
#include "relay/postgres/pg_timeline.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKUP_SECONDS 30 // several nameservers that are away, at the resolver's 5 s and two attempts each

// The n-th piece between commas, copied; beyond the last it is the last, so that a list of one (as ports are) serves
// every n. NULL: out of memory.
static char *piece(const char *list, int n)
{
    const char *at = list;
    for (const char *comma = strchr(at, ','); n > 0 && comma != NULL; comma = strchr(at, ',')) {
        at = comma + 1;
        n--;
    }
    return strndup(at, strcspn(at, ","));
}

static void fill_parameters(struct pg_parameters *parameters, const struct relay_context *context,
    const struct pg_options *options, const struct pg_dsn *dsn)
{
    pg_parameters_add(parameters, dsn->given);
    if (context->config->postgres.password[0] != '\0') {
        pg_parameters_set(parameters, "password", context->config->postgres.password);
    }
    snprintf(parameters->application_name, sizeof(parameters->application_name), "outbox-relay-%s-%.12s", options->role,
        context->instance);
    pg_parameters_set(parameters, "application_name", parameters->application_name);
    pg_parameters_set(parameters, "client_encoding", "UTF8");
    struct duration silence = options->lease.ns > 0 ? options->lease : DURATION_S(30);
    if (pg_dsn_value(dsn, "tcp_user_timeout") == NULL) {
        snprintf(parameters->tcp_user_timeout, sizeof(parameters->tcp_user_timeout), "%lld",
            (long long)duration_ms(silence));
        pg_parameters_set(parameters, "tcp_user_timeout", parameters->tcp_user_timeout);
    }
    if (pg_dsn_value(dsn, "keepalives_idle") == NULL) {
        pg_parameters_set(parameters, "keepalives_idle", "5");
        pg_parameters_set(parameters, "keepalives_interval", "5");
        pg_parameters_set(parameters, "keepalives_count", "3");
    }
}

// What the server said while connecting, if it spoke at all: its SQLSTATE stands in the verbose form of the message,
// "FATAL:  28P01: password authentication failed", which no language setting changes.
static const char *connect_sqlstate(const char *message, char sqlstate[6])
{
    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        const char *code = at + 3;
        size_t length = 0;
        while (length < 5 && (isdigit((unsigned char)code[length]) || isupper((unsigned char)code[length]))) {
            length++;
        }
        if (length == 5 && code[5] == ':') {
            memcpy(sqlstate, code, 5);
            sqlstate[5] = '\0';
            return code + 6;
        }
    }
    return NULL;
}

static bool connect_failed(struct pg_connection *connection, struct relay_error *error)
{
    const char *message = PQerrorMessage(connection->libpq);
    char sqlstate[6] = "", text[400];
    const char *said = connect_sqlstate(message, sqlstate);
    snprintf(text, sizeof(text), "%s", said == NULL ? message : said + strspn(said, " "));
    char *location = strstr(text, "\nLOCATION:");
    if (location != NULL) {
        *location = '\0';
    }
    pg_one_line(text);
    if (said == NULL) {
        return error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s: %s", connection->address, text);
    }
    enum relay_error_code code = pg_error_code(sqlstate);
    if (code == RELAY_ERROR_POSTGRES_QUERY) {
        code = RELAY_ERROR_POSTGRES_UNREACHABLE; // too many connections and the like
    }
    return error_set(error, code, "%s: %s (SQLSTATE %s)", connection->address, text, sqlstate);
}

// Runs PQconnectPoll to its end.
static bool finish_connecting(struct pg_connection *connection, const struct pg_options *options,
    struct mono_time deadline, struct relay_error *error)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED || PQstatus(connection->libpq) == CONNECTION_BAD) {
            return connect_failed(connection, error);
        }
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!pg_wait(connection, events, deadline)) {
            const char *at = PQhostaddr(connection->libpq);
            return error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s (%s): no answer within [postgres] %s",
                connection->address, at == NULL || *at == '\0' ? "local" : at,
                options->brief ? "acquire_timeout" : "connect_timeout");
        }
        status = PQconnectPoll(connection->libpq);
    }
    return true;
}

static void log_notice(void *context, const PGresult *result)
{
    const struct pg_connection *connection = context;
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    log_event(LOG_LEVEL_DEBUG, "postgres.notice", text == NULL ? "" : text, LOG_TEXT("server", connection->address));
}

// So that the server ends the statement of a client that is gone. One whose platform cannot tell (Windows) refuses any
// value but 0; there, statement_timeout ends the statement.
static bool look_for_client(struct pg_connection *connection, int64_t lease, struct mono_time deadline,
    struct relay_error *error)
{
    if (pg_server_version(connection) < 140000) {
        return true;
    }
    char sql[80];
    snprintf(sql, sizeof(sql), "SET client_connection_check_interval = %lld",
        (long long)(lease > 0 ? lease / 3 : 5000));
    if (pg_execute(connection, sql, deadline, error)) {
        return true;
    }
    if (pg_broken(connection) || strcmp(pg_last_sqlstate(connection), "22023") != 0) {
        return false;
    }
    error_clear(error);
    return true;
}

// The session's settings. What a role or database has set for itself must not undo what the protocols rely on:
// read committed, commits that are durable, names that mean our own objects, rows that no policy hides. No schema in
// which others may create is in the path: of theirs, a function or an operator whose arguments fit better than those of
// PostgreSQL's own would be called with our rights. So each table is named with its schema.
static bool set_up_session(struct pg_connection *connection, const struct pg_options *options,
    struct mono_time deadline, struct relay_error *error)
{
    const struct config_postgres *config = &connection->context->config->postgres;
    int64_t statement = options->statement_timeout.ns < 0 ? 0
        : options->statement_timeout.ns == 0              ? duration_ms(config->statement_timeout)
                                                          : duration_ms(options->statement_timeout);
    int64_t lease = duration_ms(options->lease);
    int64_t idle = lease > 0 ? lease : duration_ms(config->idle_timeout);
    char sql[1400];
    int length = snprintf(sql, sizeof(sql),
        "SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off; "
        "SET search_path = pg_catalog, pg_temp; SET row_security = off; SET bytea_output = 'hex'; "
        "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1; "
        "SET standard_conforming_strings = on; SET jit = off; SET lock_timeout = 0; "
        "SET statement_timeout = %lld; SET idle_in_transaction_session_timeout = %lld; "
        "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) "
        "WHERE pg_catalog.current_setting('synchronous_commit') <> 'remote_apply';",
        (long long)statement, (long long)(lease > 0 ? lease : 60000));
    if (pg_server_version(connection) >= 140000) { // so that the server ends a session that fell silent
        length += snprintf(sql + length, sizeof(sql) - (size_t)length, "SET idle_session_timeout = %lld;",
            (long long)idle);
    }
    if (pg_server_version(connection) >= 170000) {
        length += snprintf(sql + length, sizeof(sql) - (size_t)length, "SET transaction_timeout = 0;");
    }
    if (lease > 0) {
        snprintf(sql + length, sizeof(sql) - (size_t)length,
            "SET tcp_keepalives_idle = %lld; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; "
            "SET tcp_user_timeout = %lld;",
            (long long)(lease / 2000 > 0 ? lease / 2000 : 1), (long long)lease);
    }
    return pg_execute(connection, sql, deadline, error) && look_for_client(connection, lease, deadline, error);
}

bool pg_check_writable(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = pg_query(connection,
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')", NULL, 0,
        false, deadline, error);
    if (result == NULL) {
        return false;
    }
    bool recovering = pg_cell_true(result, 0, 0);
    bool read_only = strcmp(PQgetvalue(result, 0, 1), "on") == 0;
    PQclear(result);
    if (recovering || read_only) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "%s: the server is read-only (%s); name the primary in "
            "[postgres] dsn, or all hosts with target_session_attrs=read-write",
            connection->address, recovering ? "a standby" : "default_transaction_read_only is on");
    }
    return true;
}

static struct pg_connection *connect_host(const struct relay_context *context, const struct pg_options *options,
    const struct pg_parameters *parameters, struct mono_time deadline, struct relay_error *error)
{
    struct pg_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        error_no_memory(error, "a PostgreSQL connection");
        return NULL;
    }
    connection->context = context;
    connection->tick = options->tick;
    connection->tick_context = options->tick_context;
    connection->beat = DURATION_NS(options->lease.ns / PG_BEATS_OF_LEASE);
    connection->libpq = PQconnectStartParams(parameters->keywords, parameters->values, 0);
    if (connection->libpq == NULL) {
        free(connection);
        error_no_memory(error, "a PostgreSQL connection");
        return NULL;
    }
    const char *host = PQhost(connection->libpq), *port = PQport(connection->libpq);
    snprintf(connection->address, sizeof(connection->address), "%s:%s", host == NULL || *host == '\0' ? "local" : host,
        port == NULL ? "" : port);
    PQsetErrorVerbosity(connection->libpq, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(connection->libpq, log_notice, connection);
    if (!finish_connecting(connection, options, deadline, error)) {
        goto failed;
    }
    PQsetErrorVerbosity(connection->libpq, PQERRORS_DEFAULT);
    PQsetnonblocking(connection->libpq, 1);
    if ((options->raw || set_up_session(connection, options, deadline, error)) &&
        (!options->read_write || pg_check_writable(connection, deadline, error))) {
        return connection;
    }
failed:
    pg_close(connection);
    return NULL;
}

// When the n-th of `count` hosts or addresses must have answered: who waits only briefly shares what is left among
// those still to try.
static struct mono_time host_deadline(const struct relay_context *context, const struct pg_options *options,
    struct mono_time end, int n, int count)
{
    struct mono_time now = clock_mono(context->clock);
    struct duration limit = context->config->postgres.connect_timeout;
    if (options->brief) {
        limit.ns = mono_left(now, end).ns / (count - n);
    }
    return mono_add(now, limit);
}

// Neither a number nor the path of a socket.
static bool is_name(const char *host)
{
    struct in6_addr number;
    return host[0] != '\0' && host[0] != '/' && host[0] != '@' && inet_pton(AF_INET, host, &number) != 1 &&
        inet_pton(AF_INET6, host, &number) != 1;
}

// The addresses of a name as a list, which the caller frees. deadline: of a brief wait.
static char *look_up(const struct relay_context *context, const struct pg_options *options, const char *name,
    struct mono_time deadline, struct relay_error *error)
{
    struct pg_lookup *lookup = pg_lookup_start(name, error);
    if (lookup == NULL) {
        return NULL;
    }
    char *found = NULL;
    struct pg_connection none = {.context = context, .tick = options->tick, .tick_context = options->tick_context};
    if (!options->brief) {
        deadline = mono_add(clock_mono(context->clock), DURATION_S(LOOKUP_SECONDS));
    }
    if (pg_wait_on(&none, pg_lookup_fd(lookup), POLLIN, deadline)) {
        found = pg_lookup_take(lookup, error);
    } else if (options->brief) {
        error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE,
            "the name \"%s\" was not resolved within [postgres] acquire_timeout", name);
    } else {
        error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE,
            "the name \"%s\" was not resolved within %d s; look at the nameservers of this machine", name,
            LOOKUP_SECONDS);
    }
    pg_lookup_leave(lookup);
    return found;
}

// What pg_connect() is busy with.
struct attempt {
    const struct relay_context *context;
    const struct pg_options *options;
    struct pg_parameters parameters;
    struct relay_error last;   // why there is no connection yet
    struct pg_connection *old; // to an old primary, in case that no other host will do
    bool takes_old;            // none did
};

static bool stopping(const struct attempt *attempt)
{
    return attempt->context->stop != NULL && stop_raised(attempt->context->stop);
}

// An operator's error outlives a host that is merely away.
static void note_problem(struct attempt *attempt, const struct relay_error *problem)
{
    if (attempt->last.class != RELAY_CLASS_OPERATOR) {
        attempt->last = *problem;
    }
}

// Puts a connection to an old primary aside, one of them, and takes it from the caller. A server that does not say what
// it is, is taken as it is: who needs to know that asks again, and tells what is missing.
static struct pg_connection *put_old_aside(struct attempt *attempt, struct pg_connection *connection,
    struct mono_time deadline, struct relay_error *problem)
{
    struct pg_newest *newest = attempt->context->postgres_newest;
    if (connection == NULL || newest == NULL || !attempt->options->read_write) {
        return connection;
    }
    uint64_t system_identifier;
    uint32_t timeline;
    if (pg_system_find(connection, &system_identifier, deadline, problem) &&
        pg_timeline_find(connection, &timeline, deadline, problem)) {
        if (pg_newest_note(newest, system_identifier, timeline)) {
            return connection;
        }
        if (attempt->takes_old) {
            return connection;
        }
        error_set(problem, RELAY_ERROR_POSTGRES_OPERATOR, "%s is an old primary, on timeline %u",
            pg_server_address(connection), timeline);
        if (attempt->old == NULL) {
            attempt->old = connection;
            return NULL;
        }
    } else if (!pg_broken(connection)) {
        return connection;
    }
    pg_close(connection);
    return NULL;
}

// Tries one address of the list after another. end: of the host's share of a brief wait.
static struct pg_connection *connect_addresses(struct attempt *attempt, const char *addresses, struct mono_time end)
{
    struct pg_connection *connection = NULL;
    int count = config_list_length(addresses);
    for (int n = 0; n < count && connection == NULL && (n == 0 || !stopping(attempt)); n++) {
        struct relay_error problem;
        error_clear(&problem);
        char *address = piece(addresses, n);
        if (address == NULL) {
            error_no_memory(&problem, "an address of [postgres] dsn");
        } else {
            struct mono_time deadline = host_deadline(attempt->context, attempt->options, end, n, count);
            pg_parameters_set(&attempt->parameters, "hostaddr", address);
            connection = connect_host(attempt->context, attempt->options, &attempt->parameters, deadline, &problem);
            connection = put_old_aside(attempt, connection, deadline, &problem);
            pg_parameters_set(&attempt->parameters, "hostaddr", NULL);
            free(address);
        }
        if (connection == NULL) {
            note_problem(attempt, &problem);
        }
    }
    return connection;
}

// One host of the dsn. address: as it is given there, "" if it is not.
static struct pg_connection *connect_given(struct attempt *attempt, const char *host, const char *address,
    const char *port, struct mono_time end)
{
    pg_parameters_set(&attempt->parameters, "host", host);
    pg_parameters_set(&attempt->parameters, "port", port);
    if (address[0] != '\0' || host == NULL || !is_name(host)) {
        return connect_addresses(attempt, address, end);
    }
    struct relay_error problem;
    error_clear(&problem);
    char *found = look_up(attempt->context, attempt->options, host, end, &problem);
    if (found == NULL) {
        note_problem(attempt, &problem);
        return NULL;
    }
    struct pg_connection *connection = connect_addresses(attempt, found, end);
    free(found);
    return connection;
}

// For who would rather have the primary: puts a connection to another server aside, one of them, and takes it from the
// caller.
static struct pg_connection *put_aside(struct attempt *attempt, struct pg_connection *connection,
    struct pg_connection **spare)
{
    if (connection == NULL || pg_check_writable(connection, pg_deadline(attempt->context), NULL)) {
        return connection;
    }
    if (*spare == NULL && !pg_broken(connection)) {
        *spare = connection;
    } else {
        pg_close(connection);
    }
    return NULL;
}

static struct pg_connection *try_host(struct attempt *attempt, const struct pg_dsn *dsn, int n, struct mono_time end)
{
    const char *hosts = pg_option_value(dsn->hosts, "host"), *addresses = pg_option_value(dsn->hosts, "hostaddr"),
               *ports = pg_option_value(dsn->hosts, "port");
    struct pg_connection *connection = NULL;
    char *host = hosts == NULL ? NULL : piece(hosts, n);
    char *address = piece(addresses == NULL ? "" : addresses, n);
    char *port = ports == NULL ? NULL : piece(ports, n);
    if ((hosts != NULL && host == NULL) || address == NULL || (ports != NULL && port == NULL)) {
        error_no_memory(&attempt->last, "a host of [postgres] dsn");
    } else {
        connection = connect_given(attempt, host, address, port, end);
    }
    free(host);
    free(address);
    free(port);
    return connection;
}

// Tries one host of the list after another. prefers: the primary, where there is one.
static struct pg_connection *try_hosts(struct attempt *attempt, const struct pg_dsn *dsn, bool prefers,
    struct mono_time end)
{
    const struct pg_options *options = attempt->options;
    struct pg_connection *connection = NULL, *spare = NULL;
    int count = pg_dsn_hosts(dsn), first = options->only_host > 0 ? options->only_host - 1 : 0,
        end_at = options->only_host > 0 ? first + 1 : count;
    for (int n = first; n < end_at && connection == NULL && (n == first || !stopping(attempt)); n++) {
        connection = try_host(attempt, dsn, n,
            options->brief ? host_deadline(attempt->context, options, end, n - first, end_at - first) : end);
        if (prefers) {
            connection = put_aside(attempt, connection, &spare);
        }
    }
    if (connection == NULL) {
        return spare;
    }
    pg_close(spare);
    return connection;
}

// No other host will do. The server may have ended the session meanwhile, which was silent for as long as the other
// hosts took: so they are tried anew, the old one among them, unless the wait is a brief one.
static struct pg_connection *take_old(struct attempt *attempt, const struct pg_dsn *dsn, bool prefers,
    struct mono_time end)
{
    if (attempt->options->brief) {
        return attempt->old;
    }
    pg_close(attempt->old);
    attempt->old = NULL;
    attempt->takes_old = true;
    return stopping(attempt) ? NULL : try_hosts(attempt, dsn, prefers, end);
}

static struct pg_connection *connect_any(const struct relay_context *context, const struct pg_options *options,
    const struct pg_dsn *dsn, struct mono_time end, struct relay_error *error)
{
    struct attempt attempt = {.context = context, .options = options};
    fill_parameters(&attempt.parameters, context, options, dsn);
    int count = pg_dsn_hosts(dsn);
    const char *given = pg_option_value(dsn->given, "target_session_attrs");
    const char *added = pg_dsn_value(dsn, "target_session_attrs"); // "any" where nobody says so
    bool said = given != NULL || (added != NULL && strcmp(added, "any") != 0);
    if (options->only_host > 0) {
        pg_parameters_set(&attempt.parameters, "target_session_attrs", "any");
    } else if (count > 1 && options->read_write) {
        pg_parameters_set(&attempt.parameters, "target_session_attrs",
            given != NULL ? given
                : said    ? added
                          : "read-write");
    }
    bool prefers = count > 1 && options->primary_first && !said;
    struct pg_connection *connection = try_hosts(&attempt, dsn, prefers, end);
    if (connection == NULL && attempt.old != NULL) {
        connection = take_old(&attempt, dsn, prefers, end);
    } else if (attempt.old != NULL) {
        log_event(LOG_LEVEL_WARNING, "postgres.old_primary", "an old primary takes writes; its successor is used",
            LOG_TEXT("old_primary", pg_server_address(attempt.old)), LOG_TEXT("server", pg_server_address(connection)));
        pg_close(attempt.old);
    }
    if (connection == NULL && error != NULL) {
        *error = attempt.last;
        error_prefix(error, "connecting to PostgreSQL");
    }
    return connection;
}

// hasty: it was given up earlier than those who need the connection would, which says little of the server.
static void report(const struct relay_context *context, bool connected, bool hasty, const struct relay_error *problem)
{
    if (context->postgres_breaker == NULL) {
        return;
    }
    if (connected || problem->class == RELAY_CLASS_OPERATOR) {
        breaker_success(context->postgres_breaker); // it answers, whatever it says
    } else if (hasty || (context->stop != NULL && stop_raised(context->stop))) {
        breaker_cancel(context->postgres_breaker);
    } else {
        breaker_failure(context->postgres_breaker, problem->text);
    }
}

struct pg_connection *pg_connect(const struct relay_context *context, const struct pg_options *options,
    struct relay_error *error)
{
    struct pg_dsn dsn = {.given = NULL};
    struct relay_error problem;
    error_clear(&problem);
    struct pg_connection *connection = NULL;
    if (!pg_dsn_take_apart(context->config->postgres.dsn, &dsn, &problem)) {
        // no server's fault
    } else if (context->stop != NULL && stop_raised(context->stop)) {
        error_set(&problem, RELAY_ERROR_STOPPED, "no new connection to PostgreSQL: the relay is stopping");
    } else if (context->postgres_breaker == NULL ||
        breaker_check(context->postgres_breaker, RELAY_SERVER_POSTGRES, "PostgreSQL", &problem)) {
        struct mono_time end = mono_add(clock_mono(context->clock), context->config->postgres.acquire_timeout);
        connection = connect_any(context, options, &dsn, end, &problem);
        report(context, connection != NULL, options->brief && mono_reached(clock_mono(context->clock), end), &problem);
    }
    pg_dsn_finish(&dsn);
    if (connection == NULL && error != NULL) {
        *error = problem;
    }
    return connection;
}

int pg_count_hosts(const struct relay_context *context)
{
    struct pg_dsn dsn = {.given = NULL};
    struct relay_error error;
    int count = pg_dsn_take_apart(context->config->postgres.dsn, &dsn, &error) ? pg_dsn_hosts(&dsn) : 0;
    pg_dsn_finish(&dsn);
    return count;
}
