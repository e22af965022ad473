// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/outbox_table.h"

#include "relay/config/config_outboxes.h"
#include "relay/postgres/pg_timeline.h"
#include "relay/publish/event_template.h"
#include "relay/publish/publish_verdicts.h"
#include "relay/publish/receipt.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Types by their fixed oids (pg_type.dat).
enum {
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_TEXT = 25,
    OID_JSON = 114,
    OID_INET = 869,
    OID_VARCHAR = 1043,
    OID_DATE = 1082,
    OID_TIMESTAMP = 1114,
    OID_TIMESTAMPTZ = 1184,
    OID_UUID = 2950,
    OID_JSONB = 3802
};

// malloc'd; NULL when out of memory.
__attribute__((format(printf, 1, 2))) static char *text_new(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? NULL : text;
}

// ""quoted"" as an identifier. NULL: out of memory.
static char *quoted(const char *name)
{
    char *text = malloc(2 * strlen(name) + 3), *at = text;
    if (text == NULL) {
        return NULL;
    }
    *at++ = '"';
    for (; *name != '\0'; name++) {
        if (*name == '"') {
            *at++ = '"';
        }
        *at++ = *name;
    }
    *at++ = '"';
    *at = '\0';
    return text;
}

// One column of the table as it was found: type 0 when there is none. base: what is under a domain, else the type.
struct found {
    Oid type, base;
    const char *type_name; // in the result
    char *name;            // quoted
    bool small;            // by its type: of a fixed length, or varchar(n)
};

static bool find_column(const PGresult *columns, const char *name, struct found *found, struct relay_error *error)
{
    *found = (struct found){0};
    for (int i = 0; i < PQntuples(columns); i++) {
        if (strcmp(PQgetvalue(columns, i, 0), name) == 0) {
            found->type = (Oid)strtoul(PQgetvalue(columns, i, 1), NULL, 10);
            found->base = (Oid)strtoul(PQgetvalue(columns, i, 2), NULL, 10);
            found->type_name = PQgetvalue(columns, i, 3);
            found->small = PQgetvalue(columns, i, 4)[0] == 't';
        }
    }
    found->name = quoted(name);
    return found->name != NULL || error_no_memory(error, "a column's name");
}

bool outbox_table_takes_time(Oid base)
{
    return base == OID_TIMESTAMPTZ || base == OID_TIMESTAMP || base == OID_DATE || base == OID_INT8;
}

// Milliseconds and dates beyond the times of PostgreSQL are none: an error there would stop the outbox at that row.
char *outbox_table_time(Oid base, const char *quoted)
{
    switch (base) {
    case OID_TIMESTAMP: return text_new("(t.%s AT TIME ZONE 'UTC')", quoted);
    case OID_INT8:
        return text_new("CASE WHEN t.%s BETWEEN -210000000000000 AND 9000000000000000 "
                        "THEN pg_catalog.to_timestamp(t.%s / 1000.0) END",
            quoted, quoted);
    case OID_DATE:
        return text_new("CASE WHEN NOT pg_catalog.isfinite(t.%s) OR t.%s < date '294276-12-31' "
                        "THEN t.%s::timestamptz END",
            quoted, quoted, quoted);
    default: return text_new("t.%s::timestamptz", quoted);
    }
}

// The expression that is read for a role, over alias t; sets the form.
static char *role_expression(enum config_column_role role, const struct found *found, enum column_form *form)
{
    *form = COLUMN_TEXT;
    if (found->type == 0) {
        *form = COLUMN_ABSENT;
        return text_new("NULL::%s", role == CONFIG_COLUMN_CREATED_AT ? "timestamptz" : "text");
    }
    if (role == CONFIG_COLUMN_SEQ) {
        return text_new("t.%s::int8", found->name);
    }
    if (role == CONFIG_COLUMN_CREATED_AT) {
        return outbox_table_time(found->base, found->name);
    }
    switch (found->type) {
    case OID_UUID: *form = COLUMN_UUID; return text_new("t.%s", found->name);
    case OID_JSONB: *form = COLUMN_JSONB; return text_new("t.%s", found->name);
    case OID_BYTEA: *form = COLUMN_BYTES; return text_new("t.%s", found->name);
    case OID_TEXT:
    case OID_VARCHAR:
    case OID_JSON: return text_new("t.%s", found->name);
    default: return text_new("t.%s::text", found->name);
    }
}

static bool append(char **list, const char *expression, struct relay_error *error)
{
    char *longer = *list == NULL ? strdup(expression) : text_new("%s, %s", *list, expression);
    if (longer == NULL) {
        return error_no_memory(error, "the list of columns");
    }
    free(*list);
    *list = longer;
    return true;
}

static bool has_length(const struct found *found)
{
    return found->base == OID_BYTEA || found->base == OID_TEXT || found->base == OID_VARCHAR;
}

// Whether PostgreSQL may print a value far longer than it keeps it.
static bool may_grow(const struct found *found)
{
    return !has_length(found) && found->base != OID_JSON && found->base != OID_UUID;
}

// What a column takes in memory, of int4 for jsonb and else of int8, since two values may be more than an int4 holds. A
// compressed value may be a hundred times what is stored: it is measured whole. An array holds its elements
// uncompressed, so its size tells that of a document without making its text, which took a fifth of the whole DELETE
// for documents of 10 KB. Of text and bytea the length is known without reading them. NULL: out of memory.
static char *column_size(const struct found *found, const char *alias, int server_version)
{
    bool jsonb = found->base == OID_JSONB;
    char *value = text_new("%s.%s", alias, found->name), *whole = NULL, *size = NULL;
    if (value == NULL) {
        return NULL;
    }
    if (has_length(found)) {
        size = text_new("coalesce(octet_length(%s), 0)::int8", value);
        goto value_held;
    }
    whole = text_new(jsonb ? "pg_column_size(ARRAY[%s])" : "octet_length(%s::text)::int8", value);
    if (whole == NULL) {
        goto value_held;
    }
    // PostgreSQL 13 does not say whether a value is compressed: there each is measured whole.
    size = server_version < 140000
        ? text_new("CASE WHEN %s IS NULL THEN 0 ELSE %s END", value, whole)
        : text_new("coalesce(CASE WHEN pg_column_compression(%s) IS NULL THEN pg_column_size(%s) ELSE %s END, 0)",
              value, value, whole);
    free(whole);
value_held:
    free(value);
    return size;
}

static bool add_size(struct outbox_table *table, const struct found *found, int server_version,
    struct relay_error *error)
{
    char *size = column_size(found, "u", server_version);
    char *longer = size == NULL ? NULL : text_new("%s + %s", table->size, size);
    free(size);
    if (longer == NULL) {
        return error_no_memory(error, "a column");
    }
    free(table->size);
    table->size = longer;
    return true;
}

// What is read of such a column in a guarded row: what PostgreSQL prints, and a NUL byte, which no text has.
static char *printed(const struct found *found, const char *expression)
{
    return text_new("%s(%s) || decode('00', 'hex')", found->type == OID_JSONB ? "jsonb_send" : "textsend", expression);
}

// As much of that as the row's size tells, several times over: enough for all but numbers with huge exponents, which
// make 131,072 digits of the 12 bytes that 1e131071 takes in a jsonb. So a reading, whose rows are measured by their
// sizes, brings no more than a few times batch_bytes.
static char *bounded(const struct found *found, const char *expression, int server_version)
{
    if (!may_grow(found)) {
        return strdup(expression);
    }
    char *whole = printed(found, expression), *size = column_size(found, "t", server_version);
    char *text = whole == NULL || size == NULL
        ? NULL
        : text_new("substr(%s, 1, (SELECT g.room FROM giants g) + %d * least(%s, 134217727)::int4)", whole,
              OUTBOX_TABLE_GROWTH, size);
    free(whole);
    free(size);
    return text;
}

// Of a row that is too large: nothing of what only the record has. Of what the row waits by, as much as tells that it
// is too long for that.
static char *beginning(const struct found *found, const char *expression, bool waits_by)
{
    if (!waits_by || found->type == OID_JSON || found->type == OID_JSONB) {
        return strdup("NULL");
    }
    char *text = text_new(found->type == OID_BYTEA ? "substring(%s for %d)" : "left(%s, %d)", expression,
        PUBLISH_WAITING_KEY_MAX + 1);
    char *whole = text != NULL && may_grow(found) ? printed(found, text) : text;
    if (whole != text) {
        free(text);
    }
    return whole;
}

// Puts a column that may be large into row, guarded_row and size.
static bool add_large(struct outbox_table *table, const struct found *found, const char *expression, bool waits_by,
    int server_version, struct relay_error *error)
{
    char *text = bounded(found, expression, server_version), *of_giant = beginning(found, expression, waits_by);
    char *choice = text == NULL || of_giant == NULL
        ? NULL
        : text_new("CASE WHEN " OUTBOX_TABLE_GIANT " THEN %s ELSE %s END", table->seq, of_giant, text);
    bool done = (choice != NULL || error_no_memory(error, "a column")) && append(&table->row, expression, error) &&
        append(&table->guarded_row, choice, error) && add_size(table, found, server_version, error);
    free(text);
    free(of_giant);
    free(choice);
    return done;
}

// Puts one that is small into row and guarded_row.
static bool add_small(struct outbox_table *table, const char *expression, struct relay_error *error)
{
    return append(&table->row, expression, error) && append(&table->guarded_row, expression, error);
}

static bool add_role(struct outbox_table *table, const struct config_outbox *config, const PGresult *columns,
    enum config_column_role role, int server_version, struct relay_error *error)
{
    const char *name = config->columns[role];
    struct found found = {0};
    if (name[0] != '\0' && !find_column(columns, name, &found, error)) {
        return false;
    }
    if (name[0] != '\0' && found.type == 0) {
        free(found.name);
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s has no column \"%s\"; name the column in [outbox] %s%s", config->table, name,
            config_column_key(role), config_column_may_miss(role) ? ", or say none there" : "");
    }
    if (role == CONFIG_COLUMN_CREATED_AT && found.type != 0 && !outbox_table_takes_time(found.base)) {
        free(found.name);
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "column \"%s\" of table %s is of type %s; [outbox] column.created_at takes timestamptz, timestamp, date, "
            "bigint (milliseconds since 1970), or none",
            name, config->table, found.type_name);
    }
    char *expression = role_expression(role, &found, &table->forms[role]);
    bool done = expression != NULL || error_no_memory(error, "a column");
    bool in_receipt = role == CONFIG_COLUMN_SEQ || role == CONFIG_COLUMN_ID || role == CONFIG_COLUMN_CREATED_AT;
    done = done && append(&table->receipt_row, in_receipt ? expression : "NULL::text", error);
    bool body = role == CONFIG_COLUMN_PAYLOAD || role == CONFIG_COLUMN_METADATA;
    bool may_be_large = found.type != 0 && (body || !found.small) && role != CONFIG_COLUMN_SEQ &&
        role != CONFIG_COLUMN_CREATED_AT;
    done = done &&
        (may_be_large ? add_large(table, &found, expression, !body, server_version, error)
                      : add_small(table, expression, error));
    if (may_be_large && may_grow(&found) && table->forms[role] == COLUMN_TEXT) {
        table->forms[role] = COLUMN_PRINTED;
    }
    // Exclusion lists compare texts.
    char **kept = role == CONFIG_COLUMN_KEY    ? &table->key
        : role == CONFIG_COLUMN_AGGREGATE_TYPE ? &table->aggregate_type
                                               : NULL;
    if (done && kept != NULL) {
        *kept = text_new("%s::text", expression);
        done = *kept != NULL || error_no_memory(error, "a column");
    }
    if (done && role == CONFIG_COLUMN_SEQ) {
        table->seq = found.name;
        found.name = NULL;
        done = table->seq != NULL || error_set(error, RELAY_ERROR_CONFIG, "[outbox] column.seq must not be empty");
    }
    if (done && role == CONFIG_COLUMN_CREATED_AT) {
        table->created_at = expression;
        expression = NULL;
    }
    free(expression);
    free(found.name);
    return done;
}

// Of a bytea, whose bytes are the text: the characters of topics stay what they are in the format `escape`, and what
// else there is makes a name that no topic has.
char *outbox_table_text(const struct outbox_table *table, const struct config_outbox *config,
    enum config_column_role role)
{
    if (table->forms[role] == COLUMN_ABSENT) {
        return strdup("NULL::text");
    }
    char *name = quoted(config->columns[role]);
    char *text = name == NULL                ? NULL
        : table->forms[role] == COLUMN_BYTES ? text_new("encode(t.%s, 'escape')", name)
                                             : text_new("t.%s::text", name);
    free(name);
    return text;
}

static bool add_topic(struct outbox_table *table, const struct config_outbox *config, struct relay_error *error)
{
    struct event_template *template = event_template_new(config->publish.topic, config->publish.prefix, error);
    if (template == NULL) {
        return false;
    }
    char *type = outbox_table_text(table, config, CONFIG_COLUMN_TYPE),
         *aggregate_type = outbox_table_text(table, config, CONFIG_COLUMN_AGGREGATE_TYPE),
         *key = outbox_table_text(table, config, CONFIG_COLUMN_KEY);
    if (type != NULL && aggregate_type != NULL && key != NULL) {
        table->topic = event_template_sql(template, &(struct template_columns){type, aggregate_type, key});
    }
    free(type);
    free(aggregate_type);
    free(key);
    event_template_free(template);
    return table->topic != NULL || error_no_memory(error, "the topic's expression");
}

// Of inet the cast, and it alone, adds a netmask that PostgreSQL does not print.
static char *printed_text(const struct found *found)
{
    return found->base == OID_INET ? text_new("abbrev(t.%s::inet)", found->name) : text_new("t.%s::text", found->name);
}

static bool add_additional(struct outbox_table *table, const struct config_outbox *config, const PGresult *columns,
    int server_version, struct relay_error *error)
{
    size_t count = config->publish.additional_count;
    table->additional_types = calloc(count + 1, sizeof(*table->additional_types));
    table->additional_forms = calloc(count + 1, sizeof(*table->additional_forms));
    if (table->additional_types == NULL || table->additional_forms == NULL) {
        return error_no_memory(error, "additional columns");
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = config->publish.additional[i].column;
        struct found found;
        if (!find_column(columns, name, &found, error)) {
            return false;
        }
        char *expression = printed_text(&found);
        if (found.type == OID_JSONB) {
            found.type = OID_TEXT; // what is read of it is its text
        }
        bool done = found.type != 0 ||
            error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
                "table %s has no column \"%s\", which [publish] additional names", config->table, name);
        done = done && (expression != NULL || error_no_memory(error, "a column")) &&
            (found.small ? add_small(table, expression, error)
                         : add_large(table, &found, expression, false, server_version, error));
        free(expression);
        free(found.name);
        if (!done) {
            return false;
        }
        table->additional_types[i] = found.base;
        table->additional_forms[i] = !found.small && may_grow(&found) ? COLUMN_PRINTED : COLUMN_TEXT;
    }
    return true;
}

static const char find_table[] =
    "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind,"
    " EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'published_at' AND NOT "
    "a.attisdropped),"
    " to_regclass('outbox_relay.parked_topics') IS NOT NULL" // the newest thing of the schema that is needed
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)::oid";
static const char find_columns[] =
    "SELECT a.attname, a.atttypid, " OUTBOX_TABLE_BASE_TYPE ", pg_catalog.format_type(a.atttypid, a.atttypmod),"
    " (SELECT y.typlen FROM pg_type y WHERE y.oid = a.atttypid) > 0"
    " OR (a.atttypid = 'varchar'::regtype AND a.atttypmod BETWEEN 5 AND 1004)"
    " FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";
static const char find_identity[] =
    "SELECT o.identity, o.system_identifier, s.system_identifier, o.seq_column, "
    "o.created_at_column, " OUTBOX_TABLE_LOST
    " FROM outbox_relay.outboxes o, pg_control_system() s WHERE o.outbox::oid = $1::oid";

// Which table it is. Sets oid, name, published_at.
static bool load_table(struct outbox_table *table, struct pg_connection *connection, const struct config_outbox *config,
    struct mono_time deadline, struct relay_error *error)
{
    PGresult *result = pg_query(connection, find_table, (struct pg_value[]){PG_TEXT(config->table)}, 1, false, deadline,
        error);
    if (result == NULL) {
        return error_prefix(error, "table %s", config->table);
    }
    bool done = false;
    if (PQntuples(result) != 1) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s does not exist in this database, or this role may not use its schema", config->table);
    } else if (!pg_cell_true(result, 0, 4)) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "schema outbox_relay is not in this database, or of an older version: run `outbox-relay migrate postgres "
            "up`");
    } else {
        table->oid = (Oid)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
        table->published_at = pg_cell_true(result, 0, 3);
        table->name = strdup(PQgetvalue(result, 0, 1));
        done = table->name != NULL || error_no_memory(error, "a table's name");
    }
    PQclear(result);
    return done;
}

static bool load_columns(struct outbox_table *table, struct pg_connection *connection,
    const struct config_outbox *config, struct mono_time deadline, struct relay_error *error)
{
    char oid[16];
    snprintf(oid, sizeof(oid), "%u", table->oid);
    PGresult *columns = pg_query(connection, find_columns, (struct pg_value[]){PG_TEXT(oid)}, 1, false, deadline,
        error);
    if (columns == NULL) {
        return false;
    }
    // outbox_batch.c decodes in this order.
    static const enum config_column_role order[] = {CONFIG_COLUMN_SEQ, CONFIG_COLUMN_ID, CONFIG_COLUMN_TYPE,
        CONFIG_COLUMN_AGGREGATE_TYPE, CONFIG_COLUMN_KEY, CONFIG_COLUMN_PAYLOAD, CONFIG_COLUMN_METADATA,
        CONFIG_COLUMN_CREATED_AT};
    int version = pg_server_version(connection);
    table->size = strdup("200"); // what is small
    bool done = table->size != NULL || error_no_memory(error, "a column");
    for (size_t i = 0; done && i < sizeof(order) / sizeof(order[0]); i++) {
        done = add_role(table, config, columns, order[i], version, error);
    }
    done = done && add_topic(table, config, error) && add_additional(table, config, columns, version, error);
    PQclear(columns);
    return done;
}

// As the table was attached, and as it is. A statement without `published_at IS NULL` takes all that was kept.
static bool judge_marks(const struct outbox_table *table, const struct config_outbox *config, bool lost,
    struct relay_error *error)
{
    if (lost) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR, OUTBOX_TABLE_LOST_MARKS, config->table,
            OUTBOX_TABLE_HAS_NOW(table->published_at), table->name);
    }
    if (config->disposition == CONFIG_DISPOSITION_MARK && !table->published_at) {
        return error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s has no column published_at, which disposition = mark needs", config->table);
    }
    return true;
}

// identity, whether the database is still on the server where it was registered, and under which names.
static bool load_identity(struct outbox_table *table, struct pg_connection *connection,
    const struct config_outbox *config, struct mono_time deadline, struct relay_error *error)
{
    const char *seq = config->columns[CONFIG_COLUMN_SEQ], *created_at = config->columns[CONFIG_COLUMN_CREATED_AT];
    char oid[16];
    snprintf(oid, sizeof(oid), "%u", table->oid);
    PGresult *result = pg_query(connection, find_identity, (struct pg_value[]){PG_TEXT(oid)}, 1, false, deadline,
        error);
    if (result == NULL) {
        return error_prefix(error, "table %s", config->table);
    }
    bool done = false;
    if (PQntuples(result) != 1) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "table %s is not registered as an outbox: SELECT outbox_relay.attach_outbox('%s', '%s', '%s')",
            config->table, table->name, seq, created_at);
    } else if (strcmp(PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2)) != 0) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "this database was registered on another PostgreSQL cluster (system identifier %s, this one is %s): it was "
            "moved here for good, or it is a copy beside the original. As the login that runs `migrate`, if it was "
            "moved: SELECT outbox_relay.accept_system('%s'); if it is a copy: SELECT outbox_relay.renew_identity('%s')",
            PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2), table->name, table->name);
    } else if (strcmp(PQgetvalue(result, 0, 3), seq) != 0) {
        error_set(error, RELAY_ERROR_POSTGRES_OPERATOR,
            "[outbox] column.seq says \"%s\", table %s is registered with \"%s\": if the column was renamed, "
            "SELECT outbox_relay.attach_outbox('%s', '%s', '%s')",
            seq, config->table, PQgetvalue(result, 0, 3), table->name, seq, created_at);
    } else {
        const char *identity = PQgetvalue(result, 0, 0);
        snprintf(table->identity, sizeof(table->identity), "%s", identity);
        table->system_identifier = (uint64_t)strtoll(PQgetvalue(result, 0, 2), NULL, 10);
        if (created_at[0] != '\0' && strcmp(PQgetvalue(result, 0, 4), created_at) != 0) {
            snprintf(table->other_time, sizeof(table->other_time), "%s", PQgetvalue(result, 0, 4));
        }
        done = receipt_identity_parse(identity, strlen(identity), table->identity_bytes) ||
            error_set(error, RELAY_ERROR_PROTOCOL, "identity \"%s\" is not a uuid", identity);
        done = done && judge_marks(table, config, pg_cell_true(result, 0, 5), error);
    }
    PQclear(result);
    return done;
}

struct outbox_table *outbox_table_load(struct pg_connection *connection, const struct config_outbox *config,
    struct mono_time deadline, struct relay_error *error)
{
    struct outbox_table *table = calloc(1, sizeof(*table));
    if (table == NULL) {
        error_no_memory(error, "an outbox table");
        return NULL;
    }
    if (!load_table(table, connection, config, deadline, error) ||
        !load_columns(table, connection, config, deadline, error) ||
        !load_identity(table, connection, config, deadline, error) ||
        !pg_timeline_find(connection, &table->timeline, deadline, error)) {
        outbox_table_free(table);
        return NULL;
    }
    return table;
}

void outbox_table_free(struct outbox_table *table)
{
    if (table == NULL) {
        return;
    }
    free(table->name);
    free(table->seq);
    free(table->key);
    free(table->aggregate_type);
    free(table->topic);
    free(table->created_at);
    free(table->size);
    free(table->row);
    free(table->guarded_row);
    free(table->receipt_row);
    free(table->additional_types);
    free(table->additional_forms);
    free(table);
}

size_t outbox_table_text_length(const struct outbox_table *table, enum config_column_role role, size_t length)
{
    return table->forms[role] == COLUMN_BYTES ? 2 * length + 2 : length; // \x and two digits for each
}
