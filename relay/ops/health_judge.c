// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/health_judge.h"

#include <string.h>

enum alert_level health_window_level(const struct health_window *window)
{
    for (int level = ALERT_CRITICAL; level > ALERT_OK; level--) {
        int reached = 0;
        for (int i = 0; i < HEALTH_WINDOW; i++) {
            reached += (int)window->results[i] >= level;
        }
        if (reached >= HEALTH_AGREE) {
            return (enum alert_level)level;
        }
    }
    return ALERT_OK;
}

enum alert_level health_window_add(struct health_window *window, enum alert_level result)
{
    window->results[window->next] = result;
    window->next = (window->next + 1) % HEALTH_WINDOW;
    return health_window_level(window);
}

bool health_window_undecided(const struct health_window *window)
{
    struct health_window ahead = *window;
    enum alert_level last = window->results[(window->next + HEALTH_WINDOW - 1) % HEALTH_WINDOW];
    return health_window_add(&ahead, last) != health_window_level(window);
}

enum alert_level health_lag_level(const struct config_health *limits, int64_t lag)
{
    if (limits->critical_lag > 0 && lag > limits->critical_lag) {
        return ALERT_CRITICAL;
    }
    return limits->warning_lag > 0 && lag > limits->warning_lag ? ALERT_WARNING : ALERT_OK;
}

enum alert_level health_level_of(const char *name)
{
    for (enum alert_level level = ALERT_OK; level < ALERT_CRITICAL; level++) {
        if (name != NULL && strcmp(name, alert_level_name(level)) == 0) {
            return level;
        }
    }
    return ALERT_CRITICAL;
}
