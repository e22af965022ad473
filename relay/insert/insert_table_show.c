// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_table_show.h"

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
    table->why_paused = *why;
    set_status(table, trouble_level(table), why->text);
}

void insert_table_show_open(struct insert_table *table)
{
    table->on_trial = table->stands = false;
    metric_set(table->paused, 0);
    set_status(table, STATUS_OK, "");
}

void insert_table_show_trouble(struct insert_table *table)
{
    struct relay_error trouble;
    bool troubled = table_worker_trouble(table->worker, &trouble);
    if (table->state == INSERT_TABLE_OPEN && (troubled || (table->troubled && !table->on_trial))) {
        set_status(table, troubled ? trouble_level(table) : STATUS_OK, troubled ? trouble.text : "");
    } else if (table->state == INSERT_TABLE_OPENING && troubled) {
        set_status(table, STATUS_DEGRADED, trouble.text);
    }
    table->troubled = troubled;
}

bool insert_table_shows_paused(const struct insert_table *table)
{
    return table->state == INSERT_TABLE_PAUSED || table->on_trial;
}

void insert_table_show_paused(struct insert_table *table, bool all)
{
    if (insert_table_shows_paused(table) && table->stands != all) {
        table->stands = all;
        set_status(table, trouble_level(table), table->why_paused.text);
    }
}
