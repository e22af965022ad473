// SPDX-License-Identifier: Apache-2.0
#include "relay/insert/insert_group_inside.h"

#include <string.h>

struct mono_time insert_group_now(const struct insert_group *group)
{
    return clock_mono(group->context->clock);
}

struct insert_partition *insert_group_find(const struct insert_group *group, const char *topic, int32_t number)
{
    for (size_t i = 0; i < group->partitions.count; i++) {
        struct insert_partition *partition = group->partitions.items[i];
        if (!partition->gone && partition->number == number && strcmp(partition->topic, topic) == 0) {
            return partition;
        }
    }
    return NULL;
}

rd_kafka_topic_partition_t *insert_group_list(rd_kafka_topic_partition_list_t **list,
    const struct insert_partition *partition)
{
    *list = *list ? *list : rd_kafka_topic_partition_list_new(16);
    return rd_kafka_topic_partition_list_add(*list, partition->topic, partition->number);
}

void insert_group_break(struct insert_group *group, const struct relay_error *error)
{
    if (!group->broken) {
        group->broken = true;
        group->why_broken = *error;
    }
}
