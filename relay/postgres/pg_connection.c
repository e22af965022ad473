// SPDX-License-Identifier: Apache-2.0
//
// The way of a statement: send (queued by libpq, flushed as far as the socket takes it), poll until the answer is whole
// or the deadline passes, take every result up to the end of the answer, keep the first failure or else the last
// result.
//   The deadline passes:     the connection is broken, since an answer may still come and would be taken for the next
//   one's.
//                            The server ends the statement by its own statement_timeout or when it sees the closed
//                            socket.
//   The socket is cut:       broken; outside of COMMIT the transaction is gone, at COMMIT the outcome is unknown.
//   The answer is too much:  broken, which frees what libpq has of it.
//   libpq fails by itself:   broken as well, since what the server did is not known.
//   The server refuses:      an error with a class by SQLSTATE; the connection stays, the transaction is aborted.
//   The relay stops:         the wait goes on until the stop's drain deadline, then as for a deadline.
#include "relay/postgres/pg_connection.h"

#include "relay/postgres/pg_connect.h"
#include "relay/postgres/pg_error.h"

#include <endian.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define TICK_EVERY    DURATION_MS(200)
#define ANSWER_MARGIN DURATION_S(10) // beyond statement_timeout

bool pg_broken(const struct pg_connection *connection)
{
    return connection->broken;
}

bool pg_idle(const struct pg_connection *connection)
{
    return !connection->broken && !connection->taken && PQtransactionStatus(connection->libpq) == PQTRANS_IDLE;
}

int pg_socket(const struct pg_connection *connection)
{
    return connection->broken ? -1 : PQsocket(connection->libpq);
}

int pg_server_version(const struct pg_connection *connection)
{
    return PQserverVersion(connection->libpq);
}

PGconn *pg_libpq(struct pg_connection *connection)
{
    return connection->libpq;
}

const char *pg_server_address(const struct pg_connection *connection)
{
    return connection->address;
}

const char *pg_last_sqlstate(const struct pg_connection *connection)
{
    return connection->sqlstate;
}

bool pg_lacks_schema(const struct pg_connection *connection)
{
    const char *state = connection->sqlstate;
    return strcmp(state, "42883") == 0 || strcmp(state, "42P01") == 0 || strcmp(state, "3F000") == 0;
}

bool pg_not_converted(const struct pg_connection *connection, const struct relay_error *error)
{
    return error->code == RELAY_ERROR_POSTGRES_OPERATOR && !pg_broken(connection) &&
        (strcmp(connection->sqlstate, "22021") == 0 || strcmp(connection->sqlstate, "22P05") == 0);
}

bool pg_too_long(const struct pg_connection *connection, const struct relay_error *error)
{
    return error->code == RELAY_ERROR_POSTGRES_OPERATOR && !pg_broken(connection) &&
        strcmp(connection->sqlstate, "54000") == 0;
}

void pg_close(struct pg_connection *connection)
{
    if (connection == NULL) {
        return;
    }
    if (connection->libpq != NULL) {
        PQfinish(connection->libpq);
    }
    for (size_t i = 0; i < connection->prepared_count; i++) {
        free(connection->prepared[i]);
    }
    free(connection->prepared);
    PQclear(connection->answer);
    free(connection);
}

// A server that waits for its disks ends a statement late. What was lost to a connection that is dead the kernel says,
// much earlier (tcp_user_timeout, keepalives).
struct mono_time pg_deadline(const struct relay_context *context)
{
    struct duration limit = context->config->postgres.statement_timeout;
    limit.ns += ANSWER_MARGIN.ns;
    return mono_add(clock_mono(context->clock), limit);
}

int64_t pg_cell_int64(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? 0 : strtoll(PQgetvalue(result, row, column), NULL, 10);
}

int64_t pg_binary_int64(const PGresult *result, int row, int column)
{
    uint64_t raw;
    memcpy(&raw, PQgetvalue(result, row, column), sizeof(raw));
    return (int64_t)be64toh(raw);
}

static bool is_failure(const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_EMPTY_QUERY:
    case PGRES_PIPELINE_SYNC: return false;
    case PGRES_COPY_OUT:
    case PGRES_COPY_IN:
    case PGRES_COPY_BOTH:
    case PGRES_BAD_RESPONSE:
    case PGRES_NONFATAL_ERROR:
    case PGRES_FATAL_ERROR:
    case PGRES_PIPELINE_ABORTED: break;
    }
    return true;
}

// Waiting

static bool wait_silently(const struct relay_context *context, int socket, short events, struct mono_time deadline)
{
    for (;;) {
        struct mono_time now = clock_mono(context->clock);
        struct mono_time until = deadline;
        bool stopping = context->stop != NULL && stop_raised(context->stop);
        if (stopping && mono_before(stop_deadline(context->stop), until)) {
            until = stop_deadline(context->stop);
        }
        struct pollfd fds[2] = {{.fd = socket, .events = events},
            {.fd = stopping || context->stop == NULL ? -1 : context->stop->fd, .events = POLLIN}};
        int ready = poll(fds, 2, duration_to_poll_ms(mono_left(now, until)));
        if (ready < 0 && errno != EINTR) {
            return false;
        }
        if (ready > 0 && fds[0].revents != 0) {
            return true;
        }
        if (mono_reached(clock_mono(context->clock), until)) {
            return false;
        }
    }
}

static void tick(struct pg_connection *connection)
{
    connection->ticked = clock_mono(connection->context->clock);
    connection->tick(connection->tick_context);
}

bool pg_wait_on(struct pg_connection *connection, int fd, short events, struct mono_time deadline)
{
    const struct clock *clock = connection->context->clock;
    for (;;) {
        struct mono_time slice = connection->tick == NULL ? deadline : mono_add(clock_mono(clock), TICK_EVERY);
        bool last = !mono_before(slice, deadline);
        if (wait_silently(connection->context, fd, events, last ? deadline : slice)) {
            return true;
        }
        if (last || !mono_reached(clock_mono(clock), slice)) { // sooner: the stop's deadline
            return false;
        }
        tick(connection);
    }
}

bool pg_wait(struct pg_connection *connection, short events, struct mono_time deadline)
{
    return pg_wait_on(connection, PQsocket(connection->libpq), events, deadline);
}

static bool broken_by(struct pg_connection *connection, struct relay_error *error, const char *what)
{
    connection->broken = true;
    return pg_error_set(error, connection->libpq, NULL, what);
}

static bool too_late(struct pg_connection *connection, struct relay_error *error)
{
    connection->broken = true;
    bool stopping = connection->context->stop != NULL && stop_raised(connection->context->stop);
    return error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s: PostgreSQL gave no answer in time%s",
        connection->address, stopping ? " (the relay is stopping)" : "");
}

// What the kernel has received on a TCP socket since it was opened. 0: it is none.
static int64_t received_by_tcp(const struct pg_connection *connection)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);
    bool known = getsockopt(PQsocket(connection->libpq), IPPROTO_TCP, TCP_INFO, &info, &length) == 0;
    return known ? (int64_t)info.tcpi_bytes_received : 0;
}

// What has come and was not read yet.
static int64_t left_in_socket(const struct pg_connection *connection)
{
    int bytes = 0;
    return ioctl(PQsocket(connection->libpq), FIONREAD, &bytes) == 0 ? bytes : 0;
}

void pg_limit_answer(struct pg_connection *connection, int64_t bytes)
{
    connection->most = bytes;
    connection->received = 0;
    connection->received_before = connection->broken ? 0 : received_by_tcp(connection);
}

static bool too_much(struct pg_connection *connection, struct relay_error *error)
{
    connection->broken = true;
    snprintf(connection->why, sizeof(connection->why), ": the answer to a statement took more than %lld bytes",
        (long long)connection->most);
    return error_set(error, RELAY_ERROR_POSTGRES_QUERY, "%s: the connection is given up%s", connection->address,
        connection->why);
}

// Takes in what has come. libpq reads at least 8 KB of it, and everything once a large message has made its buffer
// large.
static bool consume(struct pg_connection *connection, struct relay_error *error)
{
    bool limited = connection->most > 0, tcp = connection->received_before > 0;
    int64_t waiting = limited && !tcp ? left_in_socket(connection) : 0;
    if (PQconsumeInput(connection->libpq) == 0) {
        return broken_by(connection, error, "reading from PostgreSQL");
    }
    if (limited && tcp) {
        connection->received = received_by_tcp(connection) - connection->received_before;
    } else if (limited) {
        int64_t least = waiting < 8192 ? waiting : 8192, gone = waiting - left_in_socket(connection);
        connection->received += gone > least ? gone : least;
    }
    return !limited || connection->received <= connection->most || too_much(connection, error);
}

static bool refuse_broken(const struct pg_connection *connection, struct relay_error *error)
{
    return error_set(error, RELAY_ERROR_POSTGRES_UNREACHABLE, "%s: the connection is lost%s", connection->address,
        connection->why);
}

static bool flush(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    for (;;) {
        int left = PQflush(connection->libpq);
        if (left == 0) {
            return true;
        }
        if (left < 0) {
            return broken_by(connection, error, "sending to PostgreSQL");
        }
        // The server may be waiting for us to read before it reads on.
        if (!pg_wait(connection, POLLIN | POLLOUT, deadline)) {
            return too_late(connection, error);
        }
        if (!consume(connection, error)) {
            return false;
        }
    }
}

static bool sent(struct pg_connection *connection, int accepted, struct mono_time deadline, struct relay_error *error)
{
    if (accepted == 0) {
        return broken_by(connection, error, "sending to PostgreSQL");
    }
    return flush(connection, deadline, error);
}

// Sending

#define PG_VALUES_MAX 16

static bool lay_out(const char *texts[PG_VALUES_MAX], const struct pg_value *values, int count,
    struct relay_error *error)
{
    if (count > PG_VALUES_MAX) {
        return error_set(error, RELAY_ERROR_BUG, "a statement with %d parameters", count);
    }
    for (int i = 0; i < count; i++) {
        texts[i] = values[i].text;
    }
    return true;
}

static bool send_query(struct pg_connection *connection, const char *sql, const struct pg_value *values, int count,
    bool binary_result, struct mono_time deadline, struct relay_error *error)
{
    const char *texts[PG_VALUES_MAX];
    if (connection->broken) {
        return refuse_broken(connection, error);
    }
    return lay_out(texts, values, count, error) &&
        sent(connection,
            PQsendQueryParams(connection->libpq, sql, count, NULL, texts, NULL, NULL, binary_result ? 1 : 0), deadline,
            error);
}

static bool send_prepared(struct pg_connection *connection, const char *name, const struct pg_value *values, int count,
    bool binary_result, struct mono_time deadline, struct relay_error *error)
{
    const char *texts[PG_VALUES_MAX];
    if (connection->broken) {
        return refuse_broken(connection, error);
    }
    return lay_out(texts, values, count, error) &&
        sent(connection, PQsendQueryPrepared(connection->libpq, name, count, texts, NULL, NULL, binary_result ? 1 : 0),
            deadline, error);
}

bool pg_send(struct pg_connection *connection, const char *sql, const struct pg_value *values, int count,
    bool binary_result, struct relay_error *error)
{
    connection->left = send_query(connection, sql, values, count, binary_result, pg_deadline(connection->context),
        error);
    return connection->left;
}

bool pg_send_prepared(struct pg_connection *connection, const char *name, const struct pg_value *values, int count,
    bool binary_result, struct relay_error *error)
{
    connection->left = send_prepared(connection, name, values, count, binary_result, pg_deadline(connection->context),
        error);
    return connection->left;
}

// Receiving

bool pg_ready(struct pg_connection *connection)
{
    if (connection->broken || connection->taken) {
        return true;
    }
    return !consume(connection, NULL) || PQisBusy(connection->libpq) == 0;
}

// The next result of the answer, NULL in *result at its end.
static bool next_result(struct pg_connection *connection, PGresult **result, struct mono_time deadline,
    struct relay_error *error)
{
    while (PQisBusy(connection->libpq) != 0) {
        if (!pg_wait(connection, POLLIN, deadline)) {
            return too_late(connection, error);
        }
        if (!consume(connection, error)) {
            return false;
        }
    }
    *result = PQgetResult(connection->libpq);
    return true;
}

static bool is_copy(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

// libpq gives the result of a COPY again and again until the rows are through, and nobody here has any to give or take.
static bool refuse_copy(struct pg_connection *connection, struct relay_error *error)
{
    connection->broken = true;
    return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
        "%s: COPY with STDIN or STDOUT is not possible here; use INSERT, or COPY with a file of the server",
        connection->address);
}

// A failure without an SQLSTATE is libpq's own (no memory, an answer it cannot read): what the server did is not known.
static void note_failure(struct pg_connection *connection, const PGresult *result, struct relay_error *error)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    snprintf(connection->sqlstate, sizeof(connection->sqlstate), "%s", sqlstate == NULL ? "" : sqlstate);
    connection->broken = connection->broken || sqlstate == NULL;
    pg_error_set(error, connection->libpq, result, "PostgreSQL");
}

// Many short waits one after another keep the other sessions silent as one long one does.
static void answered(struct pg_connection *connection)
{
    connection->heard = clock_mono(connection->context->clock);
    connection->most = 0;
    if (connection->tick != NULL && mono_reached(connection->heard, mono_add(connection->ticked, TICK_EVERY))) {
        tick(connection);
    }
}

static PGresult *receive(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    if (connection->broken) {
        refuse_broken(connection, error);
        return NULL;
    }
    PGresult *kept = NULL, *result = NULL;
    bool failed = false;
    do {
        if (!next_result(connection, &result, deadline, failed ? NULL : error)) {
            PQclear(kept);
            return NULL;
        }
        if (is_copy(result)) {
            refuse_copy(connection, failed ? NULL : error);
            PQclear(result);
            PQclear(kept);
            return NULL;
        }
        if (result == NULL || failed) {
            PQclear(result);
            continue;
        }
        PQclear(kept);
        kept = result;
        if (is_failure(result)) {
            failed = true;
            note_failure(connection, result, error);
        }
    } while (result != NULL && !connection->broken);

    if (kept == NULL) {
        broken_by(connection, error, "PostgreSQL");
        return NULL;
    }
    if (PQstatus(connection->libpq) == CONNECTION_BAD) {
        connection->broken = true;
    }
    answered(connection);
    if (failed) {
        PQclear(kept);
        return NULL;
    }
    return kept;
}

static PGresult *give_taken(struct pg_connection *connection, struct relay_error *error)
{
    PGresult *answer = connection->answer;
    if (answer == NULL && error != NULL) {
        *error = connection->failure;
    }
    connection->answer = NULL;
    connection->taken = false;
    return answer;
}

PGresult *pg_receive(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    connection->left = false;
    return connection->taken ? give_taken(connection, error) : receive(connection, deadline, error);
}

// Whole statements

PGresult *pg_query(struct pg_connection *connection, const char *sql, const struct pg_value *values, int count,
    bool binary_result, struct mono_time deadline, struct relay_error *error)
{
    return send_query(connection, sql, values, count, binary_result, deadline, error)
        ? receive(connection, deadline, error)
        : NULL;
}

PGresult *pg_query_prepared(struct pg_connection *connection, const char *name, const struct pg_value *values,
    int count, bool binary_result, struct mono_time deadline, struct relay_error *error)
{
    return send_prepared(connection, name, values, count, binary_result, deadline, error)
        ? receive(connection, deadline, error)
        : NULL;
}

bool pg_prepare(struct pg_connection *connection, const char *name, const char *sql, struct mono_time deadline,
    struct relay_error *error)
{
    for (size_t i = 0; i < connection->prepared_count; i++) {
        if (strcmp(connection->prepared[i], name) == 0) {
            return true;
        }
    }
    if (connection->broken) {
        return refuse_broken(connection, error);
    }
    char **grown = reallocarray(connection->prepared, connection->prepared_count + 1, sizeof(*grown));
    if (grown == NULL) {
        return error_no_memory(error, "a prepared statement's name");
    }
    connection->prepared = grown;
    char *copy = strdup(name);
    if (copy == NULL) {
        return error_no_memory(error, "a prepared statement's name");
    }
    PGresult *result = NULL;
    if (sent(connection, PQsendPrepare(connection->libpq, name, sql, 0, NULL), deadline, error)) {
        result = receive(connection, deadline, error);
    }
    if (result == NULL) {
        free(copy);
        return false;
    }
    PQclear(result);
    connection->prepared[connection->prepared_count++] = copy;
    return true;
}

bool pg_execute(struct pg_connection *connection, const char *sql, struct mono_time deadline, struct relay_error *error)
{
    if (connection->broken) {
        return refuse_broken(connection, error);
    }
    if (!sent(connection, PQsendQuery(connection->libpq, sql), deadline, error)) {
        return false;
    }
    PGresult *result = receive(connection, deadline, error);
    PQclear(result);
    return result != NULL;
}

// Beats

static bool is_active(const struct pg_connection *connection)
{
    return !connection->broken && PQtransactionStatus(connection->libpq) == PQTRANS_ACTIVE;
}

bool pg_busy(const struct pg_connection *connection)
{
    return connection->taken || is_active(connection);
}

// libpq sends nothing more before an answer is taken.
static void take_answer(struct pg_connection *connection)
{
    connection->left = false;
    connection->answer = receive(connection, pg_deadline(connection->context), &connection->failure);
    connection->taken = true;
}

// Its answer may take as long as the lease: to a server that works on it, however slowly, the session is not idle, and
// a connection that is cut is ended by the kernel (tcp_user_timeout). The caller has no use for the error; the
// session's next user has.
static void beat(struct pg_connection *connection, struct mono_time now)
{
    struct duration lease = DURATION_NS(connection->beat.ns * PG_BEATS_OF_LEASE);
    struct mono_time deadline = mono_add(now, lease);
    struct relay_error error;
    if (pg_execute(connection, "SELECT 1", deadline, &error) || !connection->broken) {
        return;
    }
    if (mono_reached(clock_mono(connection->context->clock), deadline)) {
        snprintf(connection->why, sizeof(connection->why), ": a heartbeat was not answered within %.1f s ([run] lease)",
            duration_seconds(lease));
    } else {
        snprintf(connection->why, sizeof(connection->why), ": a heartbeat failed: %.200s", error.text);
    }
}

void pg_beat(struct pg_connection *connection)
{
    struct mono_time now = clock_mono(connection->context->clock);
    if (connection->beat.ns <= 0 || connection->broken ||
        !mono_reached(now, mono_add(connection->heard, connection->beat))) {
        return;
    }
    if (connection->left && pg_ready(connection)) {
        take_answer(connection);
    }
    if (!connection->broken && !is_active(connection)) {
        beat(connection, now);
    }
}

// COMMIT

bool pg_send_commit(struct pg_connection *connection, struct relay_error *error)
{
    if (connection->broken) {
        return refuse_broken(connection, error);
    }
    if (PQsendQuery(connection->libpq, "COMMIT") == 0 || !flush(connection, pg_deadline(connection->context), NULL)) {
        connection->broken = true;
        return error_set(error, RELAY_ERROR_POSTGRES_UNKNOWN, "%s: the connection was lost while COMMIT was sent",
            connection->address);
    }
    connection->left = true;
    return true;
}

bool pg_receive_commit(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = pg_receive(connection, deadline, error);
    if (result == NULL) {
        if (connection->broken) {
            return error_set(error, RELAY_ERROR_POSTGRES_UNKNOWN,
                "%s: no answer to COMMIT; whether it was done is unknown", connection->address);
        }
        return false;
    }
    bool committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
    PQclear(result);
    return committed ||
        error_set(error, RELAY_ERROR_POSTGRES_QUERY, "%s: COMMIT was answered by ROLLBACK", connection->address);
}

bool pg_commit(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error)
{
    return pg_send_commit(connection, error) && pg_receive_commit(connection, deadline, error);
}

bool pg_take_notification(struct pg_connection *connection)
{
    if (connection->broken) {
        return false;
    }
    if (PQconsumeInput(connection->libpq) == 0) {
        connection->broken = true;
        return false;
    }
    PGnotify *notification = PQnotifies(connection->libpq);
    if (notification == NULL) {
        return false;
    }
    PQfreemem(notification);
    return true;
}
