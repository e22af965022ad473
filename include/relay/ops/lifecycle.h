// SPDX-License-Identifier: Apache-2.0
//
// The daemon from its first thread to its last: start order, signals, reload, the service manager, and a stop that
// drains and ends in time even when every server hangs. Runs on the main thread, which does nothing else.
// - SIGTERM, SIGINT: stop; work in flight is finished or left where it is found again; a second one cuts the drain
//   short.
// - SIGHUP: reads the configuration again; what can change while running does, the rest is named in the log.
#ifndef RELAY_OPS_LIFECYCLE_H
#define RELAY_OPS_LIFECYCLE_H

#include "relay/config/config.h"

struct lifecycle_options {
    const char *config_path; // as given on the command line, NULL: the default places; read again at SIGHUP
    struct duration wait;    // > 0: the servers must have been reached within this time, or the daemon ends (code 75)
};

// Takes the config over. Returns the exit code of the process (see base/exit_code.h): 0 after a clean stop, 1 when a
// part could not be started, 75 when `wait` ran out, 78 for a configuration that a part refuses, 70 when a loop hung.
// RELAY_EXIT_AT_ONCE is or-ed where threads were left behind.
int lifecycle_run(struct config *config, const struct lifecycle_options *options);

#endif
