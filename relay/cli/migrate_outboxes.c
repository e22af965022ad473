// SPDX-License-Identifier: Apache-2.0
//
// The outbox tables of the configuration beyond public.outbox_events, which the schema files make or adopt themselves,
// unless the application has made it with its seq. A table that is not there is created when it is of the native layout
// with the usual columns; one that is there is attached if it fits, and again where its columns were renamed, or it
// has got a published_at. What does not fit is said with PostgreSQL's own hint, and the others are still looked at. A
// table's lock is not to be had within MIGRATE_LOCK_TIMEOUT: the writers that queue behind us go on; it is tried again.
#include "relay/cli/migrate.h"

#include "relay/config/config_outboxes.h"
#include "relay/publish/outbox_table.h"

#include <stdio.h>
#include <string.h>

struct outbox_state {
    bool exists, known;
    bool by_files; // the schema files, which have not run yet, make or adopt it
    bool differs;  // it is known by other names, or has got a published_at since
    bool lost;     // it has lost its published_at
    bool marks;    // it has one
};

// A number column that is there still is not exchanged. `marks` is of file 022, which a dry run may find missing.
static const char state_sql[] =
    "SELECT t.id IS NOT NULL, o.outbox IS NOT NULL, false, "
    "($2 <> o.seq_column AND $2 = ANY (c.names) AND NOT o.seq_column = ANY (c.names)) "
    "OR ($3 <> o.created_at_column AND $3 = ANY (c.names)) "
    "OR (pg_catalog.to_jsonb(o) ? 'marks' AND (" OUTBOX_TABLE_MARKED
    " IS NOT TRUE OR pg_catalog.to_jsonb(o) ->> 'marked_table' IS DISTINCT FROM t.id::text) AND 'published_at' = ANY "
    "(c.names)), " OUTBOX_TABLE_LOST ", 'published_at' = ANY (c.names) "
    "FROM (SELECT pg_catalog.to_regclass($1)::oid) t (id) LEFT JOIN outbox_relay.outboxes o ON o.outbox::oid = t.id "
    "CROSS JOIN LATERAL (SELECT ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a "
    "WHERE a.attrelid = t.id AND a.attnum > 0 AND NOT a.attisdropped)) c (names)";
static const char state_before_sql[] =
    "SELECT pg_catalog.to_regclass($1) IS NOT NULL, false, pg_catalog.parse_ident($1) = ARRAY['public', "
    "'outbox_events'], false, false, false";

static bool look(struct pg_connection *connection, const struct relay_context *context,
    const struct config_outbox *outbox, struct outbox_state *state, struct relay_error *error)
{
    // In a dry run on an empty database the relay's own tables are not there yet.
    PGresult *result = pg_query(connection, "SELECT pg_catalog.to_regclass('outbox_relay.outboxes') IS NOT NULL", NULL,
        0, false, pg_deadline(context), error);
    bool migrated = result && pg_cell_true(result, 0, 0);
    PQclear(result);
    if (!result) {
        return false;
    }
    const struct pg_value values[] = {PG_TEXT(outbox->table), PG_TEXT(outbox->columns[CONFIG_COLUMN_SEQ]),
        PG_TEXT(outbox->columns[CONFIG_COLUMN_CREATED_AT])};
    result = pg_query(connection, migrated ? state_sql : state_before_sql, values, migrated ? 3 : 1, false,
        pg_deadline(context), error);
    if (!result) {
        return error_prefix(error, "outbox %s, table %s", outbox->name, outbox->table);
    }
    *state = (struct outbox_state){.exists = pg_cell_true(result, 0, 0),
        .known = pg_cell_true(result, 0, 1),
        .by_files = pg_cell_true(result, 0, 2),
        .differs = pg_cell_true(result, 0, 3),
        .lost = pg_cell_true(result, 0, 4),
        .marks = pg_cell_true(result, 0, 5)};
    PQclear(result);
    return true;
}

static bool has_usual_columns(const struct config_outbox *outbox)
{
    bool same = outbox->layout == CONFIG_LAYOUT_NATIVE;
    for (int role = 0; same && role < CONFIG_COLUMN_ROLES; role++) {
        const char *usual = config_column_default(CONFIG_LAYOUT_NATIVE, (enum config_column_role)role);
        same = strcmp(outbox->columns[role], usual) == 0 || outbox->columns[role][0] == '\0';
    }
    return same;
}

bool migrate_outboxes_leave(const struct relay_context *context, struct pg_connection *connection, bool *leave,
    struct relay_error *error)
{
    // 006 asks a table without seq for three columns, the index of 007 is on seq and published_at.
    static const char sql[] =
        "SELECT t.id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox_relay.outboxes o WHERE o.outbox::oid = t.id) AND "
        "NOT EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox::oid = t.id), "
        "t.id = pg_catalog.to_regclass($1)::oid AND $2 = 'seq' AND (SELECT ARRAY['seq', 'published_at'] <@ "
        "pg_catalog.array_agg(a.attname::text) OR ARRAY['id', 'created_at', 'published_at'] <@ "
        "pg_catalog.array_agg(a.attname::text) FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.id AND NOT "
        "a.attisdropped) FROM (SELECT pg_catalog.to_regclass('public.outbox_events')::oid) t (id)";
    const struct config *config = context->config;
    *leave = true;
    for (size_t i = 0; *leave && i < config->outbox_count; i++) {
        const struct config_outbox *outbox = &config->outboxes[i];
        const struct pg_value values[] = {PG_TEXT(outbox->table), PG_TEXT(outbox->columns[CONFIG_COLUMN_SEQ])};
        PGresult *result = pg_query(connection, sql, values, 2, false, pg_deadline(context), error);
        if (!result) {
            return error_prefix(error, "outbox %s, table %s", outbox->name, outbox->table);
        }
        *leave = pg_cell_true(result, 0, 0) && !pg_cell_true(result, 0, 1); // NULL: one of the two is not there
        PQclear(result);
    }
    return true;
}

// A statement that takes a table's lock, which its writers have to themselves as long as they want. The caller clears
// the result; NULL: an error.
static PGresult *locking(struct pg_connection *connection, const struct relay_context *context, const char *sql,
    const struct pg_value *values, int count, struct relay_error *error)
{
    const struct clock *clock = context->clock;
    if (!pg_execute(connection, "SET lock_timeout = '" MIGRATE_LOCK_TIMEOUT "'", pg_deadline(context), error)) {
        return NULL;
    }
    for (int tries = 1;; tries++) {
        PGresult *result = pg_query(connection, sql, values, count, false, pg_deadline(context), error);
        if (result || pg_broken(connection) || strcmp(pg_last_sqlstate(connection), MIGRATE_LOCK_REFUSED) != 0 ||
            tries == MIGRATE_LOCK_TRIES) {
            return result;
        }
        if (stop_wait(context->stop, clock, mono_add(clock_mono(clock), MIGRATE_LOCK_PAUSE))) {
            error_set(error, RELAY_ERROR_STOPPED, "stopped while the table was locked");
            return NULL;
        }
    }
}

static bool create(struct pg_connection *connection, const struct relay_context *context,
    const struct config_outbox *outbox, struct relay_error *error)
{
    PGresult *result = locking(connection, context, "SELECT outbox_relay.create_outbox($1)", &PG_TEXT(outbox->table), 1,
        error);
    if (result) {
        printf("outbox %s: table %s created, identity %s\n", outbox->name, outbox->table, pg_cell(result, 0, 0));
    }
    PQclear(result);
    return result != NULL;
}

static bool attach(struct pg_connection *connection, const struct relay_context *context,
    const struct config_outbox *outbox, bool again, struct relay_error *error)
{
    const struct pg_value values[] = {PG_TEXT(outbox->table), PG_TEXT(outbox->columns[CONFIG_COLUMN_SEQ]),
        PG_TEXT(outbox->columns[CONFIG_COLUMN_CREATED_AT])};
    PGresult *result = locking(connection, context,
        "SELECT outbox_relay.attach_outbox(pg_catalog.to_regclass($1), $2::name, $3::name)", values, 3, error);
    if (result) {
        printf("outbox %s: table %s attached%s, identity %s\n", outbox->name, outbox->table, again ? " again" : "",
            pg_cell(result, 0, 0));
    }
    PQclear(result);
    return result != NULL;
}

// public.outbox_events under its new name, where it was renamed: the view outbox_status has followed it. Made anew, it
// would be a table that nobody publishes. false: it was, or cannot be asked; error says so.
static bool was_not_renamed(struct pg_connection *connection, const struct relay_context *context,
    const struct config_outbox *outbox, struct relay_error *error)
{
    PGresult *result = pg_query(connection,
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM "
        "pg_catalog.pg_rewrite r "
        "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_rewrite'::regclass::oid AND d.objid = r.oid AND d.refclassid = "
        "'pg_class'::regclass::oid AND d.refobjid <> r.ev_class JOIN pg_catalog.pg_class c ON c.oid = d.refobjid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.ev_class = "
        "pg_catalog.to_regclass('public.outbox_status')::oid AND c.relkind IN ('r', 'p') "
        "AND pg_catalog.parse_ident($1) = ARRAY['public', 'outbox_events']",
        &PG_TEXT(outbox->table), 1, false, pg_deadline(context), error);
    bool renamed = result && PQntuples(result) > 0;
    if (renamed) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s was renamed to %s, and is not made anew: name that in [outbox] table of this configuration, too",
            outbox->table, pg_cell(result, 0, 0));
    }
    PQclear(result);
    return result != NULL && !renamed;
}

// *changed: a table was created or attached. false: this outbox cannot be used; error says why.
static bool settle(struct pg_connection *connection, const struct relay_context *context,
    const struct config_outbox *outbox, bool dry_run, bool *changed, struct relay_error *error)
{
    struct outbox_state state = {0};
    if (!look(connection, context, outbox, &state, error)) {
        return false;
    }
    if (state.lost) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, OUTBOX_TABLE_LOST_MARKS, outbox->table,
            OUTBOX_TABLE_HAS_NOW(state.marks), outbox->table);
    }
    if (state.by_files || (state.known && !state.differs)) {
        return true;
    }
    if (!state.exists && !has_usual_columns(outbox)) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s does not exist, and its form is the application's to choose: create it with a column %s bigint "
            "GENERATED "
            "ALWAYS AS IDENTITY (CACHE 1) and a unique index on it, then run this again",
            outbox->table, outbox->columns[CONFIG_COLUMN_SEQ][0] != '\0' ? outbox->columns[CONFIG_COLUMN_SEQ] : "seq");
    }
    if (!state.exists && !was_not_renamed(connection, context, outbox, error)) {
        return false;
    }
    if (dry_run) {
        printf("would %s table %s of outbox %s%s\n", state.exists ? "attach" : "create", outbox->table, outbox->name,
            state.known ? " again" : "");
        return true;
    }
    *changed = *changed || !state.known;
    return state.exists ? attach(connection, context, outbox, state.known, error)
                        : create(connection, context, outbox, error);
}

bool migrate_outboxes(const struct relay_context *context, struct pg_connection *connection, bool dry_run,
    struct relay_error *error)
{
    const struct config *config = context->config;
    size_t failed = 0;
    bool changed = false;
    for (size_t i = 0; i < config->outbox_count; i++) {
        if (!settle(connection, context, &config->outboxes[i], dry_run, &changed, error)) {
            fprintf(stderr, "outbox %s: %s\n", config->outboxes[i].name, error->text);
            failed++;
        }
        if (pg_broken(connection)) {
            return false;
        }
    }
    if (changed) {
        printf("run schemas/postgres/roles.sql (again), so that the relay's role may read the new tables\n");
    }
    return failed == 0 ||
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, "%zu of %zu outbox tables cannot be used yet", failed,
            config->outbox_count);
}
