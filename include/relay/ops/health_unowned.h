// SPDX-License-Identifier: Apache-2.0
//
// Tells of outboxes in which events wait and that no relay owns (pg_unowned.h): nobody else would, as who publishes an
// outbox is the one who watches it. Each replica looks once in an interval of [health]; what is found is on the board
// ("unowned outboxes" of the check outbox), a metric (unowned_outboxes) and an alert, "pipeline_degraded" of "unowned
// outboxes", which one replica sends for all. Between two owners an outbox has none for a moment, so only what two
// looks in a row have found counts. The health watch's thread only; all members are borrowed.
#ifndef RELAY_OPS_HEALTH_UNOWNED_H
#define RELAY_OPS_HEALTH_UNOWNED_H

#include "relay/config/context.h"
#include "relay/ops/alerts.h"
#include "relay/postgres/pg_unowned.h"

struct health_unowned {
    const struct relay_context *context;
    struct alerts *alerts;
    struct mono_time due; // 0: now
    struct pg_unowned last;
    bool told;
};

// own: the watch's session. quiet: another replica sends the alert. A refusal (a schema that is not migrated) is told
// by who judges the outboxes, and changes nothing here.
void health_unowned_look(struct health_unowned *unowned, struct pg_connection *own, struct duration every, bool quiet);

#endif
