// SPDX-License-Identifier: Apache-2.0
//
// Happy path: in one transaction, run the files that are one transaction each once more, with the names of the two
// schemas replaced, so that they make a second set of all objects beside the first; have PostgreSQL describe both sets
// in its own words (pg_get_functiondef and its like) and compare; roll all of it back. Where every object of the second
// set is in the first, described the same, the files are recorded in a transaction of their own.
//
//   Files outside a transaction (the adoption of an existing table, its index) cannot be run beside: what they lead to,
//   a table that the relay can work with, is looked at instead, once they are all to be recorded.
//   Something is missing or differs: each object is named, nothing is recorded.
//   Further objects, other owners, rights of roles and storage settings are the database's own affair.
// Locks: only on what the transaction itself made.
#include "relay/cli/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Stand-ins that hold neither of the names, so that replacing them back is exact.
#define RELAY_NAME    "outbox_relay"
#define COMMON_NAME   "public"
#define RELAY_BESIDE  "baseline_rel_x"
#define COMMON_BESIDE "baseline_pub_x"
#define BACK(text)                                                                                                     \
    "replace(replace(" text ", '" RELAY_BESIDE "', '" RELAY_NAME "'), '" COMMON_BESIDE "', '" COMMON_NAME "')"

struct baseline {
    struct pg_connection *connection;
    const struct migration_files *files;
    int to;
};

// The table that an application may have made by itself is judged by what the relay needs of it (outbox_fault).
static const char compare_sql[] =
    "WITH place (beside, nsp) AS (SELECT n.nspname IN ('" RELAY_BESIDE "', '" COMMON_BESIDE "'), n.oid "
    "FROM pg_namespace n WHERE n.nspname IN ('" RELAY_NAME "', '" COMMON_NAME "', '" RELAY_BESIDE "', '" COMMON_BESIDE
    "')), "
    "relation AS (SELECT p.beside, c.* FROM place p JOIN pg_class c ON c.relnamespace = p.nsp), "
    "own AS (SELECT r.* FROM relation r WHERE r.relkind IN ('r', 'p') AND r.relname <> 'outbox_events'), "
    "found (beside, object, definition) AS ("
    "SELECT p.beside, CASE f.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || f.oid::regprocedure::text, "
    "pg_get_functiondef(f.oid) || has_function_privilege('public', f.oid, 'EXECUTE')::text "
    "FROM place p JOIN pg_proc f ON f.pronamespace = p.nsp WHERE f.prokind IN ('f', 'p') "
    "UNION ALL SELECT o.beside, 'table ' || o.oid::regclass::text, concat("
    "(SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, "
    "pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attname) FROM pg_attribute a "
    "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "WHERE a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped), "
    "(SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY pg_get_constraintdef(k.oid) COLLATE \"C\") "
    "FROM pg_constraint k WHERE k.conrelid = o.oid AND k.contype IN ('c', 'p', 'u', 'f', 'x'))) FROM own o "
    "UNION ALL SELECT o.beside, 'index ' || i.indexrelid::regclass::text, "
    "pg_get_indexdef(i.indexrelid) || i.indisvalid::text FROM own o JOIN pg_index i ON i.indrelid = o.oid "
    "UNION ALL SELECT o.beside, format('trigger %I on %s', t.tgname, o.oid::regclass), "
    "pg_get_triggerdef(t.oid) || t.tgenabled::text FROM own o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT "
    "t.tgisinternal "
    "UNION ALL SELECT r.beside, 'view ' || r.oid::regclass::text, pg_get_viewdef(r.oid) FROM relation r WHERE "
    "r.relkind = 'v'), "
    "wanted (object, definition) AS (SELECT " BACK("f.object") ", " BACK(
        "f.definition") " FROM found f WHERE f.beside) "
                        "SELECT w.object, CASE WHEN t.object IS NULL THEN 'missing' WHEN t.definition IS DISTINCT FROM "
                        "w.definition "
                        "THEN 'differs' ELSE '' END FROM wanted w LEFT JOIN found t ON t.object = w.object AND NOT "
                        "t.beside ORDER BY 1";

// What keeps the relay from working with the first outbox table; NULL where nothing does. One that is not registered,
// as where the rows of the schema's tables did not come along, is attached by the next `up`.
static const char outbox_fault_sql[] =
    "SELECT CASE WHEN t.id IS NULL THEN 'is missing' "
    "WHEN EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox = t.id) "
    "THEN 'is not adopted to its end: run the files 006 to 008 again' "
    "WHEN o.outbox IS NULL AND NOT f.fits THEN 'is not registered, and has no identity column with a valid unique "
    "index: run the files 006 to 008 again' "
    "WHEN o.outbox IS NULL THEN NULL "
    "WHEN NOT EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = t.id AND g.tgname = 'outbox_relay_wakeup') "
    "THEN 'has no trigger that wakes the relay: SELECT "
    "outbox_relay.create_wakeup_trigger(''public.outbox_events'')' "
    "WHEN NOT EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = t.id AND g.tgname = 'outbox_relay_wakeup' "
    "AND g.tgenabled IN ('O', 'A')) THEN 'has a trigger that wakes the relay, but for no writer: ALTER TABLE "
    "public.outbox_events ENABLE TRIGGER outbox_relay_wakeup' "
    "WHEN NOT f.fits THEN 'has no identity column with a valid unique index' END "
    "FROM (SELECT to_regclass('public.outbox_events')) t (id) LEFT JOIN outbox_relay.outboxes o ON o.outbox = t.id "
    "CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid AND "
    "i.indkey[0] = a.attnum WHERE a.attrelid = t.id AND a.attname = coalesce(o.seq_column, a.attname) "
    "AND a.attidentity <> '' AND i.indisunique AND i.indisvalid "
    "AND i.indnkeyatts = 1 AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = '(published_at IS NULL)'))) "
    "f (fits)";

// All of `from` in the text replaced; malloc'd, NULL: out of memory.
static char *replaced(const char *text, const char *from, const char *to)
{
    char *result = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&result, &length);
    if (!out) {
        return NULL;
    }
    for (const char *at; (at = strstr(text, from)) != NULL; text = at + strlen(from)) {
        fwrite(text, 1, (size_t)(at - text), out);
        fputs(to, out);
    }
    fputs(text, out);
    if (fclose(out) != 0) {
        free(result);
        return NULL;
    }
    return result;
}

static bool within(const struct baseline *baseline, const struct migration_file *file)
{
    return baseline->to == MIGRATION_ALL || file->number <= baseline->to;
}

static bool run_beside(const struct baseline *baseline, const struct migration_file *file, struct relay_error *error)
{
    char *half = replaced(file->up, RELAY_NAME, RELAY_BESIDE);
    char *text = half ? replaced(half, COMMON_NAME, COMMON_BESIDE) : NULL;
    bool done = text ? pg_execute(baseline->connection, text, MIGRATE_FOREVER, error)
                     : error_no_memory(error, "comparing the schema");
    free(half);
    free(text);
    return done || error_prefix(error, "%s.up.sql, run beside what is there", file->name);
}

static bool make_beside(const struct baseline *baseline, struct relay_error *error)
{
    bool done = pg_execute(baseline->connection,
        "SET LOCAL client_min_messages = warning; SET LOCAL lock_timeout = '5s'; CREATE SCHEMA " COMMON_BESIDE,
        MIGRATE_FOREVER, error);
    for (size_t i = 0; done && i < baseline->files->count; i++) {
        const struct migration_file *file = &baseline->files->items[i];
        if (within(baseline, file) && file->up_in_transaction) {
            done = run_beside(baseline, file, error);
        }
    }
    return done && pg_execute(baseline->connection, "SET LOCAL search_path = pg_catalog", MIGRATE_FOREVER, error);
}

static bool judge(const PGresult *result, struct relay_error *error)
{
    int count = PQntuples(result), missing = 0, differing = 0;
    for (int i = 0; i < count; i++) {
        missing += strcmp(pg_cell(result, i, 1), "missing") == 0;
        differing += strcmp(pg_cell(result, i, 1), "differs") == 0;
    }
    if (missing == count) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "nothing of these files is in the database: leave out --baseline, so that they are run");
    }
    for (int i = 0; i < count; i++) {
        if (*pg_cell(result, i, 1) != '\0') {
            fprintf(stderr, "%s: %s\n", pg_cell(result, i, 1), pg_cell(result, i, 0));
        }
    }
    if (missing + differing > 0) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "%d objects are missing and %d differ from what the files make; nothing was recorded: fix them with "
            "psql, or name the last file that was run with --to",
            missing, differing);
    }
    printf("%d objects are as the files make them\n", count);
    return true;
}

static bool compare(const struct baseline *baseline, struct relay_error *error)
{
    PGresult *result = pg_query(baseline->connection, compare_sql, NULL, 0, false, MIGRATE_FOREVER, error);
    bool good = result && judge(result, error);
    PQclear(result);
    return good;
}

static bool judge_outbox(const struct baseline *baseline, struct relay_error *error)
{
    for (size_t i = 0; i < baseline->files->count; i++) {
        if (!within(baseline, &baseline->files->items[i])) {
            return true; // what is left to be run finishes it
        }
    }
    PGresult *result = pg_query(baseline->connection, outbox_fault_sql, NULL, 0, false, MIGRATE_FOREVER, error);
    const char *fault = result ? pg_cell(result, 0, 0) : NULL;
    bool good = result &&
        (!fault ||
            error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, "table public.outbox_events %s; nothing was recorded",
                fault));
    PQclear(result);
    return good;
}

// Leaves nothing behind, whatever it finds.
static bool agrees(const struct baseline *baseline, struct relay_error *error)
{
    if (!pg_execute(baseline->connection, "BEGIN", MIGRATE_FOREVER, error)) {
        return false;
    }
    bool good = make_beside(baseline, error) && compare(baseline, error) && judge_outbox(baseline, error);
    if (!pg_broken(baseline->connection)) {
        pg_execute(baseline->connection, "ROLLBACK", MIGRATE_FOREVER, NULL);
    }
    return good;
}

static bool record_all(const struct baseline *baseline, const struct migration_plan *plan, struct relay_error *error)
{
    bool done = pg_execute(baseline->connection, "BEGIN", MIGRATE_FOREVER, error) &&
        migrate_postgres_make_records(baseline->connection, error);
    for (size_t i = 0; done && i < plan->count; i++) {
        done = migrate_postgres_record(baseline->connection, plan->files[i], true, error);
    }
    if (done) {
        return pg_commit(baseline->connection, MIGRATE_FOREVER, error);
    }
    if (!pg_broken(baseline->connection)) {
        pg_execute(baseline->connection, "ROLLBACK", MIGRATE_FOREVER, NULL);
    }
    return false;
}

bool migrate_baseline(struct pg_connection *connection, const struct migration_files *files,
    const struct migration_plan *plan, const struct migrate_options *options, struct relay_error *error)
{
    struct baseline baseline = {.connection = connection, .files = files, .to = options->to};
    if (plan->count == 0) {
        printf("nothing to do: every file is recorded\n");
        return true;
    }
    if (!agrees(&baseline, error) || (!options->dry_run && !record_all(&baseline, plan, error))) {
        return false;
    }
    for (size_t i = 0; i < plan->count; i++) {
        printf("%s %s, which was not run\n", options->dry_run ? "would record" : "recorded", plan->files[i]->name);
    }
    if (!options->dry_run) {
        printf("run `outbox-relay migrate postgres up` next: it applies what is pending, and creates or attaches the "
               "tables of [outbox NAME]\n");
    }
    return true;
}
