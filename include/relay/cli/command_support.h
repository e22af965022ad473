// SPDX-License-Identifier: Apache-2.0
//
// What every command needs: the configuration with all its mistakes printed, a context for the parts that want one, and
// the way from the arguments to the work.
#ifndef RELAY_CLI_COMMAND_SUPPORT_H
#define RELAY_CLI_COMMAND_SUPPORT_H

#include "relay/config/context.h"

struct command_environment {
    struct config *config;
    struct stop stop;
    struct relay_context context; // clock, config, stop, instance; metrics, board and breakers are NULL
};

// Loads the configuration or prints all of its mistakes to stderr. path may be NULL (the default places). NULL: end
// with RELAY_EXIT_CONFIG. The caller frees it.
struct config *command_load_config(const char *path);
// What a command does once its configuration is read and Ctrl-C ends what it waits for. Returns its exit code.
typedef int command_work(const struct command_environment *environment, void *arguments);
// The way of every command but `run`: ends with what its arguments came to (0: goes on; -1: help was shown; else the
// exit code), opens the environment, starts the signals, works, and closes both. broken: the exit code when that fails,
// or when the work was done and not all of its output could be written.
int command_perform(const char *command, int parsed, const char *config_path, command_work *work, void *arguments,
    int broken);

// Tells what is wrong with the arguments, and where the help is, to stderr. Returns RELAY_EXIT_USAGE.
int command_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A point in time (time_argument.h) that was given to a command. 0, or RELAY_EXIT_USAGE when it is none, which was
// told.
int command_time_argument(const char *command, const char *text, struct wall_time *time);

#endif
