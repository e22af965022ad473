// SPDX-License-Identifier: Apache-2.0
//
// A table is paused by what an operator has to fix. What ClickHouse may get over by itself (no room, Keeper is away,
// too many parts) is repeated without end, and nothing of that says whether it ever will: after a while such a table
// counts as paused, here only. Not while a server is away that it waits for: that is told, and explains all of them.
#include "relay/insert/insert_table_show.h"

#define TROUBLE_LIMIT DURATION_S(120)

static void set_status(const struct insert_table *table, enum status_level level, const char *reason)
{
    status_board_set(table->context->board, STATUS_INSERT, table->name, level, reason);
}

static enum status_level trouble_level(const struct insert_table *table)
{
    return table->stands ? STATUS_DOWN : STATUS_DEGRADED;
}

void insert_table_show_pause(struct insert_table *table, const struct relay_error *why)
{
    metric_set(table->paused, 1);
    table->why = *why;
    set_status(table, trouble_level(table), why->text);
}

void insert_table_show_open(struct insert_table *table)
{
    table->on_trial = table->held_up = table->stands = false;
    metric_set(table->paused, 0);
    set_status(table, STATUS_OK, "");
}

void insert_table_show_trouble(struct insert_table *table, const struct relay_error *trouble)
{
    if (trouble && table->state != INSERT_TABLE_PAUSED) {
        table->why = *trouble;
        set_status(table, trouble_level(table), trouble->text);
    } else if (table->troubled && table->state == INSERT_TABLE_OPEN && !table->on_trial) {
        insert_table_show_open(table);
    }
    table->troubled = trouble != NULL;
}

void insert_table_show_lasting(struct insert_table *table, bool explained, struct mono_time now)
{
    bool counts = table->troubled && table->state != INSERT_TABLE_PAUSED && !explained;
    if (!counts) {
        table->troubled_since = (struct mono_time){0};
    } else if (table->troubled_since.ns == 0) {
        table->troubled_since = now;
    }
    bool held_up = counts && mono_since(now, table->troubled_since).ns >= TROUBLE_LIMIT.ns;
    if (held_up != table->held_up) {
        table->held_up = held_up;
        metric_set(table->paused, insert_table_shows_paused(table));
    }
}

bool insert_table_shows_paused(const struct insert_table *table)
{
    return table->state == INSERT_TABLE_PAUSED || table->on_trial || table->held_up;
}

void insert_table_show_paused(struct insert_table *table, bool all)
{
    bool stands = all && insert_table_shows_paused(table);
    if (table->stands != stands) {
        table->stands = stands;
        set_status(table, trouble_level(table), table->why.text);
    }
}
