// SPDX-License-Identifier: Apache-2.0
//
// What is asked of the outboxes that are registered in the database (outbox_relay.outboxes), whoever's they are.
// Nothing is kept here; any thread.
#ifndef RELAY_POSTGRES_PG_REGISTERED_H
#define RELAY_POSTGRES_PG_REGISTERED_H

#include "relay/config/config.h"

// A condition: the table `outbox` (SQL of type oid) has the relay's wake-up trigger. What has not may be no outbox, and
// have no column to ask for: a dump has of a table that was dropped the number alone.
#define PG_HAS_WAKEUP(outbox)                                                                                          \
    "EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = " outbox                                          \
    " AND g.tgfoid = 'outbox_relay.notify_wakeup()'::pg_catalog.regprocedure::oid)"

// A condition: no table in $1, the text of pg_named_tables(), is the table `outbox` (SQL of type oid).
#define PG_NOT_NAMED(outbox)                                                                                           \
    "NOT EXISTS (SELECT 1 FROM pg_catalog.unnest($1::text[]) t (name)"                                                 \
    " WHERE pg_catalog.to_regclass(t.name)::oid = " outbox ")"

// The tables of the configuration's outboxes as an array, malloc'd; NULL: out of memory.
char *pg_named_tables(const struct config *config);

#endif
