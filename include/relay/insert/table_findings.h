// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a table for us, and what fixes it: collected all at once, for `check`, the log and errors. A list
// of findings belongs to its maker; start it with {0}.
#ifndef RELAY_INSERT_TABLE_FINDINGS_H
#define RELAY_INSERT_TABLE_FINDINGS_H

#include "relay/insert/table_schema.h"

#include <stdbool.h>
#include <stddef.h>

// One finding about a table: what is wrong and what fixes it (an ALTER, a grant, a changed route). Both malloc'd.
struct table_finding {
    bool fatal; // the route cannot be filled at all, or in pieces only; else exactly_once is not possible, or a warning
    bool prevents_exactly_once;
    char *what, *hint;
};
struct table_findings {
    struct table_finding *items;
    size_t count;
};
// Copies both texts. false: out of memory. Start with {0}.
bool table_findings_add(struct table_findings *findings, bool fatal, bool prevents_exactly_once, const char *what,
    const char *hint);
void table_findings_finish(struct table_findings *findings);
// The first that prevents exactly once, or NULL.
const struct table_finding *table_findings_against_exactly_once(const struct table_findings *findings);

// Whether this table, served by `endpoints` URLs, can be filled exactly once; every reason against it is appended to
// findings, and those that are there already (the route's) count. sent: the names of the columns that the route fills
// (for the partition-key rule). false with an error only when out of memory; *possible is the answer.
bool table_schema_exactly_once(const struct table_schema *schema, size_t endpoints, const char *const *sent,
    size_t sent_count, bool *possible, struct table_findings *findings, struct relay_error *error);
// The engine, or a TTL with GROUP BY, makes one row of several, so that not each row's offset can be found.
bool table_schema_merges_rows(const struct table_schema *schema);
// A TTL ends rows (those that only move or recompress parts do not).
bool table_schema_ttl_removes_rows(const struct table_schema *schema);
// By this column's value, as far as can be told.
bool table_schema_lives_by(const struct table_schema *schema, const struct table_column *column);

#endif
