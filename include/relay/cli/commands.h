// SPDX-License-Identifier: Apache-2.0
//
// The commands of the binary. Each gets its own arguments (argv[0] is the command's name), prints to stdout what it was
// asked for and to stderr what went wrong, and returns the exit code: 0 done, 1 not done (for `status`: 1 warning, 2
// critical), 2 bad usage (EXIT_USAGE), 75 a dependency was not reachable in time, 78 bad configuration. None of them
// calls exit().
#ifndef RELAY_CLI_COMMANDS_H
#define RELAY_CLI_COMMANDS_H

#include "relay/base/exit_code.h"

int command_run(int argc, char **argv);
int command_check(int argc, char **argv);
int command_migrate(int argc, char **argv);
int command_status(int argc, char **argv);
int command_dead_letters(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_version(void); // prints the versions of the relay and its libraries

#endif
