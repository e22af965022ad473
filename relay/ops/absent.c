// SPDX-License-Identifier: Apache-2.0
// Stands for parts of the daemon that are not written yet (see meson.build); goes when the last of them is there.
#include "relay/insert/insert_stage.h"
#include "relay/ops/alerts.h"
#include "relay/ops/health_watch.h"
#include "relay/publish/publish_stage.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"
static char nothing;
#ifdef ABSENT_PUBLISH_STAGE
struct publish_stage *publish_stage_start(const struct relay_context *c, struct relay_error *e) { return (void *)&nothing; }
bool publish_stage_join(struct publish_stage *s, struct mono_time d) { return true; }
void publish_stage_free(struct publish_stage *s) {}
#endif
#ifdef ABSENT_INSERT_STAGE
struct insert_stage *insert_stage_start(const struct relay_context *c, struct relay_error *e) { return (void *)&nothing; }
bool insert_stage_join(struct insert_stage *s, struct mono_time d) { return true; }
void insert_stage_free(struct insert_stage *s) {}
int64_t insert_stage_lag(const struct insert_stage *s) { return -1; }
#endif
#ifdef ABSENT_ALERTS
struct alerts *alerts_start(const struct relay_context *c, struct relay_error *e) { return (void *)&nothing; }
bool alerts_join(struct alerts *a, struct mono_time d) { return true; }
void alerts_free(struct alerts *a) {}
void alerts_reload(struct alerts *a, const struct config *c) {}
json_t *alerts_recent_json(struct alerts *a) { return json_array(); }
#endif
#ifdef ABSENT_HEALTH_WATCH
struct health_watch *health_watch_start(const struct relay_context *c, struct alerts *a, int64_t (*l)(const void *),
    const void *o, struct relay_error *e) { return (void *)&nothing; }
bool health_watch_join(struct health_watch *w, struct mono_time d) { return true; }
void health_watch_free(struct health_watch *w) {}
void health_watch_reload(struct health_watch *w, const struct config *c) {}
#endif
