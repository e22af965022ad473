// SPDX-License-Identifier: Apache-2.0
//
// A growing text for SQL statements and URLs: plain words, quoted literals and names, percent-encoding. Start it with
// {0}. Owned by its user, one thread. Each function returns false when memory is out; the text is then still valid and
// as before.
#ifndef RELAY_CLICKHOUSE_CLICKHOUSE_TEXT_H
#define RELAY_CLICKHOUSE_CLICKHOUSE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct clickhouse_text {
    char *at; // NUL-terminated, malloc'd; NULL when empty
    size_t length, room;
};

bool clickhouse_text_add(struct clickhouse_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool clickhouse_text_bytes(struct clickhouse_text *text, const char *bytes, size_t length);
// 'a\'b': an SQL string literal of any bytes.
bool clickhouse_text_literal(struct clickhouse_text *text, const char *value, size_t length);
// `a\`b`: a name of a database, table or column.
bool clickhouse_text_name(struct clickhouse_text *text, const char *name);
// `a`.`b`: a table as the configuration has it, "table" or "database.table".
bool clickhouse_text_table(struct clickhouse_text *text, const char *table);
// 't', 'db.t': literals of all that the configuration may call the table, where [clickhouse] database is db.
bool clickhouse_text_spellings(struct clickhouse_text *text, const char *table, const char *database);
// Percent-encodes everything but unreserved characters (RFC 3986).
bool clickhouse_text_url(struct clickhouse_text *text, const char *value, size_t length);
void clickhouse_text_reset(struct clickhouse_text *text);  // empty; memory kept
void clickhouse_text_finish(struct clickhouse_text *text); // frees

#endif
