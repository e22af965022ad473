// SPDX-License-Identifier: Apache-2.0
//
// Where every part of the relay pins what it knows about itself, and where /health, /live, /ready, `status` and the
// alerts read it. The writers (pipe threads) never wait for the readers longer than a short lock; readers get copies. A
// check (postgres, kafka, clickhouse, outbox, publish, insert) has any number of instances (an outbox, a table, an
// endpoint). `since` changes only when the status of the instance changes. A heartbeat belongs to one loop: a loop that
// has not beaten for longer than it promised makes /live fail and the systemd watchdog fire.
#ifndef RELAY_BASE_STATUS_BOARD_H
#define RELAY_BASE_STATUS_BOARD_H

#include "relay/base/clock.h"
#include "relay/base/error.h"

#include <jansson.h>
#include <stdbool.h>

enum status_check {
    STATUS_POSTGRES,
    STATUS_KAFKA,
    STATUS_CLICKHOUSE,
    STATUS_OUTBOX,
    STATUS_PUBLISH,
    STATUS_INSERT,
    STATUS_CHECKS
};
enum status_level { STATUS_OK, STATUS_DEGRADED, STATUS_DOWN };

struct status_board;
struct heartbeat;

struct status_board *status_board_new(const struct clock *clock, struct relay_error *error);
void status_board_free(struct status_board *board);

// Pins the state of one instance ("" for a check that has only one). reason: copied, one line, no secret; "" when ok.
void status_board_set(struct status_board *board, enum status_check check, const char *instance,
    enum status_level level, const char *reason);
// DEGRADED, and said to be nothing but the start of it, until the state is pinned again.
void status_board_set_starting(struct status_board *board, enum status_check check, const char *instance,
    const char *reason);
// DEGRADED, and so until somebody fixes something, until the state is pinned again. It tells what an alert is due to
// from what may pass or may be meant to be so, where a check has both.
void status_board_set_waiting(struct status_board *board, enum status_check check, const char *instance,
    const char *reason);
// A figure behind the state: number or text, shown in /health and in `status --json`. Copied. NULL text removes it.
void status_board_number(struct status_board *board, enum status_check check, const char *instance, const char *name,
    double value);
void status_board_text(struct status_board *board, enum status_check check, const char *instance, const char *name,
    const char *text);
// Takes an instance off the board (a table that is no longer ours).
void status_board_remove(struct status_board *board, enum status_check check, const char *instance);

// Ready: each stage says whether it owns work or waits for it properly (standby counts as ready).
void status_board_set_ready(struct status_board *board, enum status_check stage, const char *instance, bool ready);

// name: static. max_silence: how long the loop may be quiet. NULL: out of memory (the caller's start fails).
struct heartbeat *status_board_heartbeat(struct status_board *board, const char *name, struct duration max_silence,
    struct relay_error *error);
void heartbeat_beat(struct heartbeat *heartbeat); // lock-free
void heartbeat_end(struct heartbeat *heartbeat);  // the loop has ended properly; NULL is accepted
// false: some loop is silent; its name is copied into silent (may be NULL).
bool status_board_live(struct status_board *board, char *silent, size_t room);
bool status_board_is_ready(struct status_board *board);
// The same; when not, why is filled: the first stage that is not ready, "publish default: REASON" or "publish default
// is not ready", or "starting: no stage runs yet".
bool status_board_ready_why(struct status_board *board, char *why, size_t room);

// The JSON of GET /health as a new reference, NULL when out of memory. The caller decrefs. Rules of the levels
// (docs/operations.md has them in words):
//   a check      down when all of its instances are down, degraded when any is not ok; ok without instances;
//   a stage      cannot progress when its own check is down or one it depends on is (publish: postgres, kafka;
//                insert: kafka, clickhouse);
//   the whole    down when no stage that is on the board can progress, degraded when any check is not ok, or while no
//                stage is on the board yet, else ok.
// {"status","reason","since","checks":{CHECK:{"status","reason","since","figures":{..},"instances":{NAME:{the same}}}}}
// "figures" are those of instance "", "instances" stands there only when others exist.
json_t *status_board_json(struct status_board *board);

const char *status_check_name(enum status_check check); // "postgres"; static
const char *status_level_name(enum status_level level); // "degraded"; static

// A copy of every instance's state, for those that judge it (alerts). malloc'd array, NULL when out of memory or empty.
struct status_entry {
    enum status_check check;
    char instance[128];
    enum status_level level;
    char reason[768];
    struct mono_time since;
    bool starting, waiting;
};
struct status_entry *status_board_entries(struct status_board *board, size_t *count);

#endif
