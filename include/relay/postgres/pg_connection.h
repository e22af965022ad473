// SPDX-License-Identifier: Apache-2.0
//
// A connection to PostgreSQL whose every wait has a deadline: libpq's asynchronous calls over poll(2). It tries the
// hosts of the dsn, and the addresses of each, one after another (each with its share of the time), so that a host that
// swallows packets cannot keep us from the next; sets what the protocols rely on (isolation, synchronous_commit,
// search_path, row_security, timeouts) whatever the role's own defaults are; and maps SQLSTATEs to our classes. After a
// deadline, a cut or a protocol error the connection is broken: every further call fails at once and only pg_close() is
// left. It never reconnects by itself. A stop raised while waiting moves the deadline to the stop's own. One thread at
// a time. SQL text belongs to the named functions of the module that uses it (outbox_sql.c, health_watch.c, ...).
#ifndef RELAY_POSTGRES_PG_CONNECTION_H
#define RELAY_POSTGRES_PG_CONNECTION_H

#include "relay/base/clock.h"
#include "relay/base/error.h"
#include "relay/config/context.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct pg_connection;

struct pg_options {
    const char *role; // static word for application_name: outbox-relay-<role>-<instance>
    bool read_write;  // refuse a server in recovery or with default_transaction_read_only; an old primary comes last
    // Of several hosts one that read_write would take, if any answers; else the first that does. Where the dsn has a
    // target_session_attrs of its own, as that says.
    bool primary_first;
    // Above 0: idle and idle-in-transaction sessions of ours end after this (the server's timeouts). 0: idle ones after
    // [postgres] idle_timeout.
    struct duration lease;
    struct duration statement_timeout; // 0: [postgres] statement_timeout; < 0: none (migrations)
    // Called several times a second while nameservers, hosts and answers are waited for, one long wait or many short
    // ones, so that the other sessions of the same thread do not fall silent meanwhile (pg_beat()). It may use those,
    // not this one. NULL: nothing is.
    void (*tick)(void *context);
    void *tick_context;
    bool brief;    // wait for a connection [postgres] acquire_timeout, all hosts together; else connect_timeout a host
    int only_host; // above 0: this one of the hosts and no other, whatever kind of server it is; see pg_count_hosts()
    bool raw;      // leave the session's settings as they are, but for application_name (migrations)
};

// Reports to context->postgres_breaker (when there is one) and asks it first. Errors: BREAKER_OPEN,
// POSTGRES_UNREACHABLE, POSTGRES_OPERATOR (password, database, pg_hba, read-only server), STOPPED, NO_MEMORY. The
// password is in no text.
struct pg_connection *pg_connect(const struct relay_context *context, const struct pg_options *options,
    struct relay_error *error);
// How many hosts the dsn names. 0: pg_connect() says what is wrong with it.
int pg_count_hosts(const struct relay_context *context);
void pg_close(struct pg_connection *connection); // accepts NULL; rolls back and frees locks by ending the session
// Whether this session may write, as pg_connect() asks for `read_write`. A reload of the server's configuration can end
// that for sessions that are open; then only a new one looks up the names of the dsn and tries its other hosts.
bool pg_check_writable(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);

bool pg_broken(const struct pg_connection *connection);
bool pg_idle(const struct pg_connection *connection);          // whole, and in no transaction, not even one that failed
int pg_socket(const struct pg_connection *connection);         // to poll for notifications; -1 when broken
int pg_server_version(const struct pg_connection *connection); // 150004
PGconn *pg_libpq(struct pg_connection *connection);            // for escaping and pipelines; do not wait on it
const char *pg_server_address(const struct pg_connection *connection); // "host:port", owned by the connection

// A parameter of a statement, whose type PostgreSQL infers. Borrowed during the call.
struct pg_value {
    const char *text; // NULL: SQL NULL
};
#define PG_TEXT(t) ((struct pg_value){.text = (t)})

// Runs one statement with parameters and takes its rows. NULL on any error. The caller clears the result (PQclear).
// Errors: "<what>: <message> (SQLSTATE)". Classes: 08, 57P, 53, 58 = retriable; 40, 55P03, 57014 = retriable; 28, 3D,
// 3F, 42, 0A, 25006, 22, 23, 55000 = operator. TIMEOUT (POSTGRES_UNREACHABLE) breaks the connection.
PGresult *pg_query(struct pg_connection *connection, const char *sql, const struct pg_value *values, int count,
    bool binary_result, struct mono_time deadline, struct relay_error *error);
// The same for a prepared statement. pg_prepare is idempotent for the same name on a connection.
bool pg_prepare(struct pg_connection *connection, const char *name, const char *sql, struct mono_time deadline,
    struct relay_error *error);
PGresult *pg_query_prepared(struct pg_connection *connection, const char *name, const struct pg_value *values,
    int count, bool binary_result, struct mono_time deadline, struct relay_error *error);
// Runs text that may hold several statements (simple protocol); rows are thrown away.
bool pg_execute(struct pg_connection *connection, const char *sql, struct mono_time deadline,
    struct relay_error *error);

// The two halves of a query, so that other work can be done in between: send queues and flushes what it can, receive
// waits for the (single) result. pg_ready(): the result can be taken without waiting. One query at a time.
bool pg_send(struct pg_connection *connection, const char *sql, const struct pg_value *values, int count,
    bool binary_result, struct relay_error *error);
bool pg_send_prepared(struct pg_connection *connection, const char *name, const struct pg_value *values, int count,
    bool binary_result, struct relay_error *error);
bool pg_ready(struct pg_connection *connection);
PGresult *pg_receive(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);

// Of the next answer: where more bytes come, the connection is broken (POSTGRES_QUERY), since libpq keeps all there is
// of it. Exact for TCP; of a Unix-domain socket what PostgreSQL sends during a read may be missed.
void pg_limit_answer(struct pg_connection *connection, int64_t bytes);

// Whether a statement has been sent whose answer has not been taken yet.
bool pg_busy(const struct pg_connection *connection);
// Speaks to the server when it has not answered this session for a third of the lease, unless a statement is under way.
// One that is answered is not: for the server the session is idle, and its answer is kept for pg_receive(). Waits for
// the answer at most for the lease. A failure shows at the session's next use, with its reason. Without a lease:
// nothing.
void pg_beat(struct pg_connection *connection);

// COMMIT. A broken connection or a deadline gives POSTGRES_UNKNOWN; a refusal (serialisation, deferred constraint)
// gives POSTGRES_QUERY and the transaction is rolled back. A COMMIT answered by ROLLBACK is an error too.
bool pg_commit(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);
bool pg_send_commit(struct pg_connection *connection, struct relay_error *error);
bool pg_receive_commit(struct pg_connection *connection, struct mono_time deadline, struct relay_error *error);

// Takes one notification if there is one (reads what has arrived, never waits). false: none; check pg_broken().
bool pg_take_notification(struct pg_connection *connection);

// Deadline helper: now + [postgres] statement_timeout + 10 s, so that the server's own timeout comes first: giving up
// costs the session, and the backend goes on.
struct mono_time pg_deadline(const struct relay_context *context);

// The five characters of the last failed result on this connection, "" if none.
const char *pg_last_sqlstate(const struct pg_connection *connection);
// Whether it says that the relay's schema is not there, or lacks a table or a function: it is not migrated.
bool pg_lacks_schema(const struct pg_connection *connection);
// Whether the error is that a result has text that the server cannot convert to UTF-8.
bool pg_not_converted(const struct pg_connection *connection, const struct relay_error *error);
// Whether it is a limit of the server's: what it makes in memory, the text of a value, say, takes a gigabyte at most.
bool pg_too_long(const struct pg_connection *connection, const struct relay_error *error);

// Cells of a result, as text but for the last.
static inline const char *pg_cell(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}
// A boolean; false for NULL.
static inline bool pg_cell_true(const PGresult *result, int row, int column)
{
    const char *cell = pg_cell(result, row, column);
    return cell && cell[0] == 't';
}
int64_t pg_cell_int64(const PGresult *result, int row, int column);   // text cell; 0 for NULL
int64_t pg_binary_int64(const PGresult *result, int row, int column); // binary int8, not NULL

#endif
