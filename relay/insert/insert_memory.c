// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_memory.h"

#define ROW_OVERHEAD 256 // of a message in its batch: the columns that come from headers

struct held {
    size_t all;
    size_t open;    // grows with the next messages
    size_t leaving; // under way: given back soon
    struct insert_table *largest;
};

static size_t budget(const struct insert_group *group)
{
    size_t limit = (size_t)group->context->config->insert.memory_limit;
    return limit - limit / INSERT_MEMORY_MEMBER_SHARE - limit / INSERT_MEMORY_READER_SHARE;
}

static size_t found_memory(const struct insert_group *group)
{
    size_t memory = 0;
    for (size_t i = 0; i < group->partitions.count; i++) {
        const struct insert_partition *partition = group->partitions.items[i];
        for (size_t j = 0; j < partition->feed_count; j++) {
            memory += partition->feeds[j].found.room * sizeof(struct offset_range);
        }
    }
    return memory;
}

static struct held measure(const struct insert_group *group)
{
    struct held held = {.all = found_memory(group)};
    size_t most = 0;
    for (size_t i = 0; i < group->table_count; i++) {
        struct insert_table *table = group->tables[i];
        size_t open = table->open ? insert_batch_memory(table->open) : 0;
        held.all += insert_table_memory(table);
        held.open += open;
        held.leaving += table->flight && !table->parked ? insert_batch_memory(table->flight) : 0;
        if (table->open && !table->flight && table->state == INSERT_TABLE_OPEN && open >= most) {
            most = open;
            held.largest = table;
        }
    }
    return held;
}

size_t insert_memory_held(const struct insert_group *group)
{
    return measure(group).all;
}

void insert_memory_work(struct insert_group *group)
{
    size_t limit = budget(group);
    struct held held = measure(group);
    if (held.all > limit / 2) {
        for (size_t i = 0; i < group->table_count; i++) {
            insert_table_trim(group->tables[i]);
        }
        held = measure(group);
    }
    while (held.largest && held.all - held.leaving > limit / 2) {
        insert_table_flush(held.largest);
        held = measure(group);
    }
    // Buffers grow by a quarter, and those of tables that share their topics all at once.
    group->crowded = held.leaving > 0 && held.all + held.open / 4 > limit;
    group->room = limit > held.all + held.open / 4 ? limit - held.all - held.open / 4 : 0;
    group->room = group->room > limit / 16 ? group->room : limit / 16;
    group->taken = 0;
}

bool insert_memory_took(struct insert_group *group, size_t bytes)
{
    group->taken += bytes + ROW_OVERHEAD;
    return group->taken > group->room;
}
