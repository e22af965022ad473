// SPDX-License-Identifier: Apache-2.0
//
// Whether two servers of the database's system take writes: a primary, and a former one that was not stopped. An idle
// relay that stays connected to the former one sees nothing else of it. Every half a minute each host of the dsn is
// asked by a session of its own, since names and proxies lead new sessions elsewhere; what is found is on the board
// ("servers" of the check postgres), a metric (postgres_primaries) and an alert, "pipeline_degraded" of "postgres servers
// at REPLICA". It only tells: which of the two is right, somebody has to say. The health watch's thread only; all
// members are borrowed.
#ifndef RELAY_OPS_HEALTH_SERVERS_H
#define RELAY_OPS_HEALTH_SERVERS_H

#include "relay/config/context.h"
#include "relay/ops/alerts.h"
#include "relay/postgres/pg_connection.h"

struct health_servers {
    const struct relay_context *context;
    struct alerts *alerts;
    struct heartbeat *heartbeat;
    const char *replica;
    struct mono_time due; // 0: half a minute after the first call
    bool told;            // two were found
};

// own: the watch's session, which is whole and leads where the outboxes are judged. A host that does not answer says
// nothing, and takes [postgres] acquire_timeout.
void health_servers_look(struct health_servers *servers, struct pg_connection *own);
// The watch has no session: what was found is taken off the board, where an entry that nobody renews would keep
// PostgreSQL from being down as a whole, and the metric is 0. The alert keeps its level until the next look.
void health_servers_lost(struct health_servers *servers);

#endif
