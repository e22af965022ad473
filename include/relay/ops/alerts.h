// SPDX-License-Identifier: Apache-2.0
//
// Tells people when a condition gets worse and when it is over: on entering WARNING or CRITICAL (after it has lasted
// `hold`), on a change between the two, again every `repeat`, and on recovery. Targets: the log always, a generic
// webhook, a Slack-style webhook, Alertmanager v2. One thread of its own sends; each target has a breaker and a queue
// of the latest state per condition, so an unreachable receiver blocks nobody and loses nothing that is still true.
// Every alert carries a fingerprint (condition, instance, deployment), so that receivers can merge what several
// replicas say. alerts_raise() may be called by any thread and never waits longer than a short lock. URLs may hold
// secrets: never logged whole.
#ifndef RELAY_OPS_ALERTS_H
#define RELAY_OPS_ALERTS_H

#include "relay/config/context.h"

#include <jansson.h>
#include <stdbool.h>

enum alert_level { ALERT_OK, ALERT_WARNING, ALERT_CRITICAL };

struct alerts;

// Errors: CONFIG (a bad URL), NO_MEMORY, SYSTEM.
struct alerts *alerts_start(const struct relay_context *context, struct relay_error *error);
// After the stop was raised: sends what is due, at most until the deadline, then ends. false: still hanging.
bool alerts_join(struct alerts *alerts, struct mono_time deadline);
void alerts_free(struct alerts *alerts);                                // accepts NULL
void alerts_reload(struct alerts *alerts, const struct config *config); // copies what it keeps

// The present level of a condition: "outbox_backlog" of outbox "default", "postgres_down" of "" ...
// Repeating the same level is free; transitions are what is told. name: static. instance, summary: copied, no secrets.
// quiet: this replica is not the one that speaks for it (it keeps the state, so that it can go on should it become that
// one).
void alerts_raise(struct alerts *alerts, const char *name, const char *instance, enum alert_level level,
    const char *summary, double value, bool quiet);

// The last alerts told, newest first, for /health's owner, the status page and `status`: a new reference, NULL: out of
// memory. [{"at","name","instance","level","summary"}]
json_t *alerts_recent_json(struct alerts *alerts);
const char *alert_level_name(enum alert_level level); // "OK", "WARNING", "CRITICAL"; static

#endif
