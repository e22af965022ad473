// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_note.h"

#include "relay/base/log.h"

#include <stdlib.h>
#include <string.h>

void insert_note_forget(struct insert_table *table)
{
    free(table->note);
    table->note = NULL;
    table->noting = table->note_sent = table->note_late = false;
}

void insert_note_late(struct insert_table *table)
{
    struct relay_error error;
    if (table->note || table->flight->wants_note) {
        return; // its commits have it, or it is too long
    }
    table->flight->wants_note = table->note_late = true;
    table->note = view_note_write(table->flight->job->note, &error);
    if (!table->note) {
        insert_note_say_none(table, &error);
    }
}

void insert_note_say_none(const struct insert_table *table, const struct relay_error *error)
{
    log_event(LOG_LEVEL_WARNING, "insert.no_note",
        "if this process dies now, views may miss an INSERT that the table has", LOG_TEXT("table", table->name),
        LOG_ERROR(error));
}

void insert_note_owe(struct insert_table *table)
{
    for (size_t i = 0; table->note && i < table->flight->entry_count; i++) {
        struct insert_feed *feed = table->flight->entries[i].feed;
        free(feed->owed);
        feed->owed = strdup(table->note);
        if (!feed->owed) {
            metric_add(table->views_behind, 1);
            log_event(LOG_LEVEL_WARNING, "insert.views_behind",
                "out of memory: views may lack rows of an INSERT that the table has", LOG_TEXT("table", table->name));
        }
    }
    insert_note_forget(table);
}

bool insert_note_wanted(const struct insert_table *table)
{
    return table->noting && !table->note_sent;
}

const char *insert_note_of(const struct insert_table *table, const struct insert_feed *feed)
{
    for (size_t i = 0; table->note && table->flight && i < table->flight->entry_count; i++) {
        if (table->flight->entries[i].feed == feed) {
            return table->note;
        }
    }
    return feed->owed;
}

void insert_note_accepted(struct insert_table *table)
{
    if (table->noting) {
        table->noting = table->note_sent = table->note_late = false;
        table_worker_submit(table->worker, table->flight->job);
    }
}
