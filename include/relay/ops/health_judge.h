// SPDX-License-Identifier: Apache-2.0
//
// Judges by a window of results: the level is the worst one that at least two of the last three results reached. One
// odd result changes nothing, neither for the worse nor for the better; the first result alone is no judgement yet
// (OK). Pure.
#ifndef RELAY_OPS_HEALTH_JUDGE_H
#define RELAY_OPS_HEALTH_JUDGE_H

#include "relay/config/config.h"
#include "relay/ops/alerts.h"

#define HEALTH_WINDOW 3
#define HEALTH_AGREE  2

struct health_window {
    enum alert_level results[HEALTH_WINDOW]; // all OK at first
    unsigned next;
};

enum alert_level health_window_add(struct health_window *window, enum alert_level result); // returns the judged level
enum alert_level health_window_level(const struct health_window *window);
// Would one more result like the last change the level? Then it is worth looking again soon.
bool health_window_undecided(const struct health_window *window);

// lag < 0: unknown, OK. A threshold of 0 is not judged; a level is reached above its threshold, as
// check_outbox_health() has it.
enum alert_level health_lag_level(const struct config_health *limits, int64_t lag);
// "OK", "WARNING", "CRITICAL"; anything else is CRITICAL.
enum alert_level health_level_of(const char *name);

#endif
