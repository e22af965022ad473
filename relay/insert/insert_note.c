// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_note.h"

#include "relay/base/log.h"

#include <stdlib.h>
#include <string.h>

void insert_note_forget(struct insert_table *table)
{
    free(table->note);
    table->note = NULL;
    table->noting = table->note_sent = false;
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
        table->noting = table->note_sent = false;
        table_worker_submit(table->worker, table->flight->job);
    }
}
