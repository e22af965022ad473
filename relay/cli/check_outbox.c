// SPDX-License-Identifier: Apache-2.0
//
// One outbox table: there, registered, on the server it was registered on, and filled there; then the other parts
// (check_outbox.h). What is wrong is said with the statement that fixes it; one ok line says that nothing is.
#include "relay/cli/check_outbox.h"

#include <stdio.h>
#include <string.h>

static bool check_registered(struct outbox_check *at)
{
    const char *table = at->outbox->table;
    PGresult *result = outbox_ask(at,
        "SELECT pg_catalog.to_regclass($1) IS NOT NULL, pg_catalog.to_regclass('outbox_relay.outboxes') IS NOT NULL",
        &PG_TEXT(table), 1);
    if (!result) {
        return false;
    }
    bool there = pg_cell_true(result, 0, 0), migrated = pg_cell_true(result, 0, 1);
    PQclear(result);
    if (!there || !migrated) {
        outbox_find(at, CHECK_FAIL, CHECK_MIGRATE_POSTGRES, "%s%s", there ? "" : "the table does not exist",
            migrated    ? ""
                : there ? "the relay's own tables do not exist"
                        : ", nor do the relay's own");
        return false;
    }
    result = outbox_ask(at,
        "SELECT o.identity, o.seq_column, o.system_identifier = (SELECT c.system_identifier FROM "
        "pg_catalog.pg_control_system() c) "
        "FROM outbox_relay.outboxes o WHERE o.outbox::oid = pg_catalog.to_regclass($1)::oid",
        &PG_TEXT(table), 1);
    if (!result) {
        return false;
    }
    if (PQntuples(result) == 0) {
        outbox_find(at, CHECK_FAIL, CHECK_MIGRATE_POSTGRES "; it creates or attaches the tables of the configuration",
            "the table has no identity yet");
    } else if (!pg_cell_true(result, 0, 2)) {
        char hint[500];
        snprintf(hint, sizeof(hint),
            "as the login that runs `migrate`: SELECT outbox_relay.accept_system('%.150s') if the database moved for "
            "good, "
            "outbox_relay.renew_identity('%.150s') if it is a copy beside the original",
            table, table);
        outbox_find(at, CHECK_FAIL, hint,
            "the table was registered on another server: this one was restored, copied or upgraded");
    } else if (strcmp(pg_cell(result, 0, 1), at->outbox->columns[CONFIG_COLUMN_SEQ]) != 0) {
        outbox_find(at, CHECK_FAIL,
            "if the column was renamed, " CHECK_MIGRATE_POSTGRES " (or attach_outbox() with the new names); else "
            "correct [outbox] column.seq",
            "the table is registered with seq column %s, the configuration names %s", pg_cell(result, 0, 1),
            at->outbox->columns[CONFIG_COLUMN_SEQ]);
    }
    bool known = PQntuples(result) > 0;
    PQclear(result);
    return known;
}

// The apply worker inserts under numbers of another server, late and without our locks.
static void check_subscription(struct outbox_check *at)
{
    PGresult *result = outbox_ask(at,
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_subscription_rel r WHERE r.srrelid = pg_catalog.to_regclass($1))",
        &PG_TEXT(at->outbox->table), 1);
    if (result && pg_cell_true(result, 0, 0)) {
        outbox_find(at, CHECK_FAIL, "run the relay on the database where the rows are written",
            "a subscription fills the table by logical replication: its numbers come out of order, and events lose "
            "theirs");
    }
    PQclear(result);
}

void check_outbox(struct check *check, const struct config_outbox *outbox)
{
    struct outbox_check at = {.check = check, .outbox = outbox, .clean = true};
    snprintf(at.what, sizeof(at.what), "outbox %s (%s)", outbox->name, outbox->table);
    if (!check_registered(&at) && at.clean) {
        return;
    }
    if (at.clean) {
        check_outbox_form(&at);
        check_subscription(&at);
        check_outbox_taking(&at);
        check_outbox_access(&at);
    }
    if (!at.failed) {
        check_outbox_waiting(&at);
    }
    if (at.clean) {
        check_add(check->report, CHECK_OK, at.what, "",
            "columns, sequence, index, trigger, identity and rights are as they must be");
    }
}
