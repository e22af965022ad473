// SPDX-License-Identifier: Apache-2.0
//
// Happy path: count what is asked for; have the server put the rows' names aside in the order of their numbers (a held
// cursor: one scan, no snapshot kept); then batch by batch, each in one transaction: published_at becomes NULL and seq
// a new number, row by row in that order, and a NOTIFY wakes the relay. A new number, since an old one lies below what
// the relay has settled, and since an old receipt in Kafka may speak of it. A row's name is its old number where an
// index finds it by that, else its id.
//   A batch fails: it is rolled back as a whole; what was done before is published. Run again, it publishes those again
//   too. A row was deleted or un-marked meanwhile: it is passed over.
#include "relay/cli/replay.h"

#include "relay/postgres/pg_connection.h"
#include "relay/publish/outbox_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH        500
#define SCAN_TIMEOUT DURATION_S(3600)

struct outbox_replay {
    const struct relay_context *context;
    const struct replay_options *options;
    const struct config_outbox *outbox;
    struct pg_connection *connection;
    char *table, *seq, *name; // quoted; name: the column by which rows are found
    char *where;              // conditions over $1 to $4, and over alias t
    char *type;               // the type column as text, or NULL::text
    char *created;            // created_at as timestamptz, over alias t
    char *equals;             // the operator of the name's type
    char channel[64];
    int64_t found, nameless; // those without an id cannot be found
};

static const struct config_outbox *find_outbox(const struct config *config, const char *name, struct relay_error *error)
{
    for (size_t i = 0; name && i < config->outbox_count; i++) {
        if (strcmp(config->outboxes[i].name, name) == 0) {
            return &config->outboxes[i];
        }
    }
    if (!name && config->outbox_count == 1) {
        return &config->outboxes[0];
    }
    error_set(error, RELAY_ERROR_USAGE,
        name ? "there is no outbox %s" : "there are several outboxes: name one with --outbox%s", name ? name : "");
    return NULL;
}

static bool out_of_memory(struct relay_error *error)
{
    return error_no_memory(error, "replaying events");
}

// "name" quoted, or NULL::text for a column that the table does not have; malloc'd.
static char *column(struct outbox_replay *at, enum config_column_role role)
{
    const char *name = at->outbox->columns[role];
    if (name[0] == '\0') {
        return strdup("NULL::text");
    }
    char *quoted = PQescapeIdentifier(pg_libpq(at->connection), name, strlen(name)),
         *copy = quoted ? strdup(quoted) : NULL;
    PQfreemem(quoted);
    return copy;
}

// The id may be of an extension's type, whose operators the search_path does not reach: the one of its index is named.
static const char table_sql[] =
    "SELECT pg_catalog.to_regclass($1)::text, pg_catalog.to_regclass($1)::oid, "
    "EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND "
    "a.attname = 'published_at' AND NOT a.attisdropped), "
    "(SELECT " OUTBOX_TABLE_BASE_TYPE " FROM pg_catalog.pg_attribute a "
    "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 AND NOT a.attisdropped), "
    "coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_catalog.pg_attribute a "
    "JOIN pg_catalog.pg_opclass c ON c.opcintype = a.atttypid AND c.opcdefault "
    "JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree' "
    "JOIN pg_catalog.pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype "
    "AND p.amoprighttype = c.opcintype AND p.amopstrategy = 3 "
    "JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace "
    "WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $3 AND NOT a.attisdropped), '=')";

// Number or id, whichever leads an index over all rows; the number, if both do.
static const char index_sql[] =
    "SELECT a.attname = $2 FROM pg_catalog.pg_index x "
    "JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] "
    "JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam "
    "WHERE x.indrelid = pg_catalog.to_regclass($1)::oid AND x.indisvalid AND x.indpred IS NULL "
    "AND m.amname IN ('btree', 'hash') AND a.attname IN ($2, $3) ORDER BY 1 DESC LIMIT 1";

// *role: the column by which rows are found.
static bool choose_name(struct outbox_replay *at, enum config_column_role *role, struct relay_error *error)
{
    char *const *columns = at->outbox->columns;
    const struct pg_value values[] = {PG_TEXT(at->outbox->table), PG_TEXT(columns[CONFIG_COLUMN_SEQ]),
        PG_TEXT(columns[CONFIG_COLUMN_ID])};
    PGresult *result = pg_query(at->connection, index_sql, values, 3, false, pg_deadline(at->context), error);
    if (!result) {
        return false;
    }
    bool has_index = PQntuples(result) > 0, has_id = columns[CONFIG_COLUMN_ID][0] != '\0';
    *role = !has_id || (has_index && pg_cell_true(result, 0, 0)) ? CONFIG_COLUMN_SEQ : CONFIG_COLUMN_ID;
    if (!has_index) {
        printf("note: no index of %s begins with its number or its id, so each event costs a scan of it: first CREATE "
               "INDEX CONCURRENTLY ON %s (%s)\n",
            at->table, at->table, at->seq);
    }
    PQclear(result);
    return true;
}

// *created: the type of the column of the creation time, of a domain what it is made of.
static bool look_at_table(struct outbox_replay *at, Oid *created, struct relay_error *error)
{
    const struct pg_value values[] = {PG_TEXT(at->outbox->table),
        PG_TEXT(at->outbox->columns[CONFIG_COLUMN_CREATED_AT]), PG_TEXT(at->outbox->columns[CONFIG_COLUMN_ID])};
    PGresult *result = pg_query(at->connection, table_sql, values, 3, false, pg_deadline(at->context), error);
    if (!result) {
        return false;
    }
    bool done = false;
    if (!pg_cell(result, 0, 0)) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, "table %s does not exist", at->outbox->table);
    } else if (!pg_cell_true(result, 0, 2)) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s has no column published_at: it keeps no published events; "
            "Kafka may still have them: replay --into refills ClickHouse from there",
            at->outbox->table);
    } else if (!pg_cell(result, 0, 3)) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s has no column of the creation time, by which events are chosen", at->outbox->table);
    } else {
        *created = (Oid)strtoul(pg_cell(result, 0, 3), NULL, 10);
        snprintf(at->channel, sizeof(at->channel), "outbox_relay_%s", pg_cell(result, 0, 1));
        at->table = strdup(pg_cell(result, 0, 0));
        at->equals = strdup(pg_cell(result, 0, 4));
        done = (at->table && at->equals) || out_of_memory(error);
    }
    PQclear(result);
    return done;
}

static bool build(struct outbox_replay *at, struct relay_error *error)
{
    Oid created;
    enum config_column_role name;
    if (!look_at_table(at, &created, error)) {
        return false;
    }
    at->seq = column(at, CONFIG_COLUMN_SEQ);
    if (!at->seq) {
        return out_of_memory(error);
    }
    if (!choose_name(at, &name, error)) {
        return false;
    }
    char *time = column(at, CONFIG_COLUMN_CREATED_AT), *key = column(at, CONFIG_COLUMN_KEY), *where = NULL;
    at->name = column(at, name);
    at->type = column(at, CONFIG_COLUMN_TYPE);
    if (name == CONFIG_COLUMN_SEQ) {
        snprintf(at->equals, strlen(at->equals) + 1, "=");
    }
    at->created = time ? outbox_table_time(created, time) : NULL;
    bool done = at->created && key && at->name && at->type &&
        asprintf(&where,
            "published_at IS NOT NULL AND %s >= $1::timestamptz AND ($2::timestamptz IS NULL OR %s < $2::timestamptz) "
            "AND ($3::text IS NULL OR %s::text = $3) AND ($4::text IS NULL OR %s::text = $4)",
            at->created, at->created, at->type, key) >= 0;
    at->where = done ? where : NULL;
    free(time);
    free(key);
    return done || out_of_memory(error);
}

static void conditions(const struct outbox_replay *at, char times[2][WALL_TIME_TEXT], struct pg_value values[4])
{
    wall_time_format(at->options->from, times[0]);
    wall_time_format(at->options->to, times[1]);
    values[0] = PG_TEXT(times[0]);
    values[1] = PG_TEXT(at->options->to_given ? times[1] : NULL);
    values[2] = PG_TEXT(at->options->event_type);
    values[3] = PG_TEXT(at->options->aggregate_id);
}

static PGresult *ask(struct outbox_replay *at, const char *sql, struct relay_error *error)
{
    char times[2][WALL_TIME_TEXT];
    struct pg_value values[4];
    conditions(at, times, values);
    return pg_query(at->connection, sql, values, 4, false, mono_add(clock_mono(at->context->clock), SCAN_TIMEOUT),
        error);
}

// What would be published, by type.
static bool count(struct outbox_replay *at, struct relay_error *error)
{
    char *sql = NULL;
    if (asprintf(&sql,
            "SELECT %s::text, count(*), pg_catalog.to_char(min(%s), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
            "pg_catalog.to_char(max(%s), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), count(%s) FROM %s t WHERE %s GROUP BY 1 "
            "ORDER BY 1",
            at->type, at->created, at->created, at->name, at->table, at->where) < 0) {
        return out_of_memory(error);
    }
    PGresult *result = ask(at, sql, error);
    free(sql);
    for (int i = 0; result && i < PQntuples(result); i++) {
        printf("%12s events of type %s, from %s to %s\n", pg_cell(result, i, 1),
            pg_cell(result, i, 0) ? pg_cell(result, i, 0) : "(none)",
            pg_cell(result, i, 2) ? pg_cell(result, i, 2) : "-infinity",
            pg_cell(result, i, 3) ? pg_cell(result, i, 3) : "infinity");
        at->found += pg_cell_int64(result, i, 4);
        at->nameless += pg_cell_int64(result, i, 1) - pg_cell_int64(result, i, 4);
    }
    PQclear(result);
    return result != NULL;
}

// Who, and what, for the server's log, if the schema has file 021. Not with the updates: it has the statement, too.
static bool note_decision(struct outbox_replay *at, struct relay_error *error)
{
    char found[24];
    snprintf(found, sizeof(found), "%lld", (long long)at->found);
    char times[2][WALL_TIME_TEXT];
    struct pg_value values[6] = {PG_TEXT(at->table), PG_TEXT(found)};
    conditions(at, times, values + 2);
    PGresult *result = pg_query(at->connection,
        "SELECT outbox_relay.note_decision(pg_catalog.format('%s events of %s are published again, created from %s to "
        "%s, type %s, aggregate %s (replay)', $2::text, $1::text, $3::text, coalesce($4::text, 'now'), "
        "coalesce(pg_catalog.quote_literal($5::text), 'any'), coalesce(pg_catalog.quote_literal($6::text), 'any')))",
        values, 6, false, pg_deadline(at->context), error);
    PQclear(result);
    return result || (!pg_broken(at->connection) && strcmp(pg_last_sqlstate(at->connection), "42883") == 0);
}

static bool put_aside(struct outbox_replay *at, struct relay_error *error)
{
    char *sql = NULL;
    if (asprintf(&sql,
            "DECLARE outbox_relay_replay NO SCROLL CURSOR WITH HOLD FOR SELECT %s::text FROM %s t WHERE %s AND %s IS "
            "NOT "
            "NULL ORDER BY %s",
            at->name, at->table, at->where, at->name, at->seq) < 0) {
        return out_of_memory(error);
    }
    PGresult *result = ask(at, sql, error);
    free(sql);
    PQclear(result);
    return result != NULL;
}

// One transaction: each statement of the text in turn, so that the new numbers are drawn in the order of the old ones.
static bool republish(struct outbox_replay *at, const PGresult *names, struct relay_error *error)
{
    char *text = NULL;
    size_t length;
    FILE *memory = open_memstream(&text, &length);
    if (!memory) {
        return out_of_memory(error);
    }
    fprintf(memory, "BEGIN;");
    for (int i = 0; i < PQntuples(names); i++) {
        char *name = PQescapeLiteral(pg_libpq(at->connection), pg_cell(names, i, 0), strlen(pg_cell(names, i, 0)));
        fprintf(memory, "UPDATE %s SET published_at = NULL, %s = DEFAULT WHERE %s %s %s AND published_at IS NOT NULL;",
            at->table, at->seq, at->name, at->equals, name ? name : "NULL");
        PQfreemem(name);
    }
    fprintf(memory, "SELECT pg_catalog.pg_notify('%s', ''); COMMIT", at->channel);
    bool done = fclose(memory) == 0 ? pg_execute(at->connection, text, pg_deadline(at->context), error)
                                    : out_of_memory(error);
    free(text);
    if (!done && !pg_broken(at->connection)) {
        pg_execute(at->connection, "ROLLBACK", pg_deadline(at->context), NULL);
    }
    return done;
}

static bool run(struct outbox_replay *at, struct relay_error *error)
{
    int64_t done = 0, batch = at->options->rate < BATCH ? at->options->rate : BATCH;
    char fetch[80];
    snprintf(fetch, sizeof(fetch), "FETCH %lld FROM outbox_relay_replay", (long long)batch);
    struct mono_time start = clock_mono(at->context->clock);
    for (;;) {
        PGresult *names = pg_query(at->connection, fetch, NULL, 0, false, pg_deadline(at->context), error);
        int rows = names ? PQntuples(names) : -1;
        bool fine = rows >= 0 && (rows == 0 || republish(at, names, error));
        PQclear(names);
        if (!fine) {
            error_prefix(error, "after %lld of %lld events", (long long)done, (long long)at->found);
            return false;
        }
        done += rows;
        if (rows < batch) {
            break;
        }
        if (!replay_pace(at->context, start, done, at->options->rate)) {
            return error_set(error, RELAY_ERROR_STOPPED, "stopped after %lld of %lld events; those will be published",
                (long long)done, (long long)at->found);
        }
    }
    printf("%lld events are in outbox %s again, with new numbers; the relay publishes them\n", (long long)done,
        at->outbox->name);
    return true;
}

bool replay_outbox(const struct relay_context *context, const struct replay_options *options, struct relay_error *error)
{
    struct outbox_replay at = {.context = context, .options = options};
    struct pg_options how = {.role = "replay", .read_write = !options->dry_run, .statement_timeout = SCAN_TIMEOUT};
    bool done = false;
    at.outbox = find_outbox(context->config, options->outbox, error);
    at.connection = at.outbox ? pg_connect(context, &how, error) : NULL;
    if (at.connection && build(&at, error) && count(&at, error)) {
        if (at.found == 0 && at.nameless == 0) {
            printf("no published event of outbox %s is kept from that time%s\n", at.outbox->name,
                at.outbox->disposition == CONFIG_DISPOSITION_MARK ? ""
                                                                  : ": with disposition = delete nothing is kept, only "
                                                                    "mark keeps what was published (Kafka may have it: "
                                                                    "--into)");
            done = true;
        } else if (options->dry_run) {
            printf("would publish %lld events again\n", (long long)at.found);
            done = true;
        } else {
            done = note_decision(&at, error) && put_aside(&at, error) && run(&at, error);
        }
        if (done && at.nameless > 0) {
            done = error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "%lld published events have no id, by which the others were found, and are left out; after CREATE "
                "INDEX "
                "CONCURRENTLY ON %s (%s) rows are found by their number",
                (long long)at.nameless, at.table, at.seq);
        }
    }
    pg_close(at.connection);
    free(at.table);
    free(at.seq);
    free(at.name);
    free(at.where);
    free(at.type);
    free(at.created);
    free(at.equals);
    return done;
}
