// SPDX-License-Identifier: Apache-2.0
//
// What a ClickHouse exception means for us, decided by its code and never by the HTTP status (404 and 500 each mix
// permanent and passing errors). One table; what is not in it is CLICKHOUSE_UNKNOWN_CODE. All functions are pure.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_ERROR_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_ERROR_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>

// Of what stands before ClickHouse: the body was not passed on, or not to its end.
#define CLICKHOUSE_STATUS_BODY_TOO_LARGE 413

enum clickhouse_failure {
    CLICKHOUSE_DONE,            // no failure
    CLICKHOUSE_NOT_SENT,        // refused connection, breaker open, stop before the send: definitely not executed
    CLICKHOUSE_OUTCOME_UNKNOWN, // timeout, cut, quorum doubts: same bytes, same token, same endpoint, or read back
    CLICKHOUSE_TRANSIENT,       // overload, network inside the cluster, Keeper, disk: back off, another replica will do
    CLICKHOUSE_BACK_PRESSURE,   // too many parts or queries: fewer and larger batches
    CLICKHOUSE_MEMORY,          // memory limit, or a proxy's of the body: smaller batches, after a read-back
    CLICKHOUSE_OPERATOR,        // schema, rights, view: pause the table and tell somebody
    CLICKHOUSE_SCHEMA_DRIFT,    // the table no longer looks as we read it: as OPERATOR, whose resumption reads it again
    CLICKHOUSE_BAD_ROW,         // the data does not fit; proves nothing before a read-back where views exist
    CLICKHOUSE_UNKNOWN_CODE,    // says nothing sure: retry some times, then look for the row that it is about
    CLICKHOUSE_FAILURES
};

// code, failure, the server's name for it
#define CLICKHOUSE_EXCEPTIONS(X)                                                                                       \
    X(3, OUTCOME_UNKNOWN, UNEXPECTED_END_OF_FILE)                                                                      \
    X(159, OUTCOME_UNKNOWN, TIMEOUT_EXCEEDED)                                                                          \
    X(209, OUTCOME_UNKNOWN, SOCKET_TIMEOUT)                                                                            \
    X(210, OUTCOME_UNKNOWN, NETWORK_ERROR)                                                                             \
    X(216, OUTCOME_UNKNOWN, QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)                                                     \
    X(286, OUTCOME_UNKNOWN, UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE)                                                     \
    X(319, OUTCOME_UNKNOWN, UNKNOWN_STATUS_OF_INSERT)                                                                  \
    X(394, OUTCOME_UNKNOWN, QUERY_WAS_CANCELLED)                                                                       \
    X(198, TRANSIENT, DNS_ERROR)                                                                                       \
    X(201, TRANSIENT, QUOTA_EXCEEDED)                                                                                  \
    X(203, TRANSIENT, NO_FREE_CONNECTION)                                                                              \
    X(225, TRANSIENT, NO_ZOOKEEPER)                                                                                    \
    X(236, TRANSIENT, ABORTED)                                                                                         \
    X(242, TRANSIENT, TABLE_IS_READ_ONLY)                                                                              \
    X(243, TRANSIENT, NOT_ENOUGH_SPACE)                                                                                \
    X(244, TRANSIENT, UNEXPECTED_ZOOKEEPER_ERROR)                                                                      \
    X(254, TRANSIENT, NO_ACTIVE_REPLICAS)                                                                              \
    X(265, TRANSIENT, UNEXPECTED_NODE_IN_ZOOKEEPER)                                                                    \
    X(279, TRANSIENT, ALL_CONNECTION_TRIES_FAILED)                                                                     \
    X(285, TRANSIENT, TOO_FEW_LIVE_REPLICAS)                                                                           \
    X(289, TRANSIENT, REPLICA_IS_NOT_IN_QUORUM)                                                                        \
    X(290, TRANSIENT, LIMIT_EXCEEDED)                                                                                  \
    X(297, TRANSIENT, SHARD_HAS_NO_CONNECTIONS)                                                                        \
    X(364, TRANSIENT, IPV6_ADDRESS_PARSE_OR_RESOLVE)                                                                   \
    X(384, TRANSIENT, PART_IS_TEMPORARILY_LOCKED)                                                                      \
    X(425, TRANSIENT, SYSTEM_ERROR)                                                                                    \
    X(439, TRANSIENT, CANNOT_SCHEDULE_TASK)                                                                            \
    X(473, TRANSIENT, DEADLOCK_AVOIDED)                                                                                \
    X(517, TRANSIENT, CANNOT_ASSIGN_ALTER)                                                                             \
    X(999, TRANSIENT, KEEPER_EXCEPTION)                                                                                \
    X(1000, TRANSIENT, POCO_EXCEPTION)                                                                                 \
    X(202, BACK_PRESSURE, TOO_MANY_SIMULTANEOUS_QUERIES)                                                               \
    X(252, BACK_PRESSURE, TOO_MANY_PARTS)                                                                              \
    X(241, MEMORY, MEMORY_LIMIT_EXCEEDED)                                                                              \
    X(173, MEMORY, CANNOT_ALLOCATE_MEMORY)                                                                             \
    X(16, OPERATOR, NO_SUCH_COLUMN_IN_TABLE)                                                                           \
    X(20, OPERATOR, NUMBER_OF_COLUMNS_DOESNT_MATCH)                                                                    \
    X(47, OPERATOR, UNKNOWN_IDENTIFIER)                                                                                \
    X(60, OPERATOR, UNKNOWN_TABLE)                                                                                     \
    X(81, OPERATOR, UNKNOWN_DATABASE)                                                                                  \
    X(107, OPERATOR, FILE_DOESNT_EXIST)                                                                                \
    X(115, OPERATOR, UNKNOWN_SETTING)                                                                                  \
    X(164, OPERATOR, READONLY)                                                                                         \
    X(192, OPERATOR, UNKNOWN_USER)                                                                                     \
    X(193, OPERATOR, WRONG_PASSWORD)                                                                                   \
    X(194, OPERATOR, REQUIRED_PASSWORD)                                                                                \
    X(195, OPERATOR, IP_ADDRESS_NOT_ALLOWED)                                                                           \
    X(291, OPERATOR, DATABASE_ACCESS_DENIED)                                                                           \
    X(395, OPERATOR, FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)                                                              \
    X(452, OPERATOR, SETTING_CONSTRAINT_VIOLATION)                                                                     \
    X(469, BAD_ROW, VIOLATED_CONSTRAINT)                                                                               \
    X(497, OPERATOR, ACCESS_DENIED)                                                                                    \
    X(516, OPERATOR, AUTHENTICATION_FAILED)                                                                            \
    X(33, SCHEMA_DRIFT, CANNOT_READ_ALL_DATA)                                                                          \
    X(6, BAD_ROW, CANNOT_PARSE_TEXT)                                                                                   \
    X(25, BAD_ROW, CANNOT_PARSE_ESCAPE_SEQUENCE)                                                                       \
    X(26, BAD_ROW, CANNOT_PARSE_QUOTED_STRING)                                                                         \
    X(27, BAD_ROW, CANNOT_PARSE_INPUT_ASSERTION_FAILED)                                                                \
    X(38, BAD_ROW, CANNOT_PARSE_DATE)                                                                                  \
    X(41, BAD_ROW, CANNOT_PARSE_DATETIME)                                                                              \
    X(53, BAD_ROW, TYPE_MISMATCH)                                                                                      \
    X(69, BAD_ROW, ARGUMENT_OUT_OF_BOUND)                                                                              \
    X(72, BAD_ROW, CANNOT_PARSE_NUMBER)                                                                                \
    X(117, BAD_ROW, INCORRECT_DATA)                                                                                    \
    X(131, BAD_ROW, TOO_LARGE_STRING_SIZE)                                                                             \
    X(153, BAD_ROW, ILLEGAL_DIVISION)                                                                                  \
    X(190, BAD_ROW, SIZES_OF_ARRAYS_DONT_MATCH)                                                                        \
    X(321, BAD_ROW, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE)                                                                \
    X(349, BAD_ROW, CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN)                                                             \
    X(376, BAD_ROW, CANNOT_PARSE_UUID)                                                                                 \
    X(407, BAD_ROW, DECIMAL_OVERFLOW)                                                                                  \
    X(441, BAD_ROW, CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING)                                                             \
    X(467, BAD_ROW, CANNOT_PARSE_BOOL)                                                                                 \
    X(675, BAD_ROW, CANNOT_PARSE_IPV4)                                                                                 \
    X(676, BAD_ROW, CANNOT_PARSE_IPV6)                                                                                 \
    X(691, BAD_ROW, UNKNOWN_ELEMENT_OF_ENUM)                                                                           \
    X(32, UNKNOWN_CODE, ATTEMPT_TO_READ_AFTER_EOF)                                                                     \
    X(70, UNKNOWN_CODE, CANNOT_CONVERT_TYPE)                                                                           \
    X(128, UNKNOWN_CODE, TOO_LARGE_ARRAY_SIZE)                                                                         \
    X(130, UNKNOWN_CODE, CANNOT_READ_ARRAY_FROM_TEXT)                                                                  \
    X(158, UNKNOWN_CODE, TOO_MANY_ROWS)                                                                                \
    X(160, UNKNOWN_CODE, TOO_SLOW)                                                                                     \
    X(191, UNKNOWN_CODE, SET_SIZE_LIMIT_EXCEEDED)                                                                      \
    X(307, UNKNOWN_CODE, TOO_MANY_BYTES)                                                                               \
    X(396, UNKNOWN_CODE, TOO_MANY_ROWS_OR_BYTES)

enum clickhouse_code {
#define X(code, failure, name) CLICKHOUSE_CODE_##name = (code),
    CLICKHOUSE_EXCEPTIONS(X)
#undef X
};

enum clickhouse_failure clickhouse_failure_of(int exception_code);
const char *clickhouse_failure_name(enum clickhouse_failure failure); // "outcome_unknown"; static
const char *clickhouse_exception_name(int exception_code);            // "UNKNOWN_TABLE", "" if not in our table; static

// Whether the server said that the table, or its database, is not there.
bool clickhouse_error_no_table(const struct relay_error *error);
// Whether that is so, or it refuses our login, or rights: what another replica may have.
bool clickhouse_error_lacks(const struct relay_error *error);

// Finds an exception in a response body: "Code: NN. DB::Exception: ..." or "Code: NN, e.displayText() = ..." at its
// beginning (or, with `tail`, at the start of any later line, and the __exception__ frame of 25.11 and later).
// Returns the code and the message within body, or 0 if there is none. *message may be NULL.
int clickhouse_exception_parse(const char *body, size_t length, bool tail, const char **message,
    size_t *message_length);

// Whether the exception of an INSERT was met behind the table, in a materialized view. What follows the words ends
// without a quote: not those of a value that the server quotes.
bool clickhouse_exception_in_view(const char *message, size_t length);

// Its text as one line, cut.
void clickhouse_exception_line(char *line, size_t room, const char *message, size_t length);

// Fills error from a server's exception: code and class by its failure, detail = the code, text = one line, cut, and of
// BAD_ROW without the values of the row. Returns the failure. Code 252 that speaks of partitions in one INSERT is
// OPERATOR (waiting does not help). Codes 32, 70, 128 and 130 are BAD_ROW where a function of the table gave them for a
// value: '' as a number, say. Else the body may have come in part, or a column be of another type by now.
enum clickhouse_failure clickhouse_error_set(struct relay_error *error, int exception_code, const char *message,
    size_t message_length);

#endif
