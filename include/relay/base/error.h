// SPDX-License-Identifier: Apache-2.0
//
// The one error type of the project. A function that can fail returns bool (true = done) or a pointer (NULL = failed)
// and takes `struct relay_error *error` as its last parameter; the caller owns it and it holds no memory, so it needs
// no freeing and may live on any thread. The class says how to go on, and the server whose trouble it is; the code may
// be compared where more must be known, by the rooms that set it; its name is for metrics and logs only, the text for
// people. Each layer puts its own words in front with error_prefix(). Passing NULL is allowed where the caller only
// wants to know whether it worked.
#ifndef RELAY_BASE_ERROR_H
#define RELAY_BASE_ERROR_H

#include <stdbool.h>
#include <stdarg.h>

// What the caller should do. The order is not a ranking.
enum relay_error_class {
    RELAY_CLASS_NONE,      // no error
    RELAY_CLASS_RETRIABLE, // the same call may work later: back off and try again
    RELAY_CLASS_OPERATOR,  // somebody has to fix something outside (grants, a missing table, a password); retry slowly
    RELAY_CLASS_POISON,    // this one event can never work as it is: dead letter
    RELAY_CLASS_FATAL,     // this handle (connection, producer, consumer) is finished: make a new one
    RELAY_CLASS_UNKNOWN,   // it may or may not have happened: find out before anything else
    RELAY_CLASS_BUG,       // our own mistake
};

// Of the three that the relay stands between.
enum relay_server { RELAY_SERVER_NONE, RELAY_SERVER_POSTGRES, RELAY_SERVER_KAFKA, RELAY_SERVER_CLICKHOUSE };

// code, its usual class, its server, name in logs and metrics, sentence
#define RELAY_ERRORS(X)                                                                                                \
    X(NONE, NONE, NONE, "none", "no error")                                                                            \
    X(NO_MEMORY, RETRIABLE, NONE, "no_memory", "out of memory")                                                        \
    X(TIMEOUT, RETRIABLE, NONE, "timeout", "the deadline passed")                                                      \
    X(STOPPED, RETRIABLE, NONE, "stopped", "the relay is stopping")                                                    \
    X(SYSTEM, RETRIABLE, NONE, "system", "a system call failed")                                                       \
    X(USAGE, OPERATOR, NONE, "usage", "bad usage")                                                                     \
    X(CONFIG, OPERATOR, NONE, "config", "bad configuration")                                                           \
    X(POSTGRES_UNREACHABLE, RETRIABLE, POSTGRES, "postgres_unreachable", "PostgreSQL cannot be reached")               \
    X(POSTGRES_QUERY, RETRIABLE, POSTGRES, "postgres_query", "a PostgreSQL statement failed")                          \
    X(POSTGRES_OPERATOR, OPERATOR, POSTGRES, "postgres_operator",                                                      \
        "PostgreSQL refuses: schema, rights or configuration")                                                         \
    X(POSTGRES_UNKNOWN, UNKNOWN, POSTGRES, "postgres_unknown", "the outcome of a PostgreSQL COMMIT is unknown")        \
    X(KAFKA_UNREACHABLE, RETRIABLE, KAFKA, "kafka_unreachable", "Kafka cannot be reached")                             \
    X(KAFKA_RETRIABLE, RETRIABLE, KAFKA, "kafka_retriable", "Kafka refused for now")                                   \
    X(KAFKA_OPERATOR, OPERATOR, KAFKA, "kafka_operator", "Kafka refuses: topic, rights or configuration")              \
    X(KAFKA_POISON, POISON, KAFKA, "kafka_poison", "Kafka refuses this record")                                        \
    X(KAFKA_ABORTED, RETRIABLE, KAFKA, "kafka_aborted", "the Kafka transaction was aborted")                           \
    X(KAFKA_FENCED, FATAL, KAFKA, "kafka_fenced", "another producer has taken this transactional.id")                  \
    X(KAFKA_FATAL, FATAL, KAFKA, "kafka_fatal", "the Kafka client is finished")                                        \
    X(KAFKA_UNKNOWN, UNKNOWN, KAFKA, "kafka_unknown", "the outcome of a Kafka request is unknown")                     \
    X(CLICKHOUSE_UNREACHABLE, RETRIABLE, CLICKHOUSE, "clickhouse_unreachable", "ClickHouse cannot be reached")         \
    X(CLICKHOUSE_RETRIABLE, RETRIABLE, CLICKHOUSE, "clickhouse_retriable", "ClickHouse refused for now")               \
    X(CLICKHOUSE_OPERATOR, OPERATOR, CLICKHOUSE, "clickhouse_operator",                                                \
        "ClickHouse refuses: schema, rights or configuration")                                                         \
    X(CLICKHOUSE_POISON, POISON, CLICKHOUSE, "clickhouse_poison", "ClickHouse refuses this row")                       \
    X(CLICKHOUSE_UNKNOWN, UNKNOWN, CLICKHOUSE, "clickhouse_unknown", "the outcome of a ClickHouse insert is unknown")  \
    X(ENCODE, POISON, NONE, "encode", "the event does not fit its table")                                              \
    X(ROUTE, POISON, NONE, "route", "no valid topic, key or header can be made from the row")                          \
    X(BREAKER_OPEN, RETRIABLE, NONE, "breaker_open", "the circuit breaker is open")                                    \
    X(HTTP, RETRIABLE, NONE, "http", "an HTTP request failed")                                                         \
    X(PROTOCOL, FATAL, NONE, "protocol", "the peer answered something that cannot be")                                 \
    X(BUG, BUG, NONE, "bug", "a mistake of outbox-relay itself; please report it")

enum relay_error_code {
#define X(code, class, server, name, text) RELAY_ERROR_##code,
    RELAY_ERRORS(X)
#undef X
};

struct relay_error {
    enum relay_error_code code;
    enum relay_error_class class;
    enum relay_server server;
    int detail;     // the peer's own number (errno, Kafka error, ClickHouse exception code), 0 if none
    char text[768]; // one line, no trailing newline; longer texts end in "..."
};

// Sets code with its usual class and a printf text. Returns false, so that `return error_set(...)` reads well.
// An empty format takes the code's own sentence. error may be NULL.
bool error_set(struct relay_error *error, enum relay_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool error_set_v(struct relay_error *error, enum relay_error_code code, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
// The same with the peer's number.
bool error_set_detail(struct relay_error *error, enum relay_error_code code, int detail, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// The same with a class other than the usual one.
bool error_set_class(struct relay_error *error, enum relay_error_code code, enum relay_error_class class, int detail,
    const char *format, ...) __attribute__((format(printf, 5, 6)));
// Out of memory while doing `what`. Returns false.
bool error_no_memory(struct relay_error *error, const char *what);
// Puts "words: " in front of the text. Returns false.
bool error_prefix(struct relay_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_clear(struct relay_error *error);

#if defined(__clang_analyzer__) && !defined(RELAY_BASE_ERROR_C)
// The static analyzer sees one file at a time and would follow paths on which these return true.
#define error_set(...)        (error_set(__VA_ARGS__), false)
#define error_set_v(...)      (error_set_v(__VA_ARGS__), false)
#define error_set_detail(...) (error_set_detail(__VA_ARGS__), false)
#define error_set_class(...)  (error_set_class(__VA_ARGS__), false)
#define error_no_memory(...)  (error_no_memory(__VA_ARGS__), false)
#define error_prefix(...)     (error_prefix(__VA_ARGS__), false)
#endif

const char *error_code_name(enum relay_error_code code);    // "kafka_fenced"; static
const char *error_class_name(enum relay_error_class class); // "retriable"; static

#endif
