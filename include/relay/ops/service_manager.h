// SPDX-License-Identifier: Apache-2.0
//
// What systemd (Type=notify) wants to hear, through sd_notify(3): READY, RELOADING with its time, STOPPING, a STATUS
// line, and WATCHDOG only while every loop of the daemon beats (status_board_live), so that a hung process is
// restarted. Without NOTIFY_SOCKET every call does nothing. It holds no descriptor and no memory; it never waits (a
// datagram) and never fails: a message that systemd does not take is logged and not missed. The lifecycle's thread
// only.
#ifndef RELAY_OPS_SERVICE_MANAGER_H
#define RELAY_OPS_SERVICE_MANAGER_H

#include "relay/base/clock.h"
#include "relay/base/status_board.h"

#include <stdbool.h>

struct service_manager {
    const struct clock *clock;
    struct status_board *board;
    bool present;             // NOTIFY_SOCKET is set
    struct duration watchdog; // between two beats, a third of WATCHDOG_USEC; 0: systemd does not watch us
    struct mono_time next_beat, next_status;
    struct mono_time drain_until; // once stopping
    bool ready;                   // READY=1 was told
    bool stopping;
    char status[400]; // the line told last
};

// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; tells nothing yet. clock and board are borrowed.
void service_manager_init(struct service_manager *manager, const struct clock *clock, struct status_board *board);
// READY=1: after the start.
void service_manager_ready(struct service_manager *manager);
// Called in each round of the lifecycle's loop: sends WATCHDOG=1 and STATUS= when they are due. Returns when it wants
// to be called next at the latest (far away where nothing is to be told).
struct mono_time service_manager_beat(struct service_manager *manager);
// RELOADING=1, and READY=1 when it is done. Nothing before service_manager_ready(), whose READY=1 is not theirs to
// tell, and nothing once stopping.
void service_manager_reloading(struct service_manager *manager);
void service_manager_reloaded(struct service_manager *manager);
// STOPPING=1, and enough time to drain: the unit's TimeoutStopSec is extended to the deadline and a little more.
void service_manager_stopping(struct service_manager *manager, struct mono_time drain_until);

#endif
