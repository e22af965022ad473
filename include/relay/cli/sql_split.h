// SPDX-License-Identifier: Apache-2.0
//
// Cuts the text of a schema file into its statements: at each `;` that stands outside of quotes, dollar quotes and
// comments. Two dialects differ in what a quote is. Comments and white space before a statement are left out, so that a
// statement begins where its first word stands. Does not know SQL: a body of BEGIN ATOMIC, the one place where
// PostgreSQL takes `;` in the open, is not recognised; write such a function with a quoted body. Pure; borrows the
// text.
#ifndef RELAY_CLI_SQL_SPLIT_H
#define RELAY_CLI_SQL_SPLIT_H

#include "relay/base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum sql_dialect {
    SQL_POSTGRES,   // '' E'\'' "" $tag$ -- and nested /* */
    SQL_CLICKHOUSE, // \ escapes in '', "", ``; -- # and /* */
};

struct sql_statement {
    const char *at; // within the text
    size_t length;  // without the `;` and without white space at the end
    int line;       // of its first word, from 1
};

struct sql_splitter {
    enum sql_dialect dialect;
    const char *at;
    int line;
};

void sql_split_start(struct sql_splitter *splitter, enum sql_dialect dialect, const char *text);
// true: *statement is the next one. false: the end (error NONE), or a quote or comment that never ends (error CONFIG,
// with the line where it begins).
bool sql_split_next(struct sql_splitter *splitter, struct sql_statement *statement, struct relay_error *error);
// Whether the word, in any case, stands in the statement outside of quotes and comments.
bool sql_has_word(enum sql_dialect dialect, const struct sql_statement *statement, const char *word);

#endif
