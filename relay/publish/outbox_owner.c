// SPDX-License-Identifier: Apache-2.0
#include "relay/publish/outbox_owner.h"

#include "relay/base/log.h"
#include "relay/postgres/pg_array.h"
#include "relay/postgres/pg_stranger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_INTERVAL DURATION_S(5)

void outbox_owner_init(struct outbox_owner *owner, const struct relay_context *context,
    const struct config_outbox *config, void (*tick)(void *context), void *tick_context)
{
    *owner = (struct outbox_owner){.context = context, .config = config, .tick = tick, .tick_context = tick_context};
}

void outbox_owner_finish(struct outbox_owner *owner)
{
    for (int slot = 1; slot >= 0; slot--) {
        pg_close(owner->connections[slot]);
        owner->connections[slot] = NULL;
    }
    outbox_table_free(owner->table);
    owner->table = NULL;
    owner->owned = false;
}

static bool connect_slot(struct outbox_owner *owner, int slot, struct relay_error *error)
{
    struct pg_options options = {.role = "start", .read_write = true, .lease = owner->context->config->lease};
    options.tick = owner->tick;
    options.tick_context = owner->tick_context;
    owner->connections[slot] = pg_connect(owner->context, &options, error);
    return owner->connections[slot] != NULL;
}

// Whether the second session sees the first one's lock: where [postgres] dsn names several servers, or stands for them,
// a session that is made later may be on another one, on which both locks may be free.
static bool on_one_server(struct outbox_owner *owner, struct relay_error *error)
{
    char key[16];
    snprintf(key, sizeof(key), "%u", owner->table->oid);
    PGresult *first = pg_query(owner->connections[0], "SELECT pg_backend_pid()", NULL, 0, false,
        pg_deadline(owner->context), error);
    PGresult *second = first == NULL
        ? NULL
        : pg_query(owner->connections[1],
              "SELECT 1 FROM pg_locks l WHERE l.pid = $1::int4 AND " PG_OUTBOX_LOCK("$2::oid", "1"),
              (struct pg_value[]){PG_TEXT(PQgetvalue(first, 0, 0)), PG_TEXT(key)}, 2, false,
              pg_deadline(owner->context), error);
    bool done = second != NULL &&
        (PQntuples(second) > 0 ||
            error_set(error, RELAY_ERROR_POSTGRES_QUERY,
                "the two sessions of the owner are on different servers, %s and %s: both are reconnected",
                pg_server_address(owner->connections[0]), pg_server_address(owner->connections[1])));
    PQclear(first);
    PQclear(second);
    return done;
}

// The session gets the outbox's name, by which its replicas are counted.
static bool lock_slot(struct outbox_owner *owner, int slot, bool *taken, struct relay_error *error)
{
    char key[16], number[4], name[64];
    snprintf(key, sizeof(key), "%d", (int32_t)owner->table->oid);
    snprintf(number, sizeof(number), "%d", slot + 1);
    snprintf(name, sizeof(name), OUTBOX_OWNER_SESSIONS "%u-%.12s", owner->table->oid, owner->context->instance);
    PGresult *result = pg_query(owner->connections[slot],
        "SELECT pg_try_advisory_lock($1::int4, $2::int4), set_config('application_name', $3::text, false)",
        (struct pg_value[]){PG_TEXT(key), PG_TEXT(number), PG_TEXT(name)}, 3, false, pg_deadline(owner->context),
        error);
    if (result == NULL) {
        return false;
    }
    *taken = pg_cell_true(result, 0, 0);
    PQclear(result);
    return true;
}

// Somebody else holds one of the locks: a replica, or who? And is this still where the outbox is published from?
static bool look_around(struct outbox_owner *owner, struct relay_error *error)
{
    struct mono_time now = clock_mono(owner->context->clock);
    if (owner->looked_at.ns != 0 && !mono_reached(now, mono_add(owner->looked_at, LOOK_INTERVAL))) {
        return true;
    }
    char oid[16];
    snprintf(oid, sizeof(oid), "%u", owner->table->oid);
    struct pg_stranger found;
    if (!pg_check_writable(owner->connections[0], pg_deadline(owner->context), error) ||
        !pg_stranger_find(owner->connections[0], oid, "{1,2}", &found, pg_deadline(owner->context), error)) {
        return false;
    }
    owner->looked_at = now;
    if (found.lock != PG_LOCK_NONE && strcmp(found.text, owner->stranger.text) != 0) {
        log_event(LOG_LEVEL_WARNING, "publish.lock_taken", "nobody can publish the outbox",
            LOG_TEXT("outbox", owner->config->name), LOG_TEXT("reason", found.text));
    }
    if (owner->stranger.lock == PG_LOCK_NONE) {
        owner->stranger_since = now;
    }
    owner->stranger = found;
    return true;
}

// The table is read anew: what a standby read long ago may have changed.
static bool reload(struct outbox_owner *owner, struct relay_error *error)
{
    outbox_table_free(owner->table);
    owner->table = outbox_table_load(owner->connections[0], owner->config, pg_deadline(owner->context), error);
    return owner->table != NULL;
}

bool outbox_owner_current(struct outbox_owner *owner, bool *current, struct relay_error *error)
{
    if (!pg_check_writable(owner->connections[0], pg_deadline(owner->context), error)) {
        return false;
    }
    char oid[16];
    snprintf(oid, sizeof(oid), "%u", owner->table->oid);
    PGresult *result = pg_query(owner->connections[0],
        "SELECT o.identity FROM outbox_relay.outboxes o"
        " WHERE o.outbox::oid = to_regclass($1::text)::oid AND o.outbox::oid = $2::oid",
        (struct pg_value[]){PG_TEXT(owner->table->name), PG_TEXT(oid)}, 2, false, pg_deadline(owner->context), error);
    if (result == NULL) {
        return error_prefix(error, "table %s", owner->config->table);
    }
    *current = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), owner->table->identity) == 0;
    PQclear(result);
    return true;
}

// A session that has the name of no outbox yet counts for each of them.
bool outbox_owner_count(struct outbox_owner *owner, const int64_t *outboxes, size_t count, int *replicas,
    struct relay_error *error)
{
    char *oids = pg_array_of_numbers(outboxes, count, 1);
    if (oids == NULL) {
        return error_no_memory(error, "counting replicas");
    }
    PGresult *result = pg_query(owner->connections[0],
        "WITH a AS MATERIALIZED (SELECT a.application_name, a.usename, a.usesysid FROM pg_stat_activity a"
        " WHERE a.datname = current_database() AND starts_with(a.application_name, '" OUTBOX_OWNER_SESSIONS "'))"
        " SELECT (SELECT count(DISTINCT right(a.application_name, 12)) FROM a"
        " WHERE (starts_with(a.application_name, '" OUTBOX_OWNER_SESSIONS "' || o.oid || '-')"
        " OR a.application_name LIKE '" OUTBOX_OWNER_SESSIONS "____________') AND " PG_RELAY_SESSION(
            "o.oid::oid") ") FROM unnest($1::int8[]) WITH ORDINALITY o(oid, place) ORDER BY o.place",
        (struct pg_value[]){PG_TEXT(oids)}, 1, false, pg_deadline(owner->context), error);
    free(oids);
    if (result == NULL) {
        return error_prefix(error, "counting replicas");
    }
    for (size_t i = 0; i < count; i++) {
        replicas[i] = (int)pg_cell_int64(result, (int)i, 0);
    }
    PQclear(result);
    return true;
}

static void tell_what_is_missing(const struct outbox_owner *owner)
{
    if (owner->table->timeline == 0) {
        log_event(LOG_LEVEL_WARNING, "publish.no_timeline", "an old primary would not be recognised",
            LOG_TEXT("outbox", owner->config->name), LOG_TEXT("server", pg_server_address(owner->connections[0])));
    }
    if (owner->table->other_time[0] != '\0') {
        log_event(LOG_LEVEL_WARNING, "publish.other_created_at",
            "the health of the outbox may not know how old its rows are: run `outbox-relay migrate postgres up`",
            LOG_TEXT("outbox", owner->config->name), LOG_TEXT("registered", owner->table->other_time),
            LOG_TEXT("configured", owner->config->columns[CONFIG_COLUMN_CREATED_AT]));
    }
}

static bool try_once(struct outbox_owner *owner, struct relay_error *error)
{
    bool taken, current = false;
    if (owner->owned && !outbox_owner_current(owner, &current, error)) {
        return false;
    }
    if (current) {
        return true;
    }
    if (owner->owned) { // what the sessions hold and have prepared is of what the outbox was before
        outbox_owner_finish(owner);
    }
    if (owner->connections[0] == NULL && (!connect_slot(owner, 0, error) || !reload(owner, error))) {
        return false;
    }
    if (!lock_slot(owner, 0, &taken, error)) {
        return false;
    }
    if (!taken) {
        return look_around(owner, error);
    }
    if (!connect_slot(owner, 1, error) || !lock_slot(owner, 1, &taken, error)) {
        return false;
    }
    if (!taken) { // the owner before us lost one session and still has the other: let go of ours as well
        bool asked = look_around(owner, error);
        outbox_owner_finish(owner);
        return asked;
    }
    Oid locked = owner->table->oid;
    if (!on_one_server(owner, error) || !reload(owner, error)) {
        return false;
    }
    if (owner->table->oid != locked) { // made anew since: the locks are those of a table that is gone
        outbox_owner_finish(owner);
        return true;
    }
    owner->stranger = (struct pg_stranger){.lock = PG_LOCK_NONE};
    owner->looked_at = (struct mono_time){0};
    owner->owned = true;
    tell_what_is_missing(owner);
    return true;
}

bool outbox_owner_try(struct outbox_owner *owner, struct relay_error *error)
{
    if (try_once(owner, error)) {
        return true;
    }
    outbox_owner_finish(owner);
    return false;
}

bool outbox_owner_prove(struct outbox_owner *owner, struct relay_error *error)
{
    for (int slot = 0; slot < 2; slot++) {
        if (!pg_execute(owner->connections[slot], "SELECT 1", pg_deadline(owner->context), error)) {
            return error_prefix(error, "the locks of the outbox are not proved");
        }
    }
    return true;
}

void outbox_owner_tick(struct outbox_owner *owner)
{
    for (int slot = 0; slot < 2; slot++) {
        if (owner->connections[slot] != NULL) {
            pg_beat(owner->connections[slot]);
        }
    }
}
