// SPDX-License-Identifier: Apache-2.0
//
// The one error type of the project. A function that can fail returns bool (true = done) or a pointer (NULL = failed)
// and takes `struct relay_error *error` as its last parameter; the caller owns it and it holds no memory, so it needs
// no freeing and may live on any thread. Code branches on the class only; the code is for metrics and documentation,
// the text for people. Each layer puts its own words in front with error_prefix(). Passing NULL is allowed where the
// caller only wants to know whether it worked.
#ifndef RELAY_BASE_ERROR_H
#define RELAY_BASE_ERROR_H

#include <stdbool.h>
#include <stdarg.h>

// What the caller should do. The order is not a ranking.
enum relay_error_class {
    RELAY_CLASS_NONE,      // no error
    RELAY_CLASS_RETRIABLE, // the same call may work later: back off and try again
    RELAY_CLASS_OPERATOR,  // somebody has to mend something outside (grants, a missing table, a password); retry slowly
    RELAY_CLASS_POISON,    // this one event can never work as it is: dead letter
    RELAY_CLASS_FATAL,     // this handle (connection, producer, consumer) is finished: make a new one
    RELAY_CLASS_UNKNOWN,   // it may or may not have happened: find out before anything else
    RELAY_CLASS_BUG,       // our own mistake
};

// code, its usual class, name in logs and metrics, sentence
#define RELAY_ERRORS(X)                                                                                                \
    X(NONE, NONE, "none", "no error")                                                                                  \
    X(NO_MEMORY, RETRIABLE, "no_memory", "out of memory")                                                              \
    X(TIMEOUT, RETRIABLE, "timeout", "the deadline passed")                                                            \
    X(STOPPED, RETRIABLE, "stopped", "the relay is stopping")                                                          \
    X(SYSTEM, RETRIABLE, "system", "a system call failed")                                                             \
    X(USAGE, OPERATOR, "usage", "bad usage")                                                                           \
    X(CONFIG, OPERATOR, "config", "bad configuration")                                                                 \
    X(POSTGRES_UNREACHABLE, RETRIABLE, "postgres_unreachable", "PostgreSQL cannot be reached")                         \
    X(POSTGRES_QUERY, RETRIABLE, "postgres_query", "a PostgreSQL statement failed")                                    \
    X(POSTGRES_OPERATOR, OPERATOR, "postgres_operator", "PostgreSQL refuses: schema, rights or configuration")         \
    X(POSTGRES_UNKNOWN, UNKNOWN, "postgres_unknown", "the outcome of a PostgreSQL COMMIT is unknown")                  \
    X(KAFKA_UNREACHABLE, RETRIABLE, "kafka_unreachable", "Kafka cannot be reached")                                    \
    X(KAFKA_RETRIABLE, RETRIABLE, "kafka_retriable", "Kafka refused for now")                                          \
    X(KAFKA_OPERATOR, OPERATOR, "kafka_operator", "Kafka refuses: topic, rights or configuration")                     \
    X(KAFKA_POISON, POISON, "kafka_poison", "Kafka refuses this record")                                               \
    X(KAFKA_ABORTED, RETRIABLE, "kafka_aborted", "the Kafka transaction was aborted")                                  \
    X(KAFKA_FENCED, FATAL, "kafka_fenced", "another producer has taken this transactional.id")                         \
    X(KAFKA_FATAL, FATAL, "kafka_fatal", "the Kafka client is finished")                                               \
    X(KAFKA_UNKNOWN, UNKNOWN, "kafka_unknown", "the outcome of a Kafka request is unknown")                            \
    X(CLICKHOUSE_UNREACHABLE, RETRIABLE, "clickhouse_unreachable", "ClickHouse cannot be reached")                     \
    X(CLICKHOUSE_RETRIABLE, RETRIABLE, "clickhouse_retriable", "ClickHouse refused for now")                           \
    X(CLICKHOUSE_OPERATOR, OPERATOR, "clickhouse_operator", "ClickHouse refuses: schema, rights or configuration")     \
    X(CLICKHOUSE_POISON, POISON, "clickhouse_poison", "ClickHouse refuses this row")                                   \
    X(CLICKHOUSE_UNKNOWN, UNKNOWN, "clickhouse_unknown", "the outcome of a ClickHouse insert is unknown")              \
    X(ENCODE, POISON, "encode", "the event does not fit its table")                                                    \
    X(ROUTE, POISON, "route", "no valid topic, key or header can be made from the row")                                \
    X(BREAKER_OPEN, RETRIABLE, "breaker_open", "the circuit breaker is open")                                          \
    X(HTTP, RETRIABLE, "http", "an HTTP request failed")                                                               \
    X(PROTOCOL, FATAL, "protocol", "the peer answered something that cannot be")                                       \
    X(BUG, BUG, "bug", "a mistake of outbox-relay itself; please report it")

enum relay_error_code {
#define X(code, class, name, text) RELAY_ERROR_##code,
    RELAY_ERRORS(X)
#undef X
};

struct relay_error {
    enum relay_error_code code;
    enum relay_error_class class;
    int detail;     // the peer's own number (errno, Kafka error, ClickHouse exception code), 0 if none
    char text[512]; // one line, no trailing newline; longer texts end in "..."
};

// Sets code with its usual class and a printf text. Returns false, so that `return error_set(...)` reads well.
// An empty format takes the code's own sentence. error may be NULL.
bool error_set(struct relay_error *error, enum relay_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool error_set_v(struct relay_error *error, enum relay_error_code code, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
// The same with a class other than the usual one, and the peer's number.
bool error_set_class(struct relay_error *error, enum relay_error_code code, enum relay_error_class class, int detail,
    const char *format, ...) __attribute__((format(printf, 5, 6)));
// Out of memory while doing `what`. Returns false.
bool error_no_memory(struct relay_error *error, const char *what);
// Puts "words: " in front of the text. Returns false.
bool error_prefix(struct relay_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_clear(struct relay_error *error);

#if defined(__clang_analyzer__) && !defined(RELAY_BASE_ERROR_C)
// The static analyzer sees one file at a time and would follow paths on which these return true.
#define error_set(...)       (error_set(__VA_ARGS__), false)
#define error_set_v(...)     (error_set_v(__VA_ARGS__), false)
#define error_set_class(...) (error_set_class(__VA_ARGS__), false)
#define error_no_memory(...) (error_no_memory(__VA_ARGS__), false)
#define error_prefix(...)    (error_prefix(__VA_ARGS__), false)
#endif

const char *error_code_name(enum relay_error_code code);    // "kafka_fenced"; static
const char *error_class_name(enum relay_error_class class); // "retriable"; static

#endif
