// SPDX-License-Identifier: Apache-2.0
//
// What one process can judge without asking anybody: its dependencies (board and breakers), its consumer lag, and the
// parts of its pipes that wait for somebody. Each round of health_conditions_judge() looks once and raises alerts by
// windows of results:
// - "postgres_down", "kafka_down", "clickhouse_down" of "": CRITICAL when all of it is down or its breaker open,
//   WARNING when a part is;
// - "consumer_lag" of "REPLICA": by [health] warning_lag, critical_lag;
// - "pipeline_degraded" of "publish NAME at REPLICA", "insert NAME at REPLICA": WARNING when degraded, CRITICAL when
//   down; not judged while a dependency of that stage is down, which is told already;
// - "pipeline_degraded" of "kafka insert at REPLICA": WARNING while what Kafka has for the insert stage waits for
//   somebody; not judged while Kafka is down;
// - "pipeline_degraded" of "insert at REPLICA": CRITICAL when ClickHouse has been down here for five minutes and
//   another replica speaks for it: it may be our way to it alone.
// The last four are of this process alone, so they carry its name: were their instance the same everywhere, one
// replica's end would count as the end of another's. The health watch's thread only; alerts are borrowed.
#ifndef RELAY_OPS_HEALTH_CONDITIONS_H
#define RELAY_OPS_HEALTH_CONDITIONS_H

#include "relay/config/context.h"
#include "relay/ops/alerts.h"
#include "relay/ops/health_judge.h"

#define HEALTH_PARTS_MAX 256

enum { HEALTH_DEPENDENCIES = 3 }; // STATUS_POSTGRES, STATUS_KAFKA, STATUS_CLICKHOUSE

struct health_part {
    enum status_check check;
    char instance[128];
    struct health_window window;
    enum alert_level raised;
    bool seen; // in this round
};

struct health_conditions {
    const struct relay_context *context;
    struct alerts *alerts;
    char replica[96];
    struct health_window dependencies[HEALTH_DEPENDENCIES], lag;
    struct health_part parts[HEALTH_PARTS_MAX];
    size_t part_count;
    struct mono_time reached;   // ClickHouse, last; 0: not judged yet
    struct health_part cut_off; // the insert stage as a whole
};

// limits: of the lag. lag: -1 unknown. quiet: another replica speaks for Kafka and ClickHouse.
void health_conditions_judge(struct health_conditions *conditions, const struct config_health *limits, int64_t lag,
    bool quiet);

#endif
