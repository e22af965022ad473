// SPDX-License-Identifier: Apache-2.0
#include "relay/ops/service_manager.h"

#include "relay/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define STATUS_EVERY  DURATION_S(5)
#define EXTEND_EVERY  DURATION_S(1)
#define EXTEND_MARGIN DURATION_S(5) // after the drain deadline the process still frees and exits

static void tell(const struct service_manager *manager, const char *state)
{
    if (!manager->present) {
        return;
    }
    int result = sd_notify(0, state);
    if (result < 0) {
        log_event(LOG_LEVEL_WARNING, "service.notify_failed", "systemd does not take our state",
            LOG_TEXT("error", strerror(-result)));
    }
}

void service_manager_init(struct service_manager *manager, const struct clock *clock, struct status_board *board)
{
    *manager = (struct service_manager){.clock = clock, .board = board};
    const char *path = getenv("NOTIFY_SOCKET");
    manager->present = path != NULL && *path != '\0';
    uint64_t microseconds = 0;
    if (manager->present && sd_watchdog_enabled(0, &microseconds) > 0) {
        manager->watchdog = DURATION_US(microseconds / 3);
    }
    manager->next_beat = manager->next_status = clock_mono(clock);
}

// The STATUS= line: the level of the whole and why.
static void describe(const struct service_manager *manager, char *text, size_t room)
{
    json_t *health = status_board_json(manager->board);
    const char *status = json_string_value(json_object_get(health, "status"));
    const char *reason = json_string_value(json_object_get(health, "reason"));
    snprintf(text, room, "%s%s%s%s", manager->stopping ? "stopping; " : "", status == NULL ? "running" : status,
        reason == NULL || *reason == '\0' ? "" : ": ", reason == NULL ? "" : reason);
    json_decref(health);
}

static void tell_status(struct service_manager *manager)
{
    char text[sizeof(manager->status)];
    describe(manager, text, sizeof(text));
    if (strcmp(text, manager->status) != 0) {
        memcpy(manager->status, text, sizeof(text));
        char state[sizeof("STATUS=") + sizeof(text)];
        snprintf(state, sizeof(state), "STATUS=%s", text);
        tell(manager, state);
    }
}

void service_manager_ready(struct service_manager *manager)
{
    manager->ready = true;
    tell(manager, "READY=1");
    tell_status(manager);
}

static void tell_alive(const struct service_manager *manager)
{
    char silent[64];
    if (status_board_live(manager->board, silent, sizeof(silent))) {
        tell(manager, "WATCHDOG=1");
    } else {
        log_event(LOG_LEVEL_ERROR, "service.silent_loop",
            "a loop does not answer; the watchdog is not told that all is well", LOG_TEXT("loop", silent));
    }
}

static void extend(const struct service_manager *manager, const char *first)
{
    struct duration left = mono_left(clock_mono(manager->clock), manager->drain_until);
    char state[96];
    snprintf(state, sizeof(state), "%sEXTEND_TIMEOUT_USEC=%" PRId64, first, (left.ns + EXTEND_MARGIN.ns) / 1000);
    tell(manager, state);
}

struct mono_time service_manager_beat(struct service_manager *manager)
{
    struct mono_time now = clock_mono(manager->clock);
    if (!manager->present) {
        return mono_add(now, DURATION_S(3600));
    }
    if (manager->watchdog.ns > 0 && mono_reached(now, manager->next_beat)) {
        tell_alive(manager);
        manager->next_beat = mono_add(now, manager->watchdog);
    }
    if (mono_reached(now, manager->next_status)) {
        tell_status(manager);
        if (manager->stopping) {
            extend(manager, "");
        }
        manager->next_status = mono_add(now, manager->stopping ? EXTEND_EVERY : STATUS_EVERY);
    }
    bool beat_first = manager->watchdog.ns > 0 && mono_before(manager->next_beat, manager->next_status);
    return beat_first ? manager->next_beat : manager->next_status;
}

void service_manager_reloading(struct service_manager *manager)
{
    if (!manager->ready || manager->stopping) {
        return;
    }
    char state[64];
    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono(manager->clock).ns / 1000);
    tell(manager, state);
}

void service_manager_reloaded(struct service_manager *manager)
{
    if (manager->ready && !manager->stopping) {
        service_manager_ready(manager);
    }
}

void service_manager_stopping(struct service_manager *manager, struct mono_time drain_until)
{
    manager->stopping = true;
    manager->drain_until = drain_until;
    extend(manager, "STOPPING=1\n");
    tell_status(manager);
    manager->next_status = mono_add(clock_mono(manager->clock), EXTEND_EVERY);
}
