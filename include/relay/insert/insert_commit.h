// SPDX-License-Identifier: Apache-2.0
//
// The one committer: for each partition the lowest mark of its tables, never past a hole and never back; at most one
// commit under way. Each commit that the coordinator accepts is also the lease under which inserts are started. One
// that takes too long, or that a broken connection answers, has an unknown outcome: then the group is left. The
// consumer's thread.
#ifndef RELAY_INSERT_INSERT_COMMIT_H
#define RELAY_INSERT_INSERT_COMMIT_H

#include "relay/insert/insert_group_inside.h"

// Sends what has changed. false: nothing was sent.
bool insert_commit_changed(struct insert_group *group);
// A table's flight waits for a commit.
bool insert_commit_awaited(const struct insert_group *group);
// Also where nothing has changed, for the lease.
void insert_commit_if_due(struct insert_group *group, struct mono_time now);
// kafka_consumer_listener.committed
void insert_commit_answered(void *context, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_resp_err_t code,
    struct mono_time sent);

#endif
