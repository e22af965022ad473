// SPDX-License-Identifier: Apache-2.0
//
// Who holds an outbox's advisory locks without being a relay. PostgreSQL lets every login take them, whatever it may do
// to the table, so a lock that is taken does not mean that another replica works. Nothing is kept here; any thread.
#ifndef RELAY_POSTGRES_PG_STRANGER_H
#define RELAY_POSTGRES_PG_STRANGER_H

#include "relay/postgres/pg_connection.h"

// A condition: the session "a" of pg_stat_activity may be a relay of the table `outbox` (SQL of type oid). It is called
// so, and it is of our login, or of one that may take rows out. True where the table has just gone.
#define PG_RELAY_SESSION(outbox)                                                                                       \
    "(starts_with(a.application_name, 'outbox-relay-')"                                                                \
    " AND (a.usename = session_user OR coalesce(has_table_privilege(a.usesysid, " outbox ", 'DELETE')"                 \
    " OR has_any_column_privilege(a.usesysid, " outbox ", 'UPDATE'), true)))"

// A condition: the row "l" of pg_locks is an advisory lock of the table `outbox` (SQL of type oid) that is held, whose
// second key is, or is any of, `keys` (SQL).
#define PG_OUTBOX_LOCK(outbox, keys)                                                                                   \
    "(l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.database = (SELECT d.oid FROM"                    \
    " pg_catalog.pg_database d WHERE d.datname = current_database()) AND l.classid = " outbox " AND l.objid = " keys   \
    ")"

enum pg_outbox_lock { PG_LOCK_NONE, PG_LOCK_OWNER, PG_LOCK_OWNER_TOO, PG_LOCK_WATCH }; // their second keys

struct pg_stranger {
    enum pg_outbox_lock lock; // NONE: there is no stranger
    char text[384];           // who holds it, and how to end that
};

// outbox: the table's name or oid. locks: an array of the second keys that matter, "{1,2}".
bool pg_stranger_find(struct pg_connection *connection, const char *outbox, const char *locks,
    struct pg_stranger *stranger, struct mono_time deadline, struct relay_error *error);

#endif
