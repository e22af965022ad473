// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C and SIGTERM for the commands: the first one raises the stop, so that what waits on a server ends, cancels its
// query there and says where it stands; a second one ends the process at once. A thread of its own takes the signals.
// SIGPIPE is ignored from then on: work is not cut in the middle because nobody reads its output any more, nor by a
// server that closes a TLS connection (libcurl before 7.88 writes to those without MSG_NOSIGNAL).
// Start it before any other thread, so that those inherit the blocked signals.
#ifndef RELAY_CLI_COMMAND_SIGNALS_H
#define RELAY_CLI_COMMAND_SIGNALS_H

#include "relay/base/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct command_signals {
    struct stop *stop; // borrowed
    sigset_t before;
    pthread_t thread;
    atomic_bool ending;
};

// Errors: SYSTEM.
bool command_signals_start(struct command_signals *signals, struct stop *stop, struct relay_error *error);
void command_signals_finish(struct command_signals *signals);

#endif
